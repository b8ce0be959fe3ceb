// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"time"

	"evensong/internal/proto/evs"
)

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
