// SPDX-License-Identifier: Apache-2.0

package admin

import "io/fs"

// owner is not known here; the directory is in the user's own profile.
func owner(fs.FileInfo) (uid int, ok bool) { return 0, false }
