// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"testing"
)

// TestRoamerEventsCanceled: events that wait do not keep a loop going whose context has ended, as with a Conn.
func TestRoamerEventsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &Roamer{queue: []Event{&Lost{}, &Lost{}}}
	events, last := 0, error(nil)
	for ev, err := range r.Events(ctx) {
		if last = err; ev != nil {
			events++
		}
		cancel()
	}
	if events != 1 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d events, then %v", events, last)
	}
}
