// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
)

// Progress tells that the loop lives, and how far the ring has come: a number that rises with rotations of the token and
// with attempts to form a new ring. moving says that it must rise while the daemon is well, which a daemon alone does not
// promise. It fails if ctx ends before the loop has answered, or the host has ended.
func (h *Host) Progress(ctx context.Context) (steps uint64, moving bool, err error) {
	m, ok := h.core.m.(*node.Machine)
	err = h.Do(ctx, func(time.Duration) {
		if !ok {
			return
		}
		s := m.Stats().Order
		steps = s.Rotations + s.Attempts + s.Installs
		c := m.Configuration()
		moving = c != nil && len(c.Members) > 1
	})
	return steps, moving, err
}

// Members are the daemons of the configuration that is installed, in ring order; none before the first.
func (h *Host) Members(ctx context.Context) ([]evs.ProcID, error) {
	m, ok := h.core.m.(interface{ Configuration() *evs.Configuration })
	if !ok {
		return nil, errors.New("this machine has no configurations")
	}
	var members []evs.ProcID
	err := h.Do(ctx, func(time.Duration) {
		if c := m.Configuration(); c != nil {
			members = c.Members
		}
	})
	return members, err
}
