// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// script is a Source whose packets are one piece each: the member's number and a counter.
type script struct {
	me      int
	waiting int
	next    uint32
	bulk    bool // packets are as long as they may be
	mean    int  // what Mean says
}

func (s *script) Pending() int { return s.waiting }
func (s *script) Mean() int    { return s.mean }

func (s *script) Fill(_ seq.Num, dst []byte, _ bool) int {
	if s.waiting == 0 {
		return 0
	}
	s.waiting--
	s.next++
	n := 8
	if s.bulk {
		n = len(dst) - packet.PieceHeaderSize
	}
	b := packet.AppendPieceHeader(dst[:0], packet.Piece{Service: evs.Agreed, First: true, Last: true}, n)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.me))
	binary.LittleEndian.AppendUint32(b, s.next)
	return packet.PieceHeaderSize + n
}

// member is one daemon of a test ring with what it has handed up.
type member struct {
	m     *Machine
	pool  *Pool
	src   script
	fx    Effects
	got   []string // packets up to the aru, in order
	dead  bool
	mute  map[int]bool // members that do not hear this one
	short map[int]bool // members that what is longer than usual and must not be cut does not reach from this one
	deaf  map[int]bool // members that the group address does not bring what this one sends
	said  []Reach
	long  int                    // packets of data that were longer than usual
	calm  [2]int                 // new packets for which somebody waits, and those for which nobody does
	sent  map[packet.Kind][2]int // datagrams by kind: to one each, to the group address
}

// net is a ring over a network that loses, doubles and delays datagrams, in virtual time.
type net struct {
	t       *testing.T
	rnd     *rand.Rand
	cluster string
	members []*member
	now     time.Duration
	queue   []flight
	loss    float64
	dup     float64
	jitter  time.Duration
	lost    []string
	tokens  map[uint64]int // token sequence -> accepted by how many
}

type flight struct {
	at  time.Duration
	n   int
	to  int
	buf []byte
}

func newNet(t *testing.T, seed uint64, n int, cfg Config, accelerated bool) *net {
	w := &net{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), cluster: "test", tokens: map[uint64]int{}}
	if cfg.WholeVisit == 0 {
		cfg.WholeVisit = 1 // visits here are short, and shall have packets behind the token
	}
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	id := evs.RingID{Seq: 5, Rep: 100}
	var procs []evs.ProcID
	var addrs []netip.AddrPort
	for i := range n {
		procs = append(procs, evs.ProcID{Name: fmt.Sprintf("d%02d", i), Inc: evs.Incarnation(100 + i)})
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4803))
	}
	for i := range n {
		pool := NewPool(1472)
		m := &member{pool: pool, src: script{me: i}, mute: map[int]bool{}, short: map[int]bool{}, deaf: map[int]bool{}, sent: map[packet.Kind][2]int{}}
		m.m = New(cfg, id, procs, addrs, i, accelerated, packet.NewSealer(w.cluster, procs[i]), pool, 0)
		w.members = append(w.members, m)
	}
	return w
}

// start begins recovery with nothing to recover, as order does.
func (w *net) start() {
	m := w.members[0]
	m.m.Start(w.now)
	w.visit(0)
}

func (w *net) visit(i int) {
	m := w.members[i]
	for {
		m.m.Visit(w.now, &m.src, &m.fx)
		w.after(i)
		if !m.m.Pass(w.now) {
			return
		}
		switch m.m.PassVerdict(w.now) {
		case AcceptedInstall:
			m.m.Operational()
		case Held:
			return
		}
	}
}

// after performs effects, checks invariants and hands up what has arrived in order.
func (w *net) after(i int) {
	m := w.members[i]
	if m.fx.Reach != 0 {
		m.said = append(m.said, m.fx.Reach)
	}
	for _, s := range m.fx.Sends {
		if s.Kind == packet.KindData && len(s.Bytes) > m.m.cfg.PacketBytes {
			m.long++
		}
		switch {
		case s.Kind == packet.KindData && s.Calm:
			m.calm[1]++
		case s.Kind == packet.KindData:
			m.calm[0]++
		}
		c := m.sent[s.Kind]
		if s.Ring {
			c[1]++
		} else {
			c[0] += len(s.To)
		}
		m.sent[s.Kind] = c
		for _, to := range s.To {
			k := int(to.Addr().As4()[3])
			if m.mute[k] || s.Ring && m.deaf[k] || s.Whole && m.short[k] {
				continue
			}
			copies := 1
			if w.rnd.Float64() < w.loss {
				copies = 0
			} else if w.rnd.Float64() < w.dup {
				copies = 2
			}
			for range copies {
				delay := 50*time.Microsecond + time.Duration(w.rnd.Int64N(int64(w.jitter)+1))
				w.queue = append(w.queue, flight{at: w.now + delay, n: len(w.queue), to: k, buf: append([]byte(nil), s.Bytes...)})
			}
		}
	}
	if m.fx.Lost != 0 {
		w.lost = append(w.lost, fmt.Sprintf("%d: %v", i, m.fx.Lost))
	}
	m.fx = Effects{Sends: m.fx.Sends[:0]}
	if err := m.m.CheckInvariants(); err != nil {
		w.t.Fatal(err)
	}
	for n := seq.Num(len(m.got) + 1); n <= m.m.ARU(); n++ {
		m.got = append(m.got, string(m.m.Packet(n).Pieces()))
	}
	if m.m.Phase() == Operational {
		m.m.Discard(m.m.Stable())
	}
	// Whoever keeps the token keeps nobody's Safe messages waiting but its own.
	for k, o := range w.members {
		if m.m.held && o != m && o.m.Stable() < m.m.foreign {
			w.t.Fatalf("member %d keeps the token while member %d does not know %d to be stable", i, k, m.m.foreign)
		}
	}
	// Safe means safe: nobody is behind the stable line of anybody.
	for _, o := range w.members {
		if o.m.ARU() < m.m.Stable() {
			w.t.Fatalf("member %d holds %d to be stable, but a member has only %d (EVS-15)", i, m.m.Stable(), o.m.ARU())
		}
	}
}

// run goes on until end, or until nothing can happen any more.
func (w *net) run(end time.Duration) {
	for {
		at, what := end, -1
		for k, f := range w.queue {
			if f.at < at || f.at == at && what >= 0 && f.n < w.queue[what].n {
				at, what = f.at, k
			}
		}
		who := -1
		for i, m := range w.members {
			if d := m.m.Deadline(); !m.dead && d != 0 && d < at {
				at, who = d, i
			}
		}
		if at >= end {
			w.now = end
			return
		}
		w.now = max(w.now, at)
		if who >= 0 {
			m := w.members[who]
			m.pool.Settle()
			if m.m.Advance(w.now, &m.fx) {
				w.visit(who)
			}
			w.after(who)
			continue
		}
		f := w.queue[what]
		w.queue = append(w.queue[:what], w.queue[what+1:]...)
		if !w.members[f.to].dead {
			w.receive(f.to, f.buf)
		}
	}
}

func (w *net) receive(i int, b []byte) {
	m := w.members[i]
	m.pool.Settle()
	h, body, err := packet.Open(packet.ClusterID(w.cluster), b)
	if err != nil {
		w.t.Fatal(err)
	}
	switch h.Kind {
	case packet.KindData:
		var d packet.Data
		if err := packet.ParseData(body, &d); err != nil {
			w.t.Fatal(err)
		}
		m.m.HandleData(w.now, &d, b, nil)
	case packet.KindToken:
		var t packet.Token
		if err := packet.ParseToken(body, &t); err != nil {
			w.t.Fatal(err)
		}
		verdict := m.m.Accept(w.now, &t)
		if verdict != Dropped {
			w.tokens[t.TokenSeq]++
		}
		switch verdict {
		case AcceptedInstall:
			m.m.Operational()
			w.visit(i)
		case Accepted:
			w.visit(i)
		}
	case packet.KindHurry:
		h, err := packet.ParseHurry(body)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.m.HandleHurry(w.now, int(h.Sender)) {
			w.visit(i)
		}
	case packet.KindReach, packet.KindSize:
		p, err := packet.ParseQuestion(h.Kind, body)
		if err != nil {
			w.t.Fatal(err)
		}
		m.m.HandleQuestion(h.Kind, p, &m.fx)
	}
	w.after(i)
}

func (w *net) submit(i, n int) {
	m := w.members[i]
	m.src.waiting += n
	if m.m.Wake(w.now, &m.fx) {
		w.visit(i)
	}
	w.after(i)
}

func (w *net) wantAll(total int) {
	w.t.Helper()
	for i, m := range w.members {
		if len(m.got) != total {
			w.t.Errorf("member %d has %d packets, want %d", i, len(m.got), total)
		}
		for k := range min(len(m.got), len(w.members[0].got)) {
			if m.got[k] != w.members[0].got[k] {
				w.t.Fatalf("members 0 and %d differ at position %d", i, k+1)
			}
		}
		if m.m.Stable() != seq.Num(total) {
			w.t.Errorf("member %d: stable line %d, want %d", i, m.m.Stable(), total)
		}
	}
	if len(w.lost) > 0 {
		w.t.Errorf("rings given up: %v", w.lost)
	}
}

func TestOneOrder(t *testing.T) {
	for _, accelerated := range []bool{false, true} {
		for n := 1; n <= 7; n++ {
			for seed := range uint64(4) {
				t.Run(fmt.Sprintf("members=%d accelerated=%v seed=%d", n, accelerated, seed), func(t *testing.T) {
					w := newNet(t, seed, n, Config{}, accelerated)
					w.loss, w.dup, w.jitter = 0.05*float64(seed), 0.02*float64(seed), time.Duration(seed)*100*time.Microsecond
					w.start()
					total := 0
					for range 60 {
						k := w.rnd.IntN(80)
						w.submit(w.rnd.IntN(n), k)
						total += k
						w.run(w.now + time.Duration(w.rnd.Int64N(int64(8*time.Millisecond))))
					}
					w.run(w.now + 2*time.Second)
					w.wantAll(total)
					for s, k := range w.tokens {
						if k > 1 {
							t.Errorf("token %d was acted upon %d times (EVS-20)", s, k)
						}
					}
				})
			}
		}
	}
}

// 8.1, idle ring: the token rests, and a member that has something to send gets it at once (P-34).
func TestIdleRingWakesAtOnce(t *testing.T) {
	w := newNet(t, 1, 3, Config{}, true)
	w.start()
	w.run(time.Second)
	before := w.members[0].m.accepted
	w.run(2 * time.Second)
	rounds := (w.members[0].m.accepted - before) / 3
	if rounds > 13 || rounds < 12 {
		t.Errorf("an idle ring made %d rounds in a second, want about 13: one per hold time of 75 ms", rounds)
	}
	for i := range 3 {
		start := w.now
		w.submit(i, 1)
		for len(w.members[2].got) <= i && w.now < start+time.Second {
			w.run(w.now + 50*time.Microsecond)
		}
		if took := w.now - start; took > 2*time.Millisecond {
			t.Errorf("member %d: a message on an idle ring took %v", i, took)
		}
		w.run(w.now + time.Second)
	}
	w.wantAll(3)
}

// A lone sender's messages, one after the other, find the token at hand: it stays for a moment after each, and then goes round
// once. When nothing comes any more it rests where the last message came from. Others get it at once.
func TestLoneSenderKeepsTheToken(t *testing.T) {
	for _, accelerated := range []bool{false, true} {
		w := newNet(t, 1, 4, Config{}, accelerated)
		w.start()
		w.run(100 * time.Millisecond)
		sender := w.members[2]
		w.submit(2, 1)
		w.run(w.now + 10*time.Millisecond)
		first := sender.m.accepted
		atOnce := 0
		const messages = 1000
		for range messages {
			w.submit(2, 1)
			if sender.src.waiting == 0 {
				atOnce++
			}
			w.run(w.now + 100*time.Microsecond)
		}
		// A rotation takes 200 µs, two intervals, after a linger of 1041 µs.
		if rounds := (sender.m.accepted - first) / 4; atOnce < messages*8/10 || rounds > messages/10 || rounds < messages/20 {
			t.Errorf("accelerated %v: %d of %d messages went out at once, and the token made %d rounds", accelerated, atOnce, messages, rounds)
		}
		w.run(w.now + 10*time.Millisecond)
		if !sender.m.held {
			t.Errorf("accelerated %v: the token does not rest with the last sender", accelerated)
		}
		// Another one asks for it where it rests, and where it lingers.
		total := messages + 1
		for _, lingers := range []bool{false, true} {
			if lingers {
				w.submit(2, 1)
				total++
			}
			asked := w.now
			w.submit(1, 1)
			total++
			for w.members[1].src.waiting > 0 && w.now < asked+time.Second {
				w.run(w.now + 50*time.Microsecond)
			}
			if took := w.now - asked; took > 150*time.Microsecond {
				t.Errorf("accelerated %v, lingers %v: member 1 waited %v for the token, want a hurry and a hop", accelerated, lingers, took)
			}
			w.run(w.now + 20*time.Millisecond)
			w.submit(2, 1)
			total++
			w.run(w.now + 20*time.Millisecond)
		}
		w.run(w.now + time.Second)
		w.wantAll(total)
	}
}

// The token is near while a ring with a little to do turns: not on one that rests or is under load, not when the token is late, and
// not where a rotation takes long.
func TestTokenNear(t *testing.T) {
	for _, r := range []struct {
		what     string
		each     int           // messages that each member submits every 100 µs
		silence  time.Duration // nothing is submitted for so long before the look
		lossTime time.Duration // everything is lost for so long before the look
		slow     bool          // network
		want     bool
	}{
		{what: "a little", each: 1, want: true},
		{what: "nothing", silence: 20 * time.Millisecond},
		{what: "load", each: 40},
		{what: "a lost token", each: 1, lossTime: nearTime + 300*time.Microsecond},
		{what: "long rotations", each: 1, slow: true},
	} {
		w := newNet(t, 1, 4, Config{}, true)
		if r.slow {
			w.jitter = 4 * time.Millisecond
		}
		w.start()
		w.run(100 * time.Millisecond)
		near, looks := 0, 0
		for range 300 {
			for i := range w.members {
				w.submit(i, r.each)
			}
			w.run(w.now + 100*time.Microsecond)
			if r.silence > 0 {
				w.run(w.now + r.silence)
			}
			if r.lossTime > 0 {
				w.loss = 1
				w.run(w.now + r.lossTime)
			}
			for _, m := range w.members {
				looks++
				if m.m.TokenNear(w.now) {
					near++
				}
			}
			if r.lossTime > 0 {
				w.loss = 0
				w.run(w.now + 100*time.Millisecond)
			}
		}
		if share := float64(near) / float64(looks); r.want && share < 0.7 || !r.want && share > 0.05 {
			t.Errorf("%s: the token is near at %.0f %% of the looks, want that: %v", r.what, 100*share, r.want)
		}
	}
}

// One message on a ring where nothing is under way: who has it asks for the token, and nobody waits for what is sent then. Under load
// somebody always does.
func TestCalm(t *testing.T) {
	w := newNet(t, 1, 4, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	asked := 0
	for i := range 100 {
		m := w.members[i*3%4]
		w.submit(i*3%4, 1)
		if m.m.Asked() {
			asked++
		}
		w.run(w.now + 20*time.Millisecond)
		if m.m.Asked() {
			t.Fatalf("message %d: the token came, and is still asked for", i)
		}
	}
	if asked < 90 {
		t.Errorf("the token was asked for for %d of 100 messages", asked)
	}
	for i, m := range w.members {
		if m.calm[0] > 0 || m.calm[1] < 20 {
			t.Errorf("member %d: somebody waits for %d packets, and nobody for %d", i, m.calm[0], m.calm[1])
		}
		m.calm = [2]int{}
	}
	asked = 0
	for range 300 {
		for i := range w.members {
			w.submit(i, 40)
		}
		w.run(w.now + 100*time.Microsecond)
		for _, m := range w.members {
			if m.m.Asked() {
				asked++
			}
		}
	}
	for i, m := range w.members {
		if m.calm[1] > 20 || m.calm[0] < 1000 { // the first few find a ring at rest
			t.Errorf("load, member %d: somebody waits for %d packets, and nobody for %d", i, m.calm[0], m.calm[1])
		}
	}
	if asked > 4 {
		t.Errorf("load: the token is asked for at %d of 1200 looks", asked)
	}
	w.run(w.now + time.Second)
	w.wantAll(100 + 300*4*40)
}

// A daemon alone that had asked its ring for a pause, which rested meanwhile and was woken, sends again when the pause is over.
func TestThrottledAlone(t *testing.T) {
	w := newNet(t, 1, 1, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	w.members[0].m.Throttle(true)
	w.submit(0, 1)
	w.submit(0, 1)
	w.members[0].m.Throttle(false)
	w.submit(0, 1)
	w.run(w.now + time.Second)
	w.wantAll(3)
}

// A token that is held goes straight to who asks for it, past those between. Whatever is lost or doubled meanwhile, there is one order,
// one token, and nothing counts as stable that somebody lacks (after).
func TestHandOver(t *testing.T) {
	for seed := range uint64(40) {
		n := 3 + int(seed%6)
		w := newNet(t, seed, n, Config{}, seed%2 == 0)
		w.jitter = time.Duration(seed%4) * 100 * time.Microsecond
		w.start()
		w.run(100 * time.Millisecond)
		w.loss, w.dup = float64(seed%5)/50, float64(seed%3)/20
		over, total := 0, 0
		visits := make([]uint64, n) // the token that each has accepted last
		check := func() {
			for i, m := range w.members {
				if m.m.accepted-visits[i] > uint64(n) {
					over++
				}
				visits[i] = m.m.accepted
			}
		}
		check()
		over = 0
		for range 300 {
			w.submit(w.rnd.IntN(n), 1+w.rnd.IntN(3))
			for until := w.now + time.Duration(w.rnd.Int64N(int64(4*time.Millisecond))); w.now < until; {
				w.run(min(until, w.now+10*time.Microsecond))
				check()
			}
		}
		w.loss = 0
		w.run(w.now + time.Second)
		for _, m := range w.members {
			total += int(m.src.next)
		}
		w.wantAll(total)
		for s, k := range w.tokens {
			if k > 1 {
				t.Errorf("seed %d: token %d was accepted by %d members (EVS-20)", seed, s, k)
			}
		}
		if over == 0 {
			t.Errorf("seed %d: nobody was passed over", seed)
		}
	}
}

// P-6, EVS-20: old tokens, tokens out of turn, and tokens of nobody are not acted upon.
func TestTokenDiscipline(t *testing.T) {
	w := newNet(t, 1, 3, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	m := w.members[1]
	expect := m.m.expect
	for _, bad := range []packet.Token{
		{TokenSeq: expect - 3, Sender: 0}, {TokenSeq: expect - 3, Sender: 2}, {TokenSeq: expect + 1, Sender: 2}, {TokenSeq: expect + 5, Sender: 0},
		{TokenSeq: expect, Sender: 1}, {TokenSeq: expect, Sender: 3}, {TokenSeq: 0, Sender: 0},
	} {
		bad.Ring, bad.ARUID = m.m.id, packet.NoMember
		if v := m.m.Accept(w.now, &bad); v != Dropped {
			t.Errorf("token %d of member %d was accepted, want token %d or that of a later round, of another member", bad.TokenSeq, bad.Sender, expect)
		}
	}
	m.m.GiveUp()
	good := packet.Token{Ring: m.m.id, TokenSeq: expect, Sender: 0, ARUID: packet.NoMember}
	if v := m.m.Accept(w.now, &good); v != Dropped {
		t.Error("a token was accepted after it had been declared lost")
	}
}

// An idle token that is lost is sent again late, since it may be held, but soon when somebody wants it. When it comes late it is not
// held once more.
func TestLostIdleToken(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		w := newNet(t, 3, 3, Config{}, true)
		w.start()
		w.run(time.Second)
		isToken := func(f flight) bool { return packet.Kind(f.buf[3]) == packet.KindToken }
		for !slices.ContainsFunc(w.queue, isToken) {
			w.run(w.now + 5*time.Microsecond)
		}
		w.queue = slices.DeleteFunc(w.queue, isToken)
		lost, cfg := w.now, w.members[0].m.cfg
		if wanted {
			w.submit(2, 1)
			w.run(lost + cfg.HurryInterval + cfg.TokenRetransmit + 2*time.Millisecond)
			if len(w.members[0].got) != 1 {
				t.Error("a message waits for the lost token longer than a hurry interval and a retransmission time")
			}
			continue
		}
		before := w.members[1].m.accepted
		w.run(lost + cfg.Hold)
		if w.members[1].m.accepted != before {
			t.Fatal("the token was not lost, or sent again while it might be held")
		}
		w.run(lost + cfg.Hold*5/4 + 3*time.Millisecond)
		if rounds := (w.members[1].m.accepted - before) / 3; rounds < 2 || len(w.lost) > 0 {
			t.Errorf("%d rounds after the token was sent again, want 2: the first one late, the next one at once; rings given up: %v", rounds, w.lost)
		}
	}
}

// A dead member: everybody else notices within the token timeout.
func TestTokenLoss(t *testing.T) {
	w := newNet(t, 3, 4, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	w.members[2].dead = true
	died := w.now
	w.run(died + w.members[0].m.cfg.Hold + w.members[0].m.cfg.TokenTimeout + 5*time.Millisecond) // the token may have been held when it died, and passed the others after that
	if len(w.lost) != 3 {
		t.Errorf("after the death of a member: %v; want the three others to lose the token", w.lost)
	}
}

// LIVE-6: a member that hears tokens but no data of one other, and whom nobody can help, leaves, or is blamed.
func TestCannotReceive(t *testing.T) {
	w := newNet(t, 3, 3, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	// Nobody's data reach member 2, but the token does: its predecessor is 1, and only data is cut.
	cut := w.members[2].m
	w.submit(0, 1)
	for w.now < 2*time.Second && len(w.lost) == 0 {
		kept := w.queue[:0]
		for _, f := range w.queue {
			if f.to == 2 && packet.Kind(f.buf[3]) == packet.KindData {
				continue
			}
			kept = append(kept, f)
		}
		w.queue = kept
		w.run(w.now + 20*time.Microsecond)
	}
	if cut.Phase() != Lost || len(w.lost) != 1 || w.lost[0] != "2: "+CannotReceive.String() {
		t.Errorf("lost: %v; want member 2 to leave because it cannot receive", w.lost)
	}
}

// P-11: who retransmits in vain lets others try.
func TestRetransmissionByOthers(t *testing.T) {
	w := newNet(t, 4, 4, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	w.members[0].mute[2] = true // 0 cannot reach 2, and neither can 3
	w.members[3].mute[2] = true
	w.submit(0, 50)
	w.run(w.now + time.Second)
	w.wantAll(50)
}

// 8.1.4: a lone sender with equal windows is not stalled by its own count of the round before.
func TestLoneSenderSendsEachRound(t *testing.T) {
	w := newNet(t, 1, 3, Config{PersonalWindow: 10, GlobalWindow: 10, AcceleratedWindow: 0}, false)
	w.start()
	w.run(100 * time.Millisecond)
	w.submit(1, 100)
	first := w.members[1].m.accepted
	for len(w.members[1].got) < 100 && w.now < time.Second {
		w.run(w.now + 10*time.Microsecond)
	}
	if rounds := (w.members[1].m.accepted - first) / 3; rounds > 12 {
		t.Errorf("100 packets with a window of 10 took %d rounds", rounds)
	}
}

func TestMergeRanges(t *testing.T) {
	r := func(v ...uint64) (rs []packet.Range) {
		for i := 0; i < len(v); i += 2 {
			rs = append(rs, packet.Range{First: seq.Num(v[i]), Count: uint32(v[i+1])})
		}
		return rs
	}
	for _, c := range []struct{ a, b, want []packet.Range }{
		{nil, nil, r()},
		{r(1, 3), nil, r(1, 3)},
		{r(1, 3), r(2, 1), r(1, 3)},
		{r(1, 3), r(4, 2), r(1, 5)},
		{r(1, 1, 5, 1), r(3, 1), r(1, 1, 3, 1, 5, 1)},
		{r(1, 10), r(5, 10, 20, 1), r(1, 14, 20, 1)},
	} {
		if got := mergeRanges(c.a, c.b); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("mergeRanges(%v, %v) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{}).WithDefaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := Config{PersonalWindow: 200, GlobalWindow: 100, AcceleratedWindow: 300, MaxGap: 10, PacketBytes: 10, Hold: time.Second}.WithDefaults()
	err := bad.Validate()
	for _, want := range []string{"window 100 is below", "accelerated window 300", "maximal gap 10", "packet size 10", "hold time 1s"} {
		if err == nil || !contains(err.Error(), want) {
			t.Errorf("Validate: %v; want it to mention %q", err, want)
		}
	}
}

func contains(s, sub string) bool {
	for i := range s {
		if len(s)-i >= len(sub) && s[i:i+len(sub)] == sub {
			return true
		}
	}
	return false
}

// The delivery path of a ring allocates nothing per packet once it has run in.
func TestNoAllocationPerPacket(t *testing.T) {
	cfg := Config{}.WithDefaults()
	me := evs.ProcID{Name: "a", Inc: 1}
	pool := NewPool(1472)
	m := New(cfg, evs.RingID{Seq: 1, Rep: 1}, []evs.ProcID{me, {Name: "b", Inc: 2}}, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", me), pool, 0)
	m.Operational()
	m.Start(0)
	src := script{}
	fx := Effects{}
	src.waiting = 30
	m.Visit(1, &src, &fx)
	tok := packet.Token{Ring: m.id, TokenSeq: 2, Sender: 1, ARUID: packet.NoMember}
	round := func() {
		pool.Settle()
		fx.Sends = fx.Sends[:0]
		tok.Seq, tok.ARU = m.token.Seq, m.token.Seq
		src.waiting = 30
		if m.Accept(2, &tok) != Accepted {
			t.Fatal("token not accepted")
		}
		m.Visit(2, &src, &fx)
		m.Discard(m.Stable())
		tok.TokenSeq += 2
	}
	for range 100 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 0 {
		t.Errorf("%v allocations per visit of 30 packets, want none", n)
	}
}

func BenchmarkVisit(b *testing.B) {
	cfg := Config{}.WithDefaults()
	me := evs.ProcID{Name: "a", Inc: 1}
	pool := NewPool(1472)
	m := New(cfg, evs.RingID{Seq: 1, Rep: 1}, []evs.ProcID{me, {Name: "b", Inc: 2}}, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", me), pool, 0)
	m.Operational()
	m.Start(0)
	src := script{waiting: 30}
	fx := Effects{}
	m.Visit(1, &src, &fx)
	tok := packet.Token{Ring: m.id, TokenSeq: 2, Sender: 1, ARUID: packet.NoMember}
	b.ReportAllocs()
	for b.Loop() {
		pool.Settle()
		fx.Sends = fx.Sends[:0]
		tok.Seq, tok.ARU = m.token.Seq, m.token.Seq
		src.waiting = 30
		m.Accept(2, &tok)
		m.Visit(2, &src, &fx)
		m.Discard(m.Stable())
		tok.TokenSeq += 2
	}
}
