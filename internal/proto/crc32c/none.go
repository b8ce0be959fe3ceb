// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package crc32c

import "hash/crc32"

// Update is the checksum of what crc is the checksum of, followed by b.
func Update(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }
