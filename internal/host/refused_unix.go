// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host

import (
	"errors"
	"syscall"
)

// isRefused reports that nobody listens on a socket that exists.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// isExhausted reports that descriptors or memory ran out, which passes.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
