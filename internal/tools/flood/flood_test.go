// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
	"evensong/daemon"
	"evensong/internal/proto/frame"
	"evensong/internal/tools/user"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a daemon and returns where it serves clients.
func serve(t *testing.T) string {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.ListenAddrs()[0].String()
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAlone(t *testing.T) {
	addr := serve(t)
	steps, names := 0, ""
	r, err := Run(limited(t), Config{Session: user.Options{Address: addr, Name: "flooder"}, Messages: 2500, Bytes: 100,
		Started: func(n []string) { names = fmt.Sprint(n) }, Step: func(n int) { steps += n }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent.Messages != 2500 || r.Received.Messages != 2500 || r.Latency == nil || r.Latency.Count != 2500 || r.Service != "reliable" {
		t.Errorf("%+v", r)
	}
	if r.Sent.MessagesPerSecond <= 0 || r.Sent.BytesPerSecond != 100*r.Sent.MessagesPerSecond || r.Latency.P50 <= 0 || r.Latency.P50 > r.Latency.Max {
		t.Errorf("%+v", r)
	}
	if steps != 3000 || names != "[#flooder#d]" {
		t.Errorf("steps %d, names %s", steps, names)
	}
	var out bytes.Buffer
	r.Write(&out)
	for _, part := range []string{"100 bytes, reliable, group flooder, 1 session\n", "sent          2500 messages in", "received      2500 messages in", "latency   p50 "} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in:\n%s", part, out.String())
		}
	}
}

// TestMembers floods with three sessions here and two elsewhere: one that sends another number, and one that only
// receives.
func TestMembers(t *testing.T) {
	addr := serve(t)
	ctx := limited(t)
	var wg sync.WaitGroup
	flood := func(c Config, sent, received int) {
		wg.Go(func() {
			c.Session.Address, c.Group, c.Members, c.Bytes, c.Window = addr, "many", 5, 10, 20
			r, err := Run(ctx, c)
			if err != nil {
				t.Error(err)
			} else if r.Sent.Messages != sent || r.Received.Messages != received || r.Service != "fifo" || r.Members != 5 {
				t.Errorf("%+v, want %d sent and %d received", r, sent, received)
			}
		})
	}
	const all = 3*300 + 100
	flood(Config{Session: user.Options{Name: "long-name"}, Sessions: 3, Messages: 300}, 900, 3*all)
	flood(Config{Messages: 100}, 100, all)
	flood(Config{Direction: ReceiveOnly}, 0, all)
	wg.Wait()
}

func TestOneDirection(t *testing.T) {
	addr := serve(t)
	ctx := limited(t)
	var wg sync.WaitGroup
	joined := make(chan struct{})
	wg.Go(func() {
		r, err := Run(ctx, Config{Session: user.Options{Address: addr}, Direction: ReceiveOnly, Messages: 150, Started: func([]string) { close(joined) }})
		if err != nil || r.Received.Messages != 150 || r.Sent.Messages != 0 || r.Latency != nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
	<-joined
	awaitMember(t, addr)
	r, err := Run(ctx, Config{Session: user.Options{Address: addr}, Direction: SendOnly, Messages: 150, Bytes: -1, Service: client.Safe})
	if err != nil || r.Sent.Messages != 150 || r.Received.Messages != 0 || r.Size != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	wg.Wait()
}

// awaitMember waits until another session is in the usual group.
func awaitMember(t *testing.T, addr string) {
	c, err := client.Dial(limited(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Join(t.Context(), DefaultGroup)
	for ev, err := range c.Events(limited(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := ev.(*client.View); ok && len(v.Members) > 1 {
			return
		}
	}
}

// TestMemberGone loses a member that has not sent its last message.
func TestMemberGone(t *testing.T) {
	addr := serve(t)
	ctx, cancel := context.WithCancel(limited(t))
	done := make(chan error, 1)
	go func() {
		_, err := Run(limited(t), Config{Session: user.Options{Address: addr}, Messages: 10, Members: 2})
		done <- err
	}()
	c, err := client.Dial(ctx, addr, client.WithName("deserter"))
	if err != nil {
		t.Fatal(err)
	}
	c.Join(ctx, DefaultGroup)
	for ev, err := range c.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok && m.Type == typeData {
			break // it has begun
		}
	}
	c.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "#deserter#d is gone after 0 messages") {
		t.Errorf("%v", err)
	}
	cancel()
}

func TestTooManyMembers(t *testing.T) {
	addr := serve(t)
	var cs []*client.Conn
	for range 2 {
		c, err := client.Dial(limited(t), addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Join(t.Context(), DefaultGroup)
		cs = append(cs, c)
	}
	awaitMember(t, addr)
	_, err := Run(limited(t), Config{Session: user.Options{Address: addr}, Members: 2})
	if err == nil || !strings.Contains(err.Error(), "more than the 2 of this flood") {
		t.Errorf("%v", err)
	}
	for _, c := range cs {
		c.Abort()
	}
}

// TestWaiting tells what a flood of several programs waits for, until it waits no more.
func TestWaiting(t *testing.T) {
	addr := serve(t)
	ctx := limited(t)
	var told []string // by one goroutine, which has ended when Run returns
	alone := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Config{Session: user.Options{Address: addr}, Messages: 10, Sessions: 2, Members: 3, Waiting: func(there, wanted int) {
			if told = append(told, fmt.Sprintf("%d of %d", there, wanted)); there == 2 {
				close(alone)
			}
		}})
		done <- err
	}()
	<-alone
	if _, err := Run(ctx, Config{Session: user.Options{Address: addr}, Messages: 10, Members: 3}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(told); n < 2 || told[n-2] != "2 of 3" || told[n-1] != "3 of 3" {
		t.Errorf("%q", told)
	}
	_, err := Run(ctx, Config{Session: user.Options{Address: addr}, Messages: 10, Sessions: 2, Waiting: func(there, wanted int) { t.Errorf("waits for itself, %d of %d", there, wanted) }})
	if err != nil {
		t.Error(err)
	}
}

// TestServers: each server gets a session, and one that is lost is named.
func TestServers(t *testing.T) {
	addr := serve(t)
	r, err := Run(limited(t), Config{Servers: []string{addr, addr}, Messages: 10})
	if err != nil || r.Sessions != 2 || r.Sent.Messages != 20 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = Run(limited(t), Config{Servers: []string{addr, "unix:/nowhere/here"}}); err == nil || !strings.Contains(err.Error(), "dial unix:/nowhere/here") {
		t.Errorf("one that nobody serves: %v", err)
	}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "e", Cluster: "other", Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	second := d.ListenAddrs()[0].String()
	joined := make(chan struct{})
	var once sync.Once
	go func() { // the two daemons know nothing of each other, so the flood waits until one of them goes
		<-joined
		d.Close()
	}()
	_, err = Run(limited(t), Config{Servers: []string{addr, second}, Members: 3, Waiting: func(int, int) { once.Do(func() { close(joined) }) }})
	if exit, ok := errors.AsType[*user.ExitError](err); !ok || exit.Code != 1 || !strings.Contains(err.Error(), "the session at "+second) {
		t.Errorf("one that went: %v", err)
	}
}

// TestStuck waits for a member that never sends.
func TestStuck(t *testing.T) {
	addr := serve(t)
	c, err := client.Dial(limited(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Join(t.Context(), DefaultGroup)
	_, err = Run(limited(t), Config{Session: user.Options{Address: addr}, Messages: 10, Members: 2, Patience: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "stuck after 10 messages sent and 10 received") {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{Messages: -1}, "-1 messages"},
		{Config{Bytes: MaxBytes + 1}, "143121 bytes: a message has at most 143120"},
		{Config{Bytes: MaxBytes + 1, Servers: []string{"evensong://a", "b"}}, "143121 bytes: a message has at most 143120"},
		{Config{Bytes: frame.MaxOwnMessage + 1, Servers: []string{"evensong://a"}}, "bytes: a message has at most 67108864"},
		{Config{Window: -1}, "a window of -1"},
		{Config{Sessions: 101}, "101 senders"},
		{Config{Members: 101}, "101 members"},
		{Config{Servers: []string{"a:1", "b:1", "c:1"}, Sessions: 2}, "2 senders for 3 servers: some would have none"},
		{Config{Members: 2, Sessions: 3}, "2 members in all, fewer than the 3 sessions"},
		{Config{Members: 2, Direction: SendOnly}, "is no member"},
	} {
		if _, err := Run(t.Context(), tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.want)
		}
	}
	_, err := Run(t.Context(), Config{Session: user.Options{Address: "unix:/nowhere/here"}})
	if exit, ok := errors.AsType[*user.ExitError](err); !ok || exit.Code != 1 || !errors.Is(err, client.ErrCouldNotConnect) {
		t.Errorf("%v", err)
	}
}
