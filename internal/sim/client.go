// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// conn is one client connection: two streams of bytes with a bounded buffer towards the client.
type conn struct {
	w      *World
	h      *host
	c      *client
	life   int
	id     uint64
	closed bool // the daemon has nothing to do with it any more

	toDaemon   []byte
	inputArmed bool
	stalled    bool // the daemon wants no more input now
	fin        bool // the client closes when toDaemon is empty

	toClient  []byte
	room      int // capacity of the buffer towards the client
	blocked   bool
	readArmed bool
	eof       string // not empty: after toClient the stream ends, and why
}

// write moves what the node has for the client into the buffer, as far as it goes.
func (cn *conn) write() {
	h := cn.h
	if cn.closed || h.paused {
		cn.blocked = true
		return
	}
	n := 0
	free := cn.room - len(cn.toClient)
	h.vec = h.node.Output(cn.id, h.vec[:0], 64)
	more := false
	for _, b := range h.vec {
		k := min(len(b), free)
		cn.toClient = append(cn.toClient, b[:k]...)
		n += k
		free -= k
		if k < len(b) {
			more = true
			break
		}
	}
	if len(h.vec) == 64 && !more {
		h.outputs = append(h.outputs, cn.id)
	}
	cn.blocked = more
	if n > 0 {
		h.node.HandleWritten(h.clock(), cn.id, n, &h.fx)
		cn.armRead()
	}
}

// closeByDaemon ends the stream towards the client: the last bytes as far as there is room, then the end.
func (cn *conn) closeByDaemon(why string) {
	if cn.closed {
		return
	}
	h := cn.h
	n := 0
	for _, b := range h.node.Output(cn.id, nil, 64) {
		cn.toClient = append(cn.toClient, b...)
		n += len(b)
	}
	if n > 0 {
		h.node.HandleWritten(h.clock(), cn.id, n, &h.fx)
	}
	delete(h.byID, cn.id)
	if k := slices.Index(h.conns, cn); k >= 0 {
		h.conns = slices.Delete(h.conns, k, k+1)
	}
	cn.daemonGone(why)
}

// daemonGone ends the daemon's side.
func (cn *conn) daemonGone(why string) {
	cn.closed = true
	cn.toDaemon = nil
	if cn.eof == "" {
		cn.eof = why
	}
	cn.armRead()
}

func (cn *conn) armInput() {
	if !cn.inputArmed && !cn.stalled && !cn.closed && (len(cn.toDaemon) > 0 || cn.fin) {
		cn.inputArmed = true
		cn.w.events.push(event{at: cn.w.now + cn.w.between(5*time.Microsecond, 60*time.Microsecond), kind: evInput, conn: cn})
	}
}

// inputDue offers bytes to the node, cut anywhere.
func (cn *conn) inputDue() {
	cn.inputArmed = false
	if cn.closed || cn.stalled || cn.h.paused {
		return
	}
	h := cn.h
	if len(cn.toDaemon) == 0 {
		if cn.fin {
			cn.hungUp()
		}
		return
	}
	k := len(cn.toDaemon)
	if cn.w.chance(0.3) {
		k = 1 + cn.w.rnd.IntN(k)
	}
	h.fx.Reset()
	n := h.node.HandleInput(h.clock(), cn.id, cn.toDaemon[:k], &h.fx)
	cn.toDaemon = cn.toDaemon[:copy(cn.toDaemon, cn.toDaemon[n:])]
	cn.stalled = n < k
	h.perform()
	cn.armInput()
}

// hungUp tells the node that the client is gone.
func (cn *conn) hungUp() {
	if cn.closed || cn.h.node == nil {
		return
	}
	if cn.h.paused {
		cn.fin, cn.toDaemon = true, nil
		return
	}
	h := cn.h
	cn.closed = true
	delete(h.byID, cn.id)
	if k := slices.Index(h.conns, cn); k >= 0 {
		h.conns = slices.Delete(h.conns, k, k+1)
	}
	h.fx.Reset()
	h.node.HandleClosed(h.clock(), cn.id, &h.fx)
	h.perform()
}

// wake goes on after a pause of the daemon.
func (cn *conn) wake() {
	if cn.closed || cn.h.node == nil {
		return
	}
	cn.armInput()
	if cn.blocked {
		cn.h.fx.Reset()
		cn.h.outputs = append(cn.h.outputs, cn.id)
		cn.h.perform()
	}
}

func (cn *conn) armRead() {
	if !cn.readArmed && cn.c.conn == cn && (len(cn.toClient) > 0 || cn.eof != "") {
		cn.readArmed = true
		d := cn.w.between(5*time.Microsecond, 80*time.Microsecond)
		if cn.c.slow > 0 {
			d = cn.w.between(cn.c.slow/2, cn.c.slow)
		}
		cn.w.events.push(event{at: cn.w.now + d, kind: evReadable, conn: cn})
	}
}

// hasten ends the client's slowness: it reads what has come, although it meant to take its time.
func (c *client) hasten() {
	if c.slow = 0; c.conn != nil && c.conn.readArmed {
		c.conn.readArmed = false // the later event finds nothing to read
		c.conn.armRead()
	}
}

// readDue lets the client read.
func (cn *conn) readDue() {
	cn.readArmed = false
	c := cn.c
	if c.conn != cn {
		return
	}
	k := len(cn.toClient)
	if c.slow > 0 {
		k = min(k, 1+cn.w.rnd.IntN(4000))
	}
	c.rbuf = append(c.rbuf, cn.toClient[:k]...)
	cn.toClient = cn.toClient[:copy(cn.toClient, cn.toClient[k:])]
	c.read()
	if c.conn != cn {
		return
	}
	if len(cn.toClient) == 0 && cn.eof != "" {
		c.lost(cn.eof)
		return
	}
	if cn.blocked && !cn.closed && !cn.h.paused && cn.h.node != nil {
		cn.h.fx.Reset()
		cn.h.outputs = append(cn.h.outputs, cn.id)
		cn.h.perform()
	}
	cn.armRead()
}

// clientState is how far a client's session is.
type clientState uint8

const (
	clientDown clientState = iota
	clientDialing
	clientAuth
	clientAccept
	clientOpen
)

// client is a simulated application. It reconnects when it loses its daemon, and joins again the groups it wants.
type client struct {
	w       *World
	i       int
	user    string
	home    int // the host it prefers
	host    int // the host it is connected to or dials
	noViews bool
	retired bool          // does not come back
	slow    time.Duration // a slow reader waits this long between reads
	wanted  []bool        // groups it wants to be a member of, by number
	stray   bool          // sometimes connects to another daemon than home

	state    clientState
	tries    int
	conn     *conn
	rbuf     []byte
	wbuf     []byte
	sess     evs.SessionID
	member   []bool               // groups asked to join in this session and not to leave
	left     []int                // self-leaves still expected, by group
	views    []*evs.TraceViewInfo // the last view, by group
	viewed   int                  // views got so far, of all groups
	sent     uint64
	received int // messages, over all sessions

	own *ownState // nil: speaks the original's protocol
}

func (w *World) addClient(user string, home int) *client {
	c := &client{
		w: w, i: len(w.clients), user: user, home: home, host: home,
		wanted: make([]bool, len(w.groups)), member: make([]bool, len(w.groups)), left: make([]int, len(w.groups)), views: make([]*evs.TraceViewInfo, len(w.groups)),
	}
	w.clients = append(w.clients, c)
	return c
}

// dialLater tries to connect after a while.
func (c *client) dialLater(d time.Duration) {
	c.tries++
	c.state = clientDown
	c.w.events.push(event{at: c.w.now + d, kind: evClientStep, a: int32(c.i), b: int32(c.tries)})
}

// dial connects to a daemon that runs.
func (c *client) dial(try int) {
	w := c.w
	if try != c.tries || c.conn != nil || c.retired {
		return
	}
	c.host = c.home
	if w.hosts[c.host].node == nil || c.stray && w.chance(0.3) {
		c.host = w.rnd.IntN(len(w.hosts))
	}
	h := w.hosts[c.host]
	if h.node == nil || h.paused {
		c.dialLater(w.between(30*time.Millisecond, 150*time.Millisecond))
		return
	}
	cn := &conn{w: w, h: h, c: c, life: h.life, room: 64 << 10, toClient: w.buffer()}
	h.fx.Reset()
	cn.id = h.node.HandleAccept(h.clock(), c.i%2 == 0, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(c.i >> 8), byte(c.i)}), 40000), &h.fx)
	h.byID[cn.id] = cn
	h.conns = append(h.conns, cn)
	h.perform()
	if c.rbuf == nil {
		c.rbuf = w.buffer()
	}
	c.conn, c.state, c.rbuf = cn, clientAuth, c.rbuf[:0]
	if c.own != nil {
		c.helloOwn()
		return
	}
	flags := frame.FlagMembership
	if c.noViews {
		flags = 0
	}
	connect := frame.Connect{Version: frame.Ours, Flags: flags, User: c.user}
	c.push(connect.Append(nil))
}

// push hands bytes to the connection.
func (c *client) push(b []byte) {
	if c.conn == nil || c.conn.closed {
		return
	}
	c.conn.toDaemon = append(c.conn.toDaemon, b...)
	c.conn.armInput()
}

// lost is the end of a connection that the client did not want.
func (c *client) lost(why string) {
	if c.state == clientOpen {
		c.record(evs.Trace{Kind: evs.TraceDisconnect, Reason: why})
	}
	c.forget()
	if !c.retired {
		c.dialLater(c.w.between(time.Millisecond, 60*time.Millisecond))
	}
}

func (c *client) forget() {
	c.conn, c.state = nil, clientDown
	c.sess = evs.SessionID{}
	clear(c.member)
	clear(c.left)
	clear(c.views)
}

// record writes a session-level record.
func (c *client) record(t evs.Trace) {
	t.Proc, t.Session = c.sess.Daemon, c.sess
	c.w.record(t)
}

// read takes apart what has arrived.
func (c *client) read() {
	if c.own != nil {
		if at := c.readOwn(c.rbuf); c.conn != nil {
			c.keep(at)
		}
		return
	}
	at := 0
	for c.conn != nil {
		b := c.rbuf[at:]
		switch c.state {
		case clientAuth:
			_, n, code := frame.ParseAuthList(b)
			if code != 0 {
				c.refused(code)
				return
			}
			if n == 0 {
				c.keep(at)
				return
			}
			at += n
			choice, _ := frame.AppendAuthChoice(nil, frame.AuthNull)
			c.state = clientAccept
			c.push(choice)
		case clientAccept:
			_, private, n, code := frame.ParseAccept(b, frame.Ours)
			if code != 0 {
				c.refused(code)
				return
			}
			if n == 0 {
				c.keep(at)
				return
			}
			at += n
			c.accepted(private)
		case clientOpen:
			m, n, fault := frame.ParseReceived(b)
			if fault != frame.FaultNone {
				c.w.fail("PROTOCOL", "%s: malformed frame: %v", c.sess.Name, fault)
				return
			}
			if n == 0 {
				c.keep(at)
				return
			}
			at += n
			c.frame(&m)
		default:
			return
		}
	}
}

func (c *client) keep(at int) { c.rbuf = c.rbuf[:copy(c.rbuf, c.rbuf[at:])] }

// refused is a refusal in the handshake: the name may still be taken by a session that the daemon has not buried yet.
func (c *client) refused(code frame.Code) {
	if code != frame.ErrRejectNotUnique {
		c.w.fail("PROTOCOL", "client %s refused: %v", c.user, code)
	}
	c.w.stats.Steps["name still taken"]++
	c.hang(true)
	c.dialLater(c.w.between(5*time.Millisecond, 50*time.Millisecond))
}

func (c *client) accepted(private string) {
	cn := c.conn
	c.state = clientOpen
	c.sess = evs.SessionID{Daemon: cn.h.me, Number: cn.id, Name: private}
	asked := frame.PrivateName(c.user, cn.h.name)
	if private != asked {
		c.w.fail("PROTOCOL", "client %s was named %s", asked, private)
	}
	c.record(evs.Trace{Kind: evs.TraceConnect, NoViews: c.noViews, Asked: c.user})
	for g, want := range c.wanted {
		if want {
			c.join(g)
		}
	}
}

// frame notes what was received.
func (c *client) frame(m *frame.Message) {
	switch m.Type.Kind() {
	case frame.KindRegular:
		service, ok := m.Type.Service()
		if !ok {
			c.w.fail("PROTOCOL", "%s: message with type %v", c.sess.Name, m.Type)
			return
		}
		c.got(string(m.Name), m.Groups.Strings(), service, m.Hint.MessType(), m.Data)
	case frame.KindView:
		v, own, err := frame.ParseView(m)
		if err != nil {
			c.w.fail("PROTOCOL", "%s: %v", c.sess.Name, err)
			return
		}
		c.gotView(v.Group, &evs.TraceViewInfo{ID: v.ID, Cause: v.Cause, Members: v.Members, Sets: v.Sets, Mine: own})
	case frame.KindTransition:
		id, ok := frame.ParseTransition(m)
		if !ok {
			c.w.fail("PROTOCOL", "%s: signal without a view", c.sess.Name)
			return
		}
		c.record(evs.Trace{Kind: evs.TraceSignal, Group: string(m.Name), View: &evs.TraceViewInfo{ID: id}})
	case frame.KindSelfLeave:
		name := string(m.Name)
		if g := c.w.group(name); g >= 0 {
			c.left[g]--
			if !c.member[g] {
				c.views[g] = nil
			}
		}
		c.record(evs.Trace{Kind: evs.TraceSelfLeave, Group: name})
	default:
		c.w.fail("PROTOCOL", "%s: unexpected frame of type %v", c.sess.Name, m.Type)
	}
}

// got notes a message.
func (c *client) got(sender string, groups []string, service evs.Service, number int16, data []byte) {
	c.record(evs.Trace{
		Kind: evs.TraceClientMsg, Sender: sender, Groups: groups, Service: service, Digest: digest(sender, number, data), Length: len(data),
	})
	c.received++
	c.w.arrived(data)
}

// gotView notes a view.
func (c *client) gotView(group string, info *evs.TraceViewInfo) {
	if g := c.w.group(group); g >= 0 {
		c.views[g] = info
		c.viewed++
	}
	c.record(evs.Trace{Kind: evs.TraceView, Group: group, View: info})
}

// group is the number of a group, or -1.
func (w *World) group(name string) int { return slices.Index(w.groups, name) }

// join asks for membership.
func (c *client) join(g int) {
	if c.state != clientOpen || c.member[g] {
		return
	}
	c.member[g] = true
	c.record(evs.Trace{Kind: evs.TraceJoin, Group: c.w.groups[g]})
	if c.own != nil {
		c.push(frame.AppendOwnJoin(c.wbuf[:0], c.ask(frame.OwnJoin, g), c.w.groups[g]))
		return
	}
	c.push(frame.AppendJoin(c.wbuf[:0], c.sess.Name, c.w.groups[g]))
}

// leave asks to leave.
func (c *client) leave(g int) {
	if c.state != clientOpen || !c.member[g] {
		return
	}
	c.member[g] = false
	c.left[g]++
	c.record(evs.Trace{Kind: evs.TraceLeave, Group: c.w.groups[g]})
	if c.own != nil {
		c.push(frame.AppendOwnLeave(c.wbuf[:0], c.ask(frame.OwnLeave, g), c.w.groups[g]))
		return
	}
	c.push(frame.AppendLeave(c.wbuf[:0], c.sess.Name, c.w.groups[g]))
}

// sendable bounds what a client has on its way to the daemon: a real one would block.
const sendable = 1 << 20

// multicast hands a message over and returns its number; zero if that is not possible now.
func (c *client) multicast(groups []string, service evs.Service, size int, selfDiscard bool) uint64 {
	if c.state != clientOpen || len(c.conn.toDaemon) > sendable {
		return 0
	}
	id, body := c.w.body(size)
	c.sent++
	c.record(evs.Trace{
		Kind: evs.TraceMulticast, Groups: groups, Service: service, Digest: digest(c.sess.Name, int16(id), body), Length: size,
		Number: c.sent, SelfDiscard: selfDiscard,
	})
	if typ := frame.MulticastType(service, selfDiscard); c.own != nil {
		c.own.request++
		c.own.receipts[c.own.request] = true
		c.wbuf = frame.AppendOwnMulticast(c.wbuf[:0], 1, c.own.request, typ, frame.NewHint(int16(id), frame.LittleEndian), groups, body)
	} else {
		c.wbuf = frame.AppendMulticast(c.wbuf[:0], c.sess.Name, typ, int16(id), groups, body)
	}
	c.push(c.wbuf)
	c.w.stats.Messages++
	return id
}

// half begins a message and goes in the middle of it.
func (c *client) half() {
	if c.state != clientOpen {
		return
	}
	_, body := c.w.body(1000)
	b := frame.AppendMulticast(nil, c.sess.Name, frame.TypeAgreed, 0, c.w.groups[:1], body)
	if c.own != nil {
		b = frame.AppendOwnMulticast(nil, 1, 0, frame.TypeAgreed, frame.NewHint(0, frame.LittleEndian), c.w.groups[:1], body)
	}
	c.push(b[:1+c.w.rnd.IntN(len(b)-1)])
	c.hang(false)
}

// kill asks the daemon to be disconnected.
func (c *client) kill() {
	if c.state != clientOpen {
		return
	}
	if c.own != nil {
		c.push(frame.AppendOwnBye(nil))
	} else {
		c.push(frame.AppendKill(nil, c.sess.Name))
	}
	c.hang(false)
}

// hang closes the connection. reset loses what is on its way to the daemon, from anywhere on.
func (c *client) hang(reset bool) {
	cn := c.conn
	if cn == nil {
		return
	}
	if c.state == clientOpen {
		c.record(evs.Trace{Kind: evs.TraceDisconnect})
	}
	c.forget()
	w := cn.w
	w.buffers = append(w.buffers, cn.toClient[:0])
	cn.toClient, cn.blocked = nil, false
	cn.room = 1 << 30 // nobody reads, nothing blocks
	if cn.closed {
		return
	}
	if reset {
		cn.toDaemon = cn.toDaemon[:c.w.rnd.IntN(len(cn.toDaemon)+1)]
		cn.stalled = false
		c.w.events.push(event{at: c.w.now + c.w.between(0, time.Millisecond), kind: evHungUp, conn: cn})
		return
	}
	cn.fin = true
	cn.armInput()
}

// body makes the body of a message that no other message has.
func (w *World) body(size int) (uint64, []byte) {
	w.ids++
	if w.bodies == nil {
		w.bodies = make([]byte, 160<<10)
		for i := range w.bodies {
			w.bodies[i] = byte(w.rnd.Uint32())
		}
	}
	if cap(w.scratch) < size {
		w.scratch = make([]byte, max(size, 16<<10))
	}
	b := w.scratch[:size] // every user copies it at once
	copy(b, w.bodies[w.ids%1000:])
	var id [8]byte
	binary.LittleEndian.PutUint64(id[:], w.ids)
	copy(b, id[:])
	return w.ids, b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest names a message: its sender, the application's number on it, and its body. Empty bodies differ by the number.
func digest(sender string, number int16, body []byte) uint64 {
	h := uint64(14695981039346656037)
	add := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for i := range len(sender) {
		add(sender[i])
	}
	add(byte(number))
	add(byte(number >> 8))
	for _, b := range body[:min(8, len(body))] {
		add(b)
	}
	return h ^ uint64(crc32.Checksum(body, castagnoli))<<32 ^ uint64(len(body))
}
