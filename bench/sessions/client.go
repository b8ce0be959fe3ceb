// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// patience is how long anything may take before a run is given up.
const patience = 2 * time.Minute

// client is one connection. Its reader hands frames to on; writes may come from anywhere, one at a time.
type client struct {
	conn    net.Conn
	user    string
	private string
	on      func(h *frame.Header, body []byte) // of the reader's goroutine; the body is borrowed
	batch   func()                             // after the frames of one read; may be nil
	deaf    atomic.Bool                        // stop reading
	err     error                              // why the reader has ended; readable after done
	done    chan struct{}
}

// dial connects and does the handshake. Nothing is read until start.
func dial(d *daemon, user string, views bool) (*client, error) {
	conn, err := net.Dial(d.network, d.address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, user: user, done: make(chan struct{})}
	if err := c.handshake(views); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect %s: %w", user, err)
	}
	return c, nil
}

func (c *client) handshake(views bool) error {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	hello := frame.Connect{Version: frame.Ours, User: c.user}
	if views {
		hello.Flags = frame.FlagMembership
	}
	if _, err := c.conn.Write(hello.Append(nil)); err != nil {
		return err
	}
	var buf []byte
	part := make([]byte, 256)
	chosen := false
	for {
		n, err := c.conn.Read(part)
		if err != nil {
			return err
		}
		buf = append(buf, part[:n]...)
		if !chosen {
			_, n, code := frame.ParseAuthList(buf)
			if code != 0 {
				return code
			}
			if n == 0 {
				continue
			}
			buf, chosen = buf[n:], true
			choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
			if err != nil {
				return err
			}
			if _, err := c.conn.Write(choice); err != nil {
				return err
			}
		}
		_, private, n, code := frame.ParseAccept(buf, frame.Ours)
		if code != 0 {
			return code
		}
		if n > 0 {
			c.private = private
			return c.conn.SetDeadline(time.Time{})
		}
	}
}

// start begins to read, with a buffer of so many bytes that grows for larger frames.
func (c *client) start(bytes int) { go c.read(make([]byte, bytes)) }

func (c *client) read(buf []byte) {
	defer close(c.done)
	have := 0
	for !c.deaf.Load() {
		n, err := c.conn.Read(buf[have:])
		if err != nil {
			c.err = err
			return
		}
		have += n
		at := 0
		for have-at >= frame.HeaderSize {
			h := frame.ParseHeader(buf[at:])
			if fault := h.CheckDaemon(); fault != frame.FaultNone {
				c.err = fmt.Errorf("%s: malformed frame: %v", c.user, fault)
				return
			}
			end := at + frame.HeaderSize + h.BodySize()
			if end > have {
				if end-at > len(buf) {
					buf = append(make([]byte, 0, end-at), buf[at:have]...)[:end-at]
					have, at = have-at, 0
				}
				break
			}
			if c.on != nil {
				c.on(&h, buf[at+frame.HeaderSize:end])
			}
			at = end
		}
		have = copy(buf, buf[at:have])
		if c.batch != nil {
			c.batch()
		}
		runtime.Gosched() // a thousand readers take turns, as if each were a process
	}
}

func (c *client) write(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}

func (c *client) join(group string) error  { return c.write(frame.AppendJoin(nil, c.private, group)) }
func (c *client) leave(group string) error { return c.write(frame.AppendLeave(nil, c.private, group)) }

// ended is an error if the reader has ended.
func (c *client) ended() error {
	select {
	case <-c.done:
		if errors.Is(c.err, io.EOF) {
			return fmt.Errorf("%s was cut off", c.user)
		}
		return fmt.Errorf("%s: %w", c.user, c.err)
	default:
		return nil
	}
}

// dialAll connects n clients, some at a time, and begins to read each after prepare.
func dialAll(ctx context.Context, d *daemon, n int, views bool, buffer int, prepare func(i int, c *client)) ([]*client, error) {
	const together = 32
	all := make([]*client, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range together {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil || ctx.Err() != nil {
					return
				}
				c, err := dial(d, fmt.Sprintf("c%d", i), views)
				if err != nil {
					failed.Store(&err)
					return
				}
				all[i] = c
				prepare(i, c)
				c.start(buffer)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		hangUp(all)
		return nil, *err
	}
	return all, ctx.Err()
}

func hangUp(all []*client) {
	for _, c := range all {
		if c != nil {
			c.conn.Close()
		}
	}
}

// await waits until count is at least want.
func await(ctx context.Context, what string, count *atomic.Int64, want int64) error {
	for deadline := time.Now().Add(patience); count.Load() < want; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %d of %d within %v", what, count.Load(), want, patience)
		}
	}
	return nil
}

func multicast(c *client, group string, data []byte) []byte {
	return frame.AppendMulticast(nil, c.private, frame.MulticastType(evs.Agreed, false), 1, []string{group}, data)
}
