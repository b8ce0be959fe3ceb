// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/seal"
)

func clusterKeys(t testing.TB, secrets ...byte) *seal.Keys {
	t.Helper()
	var list []seal.Key
	for _, n := range secrets {
		k, err := seal.NewKey([seal.KeySize]byte{n, 1})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	keys, err := seal.NewKeys(list...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sent is a shell that keeps what it is to send, or only looks at it.
type sent struct {
	keep  bool
	sends []packet.Send
	calls [][]int // lengths
}

func (s *sent) Send(sends []packet.Send) {
	if !s.keep {
		return
	}
	var lengths []int
	for _, x := range sends {
		lengths = append(lengths, len(x.Bytes))
		x.Bytes = slices.Clone(x.Bytes)
		s.sends = append(s.sends, x)
	}
	s.calls = append(s.calls, lengths)
}
func (s *sent) markOutput(uint64) {}
func (s *sent) markResume(uint64) {}
func (s *sent) markClose(Close)   {}

// What is sealed keeps its order, its addresses, and equal lengths; it is sealed once for all, in pieces that are not much, and
// as it came it stays.
func TestSealedSends(t *testing.T) {
	addrs := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}
	out := &sent{keep: true}
	c := &core{shell: out, stats: &Stats{}}
	c.sealing.box = seal.New(clusterKeys(t, 1))
	other := seal.New(clusterKeys(t, 1))
	var sends []packet.Send
	var want [][]byte
	for i := range 200 {
		b := bytes.Repeat([]byte{byte(i)}, 1428)
		switch i {
		case 50:
			b = b[:100]
		case 60:
			b = bytes.Repeat(b, 45) // more than a piece by itself
		}
		sends = append(sends, packet.Send{To: addrs[:1+i%2], Bytes: b, Kind: packet.KindData, Ring: i%2 == 1, Whole: i%3 == 1})
		want = append(want, slices.Clone(b))
	}
	c.send(sends)
	if len(out.sends) != len(sends) {
		t.Fatalf("%d datagrams, want %d", len(out.sends), len(sends))
	}
	meetBoxes(t, c.sealing.box, other)
	c.send(sends) // these open
	for i, x := range out.sends[len(sends):] {
		if len(x.Bytes) != len(want[i])+seal.Overhead || !slices.Equal(x.To, sends[i].To) || x.Ring != sends[i].Ring || x.Whole != sends[i].Whole || x.Kind != sends[i].Kind {
			t.Fatalf("datagram %d: %d bytes to %v, want %d to %v", i, len(x.Bytes), x.To, len(want[i])+seal.Overhead, sends[i].To)
		}
		if p, _, v := other.Open(0, netip.AddrPort{}, x.Bytes); v != seal.Opened || !bytes.Equal(p, want[i]) {
			t.Fatalf("datagram %d: %v", i, v)
		}
		if !bytes.Equal(sends[i].Bytes, want[i]) {
			t.Fatalf("the machine's packet %d has changed", i)
		}
	}
	for _, lengths := range out.calls {
		sum := 0
		for _, n := range lengths {
			sum += n
		}
		if sum > sealChunk && len(lengths) > 1 {
			t.Errorf("%d bytes sealed at a time, want at most %d", sum, sealChunk)
		}
	}
}

// meetBoxes has b know a.
func meetBoxes(t testing.TB, a, b *seal.Box) {
	t.Helper()
	_, hello, _ := b.Open(0, netip.AddrPort{}, a.Seal(nil, []byte("here")))
	for _, x := range []*seal.Box{a, b, a} {
		if hello != nil {
			_, hello, _ = x.Open(0, netip.AddrPort{}, slices.Clone(hello))
		}
	}
	if _, _, v := b.Open(0, netip.AddrPort{}, a.Seal(nil, []byte("here"))); v != seal.Opened {
		t.Fatalf("boxes do not get to know each other: %v", v)
	}
}

// taker is a machine that takes datagrams.
type taker struct {
	echo
	taken int
}

func (m *taker) HandleDatagram(time.Duration, netip.AddrPort, []byte, *packet.Room, *Effects) {
	m.taken++
}

// No datagram takes memory, sealed or opened, and one that is refused only for its line in the log.
func TestSealingAllocates(t *testing.T) {
	from := netip.MustParseAddrPort("127.0.0.1:1")
	m := &taker{}
	c := &core{shell: &sent{}, stats: &Stats{}, m: m, cfg: &Config{}}
	c.sealing.box = seal.New(clusterKeys(t, 1))
	peer := seal.New(clusterKeys(t, 1))
	meetBoxes(t, peer, c.sealing.box)
	var sends []packet.Send
	for range 100 {
		sends = append(sends, packet.Send{To: []netip.AddrPort{from}, Bytes: make([]byte, 1428)})
	}
	if n := testing.AllocsPerRun(10, func() { c.send(sends) }); n != 0 {
		t.Errorf("sealing 100 datagrams: %v allocations", n)
	}
	buf := make([]byte, 0, 2000)
	if n := testing.AllocsPerRun(100, func() {
		buf = peer.Seal(buf[:0], sends[0].Bytes)
		c.handleDatagram(from, buf, nil)
	}); n != 0 || m.taken != 101 {
		t.Errorf("opening: %v allocations, %d taken", n, m.taken)
	}
	c.sealing.noted = map[refusedBy]time.Duration{{from.Addr(), seal.Plain}: 0, {from.Addr(), seal.Replayed}: 0}
	if n := testing.AllocsPerRun(100, func() {
		c.handleDatagram(from, sends[0].Bytes, nil)
		c.handleDatagram(from, buf, nil)
	}); n != 0 || m.taken != 101 {
		t.Errorf("refusing: %v allocations, %d taken", n, m.taken)
	}
}

// A sender of datagrams that do not open is worth one line a minute for each reason, from however many ports it sends, and no more
// addresses are remembered than were said.
func TestRefusedIsNotedByAddress(t *testing.T) {
	var log bytes.Buffer
	c := &core{shell: &sent{}, stats: &Stats{}, cfg: &Config{}}
	c.notes = newNotes(slog.New(slog.NewTextHandler(&log, nil)), c.stats)
	go c.notes.run()
	refuse := func(addr string, port int) {
		c.noteRefused(netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)), seal.Plain, []byte("x"))
	}
	for port := range 1000 {
		refuse("10.0.0.1", port+1)
		refuse("::ffff:10.0.0.1", port+1) // the same, as a socket for both families tells it
	}
	refuse("10.0.0.2", 1)
	c.now += refusedNote
	refuse("10.0.0.1", 2000)
	for i := range 2 * refusedAddrs {
		c.noteRefused(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1), seal.Plain, []byte("x"))
		if len(c.sealing.noted) > refusedAddrs {
			t.Fatalf("%d addresses are remembered, more than %d", len(c.sealing.noted), refusedAddrs)
		}
	}
	c.notes.close()
	for peer, want := range map[string]int{"10.0.0.1:": 2, "10.0.0.2:": 1} {
		if n := strings.Count(log.String(), "peer="+peer); n != want {
			t.Errorf("%d lines about %s want %d", n, peer, want)
		}
	}
}

// Both loops seal and open, datagrams of all lengths.
func TestSealingLoops(t *testing.T) {
	for name, kind := range map[string]LoopKind{"epoll": LoopEpoll, "portable": LoopPortable} {
		if kind == LoopEpoll && !haveEpoll {
			continue
		}
		t.Run(name, func(t *testing.T) {
			cfg := local(kind)
			cfg.Keys = clusterKeys(t, 1, 2)
			a, b := &echo{}, &echo{}
			ha := start(t, cfg, a)
			cfg.Keys = clusterKeys(t, 2, 1) // it sends with the other one
			hb := start(t, cfg, b)
			ask := func(n int) {
				do(t, ha, func() {
					ha.core.send([]packet.Send{{To: []netip.AddrPort{hb.Addr()}, Bytes: append([]byte("p"), make([]byte, n)...)}})
				})
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				ask(0)
				pings := 0
				do(t, ha, func() { pings = a.pings })
				if pings > 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("no answer: %v at one, %v at the other", ha.stats.Sealing.Ignored(), hb.stats.Sealing.Ignored())
				}
			}
			time.Sleep(20 * time.Millisecond) // for the answers of those that were on their way
			before := 0
			do(t, ha, func() { before = a.pings })
			lengths := []int{1, 100, 1427, 9000, packet.MaxDatagram - seal.Overhead - 1}
			for i, n := range lengths {
				ask(n)
				eventually(t, ha, "an answer", func() bool { return a.pings == before+i+1 })
			}
		})
	}
}
