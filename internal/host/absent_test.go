// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/node"
)

// TestAbsent: operators see who is missing, who was heard of beside the file, and by name how each configuration differs.
func TestAbsent(t *testing.T) {
	read := func(text string) *config.Config {
		c, err := config.Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	mine := read("Spread_Segment unicast { a 127.0.0.1\n b 127.0.0.2\n c 127.0.0.3 }")
	theirs, err := config.FactsOf(read("Spread_Segment unicast { a 127.0.0.1\n b 127.0.0.2\n c 127.0.0.3\n d 127.0.0.4 }"), RingConfig(mine).TokenTimeout).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	access, err := config.LoadAccess(mine)
	if err != nil {
		t.Fatal(err)
	}
	_, differences, err := nodeConfig(mine, 0, access)
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{core: &core{cfg: &Config{foreign: true}}}
	h.reload.live.Store(&live{daemons: adminConfig(mine).Daemons})
	a, b := evs.ProcID{Name: "a", Inc: 1}, evs.ProcID{Rank: 1, Name: "b", Inc: 2}
	st := node.Status{Me: a, Conf: &evs.Configuration{Members: []evs.ProcID{a, b}},
		Peers: []membership.Peer{{Name: "b", Facts: theirs}, {Name: "d", KeptOut: true, Facts: theirs}}}
	var out admin.Status
	(&control{h}).configuration(&st, differences, &out)
	names := func(ms []admin.Member) (list []string) {
		for _, m := range ms {
			list = append(list, m.Name)
		}
		return list
	}
	if !slices.Equal(names(out.Members), []string{"a", "b"}) || !slices.Equal(names(out.Missing), []string{"c"}) || !slices.Equal(names(out.Others), []string{"d"}) {
		t.Fatalf("members %v, missing %v, others %v", names(out.Members), names(out.Missing), names(out.Others))
	}
	want := []string{"d is only in the list there"} // by name, though only its hash was sent
	if !out.Members[0].Foreign || out.Members[0].Differs != nil || !slices.Equal(out.Members[1].Differs, want) || !out.Others[0].KeptOut || !slices.Equal(out.Others[0].Differs, want) {
		t.Errorf("%+v, others %+v", out.Members, out.Others)
	}
}

// TestForeignAddress: a daemon whose address is not one of this machine says so, unless the configuration says where it
// receives.
func TestForeignAddress(t *testing.T) {
	for _, r := range []struct {
		addr, bind string
		warned     bool
	}{
		{"192.0.2.1", "", true}, // for documentation: no machine has it
		{"2001:db8::1", "", true},
		{"192.0.2.1", "0.0.0.0:4803", false},
		{"127.0.0.1", "", false},
	} {
		c, err := config.Parse("f", []byte("Spread_Segment unicast { a "+r.addr+" }"))
		if err != nil {
			t.Fatal(err)
		}
		if r.bind != "" {
			c.Local.Bind = []netip.AddrPort{netip.MustParseAddrPort(r.bind)}
		}
		var log bytes.Buffer
		cfg, _, err := Assemble(&c, 0, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(log.String(), "this daemon's own address is none of this machine"); said != r.warned || cfg.foreign != r.warned {
			t.Errorf("%s, --bind %q: warned %v, shown %v; want %v\n%s", r.addr, r.bind, said, cfg.foreign, r.warned, log.String())
		}
	}
}
