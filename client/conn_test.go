// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

func TestRealSockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue
		}
		t.Run(network, func(t *testing.T) {
			var frames []*frame.Message
			done := make(chan struct{})
			addr := listen(t, network, func(p *peer) {
				defer close(done)
				p.accept("#me#here")
				p.send(regular("#you#there", "chat", 7, "hello"))
				frames = p.drain()
			})
			c, err := Dial(testContext(t), addr, WithName("me"))
			if err != nil {
				t.Fatal(err)
			}
			if m := next[*Message](t, c); string(m.Data) != "hello" || m.Type != 7 || m.GroupName() != "chat" {
				t.Errorf("got %+v", m)
			}
			if err := c.Multicast(testContext(t), Safe|SelfDiscard, -2, []byte("bye"), "chat", "#you#there"); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			<-done
			if len(frames) != 2 || string(frames[0].Data) != "bye" || frames[1].Type != frame.TypeKill {
				t.Errorf("daemon got %v", frames)
			}
			if _, err := c.Next(testContext(t)); !errors.Is(err, ErrClosed) {
				t.Errorf("Next after Close: %v", err)
			}
			if err := c.Join(testContext(t), "chat"); !errors.Is(err, ErrClosed) {
				t.Errorf("Join after Close: %v", err)
			}
		})
	}
}

func TestDialFailures(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	tests := []struct {
		name   string
		script func(p *peer)
		want   error
		text   string
	}{
		{"quota", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte{frame.ErrRejectQuota.Byte()})
		}, ErrQuota, "refused by the daemon"},
		{"nothing", func(p *peer) {}, ErrConnectionClosed, "handshake"},
		{"no methods", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte{0, frame.ErrRejectAuth.Byte()})
		}, ErrAuth, "refused by the daemon"},
		{"other methods", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte("\x09IP PWORD "))
			p.drain()
		}, ErrAuth, "the daemon offers IP, PWORD, not NULL"},
		{"an admin address", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"))
			p.drain()
		}, ErrConnectionClosed, "speaks HTTP"},
		{"list too long", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte{100})
			p.drain()
		}, ErrConnectionClosed, ""},
		{"end in the accept message", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte("\x05NULL "))
			io.ReadFull(p.nc, make([]byte, frame.AuthChoiceSize))
			p.send([]byte{1, 4, 4, 0, 10, '#', 'm'})
		}, ErrConnectionClosed, "during the handshake"},
		{"silent", func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			io.ReadFull(p.nc, make([]byte, 1)) // until the client gives up
		}, context.DeadlineExceeded, "did not answer in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			patience := testTimeout
			if tt.want == context.DeadlineExceeded {
				patience = 50 * time.Millisecond
			}
			c, err := Dial(context.Background(), "4803@test", serve(t, tt.script), WithConnectTimeout(patience))
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "dial 4803@test: ") {
				t.Errorf("%v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// TestRefusedBeforeReading has a daemon that says no and closes before it read anything, as with its quota.
func TestRefusedBeforeReading(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue
		}
		addr := listen(t, network, func(p *peer) { p.send([]byte{frame.ErrRejectQuota.Byte()}) })
		c, err := Dial(testContext(t), addr)
		if err == nil {
			c.Close()
		}
		// The system may turn the close into a reset that overtakes the byte (client-protocol 2.5).
		if !errors.Is(err, ErrQuota) && !errors.Is(err, ErrConnectionClosed) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestDialUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	ln.Close()
	notFound := WithDialFunc(func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Name: "nohost", IsNotFound: true}}
	})
	tests := []struct {
		addr string
		opts []Option
		want Code
	}{
		{free, nil, ErrCouldNotConnect},
		{"unix:" + t.TempDir() + "/none", nil, ErrCouldNotConnect},
		{"4803@nohost", []Option{notFound}, ErrIllegalAddress},
		{"nohost", nil, ErrIllegalAddress},
		{"evensong://host", nil, ErrIllegalAddress},
		{"4803@x", []Option{WithName("elevenchars")}, ErrIllegalName},
		{"4803@x", []Option{WithName("a b")}, ErrIllegalName},
		{"4803@x", []Option{WithAuth()}, ErrAuth},
		{"4803@x", []Option{WithAuth(AuthNull(), AuthIP(), AuthNull())}, ErrAuth},
		{"4803@x", []Option{WithAuth(Auth{Name: "two words"})}, ErrAuth},
		{"4803@x", []Option{WithMaxMessage(MaxMessageEvensong + 1)}, ErrMessageTooLong},
	}
	for _, tt := range tests {
		c, err := Dial(testContext(t), tt.addr, tt.opts...)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("Dial(%q): %v, want %v", tt.addr, err, tt.want)
		}
	}
}

func TestDialCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	opt := serve(t, func(p *peer) {
		io.ReadFull(p.nc, make([]byte, 5))
		cancel()
		io.ReadFull(p.nc, make([]byte, 1))
	})
	if _, err := Dial(ctx, "", opt); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v", err)
	}
}

func TestPassword(t *testing.T) {
	for _, right := range []bool{true, false} {
		opt := serve(t, func(p *peer) {
			io.ReadFull(p.nc, make([]byte, 5))
			p.send([]byte("\x06PWORD "))
			choice := make([]byte, frame.AuthChoiceSize)
			copy(choice, "PWORD")
			block := make([]byte, 40)
			copy(block, "alice")
			copy(block[32:], "longpass")
			if !p.expect(choice, "choice") || !p.expect(block, "password") {
				return
			}
			if !right {
				p.send([]byte{0, frame.ErrRejectAuth.Byte()})
				return
			}
			// The accept message right behind the answer must not be lost.
			p.send(frame.AppendAccept([]byte{1}, frame.Ours, "#r1#d"))
			p.drain()
		})
		c, err := Dial(testContext(t), "", opt, WithAuth(AuthPassword("alice", "longpassword")))
		if right {
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		} else if !errors.Is(err, ErrAuth) || !strings.Contains(err.Error(), "wrong user or password") {
			t.Errorf("wrong password: %v", err)
		}
	}
}

// TestEventsBehindAccept has the daemon write the first message together with the accept message.
func TestEventsBehindAccept(t *testing.T) {
	c := dial(t, serve(t, func(p *peer) {
		io.ReadFull(p.nc, make([]byte, 5))
		p.send([]byte("\x05NULL "))
		io.ReadFull(p.nc, make([]byte, frame.AuthChoiceSize))
		p.send(append(frame.AppendAccept(nil, frame.Ours, "#me#here"), regular("#a#b", "g", 1, "early")...))
		p.drain()
	}))
	if m := next[*Message](t, c); string(m.Data) != "early" {
		t.Errorf("got %+v", m)
	}
}

func TestBigEndianDaemon(t *testing.T) {
	v := frame.View{Group: "g", Cause: evs.CausedByNetwork, ID: evs.ViewID{1, 2, 3}, Order: frame.BigEndian,
		Members: []string{"#a#d1", "#b#d1", "#me#d2"}, Sets: [][]string{{"#a#d1", "#b#d1"}, {"#me#d2"}}}
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d2")
		p.send(frame.AppendView(nil, &v, 1))
		p.drain()
	}))
	got := next[*View](t, c)
	if got.ID != (ViewID{1, 2, 3}) || got.Mine != 1 || got.Rank(c.PrivateGroup()) != 2 || got.Rank("#x#y") != -1 {
		t.Errorf("got %+v", got)
	}
	if came := got.Came("#b#d1"); !slices.Equal(came, v.Sets[0]) {
		t.Errorf("came with b: %v", came)
	}
}

func TestViewCame(t *testing.T) {
	all := []string{"#a#d", "#b#d", "#c#d"}
	join := View{Cause: CausedByJoin, Members: all, Joined: "#b#d", VSSets: [][]string{{"#b#d"}}}
	leave := View{Cause: CausedByLeave, Members: all, Left: "#x#d", VSSets: [][]string{{"#x#d"}}}
	tests := []struct {
		v    *View
		me   string
		want []string
	}{
		{&join, "#a#d", []string{"#a#d", "#c#d"}},
		{&join, "#b#d", []string{"#b#d"}},
		{&join, "#x#d", nil},
		{&leave, "#c#d", all},
	}
	for _, tt := range tests {
		if got := tt.v.Came(tt.me); !slices.Equal(got, tt.want) {
			t.Errorf("%v: Came(%s) = %v, want %v", tt.v.Cause, tt.me, got, tt.want)
		}
	}
}

func TestRejected(t *testing.T) {
	hint := frame.NewHint(9, frame.LittleEndian)
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		p.send(frame.AppendRejectMessage(nil, frame.TypeSafe, "#me#d", hint, frame.AppendName(nil, "g"), []byte("no")))
		p.send(frame.AppendRejectMessage(nil, frame.TypeJoin, "#me#d", hint, frame.AppendName(nil, "h"), nil))
		p.send(frame.AppendRejectMessage(nil, frame.TypeLeave, "#me#d", hint, frame.AppendName(nil, "i"), nil))
		p.send(regular("#a#d", "g", 0, "in step"))
		p.drain()
	}))
	r := next[*Rejected](t, c)
	if r.Request != RequestMulticast || r.Service != Safe || r.Type != 9 || string(r.Data) != "no" || !slices.Equal(r.Groups, []string{"g"}) {
		t.Errorf("rejected message: %+v", r)
	}
	if r = next[*Rejected](t, c); r.Request != RequestJoin || r.GroupName() != "h" || r.Service != 0 {
		t.Errorf("rejected join: %+v", r)
	}
	if r = next[*Rejected](t, c); r.Request != RequestLeave || r.GroupName() != "i" {
		t.Errorf("rejected leave: %+v", r)
	}
	if m := next[*Message](t, c); string(m.Data) != "in step" {
		t.Errorf("after the rejects: %+v", m)
	}
}

// TestBrokenDaemon ends the stream in every way that is not a frame. What came before must be delivered.
func TestBrokenDaemon(t *testing.T) {
	whole := regular("#a#d", "g", 1, "data")
	change := func(at int, b ...byte) []byte {
		bad := slices.Clone(whole)
		copy(bad[at:], b)
		return bad
	}
	view := frame.AppendView(nil, &frame.View{Group: "g", Cause: evs.CausedByJoin, Members: []string{"#a#d"}, Sets: [][]string{{"#a#d"}}}, 0)
	badView := slices.Clone(view)
	badView[frame.HeaderSize+frame.NameSize+16] = 3 // no vs set begins there
	tests := []struct {
		name  string
		bytes []byte
		want  Code
		text  string
	}{
		{"end", nil, ErrConnectionClosed, "the daemon ended the session"},
		{"end in a header", whole[:20], ErrConnectionClosed, "too slow"},
		{"end in the data", whole[:len(whole)-1], ErrConnectionClosed, "too slow"},
		{"half a mark", change(0, 0x10), ErrIllegalMessage, "byte-order mark"},
		{"negative number of groups", change(36, 0xff, 0xff, 0xff, 0xff), ErrIllegalMessage, "number of groups"},
		{"too many groups", change(36, 0, 0, 0xff, 0x7f), ErrIllegalMessage, "number of groups"},
		{"negative length", change(44, 0xff, 0xff, 0xff, 0xff), ErrIllegalMessage, "length"},
		{"a large length and no data", change(44, 0, 0, 0, 0x03), ErrConnectionClosed, "too slow"},
		{"view without its set", badView, ErrIllegalMessage, "vs set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, serve(t, func(p *peer) {
				p.accept("#me#d")
				p.send(append(slices.Clone(whole), tt.bytes...))
			}))
			next[*Message](t, c)
			for range 2 { // the error stays
				_, err := c.Next(testContext(t))
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("Next: %v, want %v with %q", err, tt.want, tt.text)
				}
			}
			if err := c.Multicast(testContext(t), FIFO, 0, nil, "g"); !errors.Is(err, tt.want) {
				t.Errorf("Multicast: %v, want %v", err, tt.want)
			}
			if err := c.Close(); err != nil {
				t.Errorf("Close of a lost session: %v", err)
			}
		})
	}
}

// TestLargeView needs a buffer larger than the usual one, which must shrink again.
func TestLargeView(t *testing.T) {
	v := frame.View{Group: "g", Cause: evs.CausedByNetwork}
	for i := range 3000 {
		v.Members = append(v.Members, fmt.Sprintf("#m%d#d", i))
	}
	v.Sets = [][]string{v.Members}
	c := dial(t, WithReadBuffer(1), serve(t, func(p *peer) {
		p.accept("#me#d")
		p.send(frame.AppendView(nil, &v, 0))
		for i := range 100 {
			p.send(regular("#a#d", "g", int16(i), strings.Repeat("x", i*10)))
		}
		p.drain()
	}))
	if got := next[*View](t, c); !slices.Equal(got.Members, v.Members) || len(got.VSSets[0]) != 3000 {
		t.Errorf("%d members, %d sets", len(got.Members), len(got.VSSets))
	}
	for i := range 100 {
		if m := next[*Message](t, c); m.Type != int16(i) || len(m.Data) != i*10 {
			t.Errorf("message %d: %+v", i, m)
		}
	}
}

func TestUnknownKindIsPassedOver(t *testing.T) {
	odd := regular("#a#d", "g", 1, "odd")
	odd[0], odd[1], odd[2] = 0x80, 0, 0x10
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		p.send(append(odd, regular("#a#d", "g", 2, "even")...))
		p.drain()
	}))
	if m := next[*Message](t, c); m.Type != 2 {
		t.Errorf("got %+v", m)
	}
}

func TestNextCanceled(t *testing.T) {
	more := make(chan struct{})
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		<-more
		p.send(regular("#a#d", "g", 1, ""))
		p.drain()
	}))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
	for _, err := range c.Events(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Events: %v", err)
		}
	}
	close(more)
	if m := next[*Message](t, c); m.Type != 1 {
		t.Errorf("the wait lost an event: %+v", m)
	}
}

func TestEventsLoop(t *testing.T) {
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		for i := range 10 {
			p.send(regular("#a#d", "g", int16(i), ""))
		}
		p.drain()
	}))
	n := 0
	for range 2 { // leaving the loop early loses nothing
		for ev, err := range c.Events(testContext(t)) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.(*Message).Type != int16(n) {
				t.Errorf("event %d is %+v", n, ev)
			}
			if n++; n%5 == 0 {
				break
			}
		}
	}
	go c.Close()
	for ev, err := range c.Events(testContext(t)) {
		t.Errorf("after Close: %v, %v", ev, err)
	}
}

// TestCloseWakes has goroutines in every call that waits.
func TestCloseWakes(t *testing.T) {
	c := dial(t, WithSendBuffer(1), WithCloseTimeout(20*time.Millisecond), serve(t, func(p *peer) {
		p.accept("#me#d")
		io.Copy(io.Discard, io.LimitReader(p.nc, 1)) // reads one byte of the first message and then nothing
		io.ReadFull(&blocked{p.nc}, make([]byte, 1))
	}))
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := c.Next(ctx); !errors.Is(err, ErrClosed) {
				t.Errorf("Next: %v", err)
			}
		})
		wg.Go(func() {
			for {
				// Some are accepted; the last one of each goroutine waits.
				if err := c.Multicast(ctx, Agreed, int16(i), nil, "g"); err != nil {
					if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrConnectionClosed) {
						t.Errorf("Multicast: %v", err)
					}
					return
				}
			}
		})
	}
	// The daemon has stopped reading, so senders are stuck soon; what matters here holds whenever Close comes.
	if err := c.Close(); !errors.Is(err, ErrConnectionClosed) || !strings.Contains(err.Error(), "not yet written") {
		t.Errorf("Close: %v", err)
	}
	wg.Wait()
}

// blocked waits until the other side is closed, by writing nothing and reading nothing of what was sent.
type blocked struct{ net.Conn }

func (b *blocked) Read(p []byte) (int, error) {
	// A pipe's write of nothing returns at once; the only sign of the end without reading is a write of something.
	_, err := b.Conn.Write(make([]byte, 1))
	for err == nil {
		_, err = b.Conn.Write(make([]byte, 1))
	}
	return 0, err
}

func TestSendCanceled(t *testing.T) {
	stopped := make(chan struct{})
	c := dial(t, WithSendBuffer(1), WithCloseTimeout(time.Millisecond), serve(t, func(p *peer) {
		p.accept("#me#d")
		<-stopped
	}))
	ctx, cancel := context.WithCancel(context.Background())
	// One message is with the writer, one in the buffer; the next one has to wait.
	var err error
	accepted := 0
	for time.AfterFunc(20*time.Millisecond, cancel); err == nil; accepted++ {
		err = c.Multicast(ctx, Agreed, 0, nil, "g")
	}
	if !errors.Is(err, context.Canceled) || accepted > 4 {
		t.Errorf("after %d messages: %v", accepted, err)
	}
	if err := c.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush: %v", err)
	}
	close(stopped)
	c.Close()
}

func TestAbort(t *testing.T) {
	var got []*frame.Message
	done := make(chan struct{})
	c := dial(t, serve(t, func(p *peer) {
		defer close(done)
		p.accept("#me#d")
		got = p.drain()
	}))
	if err := c.Join(testContext(t), "g"); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c.Abort()
	<-done
	if len(got) != 1 || got[0].Type != frame.TypeJoin {
		t.Errorf("daemon got %v", got)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestAbortSaysNothing: a daemon must not take an abort for a good-bye, however quick the writer is.
func TestAbortSaysNothing(t *testing.T) {
	var got []*frame.Message
	done := make(chan struct{})
	ours, theirs := net.Pipe()
	go func() {
		defer close(done)
		defer theirs.Close()
		p := &peer{t, theirs}
		p.accept("#me#d")
		got = p.drain()
	}()
	c := dial(t, WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return lateClose{ours}, nil }))
	c.Abort()
	if <-done; len(got) != 0 {
		t.Errorf("the daemon got %v", got[0].Type)
	}
}

// lateClose lets all others run before it closes.
type lateClose struct{ net.Conn }

func (c lateClose) Close() error {
	for range 10000 {
		runtime.Gosched()
	}
	return c.Conn.Close()
}

// TestCloseWaitsForDaemon has a daemon that is slow to read: Close returns only after it has all.
func TestCloseWaitsForDaemon(t *testing.T) {
	var got []*frame.Message
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		for range 50 {
			p.send(regular("#a#d", "g", 0, strings.Repeat("x", 1000))) // the client must go on reading
		}
		got = p.drain()
	}))
	for i := range 50 {
		if err := c.Multicast(testContext(t), FIFO, int16(i), make([]byte, 100), "g"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if len(got) != 51 {
		t.Errorf("when Close returned the daemon had %d frames, want 51", len(got))
	}
}

// TestCloseUnblocksReader has a daemon that must finish writing before it reads, and a session whose queue is full.
func TestCloseUnblocksReader(t *testing.T) {
	var got []*frame.Message
	c := dial(t, WithReceiveQueue(1), WithReadBuffer(4096), serve(t, func(p *peer) {
		p.accept("#me#d")
		for range 100 {
			p.send(regular("#a#d", "g", 0, strings.Repeat("x", 5000)))
		}
		got = p.drain()
	}))
	next[*Message](t, c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if len(got) != 1 || got[0].Type != frame.TypeKill {
		t.Errorf("daemon got %v", got)
	}
}

// TestSlowReceiver fills the queue: reading stops, nothing is lost, and the order stays.
func TestSlowReceiver(t *testing.T) {
	const messages = 500
	sent := make(chan int, messages)
	c := dial(t, WithReceiveQueue(1000), WithReadBuffer(4096), serve(t, func(p *peer) {
		p.accept("#me#d")
		for i := range messages {
			if !p.send(regular("#a#d", "g", int16(i), strings.Repeat("x", 200))) {
				return
			}
			sent <- i
		}
		p.drain()
	}))
	next[*Message](t, c)
	// A pipe has no buffer: what was sent and not received is in the queue and in one read buffer.
	if n := len(sent); n > 40 {
		t.Errorf("%d messages taken from the daemon while nobody receives", n)
	}
	for i := 1; i < messages; i++ {
		if m := next[*Message](t, c); m.Type != int16(i) {
			t.Fatalf("message %d has type %d", i, m.Type)
		}
	}
	if n := c.Waiting(); n != 0 {
		t.Errorf("%d events waiting", n)
	}
}

// TestConcurrentReceivers has each event reach exactly one receiver, and the end reach all of them.
func TestConcurrentReceivers(t *testing.T) {
	const messages = 1000
	c := dial(t, WithReceiveQueue(2000), serve(t, func(p *peer) {
		p.accept("#me#d")
		for i := range messages {
			p.send(regular("#a#d", "g", int16(i), ""))
		}
	}))
	var mu sync.Mutex
	seen := make(map[int16]int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ev, err := range c.Events(testContext(t)) {
				if err != nil {
					if !errors.Is(err, ErrConnectionClosed) {
						t.Errorf("Events: %v", err)
					}
					return
				}
				mu.Lock()
				seen[ev.(*Message).Type]++
				mu.Unlock()
			}
			t.Error("a loop ended without an error although the session was lost")
		})
	}
	wg.Wait()
	for i := range messages {
		if seen[int16(i)] != 1 {
			t.Errorf("message %d was received %d times", i, seen[int16(i)])
		}
	}
}

// TestConcurrentSenders checks that frames do not mix and that each sender keeps its order.
func TestConcurrentSenders(t *testing.T) {
	const senders, each = 8, 200
	var got []*frame.Message
	c := dial(t, WithSendBuffer(3000), serve(t, func(p *peer) {
		p.accept("#me#d")
		got = p.drain()
	}))
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				data := []byte(strconv.Itoa(s) + strings.Repeat("x", i))
				if err := c.Multicast(testContext(t), Agreed, int16(i), data, "g"+strconv.Itoa(s)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	if len(got) != senders*each+1 {
		t.Fatalf("daemon got %d frames, want %d", len(got), senders*each+1)
	}
	seen := make(map[string]int16)
	for _, m := range got[:len(got)-1] {
		g := string(m.Groups.At(0))
		if m.Hint.MessType() != seen[g] || len(m.Data) != 1+int(seen[g]) || "g"+string(m.Data[:1]) != g {
			t.Fatalf("group %s: got message %d of %d bytes, want %d", g, m.Hint.MessType(), len(m.Data), seen[g])
		}
		seen[g]++
	}
}

func TestRequestsAreChecked(t *testing.T) {
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#d")
		if got := p.drain(); len(got) != 3 { // the two legal ones at the end of the test, and the kill
			t.Errorf("daemon got %d frames, want 3", len(got))
		}
	}))
	ctx := testContext(t)
	long := strings.Repeat("g", 32)
	many := slices.Repeat([]string{"g"}, 101)
	multicast := func(s Service, bytes int, groups ...string) error {
		return c.Multicast(ctx, s, 0, make([]byte, bytes), groups...)
	}
	tests := []struct {
		name string
		err  error
		want Code
	}{
		{"join empty", c.Join(ctx, ""), ErrIllegalGroup},
		{"join long", c.Join(ctx, long), ErrIllegalGroup},
		{"join blank", c.Join(ctx, "a b"), ErrIllegalGroup},
		{"join private", c.Join(ctx, "#me#d"), ErrIllegalGroup},
		{"leave long", c.Leave(ctx, long), ErrIllegalGroup},
		{"no service", multicast(0, 0, "g"), ErrIllegalService},
		{"two services", multicast(FIFO|Safe, 0, "g"), ErrIllegalService},
		{"daemon's bit", multicast(FIFO|0x1000, 0, "g"), ErrIllegalService},
		{"mark", multicast(FIFO|0x80, 0, "g"), ErrIllegalService},
		{"no group", multicast(FIFO, 0), ErrIllegalGroup},
		{"long group", multicast(FIFO, 0, long), ErrIllegalGroup},
		{"odd private group", multicast(FIFO, 0, "#me"), ErrIllegalGroup},
		{"101 groups", multicast(FIFO, 0, many...), ErrIllegalGroup},
		{"too long", multicast(FIFO, 143121, "g"), ErrMessageTooLong},
	}
	for _, tt := range tests {
		e, ok := errors.AsType[*Error](tt.err)
		if !ok || e.Code != tt.want || !errors.Is(tt.err, tt.want) || e.Op == "" {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
		}
	}
	if err := multicast(FIFO, 143120, "g"); err != nil {
		t.Error(err)
	}
	if err := multicast(Safe|SelfDiscard|0x40000000, 0, many[:100]...); err != nil {
		t.Error(err)
	}
	c.Close()
}

func TestPooledMessages(t *testing.T) {
	const messages = 200
	c := dial(t, WithPooledMessages(), serve(t, func(p *peer) {
		p.accept("#me#d")
		for i := range messages {
			p.send(regular("#a#d", "g", int16(i), strings.Repeat(string(rune('a'+i%26)), i*20)))
		}
		p.drain()
	}))
	var kept *Message
	for i := range messages {
		m := next[*Message](t, c)
		want := strings.Repeat(string(rune('a'+i%26)), i*20)
		if m.Type != int16(i) || string(m.Data) != want || m.GroupName() != "g" {
			t.Fatalf("message %d: type %d, %d bytes", i, m.Type, len(m.Data))
		}
		if i == 100 {
			kept = m.Clone()
		}
		m.Release()
	}
	if kept.Type != 100 || string(kept.Data) != strings.Repeat("w", 2000) || kept.GroupName() != "g" {
		t.Errorf("the clone changed: %+v", kept)
	}
	kept.Release() // does nothing
	m := newMessage(true, 10)
	m.Release()
	defer func() {
		if recover() == nil {
			t.Error("releasing twice did not panic")
		}
	}()
	m.Release()
}

func TestEventStrings(t *testing.T) {
	for want, ev := range map[string]Event{
		`#a#d to g h (fifo, type 3): "x"`:                             &Message{Sender: "#a#d", Groups: []string{"g", "h"}, Service: FIFO, Type: 3, Data: []byte("x")},
		"view 00000001.00000002.3 of g after join of #a#d: #a#d #b#d": &View{Group: "g", ID: ViewID{1, 2, 3}, Cause: CausedByJoin, Joined: "#a#d", Members: []string{"#a#d", "#b#d"}},
		"view 00000001.00000002.3 of g after network: #a#d":           &View{Group: "g", ID: ViewID{1, 2, 3}, Cause: CausedByNetwork, Members: []string{"#a#d"}},
		"transitional signal in view 00000001.00000002.3 of g":        &Transition{Group: "g", ID: ViewID{1, 2, 3}},
		"left g":             &SelfLeave{Group: "g"},
		"refused: join to g": &Rejected{Request: RequestJoin, Groups: []string{"g"}},
	} {
		if got := ev.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	long := &Message{Sender: "#a#d", Groups: []string{"g"}, Service: FIFO, Data: make([]byte, 100)}
	if got := long.String(); !strings.HasSuffix(got, " and 36 bytes more") {
		t.Errorf("got %s", got)
	}
}

func TestServiceString(t *testing.T) {
	for s, want := range map[Service]string{
		Agreed: "agreed", Safe | SelfDiscard: "safe|self-discard", 0: "0x0", FIFO | Safe: "0x24", FIFO | 0x40000000: "fifo|0x40000000",
	} {
		if got := s.String(); got != want {
			t.Errorf("Service(%#x) = %q, want %q", uint32(s), got, want)
		}
	}
}

// TestNobodyThere: the error asks what a newcomer has forgotten.
func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for _, where := range []string{addr, "unix:" + t.TempDir() + "/none", "evensong://" + addr} {
		if _, err := Dial(t.Context(), where); !errors.Is(err, ErrCouldNotConnect) || !strings.Contains(err.Error(), "is a daemon running there?") {
			t.Errorf("%s: %v", where, err)
		}
	}
}
