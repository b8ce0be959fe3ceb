// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"evensong/internal/host"
	"evensong/internal/proto/node"
)

// ownHello is a hello with capabilities, and the choice of the method NULL behind it (own-dialect 2.1, 2.3).
func ownHello(user string, capabilities ...string) []byte {
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
	body := []byte{1, byte(len(capabilities)), 0, 0, 0, 0, 0, 0}
	body = text(text(body, user), "conformance")
	for _, c := range capabilities {
		body = text(body, c)
	}
	b := append([]byte("EVS\x01"), binary.LittleEndian.AppendUint32(nil, uint32(len(body)))...)
	return append(append(b, body...), ownFrame(16, "\x01\x04NULL")...)
}

// ownFrame is a whole frame (own-dialect 3).
func ownFrame(kind byte, body string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	return append(append(b, kind, 0, 0, 0), body...)
}

// ownPeer is a client of the own dialect, in bytes.
type ownPeer struct {
	t *testing.T
	c net.Conn
}

func ownDial(t *testing.T, s *server, user string, capabilities ...string) *ownPeer {
	t.Helper()
	c, err := net.Dial("tcp4", s.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(ownHello(user, capabilities...)); err != nil {
		t.Fatal(err)
	}
	p := &ownPeer{t, c}
	for _, want := range []byte{64, 65} { // METHODS, WELCOME
		if kind, _ := p.next(); kind != want {
			t.Fatalf("a frame of type %d in the handshake, want %d", kind, want)
		}
	}
	return p
}

// next is the next frame; frames in pieces are none of this file.
func (p *ownPeer) next() (kind byte, body string) {
	p.t.Helper()
	_ = p.c.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, 8)
	if _, err := io.ReadFull(p.c, head); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, binary.LittleEndian.Uint32(head))
	if _, err := io.ReadFull(p.c, b); err != nil {
		p.t.Fatal(err)
	}
	return head[4], string(b)
}

// expect wants these frames, DAEMONS (76) passed over, which come when the others have said where they listen.
func (p *ownPeer) expect(step string, want ...string) {
	p.t.Helper()
	for i := 0; i < len(want); {
		kind, body := p.next()
		if kind == 76 {
			continue
		}
		if got := string(kind) + body; got != want[i] && !(want[i] == "view" && kind == 73) {
			p.t.Fatalf("%s: frame %q, want %q", step, got, want[i])
		}
		i++
	}
}

// The frames PRIMARY, with their type in front.
const (
	unclaimed = "M\x00\x00\x00\x00"
	noPrimary = "M\x01\x00\x00\x00"
	primary   = "M\x02\x00\x00\x00"
)

// TestOwnPrimary: PRIMARY is the first frame behind WELCOME, says what holds, and goes to those only who asked (own-dialect 6.5).
func TestOwnPrimary(t *testing.T) {
	for _, x := range []struct {
		name, want string
		voters     []string
	}{{"norule", unclaimed, nil}, {"lone", noPrimary, []string{"lone", "two", "three"}}, {"solo", primary, []string{"solo"}}} {
		s := start(t, x.name, func(_ *host.Config, nc *node.Config) { nc.Voters = x.voters })
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if m, err := s.host.Members(t.Context()); err == nil && len(m) == 1 {
				break
			} else if time.Now().After(end) {
				t.Fatal(m, err)
			}
		}
		asks := ownDial(t, s, "asks", "query", "primary")
		for first := true; ; first = false { // a daemon that has just started claims nothing yet
			kind, body := asks.next()
			if kind != 77 || !first && body == unclaimed[1:] {
				t.Fatalf("%s: a frame of type %d, %q", x.name, kind, body)
			}
			if body == x.want[1:] {
				break
			}
		}
		p := ownDial(t, s, "plain", "query")
		if _, err := p.c.Write(ownFrame(2, "12345678")); err != nil { // PING
			t.Fatal(err)
		}
		p.expect(x.name+", who did not ask", "\x0312345678")
	}
}

// TestOwnPrimaryAcrossCuts: each side of a cut is told, in front of its views, and clients of the original see what they always saw.
func TestOwnPrimaryAcrossCuts(t *testing.T) {
	c := newCluster(t, clusterNames...)
	north, south := ownDial(t, c.servers["north"], "n", "primary"), ownDial(t, c.servers["south"], "s", "primary")
	old := c.at("east").open("old") // a member of a group that no change touches
	joinAcross(c.group("h"), []*peer{old}, old)
	group := c.group("g")
	for _, p := range []*ownPeer{north, south} {
		// The configuration is there; until the exchange of groups' state that follows it is over, what was before still holds.
		kind, body := p.next()
		for kind == 76 || string(kind)+body == noPrimary {
			kind, body = p.next()
		}
		if got := string(kind) + body; got != primary {
			t.Fatalf("first: frame %q, want %q", got, primary)
		}
	}
	join := func(p *ownPeer) {
		t.Helper()
		if _, err := p.c.Write(ownFrame(19, "\x00\x00\x00\x00"+string(rune(len(group)))+group)); err != nil {
			t.Fatal(err)
		}
	}
	join(north)
	north.expect("own join", "view")
	c.cut([]string{"north", "east"}, []string{"south"})
	north.expect("the majority", noPrimary, primary) // its group lost nobody, and sees nothing else
	south.expect("the minority", noPrimary)
	join(south)
	south.expect("a view in the minority", "view")
	c.cut()
	c.settled(clusterNames...)
	for _, p := range []*ownPeer{north, south} {
		for { // they meet in one step or in two
			kind, body := p.next()
			if kind == 77 && body == primary[1:] && c.together() {
				break
			}
		}
	}
	old.nothing()
}

// together reports whether all daemons are one configuration.
func (c *cluster) together() bool {
	for _, s := range c.servers {
		if m, err := s.host.Members(c.Context()); err != nil || len(m) != len(clusterNames) {
			return false
		}
	}
	return true
}
