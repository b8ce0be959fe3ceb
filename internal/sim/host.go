// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/node"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
)

// Cluster is the name of every simulated cluster.
const Cluster = "sim"

// socketBytes bounds the datagrams that wait for a paused daemon; more are dropped, as a kernel does.
const socketBytes = 208 << 10

// errDisk is what a failing store answers.
var errDisk = errors.New("simulated disk failure")

// host is a machine with at most one daemon on it: what package host is to a real one.
type host struct {
	w       *World
	i       int
	name    string
	node    *node.Machine // nil: no daemon runs
	me      evs.ProcID
	life    int           // counts starts
	born    time.Duration // start of this life
	died    time.Duration // end of the last
	mumbles time.Duration // until then all that it sends is late
	paused  bool
	busy    bool         // what the datagram under way makes deliverable is handed up a moment later
	conf    []evs.ProcID // members of the last regular configuration
	confID  evs.RingID
	count   int // regular configurations installed in this life

	// The disk survives crashes if there is one.
	stable     bool
	storeAhead int // see membership.Config
	disk       uint64
	writes     []write
	diskDelay  time.Duration
	diskFails  bool

	// file is what the daemon's configuration file says, in which a script or fault may change something while it runs.
	file   file
	unread bool // it changed while the process did not run

	// limits of this host's daemon, from the schedule; zero values are the defaults.
	sessionBytes int
	slow         slowLimits
	inputBytes   int
	accelerated  bool
	voters       []string // of its file: see World.vote

	room         *packet.Room // of a run of datagrams that goes on; nil: none does
	roomUsed     int
	waiting      []*datagram // while paused
	waitingBytes int
	waitingDone  []uint64 // stores that ended while paused
	conns        []*conn
	byID         map[uint64]*conn

	timerAt time.Duration // earliest evTimer in the queue; zero: none
	fx      node.Effects
	later   []later // datagrams that are put off until clients were written to
	outputs []uint64
	closes  []node.Close
	vec     [][]byte
}

// file is the part of a configuration that changes while daemons run.
type file struct {
	edited bool
	ring   ring.Config // if edited
	listed []string    // names of the daemons; nil: whoever comes
	rank   int         // if not zero, one more than the daemon's place, from its next start on
}

// slowLimits are what clients that read too slowly meet; zero values are the defaults.
type slowLimits struct {
	policy               session.Policy
	budget, hard, memory int
	stall, wait          time.Duration
}

// write is a store under way.
type write struct{ id, seq uint64 }

// doing is what the daemon is at, for counting faults by it.
func (h *host) doing() string {
	switch {
	case h.node == nil:
		return "down"
	case h.node.Order().Membership().State() == membership.StateOperational && h.node.Groups().Exchanging():
		return "group state exchange"
	}
	return h.node.Order().Membership().State().String()
}

func (w *World) addHost(name string, stable bool) *host {
	h := &host{w: w, i: len(w.hosts), name: name, stable: stable, diskDelay: 200 * time.Microsecond, accelerated: true}
	w.hosts = append(w.hosts, h)
	return h
}

// clock is the time of this host's daemon: since its start, never zero.
func (h *host) clock() time.Duration { return h.w.now - h.born + 1 }

// start brings a new incarnation up.
func (h *host) start() {
	w := h.w
	h.life++
	h.born, h.paused, h.timerAt, h.count = w.now, false, 0, 0
	rank := h.i
	if h.file.rank > 0 {
		rank = h.file.rank - 1
	}
	h.me = evs.ProcID{Rank: uint16(rank), Name: h.name, Inc: evs.Incarnation(w.rnd.Uint64())}
	h.byID, h.conns, h.writes, h.conf = map[uint64]*conn{}, nil, nil, nil
	n, err := node.New(h.config(), rand.New(rand.NewPCG(w.rnd.Uint64(), w.rnd.Uint64())), h.clock())
	if err != nil {
		panic("sim: a daemon's configuration is wrong: " + err.Error())
	}
	h.node = n
	h.fx.Reset()
	n.Start(h.clock(), &h.fx)
	h.perform()
}

// config is what the daemon reads at its start, and when it reads its file again.
func (h *host) config() node.Config {
	w := h.w
	cfg := node.Config{
		Me: h.me, Cluster: Cluster, Listed: h.file.listed, Voters: h.voters, Accelerated: h.accelerated, Ring: w.ring, Stable: h.stable,
		SessionBytes: h.sessionBytes, InputBytes: h.inputBytes, Trace: true,
	}
	for i, o := range w.hosts {
		if h.file.listed == nil || slices.Contains(h.file.listed, o.name) {
			cfg.Peers = append(cfg.Peers, address(i))
		}
	}
	if h.slow.budget > 0 {
		cfg.SlowPolicy, cfg.SessionBytes, cfg.SessionHardBytes = h.slow.policy, h.slow.budget, h.slow.hard
		cfg.QueueMemory, cfg.SessionStall, cfg.SessionWait = h.slow.memory, h.slow.stall, h.slow.wait
	}
	if h.file.edited {
		cfg.Ring = h.file.ring
	}
	if h.stable {
		cfg.StoredRingSeq = h.disk
	}
	cfg.Membership.StoreAhead = h.storeAhead
	return cfg
}

// edit changes the daemon's file, and lets it read that if it runs: as its next input, since a trap may call this in the
// middle of one.
func (h *host) edit(f file) {
	h.file = f
	h.w.after(0, h.reload)
}

// vote changes whom the daemon's file counts.
func (h *host) vote(voters []string) {
	h.voters = voters
	h.w.after(0, h.reload)
}

func (h *host) reload() {
	h.unread = h.node != nil && h.paused
	if h.node == nil || h.paused || h.w.failure != nil {
		return
	}
	h.fx.Reset()
	if err := h.node.Reconfigure(h.clock(), h.config(), &h.fx); err != nil {
		panic("sim: a daemon refuses its new configuration: " + err.Error())
	}
	h.perform()
}

// crash ends the daemon without a word. What it was writing may or may not be on the disk.
func (h *host) crash() {
	if h.node == nil {
		return
	}
	w := h.w
	w.record(evs.Trace{Kind: evs.TraceFail, Proc: h.me})
	for _, wr := range h.writes {
		if h.diskFails || w.chance(0.5) {
			break
		}
		h.disk = max(h.disk, wr.seq)
	}
	h.end(true)
}

// end takes the daemon away and closes its connections: reset says that what was in them may be lost.
func (h *host) end(reset bool) {
	h.countSlow()
	h.leaveRoom()
	h.node, h.died = nil, h.w.now
	for _, d := range h.waiting {
		h.w.net.release(d)
	}
	h.waiting, h.waitingBytes, h.waitingDone, h.writes, h.timerAt = nil, 0, nil, nil, 0
	for _, c := range h.conns {
		if reset && len(c.toClient) > 0 && h.w.chance(0.5) {
			c.toClient = c.toClient[:h.w.rnd.IntN(len(c.toClient)+1)]
		}
		c.daemonGone("daemon gone")
	}
	h.conns, h.byID, h.outputs, h.closes = nil, nil, h.outputs[:0], h.closes[:0]
}

// countSlow adds up what happened to slow clients of a daemon that is about to go.
func (h *host) countSlow() {
	if h.node == nil || h.slow.budget == 0 {
		return
	}
	st := h.node.Stats()
	steps := h.w.stats.Steps
	steps["readers over their budgets"] += int(st.Pressure.Overs)
	steps["messages left out"] += int(st.Pressure.Dropped)
	steps["waits for a reader"] += int(st.Pressure.Waits)
	for _, why := range []session.Reason{session.ReasonStalled, session.ReasonWaited, session.ReasonSlowBytes, session.ReasonCrowded} {
		steps["closed: "+why.String()] += int(st.Closed[why])
	}
}

// pause stops the daemon's process; resume lets it go on. It then finds, in this order, what waited: datagrams,
// completed stores, clients, timers.
func (h *host) pause() { h.paused = h.node != nil }

func (h *host) resume() {
	if h.node == nil || !h.paused {
		return
	}
	h.paused = false
	queue := h.waiting
	h.waiting, h.waitingBytes = nil, 0
	for i, d := range queue {
		if h.node == nil || h.paused || h.w.failure != nil {
			for _, rest := range queue[i:] {
				h.w.net.release(rest)
			}
			return
		}
		h.datagram(d)
	}
	done := h.waitingDone
	h.waitingDone = nil
	if h.unread {
		h.reload()
	}
	for _, n := range done {
		h.stored(h.life, n)
	}
	for _, c := range slices.Clone(h.conns) {
		c.wake()
	}
	if h.node != nil {
		h.timer(0)
	}
}

// arrive takes a datagram from the network.
func (h *host) arrive(d *datagram) {
	switch {
	case h.node == nil:
		h.w.net.release(d)
	case h.paused:
		if h.waitingBytes+len(d.buf) > socketBytes {
			h.w.net.lost++
			h.w.net.release(d)
			return
		}
		h.waiting = append(h.waiting, d)
		h.waitingBytes += len(d.buf)
	default:
		h.datagram(d)
	}
}

func (h *host) datagram(d *datagram) {
	h.fx.Reset()
	b, room := h.lend(d.buf)
	h.node.HandleDatagram(h.clock(), address(int(d.from)), b, room, &h.fx)
	if room != nil && h.w.lending.IntN(2) == 0 {
		h.leaveRoom()
	}
	h.w.net.release(d)
	if h.busy = h.w.chance(0.2); h.busy {
		h.w.events.push(event{at: h.w.now + h.w.between(0, 60*time.Microsecond), kind: evHandUp, a: int32(h.i), b: int32(h.life)})
	}
	h.perform()
	h.busy = false
}

// handUp goes on with what the datagrams of a life of the daemon have made deliverable.
func (h *host) handUp(life int) {
	switch {
	case h.node == nil || life != h.life:
	case h.paused:
		h.w.events.push(event{at: h.w.now + time.Millisecond, kind: evHandUp, a: int32(h.i), b: int32(life)})
	default:
		h.fx.Reset()
		h.perform()
	}
}

// timer lets the node do what is due. at is the time of the event; zero: look anyway.
func (h *host) timer(at time.Duration) {
	if h.node == nil || at != 0 && at != h.timerAt {
		return
	}
	h.timerAt = 0
	if h.paused {
		return
	}
	if d := h.node.Deadline(); d != 0 && d <= h.clock() {
		h.fx.Reset()
		h.node.Advance(h.clock(), &h.fx)
		h.perform()
		return
	}
	h.arm()
}

// arm sees to it that an event comes when the node wants it.
func (h *host) arm() {
	d := h.node.Deadline()
	if d == 0 {
		return
	}
	at := max(h.born+d-1, h.w.now)
	if h.timerAt == 0 || at < h.timerAt {
		h.timerAt = at
		h.w.events.push(event{at: at, kind: evTimer, a: int32(h.i)})
	}
}

// stored ends a store of a life of the daemon.
func (h *host) stored(life int, id uint64) {
	if h.node == nil || life != h.life {
		return
	}
	if h.paused {
		h.waitingDone = append(h.waitingDone, id)
		return
	}
	k := slices.IndexFunc(h.writes, func(wr write) bool { return wr.id == id })
	var err error
	if h.diskFails {
		err = errDisk
	} else {
		h.disk = max(h.disk, h.writes[k].seq)
	}
	h.writes = slices.Delete(h.writes, k, k+1)
	h.fx.Reset()
	h.node.HandleStored(h.clock(), id, err, &h.fx)
	h.perform()
}

// leave begins an orderly leave.
func (h *host) leave() {
	if h.node == nil {
		return
	}
	h.fx.Reset()
	h.node.Leave(h.clock(), &h.fx)
	h.perform()
}

// perform carries out the effects of an input, and of those that follow from it.
func (h *host) perform() {
	w := h.w
	for {
		fx := &h.fx
		w.stats.Inputs++
		for i := range fx.Trace {
			h.watch(&fx.Trace[i])
			w.record(fx.Trace[i])
		}
		if h.putOff(fx.Sends) {
			fx.Sends = fx.Sends[:0]
		}
		if len(fx.Sends) > 0 {
			h.sendLater()
		}
		for i := range fx.Sends {
			w.send(h.i, &fx.Sends[i])
			if len(w.traps) > 0 {
				w.spring(h, &fx.Sends[i])
				if h.node == nil {
					return // the trap was a crash: what was sent before is sent, the rest never is
				}
			}
		}
		for _, s := range fx.Stores {
			h.writes = append(h.writes, write{s.ID, s.RingSeq})
			w.events.push(event{at: w.now + h.diskDelay + time.Duration(w.rnd.Uint64N(uint64(h.diskDelay))), kind: evStored, a: int32(h.i), b: int32(h.life), n: s.ID})
		}
		h.outputs = append(h.outputs, fx.Outputs...)
		h.closes = append(h.closes, fx.Closes...)
		for _, id := range fx.Resumes {
			if cn := h.byID[id]; cn != nil {
				cn.stalled = false
				cn.armInput()
			}
		}
		stopped := fx.Stopped
		every := h.changed() || w.stats.Inputs%32 == 0
		fx.Reset()
		if err := h.check(every); err != nil {
			w.fail("INVARIANT", "%v: %v", h.me, err)
			return
		}
		if stopped {
			h.sendLater()
			h.end(false)
			return
		}
		if len(h.closes) > 0 {
			for _, c := range h.closes {
				if cn := h.byID[c.Session]; cn != nil {
					cn.closeByDaemon(c.Reason.String())
				}
			}
			h.closes = h.closes[:0]
			continue
		}
		if !h.busy && h.node.HandUp(h.clock(), fx) {
			continue
		}
		if len(h.outputs) == 0 {
			break
		}
		id := h.outputs[len(h.outputs)-1]
		h.outputs = h.outputs[:len(h.outputs)-1]
		if cn := h.byID[id]; cn != nil {
			cn.write()
		}
	}
	h.sendLater()
	h.arm()
}

// later is a datagram that is put off, and the checksum of its bytes then.
type later struct {
	send packet.Send
	sum  uint32
}

// putOff keeps every other input's datagrams for which nobody waits until clients were written to, as the host does where it has time.
func (h *host) putOff(sends []packet.Send) bool {
	if len(h.w.traps) > 0 || h.w.stats.Inputs%2 != 0 || slices.ContainsFunc(sends, func(s packet.Send) bool { return !s.Calm }) {
		return false
	}
	for _, s := range sends {
		h.later = append(h.later, later{s, crc32.ChecksumIEEE(s.Bytes)})
	}
	return true
}

// sendLater sends what was put off, which must not have changed.
func (h *host) sendLater() {
	for i := range h.later {
		l := &h.later[i]
		if crc32.ChecksumIEEE(l.send.Bytes) != l.sum {
			h.w.fail("INVARIANT", "%v: a datagram of kind %v changed before it was sent", h.me, l.send.Kind)
		}
		h.w.send(h.i, &l.send)
	}
	clear(h.later)
	h.later = h.later[:0]
}

// changed reports whether the last input may have changed more than a ring: it has more to show for it than an accepted
// token and packets of the ring. The invariants of the rest cost more than the handling of a token.
func (h *host) changed() bool {
	fx := &h.fx
	if len(fx.Trace) > 1 || len(fx.Trace) == 1 && fx.Trace[0].Kind != evs.TraceToken {
		return true
	}
	for i := range fx.Sends {
		if k := fx.Sends[i].Kind; k != packet.KindToken && k != packet.KindData && k != packet.KindHurry && k != packet.KindReach && k != packet.KindSize {
			return true
		}
	}
	return len(fx.Outputs)+len(fx.Closes)+len(fx.Notes)+len(fx.Stores)+len(fx.Resumes) > 0
}

// check checks the node's invariants: every one, or those of its ring.
func (h *host) check(every bool) error {
	switch r := h.node.Order().Ring(); {
	case h.w.unchecked:
		return nil
	case every:
		return h.node.CheckInvariants()
	case r != nil:
		return r.CheckInvariants()
	}
	return nil
}

// watch follows the daemon's state from its trace.
func (h *host) watch(t *evs.Trace) {
	switch t.Kind {
	case evs.TraceConf:
		if t.Conf.Kind == evs.Regular {
			h.conf, h.confID = t.Members, t.Conf.New
			h.count++
			h.w.stats.Installs++
			if len(t.Members) > 1 {
				for _, x := range h.w.traps {
					x.fresh = false
				}
			}
		}
	case evs.TraceDeliver:
		h.w.stats.Deliveries++
	default:
	}
}

// ringDefaults are the timers of a world.
func ringDefaults(tokenTimeout time.Duration) ring.Config {
	// Visits are short here, and the interesting ones have packets behind the token.
	return ring.Config{TokenTimeout: tokenTimeout, WholeVisit: 1}.WithDefaults()
}
