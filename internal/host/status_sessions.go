// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"time"

	"evensong/internal/proto/node"
)

// Sessions are the client connections as they are now, by number, and the time of the machine's clock to compare theirs
// with.
func (h *Host) Sessions(ctx context.Context) (list []node.SessionStatus, now time.Duration, err error) {
	m, ok := h.core.m.(interface{ Sessions() []node.SessionStatus })
	if !ok {
		return nil, 0, errors.New("this machine has no sessions")
	}
	err = h.Do(ctx, func(at time.Duration) { list, now = m.Sessions(), at })
	return list, now, err
}
