// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/transport"
)

// assembled is what daemon name of a file runs with.
func assembled(t *testing.T, file, name string, change func(*config.Config)) (host.Config, error) {
	t.Helper()
	parsed, err := config.Parse("test.conf", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Assemble(&parsed, nil, func(string) (string, bool) { return "", false }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = config.Resolve(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	h, _, err := host.Assemble(&c, c.Index(name), slog.New(slog.DiscardHandler))
	return h, err
}

const twoSites = `
Spread_Segment 239.1.2.3:4803 {
	a 10.1.0.1
	b 10.1.0.2 { C 10.1.0.2  D 10.9.0.2  D 10.1.0.2  M 192.168.5.5  C 192.168.5.5 }
	c 10.1.0.3
}
Spread_Segment 10.2.0.255:4804 { d 10.2.0.1  e 10.2.0.2 }
Spread_Segment 10.3.0.1:4805 { f 10.3.0.1 }
`

// A multicast or broadcast address is used for the daemon's own segment; all others are reached by unicast.
func TestSegments(t *testing.T) {
	for _, r := range []struct{ daemon, group, members string }{
		{"a", "239.1.2.3:4803", "10.1.0.2:4803 10.1.0.3:4803"},
		{"d", "10.2.0.255:4804", "10.2.0.2:4804"},
		{"f", "", ""},
	} {
		h, err := assembled(t, twoSites, r.daemon, nil)
		if err != nil {
			t.Fatal(err)
		}
		var group string
		var members []string
		for _, g := range h.Transport.Groups {
			group += g.Addr.String()
			if !g.Join {
				t.Errorf("%s does not listen to its own group", r.daemon)
			}
			for _, m := range g.Members {
				members = append(members, m.String())
			}
		}
		if group != r.group || strings.Join(members, " ") != r.members {
			t.Errorf("%s reaches %v by %s, want %s by %s", r.daemon, members, group, r.members, r.group)
		}
		if h.Transport.Loop {
			t.Errorf("%s hears its own multicasts, and nobody else is on its host", r.daemon)
		}
	}
	h, err := assembled(t, "Spread_Segment 239.1.2.3:4803 { a 127.0.0.1  b 127.0.0.2 }", "a", nil)
	if err != nil || !h.Transport.Loop {
		t.Errorf("multicasts do not come back (error %v), and another daemon is on this host", err)
	}
}

// Letters say what an address is for. Of several for daemon traffic the main one is that which the others know.
func TestInterfaces(t *testing.T) {
	h, err := assembled(t, twoSites, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.Transport.Bind.String() != "10.1.0.2:4803" || len(h.Transport.Also) != 1 || h.Transport.Also[0].String() != "10.9.0.2:4803" {
		t.Errorf("daemon traffic at %v and %v", h.Transport.Bind, h.Transport.Also)
	}
	if len(h.Listen) != 2 || h.Listen[0].String() != "10.1.0.2:4803" || h.Listen[1].String() != "192.168.5.5:4803" {
		t.Errorf("clients at %v", h.Listen)
	}
	if h, err = assembled(t, twoSites, "a", nil); err != nil || h.Transport.Bind.String() != "0.0.0.0:4803" || h.Transport.Also != nil {
		t.Errorf("without interfaces: daemon traffic at %v and %v, error %v", h.Transport.Bind, h.Transport.Also, err)
	}
	all := netip.MustParseAddrPort("0.0.0.0:4803")
	some := netip.MustParseAddrPort("10.1.0.1:4803")
	_, err = assembled(t, twoSites, "a", func(c *config.Config) { c.Local.Bind = []netip.AddrPort{some, all} })
	if !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), "means all addresses") {
		t.Errorf("one address and all addresses: %v", err)
	}
	h, err = assembled(t, twoSites, "a", func(c *config.Config) {
		c.Local.Bind = []netip.AddrPort{some, netip.MustParseAddrPort("10.9.0.1:4803")}
	})
	if err != nil || h.Transport.Bind != some || len(h.Transport.Also) != 1 {
		t.Errorf("two addresses: %v and %v, error %v", h.Transport.Bind, h.Transport.Also, err)
	}
}

// Timers that nobody gave are those of the network: near or wide. What is given wins.
func TestTimerProfiles(t *testing.T) {
	const near = "Spread_Segment 10.1.0.255 { a 10.1.0.1  b 10.1.0.2 }\n"
	for _, r := range []struct {
		name, file string
		want       time.Duration
	}{
		{"near", near, 250 * time.Millisecond},
		{"wide", twoSites, 2 * time.Second},
		{"near, said to be wide", near + "TimerProfile = WAN", 2 * time.Second},
		{"wide, said to be near", twoSites + "TimerProfile = LAN", 250 * time.Millisecond},
		{"wide, left open", twoSites + "TimerProfile = auto", 2 * time.Second},
		{"wide, with a timer", twoSites + "TokenTimeout = 700", 700 * time.Millisecond},
	} {
		h, err := assembled(t, r.file, "a", nil)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		if h.TokenTimeout != r.want {
			t.Errorf("%s: token timeout %v, want %v", r.name, h.TokenTimeout, r.want)
		}
	}
}

// Each name of a path of datagrams in a file is one of the transport's.
func TestDatagramPath(t *testing.T) {
	for word, want := range map[string]transport.Path{"": transport.PathAuto, "auto": transport.PathAuto, "segment": transport.PathSegment, "batch": transport.PathBatch, "single": transport.PathSingle} {
		file := "Spread_Segment 10.1.0.255 { a 10.1.0.1 }\n"
		if word != "" {
			file += "DatagramPath = " + word + "\n"
		}
		h, err := assembled(t, file, "a", nil)
		if err != nil || h.Transport.Path != want {
			t.Errorf("%q: path %v, error %v; want %v", word, h.Transport.Path, err, want)
		}
	}
}

func TestPacketBytes(t *testing.T) {
	for file, want := range map[string]int{"": 1472, "PacketBytes = 8972": 8972} {
		c, err := config.Parse("test.conf", []byte("Spread_Segment 10.1.0.255 { a 10.1.0.1 }\n"+file))
		if err != nil {
			t.Fatal(err)
		}
		if n := host.RingConfig(&c).PacketBytes; n != want {
			t.Errorf("%q: packets of %d bytes, want %d", file, n, want)
		}
	}
}
