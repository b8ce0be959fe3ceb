// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/daemon"
)

// cluster starts n daemons that know each other and returns them with their addresses for clients.
func cluster(t *testing.T, n int) ([]*daemon.Daemon, []string) {
	t.Helper()
	return clusterWith(t, n, func(*daemon.Config) {})
}

func clusterWith(t *testing.T, n int, set func(*daemon.Config)) ([]*daemon.Daemon, []string) {
	t.Helper()
	var peers []netip.AddrPort
	var held []net.PacketConn
	for range n {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		peers = append(peers, c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	for _, c := range held {
		c.Close()
	}
	var ds []*daemon.Daemon
	var addrs []string
	for i, p := range peers {
		// A busy machine must not look like a broken ring: nothing here waits for the timeout.
		cfg := daemon.Config{Name: fmt.Sprintf("d%d", i), Cluster: t.Name(), Bind: p, Peers: peers, TokenTimeout: time.Second,
			Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}
		set(&cfg)
		d, err := daemon.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		ds, addrs = append(ds, d), append(addrs, d.ListenAddrs()[0].String())
	}
	for _, d := range ds {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if names, err := d.Members(t.Context()); err == nil && len(names) == n {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the daemons do not come together")
			}
		}
	}
	return ds, addrs
}

// receiver is what events come from.
type receiver interface {
	Next(context.Context) (client.Event, error)
}

// next is the next event of a type; others are passed over.
func next[T client.Event](t *testing.T, c receiver) T {
	t.Helper()
	ctx := within(t)
	for {
		ev, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for a %T: %v", *new(T), err)
		}
		if e, ok := ev.(T); ok {
			return e
		}
	}
}

func view(t *testing.T, c receiver, members ...string) *client.View {
	t.Helper()
	for {
		if v := next[*client.View](t, c); slices.Equal(slices.Sorted(slices.Values(v.Members)), slices.Sorted(slices.Values(members))) {
			return v
		}
	}
}

// TestOwnDialect has a session of each dialect in one group: acknowledged requests, queries, details, large messages.
func TestOwnDialect(t *testing.T) {
	_, addrs := cluster(t, 1)
	ctx := within(t)
	a, old := dialDaemon(t, "evensong://"+addrs[0], "äußerst langer Name"), dialDaemon(t, addrs[0], "old")
	s, ok := a.Session()
	if !ok || s.Daemon != "d0" || s.Cluster != t.Name() || s.MaxMessage < 1<<20 || s.Ping == 0 || s.ShortName == a.PrivateGroup() || len(s.ShortName) > 31 {
		t.Errorf("session %+v, %v", s, ok)
	}
	if a.PrivateGroup() != "#äußerst langer Name#d0" {
		t.Errorf("private group %q", a.PrivateGroup())
	}
	if _, ok := old.Session(); ok {
		t.Error("a session of the original's protocol has one of the other dialect")
	}
	ack, err := a.JoinAcked(ctx, "g")
	if err != nil || !ack.Changed {
		t.Fatalf("join: %+v, %v", ack, err)
	}
	if v := next[*client.View](t, a); v.ID != ack.View || v.Cause != client.CausedByJoin || v.Detail != client.DetailAsked || v.Joined != a.PrivateGroup() {
		t.Errorf("after view %v: %v", ack.View, v)
	}
	if ack, err := a.JoinAcked(ctx, "g"); err != nil || ack.Changed {
		t.Errorf("second join: %+v, %v", ack, err)
	}
	if err := old.Join(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	v := view(t, a, a.PrivateGroup(), "#old#d0")
	if w := view(t, old, s.ShortName, "#old#d0"); w.ID != v.ID {
		t.Errorf("views %v and %v", v, w)
	}

	// Queries see it without a membership.
	id, members, ok, err := a.Members(ctx, "g")
	if err != nil || !ok || id != v.ID || !slices.Equal(members, v.Members) {
		t.Errorf("members %v %v %v %v, want %v", id, members, ok, err, v)
	}
	if _, _, ok, err := a.Members(ctx, "nothing here"); ok || err != nil {
		t.Errorf("members of no group: %v, %v", ok, err)
	}
	if list, err := a.Groups(ctx); err != nil || len(list) != 1 || list[0].Name != "g" || list[0].Members != 2 {
		t.Errorf("groups %v, %v", list, err)
	}

	// Messages cross the dialects, whole, whatever their size.
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	if err := a.MulticastAcked(ctx, client.Safe, -3, big, "g", strings.Repeat("long", 30)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Conn{a, old} {
		m := next[*client.Message](t, c)
		if !bytes.Equal(m.Data, big) || m.Type != -3 || m.Service != client.Safe || m.EndianMismatch || m.Groups[0] != "g" {
			t.Errorf("%v", m)
		}
		if want := map[*client.Conn]string{a: a.PrivateGroup(), old: s.ShortName}[c]; m.Sender != want {
			t.Errorf("sender %q, want %q", m.Sender, want)
		}
	}
	if err := old.Multicast(ctx, client.FIFO, 1, []byte("to you"), s.ShortName); err != nil {
		t.Fatal(err)
	}
	if m := next[*client.Message](t, a); string(m.Data) != "to you" || m.Sender != "#old#d0" {
		t.Errorf("%v", m)
	}
	if err := a.Multicast(ctx, client.Agreed, 0, make([]byte, s.MaxMessage+1), "g"); !errors.Is(err, client.ErrMessageTooLong) {
		t.Errorf("too long a message: %v", err)
	}

	// A crash and a good-bye are told apart.
	old.Abort()
	if v := next[*client.View](t, a); v.Cause != client.CausedByDisconnect || v.Detail != client.DetailLost {
		t.Errorf("after a crash: %v", v)
	}
	polite := dialDaemon(t, addrs[0], "polite")
	if err := polite.Join(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	view(t, a, a.PrivateGroup(), "#polite#d0")
	if err := polite.Close(); err != nil {
		t.Fatal(err)
	}
	if v := view(t, a, a.PrivateGroup()); v.Detail != client.DetailAsked {
		t.Errorf("after a good-bye: %v", v)
	}
	if ack, err := a.LeaveAcked(ctx, "g"); err != nil || !ack.Changed || ack.View != (client.ViewID{}) {
		t.Errorf("leave: %+v, %v", ack, err)
	}
	if l := next[*client.SelfLeave](t, a); l.Group != "g" || l.Detail != client.DetailAsked {
		t.Errorf("%v", l)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Groups(ctx); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a query behind Close: %v", err)
	}
}

// TestEvict removes a member of either dialect, once, and only by a member, and only in the view that is named.
func TestEvict(t *testing.T) {
	_, addrs := cluster(t, 1)
	ctx := within(t)
	a, b, old := dialDaemon(t, "evensong://"+addrs[0], "a"), dialDaemon(t, "evensong://"+addrs[0], "b"), dialDaemon(t, addrs[0], "old")
	for _, c := range []*client.Conn{a, b, old} {
		if err := c.Join(ctx, "g"); err != nil {
			t.Fatal(err)
		}
	}
	v := view(t, a, "#a#d0", "#b#d0", "#old#d0")
	if err := a.Evict(ctx, "g", "#b#d0", client.ViewID{1, 2, 3}); !errors.Is(err, client.ErrViewGone) {
		t.Errorf("evict in another view: %v", err)
	}
	if err := a.Evict(ctx, "g", "#b#d0", v.ID); err != nil {
		t.Fatal(err)
	}
	if l := next[*client.SelfLeave](t, b); l.Detail != client.DetailEvicted {
		t.Errorf("the evicted one: %v", l)
	}
	w := view(t, a, "#a#d0", "#old#d0")
	if w.Cause != client.CausedByLeave || w.Left != "#b#d0" || w.Detail != client.DetailEvicted {
		t.Errorf("the others: %v", w)
	}
	if err := b.Evict(ctx, "g", "#a#d0", w.ID); !errors.Is(err, client.ErrNotMember) {
		t.Errorf("evict by somebody outside: %v", err)
	}
	if err := a.Evict(ctx, "g", "#old#d0", w.ID); err != nil {
		t.Fatal(err)
	}
	if l := next[*client.SelfLeave](t, old); l.Group != "g" {
		t.Errorf("the original's client: %v", l)
	}
	if err := old.Evict(ctx, "g", "#a#d0", w.ID); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("evict in the original's protocol: %v", err)
	}
}

// TestOwnRefusals: refusals in the handshake have code, reason and sentence.
func TestOwnRefusals(t *testing.T) {
	_, addrs := cluster(t, 1)
	ctx := within(t)
	dialDaemon(t, "evensong://"+addrs[0], "taken")
	for _, r := range []struct {
		name string
		opt  client.Option
		code client.Code
	}{
		{"in use", client.WithName("taken"), client.ErrNotUnique},
		{"illegal", client.WithName("a#b"), client.ErrIllegalName},
		{"too long", client.WithName(strings.Repeat("x", 254)), client.ErrIllegalName},
		{"method", client.WithAuth(client.AuthPassword("u", "p")), client.ErrAuth},
	} {
		_, err := client.Dial(ctx, "evensong://"+addrs[0], r.opt)
		if !errors.Is(err, r.code) {
			t.Errorf("%s: %v", r.name, err)
		}
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Detail == "" || r.name != "method" && e.Reason == "" {
			t.Errorf("%s: no reason in %v", r.name, err)
		} else if strings.Count(err.Error(), e.Detail) != 1 {
			t.Errorf("%s: the sentence is there twice, or not: %v", r.name, err)
		}
	}
	c := dialDaemon(t, "evensong://"+addrs[0], "c")
	for _, g := range []string{"", "#x", "a\nb", strings.Repeat("x", 256), "\xff"} {
		if err := c.Join(ctx, g); !errors.Is(err, client.ErrIllegalGroup) {
			t.Errorf("join %q: %v", g, err)
		}
	}
	if err := c.Join(ctx, "Gruppe mit Leerzeichen und ß"); err != nil {
		t.Error(err)
	}
	if v := next[*client.View](t, c); v.Group != "Gruppe mit Leerzeichen und ß" {
		t.Errorf("%v", v)
	}
}

// TestRoamer: the daemon of a session stops; the session is lost, another daemon that was not even named takes over, and
// all of it is said.
func TestRoamer(t *testing.T) {
	ds, addrs := cluster(t, 2)
	ctx := within(t)
	r, err := client.Roam(ctx, []string{"evensong://" + addrs[0]}, client.WithName("wanderer"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for len(r.Conn().Peers()) == 0 { // the other daemon's listeners are known a moment after the ring has formed
		next[*client.Peers](t, r)
	}
	stays := dialDaemon(t, "evensong://"+addrs[1], "stays")
	for _, join := range []func(context.Context, string) error{r.Join, stays.Join} {
		if err := join(ctx, "g"); err != nil {
			t.Fatal(err)
		}
	}
	view(t, stays, "#wanderer#d0", "#stays#d1")
	if err := ds[0].Close(); err != nil {
		t.Fatal(err)
	}
	l := next[*client.Lost](t, r)
	if e, ok := errors.AsType[*client.Error](l.Err); !ok || e.Reason != "shutdown" || l.Address != "evensong://"+addrs[0] {
		t.Errorf("%v", l)
	}
	if err := r.Multicast(ctx, client.Agreed, 0, nil, "g"); !errors.Is(err, client.ErrConnectionClosed) {
		t.Errorf("a message while there is no session: %v", err)
	}
	m := next[*client.Moved](t, r)
	if m.PrivateGroup != "#wanderer#d1" || !slices.Equal(m.Rejoins, []string{"g"}) || m.Address != "evensong://"+addrs[1] {
		t.Errorf("%v", m)
	}
	view(t, r, "#wanderer#d1", "#stays#d1")
	if err := r.Multicast(ctx, client.Agreed, 0, []byte("here again"), "g"); err != nil {
		t.Fatal(err)
	}
	if got := next[*client.Message](t, stays); got.Sender != "#wanderer#d1" {
		t.Errorf("%v", got)
	}
	// Nobody is left: the wait ends with its context, and nothing is lost but time.
	if err := ds[1].Close(); err != nil {
		t.Fatal(err)
	}
	next[*client.Lost](t, r)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if ev, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", ev, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Next(ctx); !errors.Is(err, client.ErrClosed) {
		t.Errorf("behind Close: %v", err)
	}
}
