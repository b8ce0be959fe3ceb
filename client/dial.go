// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"evensong/internal/proto/frame"
)

// Dial opens a session with a daemon, Evensong's or the original's. The address is one of
//
//	""                  the same as "4803"
//	"4803"              the Unix socket /tmp/4803 of a daemon on this machine (on Windows: TCP to localhost)
//	"4803@host"         TCP; host is a name or an address, IPv6 too: "4803@::1"
//	"host:4803"         the same in the usual form: "[::1]:4803"
//	"unix:/path"        a Unix socket anywhere
//	"evensong://..."    any of these behind it: in Evensong's own dialect, which its daemons speak on the same ports
//	"evensongs://..."   the same inside of TLS, over TCP only; WithTLS says whom to trust, and chooses TLS for other addresses
//
// Without options the session has a name invented by the daemon and receives views. ctx, and WithConnectTimeout, bound
// connecting and handshake; they have no effect on the session after that.
//
// Errors are *Error. Those that tell a caller what to do: ErrCouldNotConnect (no daemon there), ErrNotUnique (another
// name, or later: a name is free only when the disconnect of its last session was ordered), ErrAuth (also where one side does
// not accept the other's certificate), ErrQuota.
func Dial(ctx context.Context, addr string, opts ...Option) (*Conn, error) {
	op := "dial " + addr
	if addr == "" {
		op = "dial " + DefaultAddress
	}
	where, own := strings.CutPrefix(addr, scheme)
	secure := false
	if !own {
		where, secure = strings.CutPrefix(addr, secureScheme)
		own = secure
	}
	o, err := newOptions(opts, own)
	if err != nil {
		return nil, wrap(op, err)
	}
	o.secure = o.secure || secure
	ep, err := parseAddress(strings.TrimSuffix(addr, where), where, runtime.GOOS)
	if err != nil {
		return nil, &Error{Op: op, Code: ErrIllegalAddress, Err: err}
	}
	if o.secure && ep.network == "unix" {
		return nil, &Error{Op: op, Code: ErrIllegalAddress, Detail: "TLS is for TCP, and on the Unix socket " + ep.address + " nobody could listen; dial host:port, or leave TLS out"}
	}
	if o.connectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.connectTimeout)
		defer cancel()
	}
	nc, err := o.dial(ctx, ep.network, ep.address)
	if err != nil {
		e := &Error{Op: op, Code: ErrCouldNotConnect, Err: err}
		if _, ok := errors.AsType[*net.DNSError](err); ok && ctx.Err() == nil {
			e.Code = ErrIllegalAddress
		} else if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			e.Detail = "is a daemon running there?" // what a newcomer has forgotten
		}
		return nil, e
	}
	// The end of ctx becomes a deadline in the past, which ends every read and write at once.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	var c *Conn
	name, _, _ := net.SplitHostPort(ep.address)
	talk := nc
	if o.secure {
		talk, err = startTLS(nc, o.tls, name)
	}
	if err != nil {
		// TLS has not begun.
	} else if own {
		c, err = dialOwn(talk, o)
	} else {
		hs := handshake{nc: talk}
		if err = hs.run(&o); err == nil {
			c = newConn(talk, o, hs.private, Version(hs.daemon), hs.pending, nil)
		}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && o.secure && e.Op == "remote error" {
		err = tlsError(e, name)
	}
	if !stop() {
		late := &Error{Code: ErrConnectionClosed, Err: ctx.Err()}
		if errors.Is(late.Err, context.DeadlineExceeded) {
			late.Detail = "the daemon did not answer in time"
		}
		if c != nil {
			c.Abort()
		}
		err = late
	}
	if err != nil {
		nc.Close()
		return nil, wrap(op, err)
	}
	return c, nil
}

// handshake is the conversation of client-protocol chapter 2. Each block goes out in one write and nothing is written
// before the answer to the previous block, because the original's daemon reads each block with one read.
type handshake struct {
	nc net.Conn
	// pending was read and not yet interpreted.
	pending []byte

	daemon  frame.Version
	private string
}

func (h *handshake) run(o *options) error {
	connect := frame.Connect{Version: frame.Ours, Flags: byte(o.priority) << 4, User: o.name}
	if o.membership {
		connect.Flags |= frame.FlagMembership
	}
	if err := h.write(connect.Append(nil)); err != nil {
		return err
	}
	var offered []string
	err := h.expect(func(b []byte) (n int, code Code) {
		offered, n, code = frame.ParseAuthList(b)
		return n, code
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Code == ErrAuth && !o.secure {
		e.Detail = "refused by the daemon before it asked for anything; it may require TLS: see WithTLS"
	}
	if err != nil {
		return err
	}
	if len(offered) > 0 { // else the daemon refuses by itself
		if err := h.authenticate(o.auth, offered); err != nil {
			return err
		}
	}
	return h.expect(func(b []byte) (n int, code Code) {
		h.daemon, h.private, n, code = frame.ParseAccept(b, connect.Version)
		return n, code
	})
}

func (h *handshake) authenticate(methods []Auth, offered []string) error {
	var names []string
	for _, m := range methods {
		if !slices.Contains(offered, m.Name) {
			return &Error{Code: ErrAuth, Detail: fmt.Sprintf("the daemon offers %s, not %s", strings.Join(offered, ", "), m.Name)}
		}
		names = append(names, m.Name)
	}
	choice, err := frame.AppendAuthChoice(nil, names...)
	if err != nil {
		return err
	}
	if err := h.write(choice); err != nil {
		return err
	}
	for _, m := range methods {
		if m.Exchange == nil {
			continue
		}
		if err := m.Exchange(h); err != nil {
			return &Error{Code: ErrAuth, Detail: "method " + m.Name, Err: err}
		}
	}
	return nil
}

// Read lets authentication methods read behind what was already taken from the connection.
func (h *handshake) Read(p []byte) (int, error) {
	if len(h.pending) > 0 {
		n := copy(p, h.pending)
		h.pending = h.pending[n:]
		return n, nil
	}
	return h.nc.Read(p)
}

// Write lets authentication methods write.
func (h *handshake) Write(p []byte) (int, error) { return h.nc.Write(p) }

func (h *handshake) write(block []byte) error {
	if _, err := h.nc.Write(block); err != nil {
		// A daemon that refuses before it reads, because of its quota, may be gone already; its reason is still there.
		var last [1]byte
		if n, _ := h.Read(last[:]); n == 1 && last[0] >= 0x80 {
			return &Error{Code: Code(last[0]), Detail: "refused by the daemon"}
		}
		return &Error{Code: ErrConnectionClosed, Detail: "handshake", Err: err}
	}
	return nil
}

// maxHandshakeRead is more than the largest block of the daemon; the messages behind the accept message may share a
// read with it.
const maxHandshakeRead = 512

// expect reads until parse has what it wants and removes that from pending.
func (h *handshake) expect(parse func([]byte) (int, Code)) error {
	for {
		if bytes.HasPrefix(h.pending, []byte("HTTP/")) {
			return &Error{Code: ErrConnectionClosed, Detail: "what answers there speaks HTTP, as the admin address of a daemon does; give the address for clients"}
		}
		n, code := parse(h.pending)
		if code != 0 {
			return &Error{Code: code, Detail: "refused by the daemon"}
		}
		if n > 0 {
			h.pending = h.pending[n:]
			return nil
		}
		buf := make([]byte, maxHandshakeRead)
		got, err := h.nc.Read(buf)
		h.pending = append(h.pending, buf[:got]...)
		if got > 0 {
			continue
		}
		if isEnd(err) {
			return &Error{Code: ErrConnectionClosed, Detail: "the daemon ended the connection during the handshake", Err: err}
		}
		if err != nil {
			return &Error{Code: ErrConnectionClosed, Detail: "handshake", Err: err}
		}
	}
}
