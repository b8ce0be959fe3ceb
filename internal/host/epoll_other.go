// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "errors"

const haveEpoll = false

func newEpollLoop(*core, []*listener) (loop, error) {
	return nil, errors.New("no epoll on this system")
}
