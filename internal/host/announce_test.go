// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
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
		if got := fmt.Sprint(announced(c.listen, c.self)); got != c.want {
			t.Errorf("%v of %v: %s, want %s", c.listen, c.self, got, c.want)
		}
	}
	if p := program(); !strings.HasPrefix(p, "evensong ") {
		t.Error(p)
	}
}
