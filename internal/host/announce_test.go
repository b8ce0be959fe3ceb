// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAnnounced(t *testing.T) {
	at := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	self := netip.MustParseAddr("10.0.0.7")
	for _, c := range []struct {
		listen []netip.AddrPort
		self   netip.Addr
		want   string
	}{
		{nil, self, "[]"},
		{at("[::]:4803"), self, "[10.0.0.7:4803]"},
		{at("0.0.0.0:1", "127.0.0.1:2"), self, "[10.0.0.7:1 127.0.0.1:2]"},
		{at("[::]:4803", "[fe80::1]:5"), netip.Addr{}, "[[fe80::1]:5]"},
		{at("[::]:4803"), netip.IPv4Unspecified(), "[]"},
	} {
		if got := fmt.Sprint(Announced(c.listen, c.self)); got != c.want {
			t.Errorf("%v of %v: %s, want %s", c.listen, c.self, got, c.want)
		}
	}
	if p := program(); !strings.HasPrefix(p, "evensong ") {
		t.Error(p)
	}
}

// announcer notes what it is told about the addresses for clients.
type announcer struct {
	echo
	told [][]string
}

func (a *announcer) SetListeners(_ time.Duration, addrs []string, _ *Effects) {
	a.told = append(a.told, addrs)
}

// A daemon that drains takes its addresses back, so that clients of others do not come to it.
func TestDrainTakesAddressesBack(t *testing.T) {
	m := &announcer{}
	h := start(t, local(LoopAuto), m)
	c := dial(t, h) // keeps the host from ending
	c.Write([]byte("x"))
	eventually(t, h, "a session", func() bool { return h.stats.Sessions.Load() == 1 })
	h.Drain(time.Hour)
	eventually(t, h, "the addresses are taken back", func() bool { return len(m.told) == 1 && m.told[0] == nil })
}
