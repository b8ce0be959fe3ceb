// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// The tests here run in virtual time: the defaults of minutes and seconds cost nothing.

// TestDialTimeLimit has a daemon that accepts and then says nothing, and a caller that set no limit.
func TestDialTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := Dial(context.Background(), "4803@test", silentAfter(t, false))
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != defaultConnectTimeout {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestCloseTimeLimit has a daemon that neither reads nor ends the session.
func TestCloseTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Dial(t.Context(), "4803@test", silentAfter(t, true))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = c.Close()
		if took := time.Since(begin); !errors.Is(err, ErrConnectionClosed) || took != defaultCloseTimeout {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestCloseWithoutAnswer has a daemon that reads the kill and leaves its side open: nothing is lost, so no error.
func TestCloseWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Dial(t.Context(), "4803@test", WithCloseTimeout(time.Second), serve(t, func(p *peer) {
			p.accept("#me#d")
			p.drain()
			p.receive()
		}))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = c.Close()
		if took := time.Since(begin); err != nil || took != time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestIdleSession waits for a day: a session has no timers of its own.
func TestIdleSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Dial(t.Context(), "4803@test", serve(t, func(p *peer) {
			p.accept("#me#d")
			p.nc.SetDeadline(time.Time{})
			time.Sleep(24 * time.Hour)
			p.send(regular("#a#d", "g", 1, "good morning"))
			p.drain()
		}))
		if err != nil {
			t.Fatal(err)
		}
		if ev, err := c.Next(t.Context()); err != nil || ev.GroupName() != "g" {
			t.Errorf("Next: %v, %v", ev, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// silentAfter is a daemon that does nothing more after the connect message or the handshake, until the client is gone.
func silentAfter(t *testing.T, handshake bool) Option {
	return serve(t, func(p *peer) {
		p.nc.SetDeadline(time.Time{})
		if handshake {
			p.accept("#me#d")
		} else {
			io.ReadFull(p.nc, make([]byte, 5))
		}
		time.Sleep(time.Hour)
	})
}
