// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
)

// startDaemon is a daemon alone, and the address for its clients.
func startDaemon(t *testing.T) string {
	t.Helper()
	return startDaemonWith(t, daemon.Config{})
}

// startDaemonWith is one with further settings.
func startDaemonWith(t *testing.T, cfg daemon.Config) string {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Name, cfg.Cluster, cfg.Bind, cfg.Listen = "d", t.Name(), loopback, []netip.AddrPort{loopback}
	d, err := daemon.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.ListenAddrs()[0].String()
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dialDaemon(t *testing.T, addr, name string, opts ...client.Option) *client.Conn {
	t.Helper()
	c, err := client.Dial(within(t), addr, append(opts, client.WithName(name))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// nextOf is the next event, which must be of this kind.
func nextOf[E client.Event](t *testing.T, c *client.Conn) E {
	t.Helper()
	ev, err := c.Next(within(t))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := ev.(E)
	if !ok {
		t.Fatalf("got %v, want a %T", ev, e)
	}
	return e
}

// TestNoBufferIsTooShort: whatever the sizes of a receiver's buffers, each message comes whole, with all of its groups, and
// in its place. Where a C program would get a code for a short buffer and try again, there is nothing to do.
func TestNoBufferIsTooShort(t *testing.T) {
	addr := startDaemon(t)
	most := client.WithMaxMessage(client.MaxMessageEvensong)
	for _, pooled := range []bool{false, true} {
		name := fmt.Sprintf("r%v", pooled)
		opts := []client.Option{most, client.WithReadBuffer(1), client.WithReceiveQueue(1), client.WithSendBuffer(1)}
		if pooled {
			opts = append(opts, client.WithPooledMessages())
		}
		r := dialDaemon(t, addr, name, opts...)
		s := dialDaemon(t, addr, "s"+name, most)
		many := append(slices.Repeat([]string{"nobody"}, 99), r.PrivateGroup())
		sizes := []int{0, 1, 4095, 4096, 4097, 100000, client.MaxMessageEvensong - 32*len(many)}
		go func() {
			for i, n := range sizes {
				if err := s.Multicast(within(t), client.Agreed, int16(i), bytes.Repeat([]byte{byte(i)}, n), many...); err != nil {
					t.Error(err)
				}
			}
		}()
		for i, n := range sizes {
			m := nextOf[*client.Message](t, r)
			if int(m.Type) != i || !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, n)) || !slices.Equal(m.Groups, many) {
				t.Errorf("message %d of %d bytes to %d groups came as type %d with %d bytes to %d groups", i, n, len(many), m.Type, len(m.Data), len(m.Groups))
			}
			if pooled {
				m.Release()
			}
		}
	}
}

// TestPiecesAreJoined: a message may be given in any number of pieces, empty ones among them, and none of them can be seen
// in what comes.
func TestPiecesAreJoined(t *testing.T) {
	c := dialDaemon(t, startDaemon(t), "c")
	for _, pieces := range [][]int{{}, {0}, {0, 0, 5, 0}, {1, 2, 3}, {100000, 1, 40000}, slices.Repeat([]int{7}, 100), slices.Repeat([]int{3}, 1000)} {
		var parts [][]byte
		for i, n := range pieces {
			parts = append(parts, bytes.Repeat([]byte{byte(i)}, n))
		}
		if err := c.MulticastParts(within(t), client.Safe, -1, parts, c.PrivateGroup()); err != nil {
			t.Fatal(err)
		}
		if m := nextOf[*client.Message](t, c); !bytes.Equal(m.Data, bytes.Join(parts, nil)) {
			t.Errorf("%d pieces came as %d other bytes", len(pieces), len(m.Data))
		}
	}
}

// TestSessionsOfOneProgram: they are as far apart as those of different ones, and what one does ends only its own.
func TestSessionsOfOneProgram(t *testing.T) {
	addr := startDaemon(t)
	const sessions = 20
	var all []*client.Conn
	for i := range sessions {
		c := dialDaemon(t, addr, fmt.Sprintf("c%02d", i))
		if err := c.Join(within(t), "all"); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		for k, p := range all {
			v := nextOf[*client.View](t, p)
			// The type of a view in the original is the receiver's place in the list.
			if len(v.Members) != i+1 || v.Rank(p.PrivateGroup()) != k || v.Joined != c.PrivateGroup() || v.Cause != client.CausedByJoin {
				t.Fatalf("%s got %v", p.PrivateGroup(), v)
			}
		}
	}
	if _, err := client.Dial(within(t), addr, client.WithName("c00")); !errors.Is(err, client.ErrNotUnique) {
		t.Errorf("the same name again: %v", err)
	}
	// An orderly end and an abrupt one look alike to the others.
	gone := []string{all[0].PrivateGroup(), all[1].PrivateGroup()}
	if err := all[0].Close(); err != nil {
		t.Error(err)
	}
	for i, who := range gone {
		if i == 1 {
			all[1].Abort()
		}
		for _, p := range all[2:] {
			v := nextOf[*client.View](t, p)
			if v.Disconnected != who {
				t.Fatalf("%s got %v, want the disconnect of %s", p.PrivateGroup(), v, who)
			}
			if v.Rank(who) != -1 || v.Cause != client.CausedByDisconnect {
				t.Errorf("%s got %v", p.PrivateGroup(), v)
			}
		}
	}
	if _, err := all[0].Next(within(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("receive after Close: %v", err)
	}
}

// TestWithoutNotices: data come, notices do not, not even of the own leave. A message to oneself behind a request tells when
// it has taken effect.
func TestWithoutNotices(t *testing.T) {
	addr := startDaemon(t)
	quiet, other := dialDaemon(t, addr, "quiet", client.WithMembership(false)), dialDaemon(t, addr, "other")
	if err := quiet.Join(within(t), "g"); err != nil {
		t.Fatal(err)
	}
	if err := quiet.Multicast(within(t), client.Agreed, 1, nil, quiet.PrivateGroup()); err != nil {
		t.Fatal(err)
	}
	if m := nextOf[*client.Message](t, quiet); m.Type != 1 {
		t.Errorf("got %v", m)
	}
	if err := other.Join(within(t), "g"); err != nil {
		t.Fatal(err)
	}
	if v := nextOf[*client.View](t, other); !slices.Equal(v.Members, []string{other.PrivateGroup(), quiet.PrivateGroup()}) {
		t.Errorf("got %v", v)
	}
	if err := other.Multicast(within(t), client.Safe, 2, nil, "g"); err != nil {
		t.Fatal(err)
	}
	if m := nextOf[*client.Message](t, quiet); m.Type != 2 {
		t.Errorf("got %v", m)
	}
	if err := errors.Join(quiet.Leave(within(t), "g"), quiet.Multicast(within(t), client.Agreed, 3, nil, quiet.PrivateGroup())); err != nil {
		t.Fatal(err)
	}
	if m := nextOf[*client.Message](t, quiet); m.Type != 3 { // and no self-leave
		t.Errorf("got %v", m)
	}
}

// TestCodes: the numbers are those that C programs know.
func TestCodes(t *testing.T) {
	for want, code := range map[int]client.Code{
		-1: client.ErrIllegalAddress, -2: client.ErrCouldNotConnect, -3: client.ErrQuota, -4: client.ErrNoName, -5: client.ErrIllegalName,
		-6: client.ErrNotUnique, -7: client.ErrVersion, -8: client.ErrConnectionClosed, -9: client.ErrAuth, -11: client.ErrClosed,
		-12: client.ErrIllegalService, -13: client.ErrIllegalMessage, -14: client.ErrIllegalGroup, -17: client.ErrMessageTooLong,
	} {
		if int(code) != want || code.Error() == "" {
			t.Errorf("%v (%q) has the number %d, want %d", code, code.Error(), int(code), want)
		}
	}
	// And so are those of the services.
	for want, s := range []client.Service{0: 0, 1: client.Unreliable, 2: client.Reliable, 4: client.FIFO, 8: client.Causal, 0x10: client.Agreed, 0x20: client.Safe, 0x40: client.SelfDiscard} {
		if s != 0 && int(s) != want {
			t.Errorf("%v has the number %#x, want %#x", s, int(s), want)
		}
	}
}
