// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take before a case gives up. No case passes because of it.
const patience = 20 * time.Second

// splitBytes of what is sent at once go byte by byte, where a case does; the rest follows in pieces of oddPiece, because a
// large message would take a system call for each of its bytes.
const (
	splitBytes = 400
	oddPiece   = 1021
)

// A way is how a case reaches its daemon and how it sends.
type way struct {
	socket string // tcp, unix, tcp6; portable is TCP to a daemon that runs the portable event loop
	split  bool   // byte by byte
}

func (w way) String() string {
	if w.split {
		return w.socket + "-bytes"
	}
	return w.socket + "-whole"
}

// A testCase is one statement of the protocol.
type testCase struct {
	name  string
	cites string
	run   func(c *conversation)
}

// A conversation is a run of a case.
type conversation struct {
	*testing.T
	way    way
	server *server
	n      int64 // makes its names unique
}

var conversations atomic.Int64

// user is a private name that nobody else uses. Users are in the order of their first letters.
func (c *conversation) user(s string) string { return s + strconv.FormatInt(c.n, 36) }

// private is the private group of a user, and group a group that nobody else uses.
func (c *conversation) private(s string) string { return "#" + c.user(s) + "#" + c.server.name }
func (c *conversation) group(s string) string   { return s + "." + strconv.FormatInt(c.n, 36) }

// A peer is one connection to the daemon.
type peer struct {
	c    *conversation
	conn net.Conn
	me   string // private group; empty before it is accepted
	what string // for messages
}

// dial connects and says nothing.
func (c *conversation) dial(what string) *peer {
	c.Helper()
	network, addr := c.server.addr(c.way.socket)
	conn, err := net.Dial(network, addr)
	if err != nil {
		c.Fatal(err)
	}
	p := &peer{c: c, conn: conn, what: what}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c.Cleanup(func() { conn.Close() })
	return p
}

// open is a session of the user s that wants notices.
func (c *conversation) open(s string) *peer {
	c.Helper()
	return c.openWith(s, 1)
}

func (c *conversation) openWith(s string, flags byte) *peer {
	c.Helper()
	p := c.dial(s)
	p.handshake(flags)
	return p
}

// handshake is the usual one.
func (p *peer) handshake(flags byte) {
	p.c.Helper()
	p.send(connect(p.c.user(p.what), flags))
	p.want("the list", list("NULL"))
	p.send(choice("NULL"))
	p.me = p.c.private(p.what)
	p.want("acceptance", accept(p.me))
}

// send writes, in the conversation's way. It may fail if the daemon has closed: what the daemon said shows that.
func (p *peer) send(parts ...[]byte) {
	b := slicesJoin(parts...)
	if !p.c.way.split {
		_, _ = p.conn.Write(b)
		return
	}
	n := min(len(b), splitBytes)
	for i := range n {
		if _, err := p.conn.Write(b[i : i+1]); err != nil {
			return
		}
	}
	for piece := range slices.Chunk(b[n:], oddPiece) {
		if _, err := p.conn.Write(piece); err != nil {
			return
		}
	}
}

// read is the next n bytes, or fewer and the end.
func (p *peer) read(n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := io.ReadFull(p.conn, b)
	return b[:n], err
}

// want reads exactly these bytes.
func (p *peer) want(what string, want []byte) {
	p.c.Helper()
	got, err := p.read(len(want))
	if err != nil || string(got) != string(want) {
		p.c.Fatalf("%s wants %s: %v\n%s", p.what, what, err, differ(got, want))
	}
}

// wantView reads a view and returns the id in it.
func (p *peer) wantView(v view) (id gid) {
	p.c.Helper()
	want := v.bytes(id)
	got, err := p.read(len(want))
	at := headerSize + nameSize*len(v.members)
	if len(got) >= at+len(id) {
		copy(id[:], got[at:])
		want = v.bytes(id)
	}
	if err != nil || string(got) != string(want) {
		p.c.Fatalf("%s wants a view of %v: %v\n%s", p.what, v.members, err, differ(got, want))
	}
	return id
}

// wantEnd reads the end of the connection and nothing before it.
func (p *peer) wantEnd() {
	p.c.Helper()
	if b, err := p.read(1); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		p.c.Fatalf("%s wants the end of its connection, and got % x, %v", p.what, b, err)
	}
}

// wantRest reads to the end of the connection, and nothing but a part of these bytes before it: what waits for a client
// that is closed may be lost.
func (p *peer) wantRest(most []byte) {
	p.c.Helper()
	got, err := io.ReadAll(p.conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.c.Fatalf("%s wants the end of its connection: %v", p.what, err)
	}
	if !bytes.HasPrefix(most, got) {
		p.c.Fatalf("%s gets something else before the end\n%s", p.what, differ(got, most))
	}
}

// message is a frame of this session.
func (p *peer) message(typ uint32, data string, groups ...string) frame {
	return frame{typ: typ, name: p.me, groups: groups, data: []byte(data)}
}

// request is a join, leave or disconnect.
func (p *peer) request(typ uint32, group string) []byte { return p.message(typ, "", group).bytes() }

// nothing makes sure that nothing else has come and that the session is well: the next that it gets is what it now sends
// itself.
func (p *peer) nothing() {
	p.c.Helper()
	m := p.message(agreed, "nothing else", p.me)
	p.send(m.bytes())
	p.want("its own message and nothing before it", m.delivered())
}

// halfClose ends what we send.
func (p *peer) halfClose() {
	p.c.Helper()
	if err := p.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.c.Fatal(err)
	}
}

// reset ends the connection so that the daemon gets a reset, where there is such a thing.
func (p *peer) reset() {
	if t, ok := p.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	p.conn.Close()
}

// joins makes members of a group, in this order, and reads what each gets. It returns the id of the last view.
func joins(group string, peers ...*peer) (id gid) {
	var members []string
	for i, p := range peers {
		p.c.Helper()
		members = append(members, p.me)
		slices.Sort(members)
		p.send(p.request(join, group))
		for _, q := range peers[:i+1] {
			got := q.wantView(view{cause: byJoin, group: group, members: members, who: p.me})
			if q != peers[0] && got != id {
				p.c.Fatalf("%s and %s have different ids of the same view: % x, % x", peers[0].what, q.what, id, got)
			}
			id = got
		}
	}
	return id
}
