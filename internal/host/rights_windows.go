// SPDX-License-Identifier: Apache-2.0

package host

import "errors"

// Rights is the identity that a daemon takes after a start by root. There is none on this system, whose services run as
// the user that their manager names.
type Rights struct{ User, Group string }

// FindRights fails: see Rights.
func FindRights(string, string) (*Rights, error) {
	return nil, errors.New("this system has no DaemonUser: let the service manager start the daemon as the user it should be")
}

// IDs are no numbers here.
func (r *Rights) IDs() (uid, gid int) { return -1, -1 }

// TakeDir does nothing.
func (r *Rights) TakeDir(string) error { return nil }

// Take does nothing.
func (r *Rights) Take(...string) error { return nil }
