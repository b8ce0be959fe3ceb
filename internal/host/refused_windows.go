// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isRefused reports that nobody listens on a socket that exists.
func isRefused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

// isExhausted reports that descriptors or memory ran out, which passes.
func isExhausted(err error) bool {
	return errors.Is(err, windows.WSAEMFILE) || errors.Is(err, windows.WSAENOBUFS)
}
