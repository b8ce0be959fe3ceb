// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// hosts is a resolver without a network.
type hosts map[string]string

func (h hosts) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" {
		return nil, fmt.Errorf("network %q", network)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list, ok := h[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	var out []netip.Addr
	for a := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func TestResolve(t *testing.T) {
	c := mustParse(t, `Spread_Segment 10.0.0.9:4900 {
  a
  b = beta.example
  c gamma.example { CD gamma.example }
  d 10.0.0.4 }`)
	table := hosts{"a": "fd00::1 10.0.0.1 10.0.0.8", "beta.example": "::ffff:10.0.0.9", "gamma.example": "fd00::3"}
	r, err := Resolve(t.Context(), c, table)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.Daemons {
		got = append(got, d.Addr.String())
	}
	if want := "10.0.0.1:4900 10.0.0.9:4900 [fd00::3]:4900 10.0.0.4:4900"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !r.Resolved() || r.Daemons[2].Interfaces[0].Addr != netip.MustParseAddr("fd00::3") {
		t.Errorf("interfaces: %v", r.Daemons[2].Interfaces)
	}
	if r.Segments[0].Kind != Unicast {
		t.Errorf("10.0.0.9 is daemon b's address, so the segment cannot be %v", r.Segments[0].Kind)
	}
	if c.Resolved() || c.Daemons[2].Interfaces[0].Addr.IsValid() {
		t.Error("Resolve changed its argument")
	}
	again, err := Resolve(t.Context(), r, hosts{})
	if err != nil || again.Daemons[0].Addr != r.Daemons[0].Addr {
		t.Errorf("resolving again: %v", err)
	}
}

func TestResolveProblems(t *testing.T) {
	c := mustParse(t, "Spread_Segment unicast {\n a\n b\n c = gone.example\n d = empty.example }\nSpread_Segment unicast { e 10.0.0.2 }")
	_, err := Resolve(t.Context(), c, hosts{"a": "127.0.1.1", "b": "10.0.0.2", "empty.example": "0.0.0.0"})
	problems, ok := errors.AsType[Problems](err)
	if !ok || problems.Errors() != 4 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{`4:2: error: host "gone.example" of daemon "c": no such host`, `5:2: error: host "empty.example" of daemon "d": no usable`, "loopback address 127.0.1.1", "same address 10.0.0.2:4803"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("problem %d: no %q in\n%v", i, want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, c, hosts{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestResolveDecides: what depends on addresses is decided the same way whether they were names or not (W12).
func TestResolveDecides(t *testing.T) {
	for _, row := range []struct {
		table             hosts
		wide, accelerated bool
	}{
		{hosts{"a": "10.0.0.1", "b": "10.0.7.1"}, false, true},
		{hosts{"a": "10.0.0.1", "b": "10.7.0.1"}, true, false},
	} {
		c := mustParse(t, "Spread_Segment unicast { a }\nSpread_Segment unicast { b }")
		if c.Ring.Accelerated {
			t.Error("accelerated before the addresses are known")
		}
		for range 2 {
			r, err := Resolve(t.Context(), c, row.table)
			if err != nil || r.Wide != row.wide || r.Ring.Accelerated != row.accelerated {
				t.Errorf("%v: wide %v, accelerated %v, %v", row.table, r.Wide, r.Ring.Accelerated, err)
			}
			c = r
		}
	}
}

// Peers by name have all addresses of the name, or none yet: then the daemon starts all the same. What depends on addresses goes by
// those that mean one host.
func TestResolvePeers(t *testing.T) {
	resolve := func(table hosts, args ...string) (Config, error) {
		t.Helper()
		c, err := Assemble(nil, flags(t, args...), env(nil), hostAlpha)
		if err != nil {
			t.Fatal(err)
		}
		return Resolve(t.Context(), c, table)
	}
	table := hosts{"all": "10.0.0.2 ::ffff:10.0.0.3 fd00::3 10.0.0.2", "one": "10.0.0.4", "far": "10.7.0.1", "me": "10.0.0.1", "local": "127.0.0.1 ::1", "loop": "127.0.1.1", "none": "0.0.0.0"}
	c, err := resolve(table, "--name=a", "--peer=a=me,all,one:4900,c=far,gone,d=none")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, d := range c.Daemons {
		got = append(got, fmt.Sprintf("%s %v %v %v", c.label(i), c.ByName(i), d.Addr.Addr().IsValid(), d.Addrs))
	}
	want := "a false true []; all:4803 true false [10.0.0.2 10.0.0.3 fd00::3]; one:4900 true false [10.0.0.4]; c true false [10.7.0.1]; gone:4803 true false []; d true false []"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	var warnings []string
	for _, w := range c.Warnings {
		warnings = append(warnings, w.Text)
	}
	if s := strings.Join(warnings, "; "); s != `host "gone" of daemon "gone:4803": no such host; host "none" of daemon "d": no usable address` {
		t.Errorf("warnings %s", s)
	}
	if !c.Wide || c.Ring.Accelerated {
		t.Error("a peer far away is not noticed")
	}
	facts := FactsOf(&c, 0)
	for i, f := range facts.Daemons {
		if c.ByName(i) == (f.Addr != 0) {
			t.Errorf("daemon %s: facts with address %d", c.label(i), f.Addr)
		}
	}
	if list := Changes(&c, new(mustResolve(t, resolve, hosts{"me": "10.0.0.1"}, "--name=a", "--peer=a=me,all,one:4900,c=far,gone,d=none")), "a"); len(list) > 0 && list[0].Key == "daemons" {
		t.Errorf("other addresses of names are changes: %v", list)
	}
	for _, x := range []struct {
		args  []string
		error string // empty: none
	}{
		{[]string{"--peer=all"}, ""},
		{[]string{"--bind=10.0.0.2", "--peer=all"}, ""},    // one of them is this daemon
		{[]string{"--bind=10.0.0.2", "--peer=loop"}, ""},   // this daemon, in many a hosts file
		{[]string{"--bind=127.0.0.1", "--peer=local"}, ""}, // this daemon, or one beside it
		{[]string{"--bind=127.0.0.1", "--peer=all"}, "cannot reach each other"},
		{[]string{"--bind=10.0.0.2", "--peer=b=loop"}, "cannot reach each other"},
		{[]string{"--name=a", "--peer=a=nobody,b=one"}, ""}, // its own address is not known
	} {
		_, err := resolve(table, x.args...)
		if (err == nil) != (x.error == "") || err != nil && !strings.Contains(err.Error(), x.error) {
			t.Errorf("%v: %v, want %q", x.args, err, x.error)
		}
	}
	c, _ = Assemble(nil, flags(t, "--peer=all"), env(nil), hostAlpha)
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if c, err := Resolve(late, c, table); err != nil || len(c.Warnings) != 1 {
		t.Errorf("a resolver that takes too long: %v, warnings %v", err, c.Warnings)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(gone, c, table); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func mustResolve(t *testing.T, resolve func(hosts, ...string) (Config, error), table hosts, args ...string) Config {
	t.Helper()
	c, err := resolve(table, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIdentify(t *testing.T) {
	c := mustParse(t, `Spread_Segment unicast {
  alpha 10.0.0.1
  beta  10.0.0.2 { D 10.0.0.2 C 10.8.0.2 }
  gamma 10.0.0.3
  delta fd00::4 }`)
	local := mustParse(t, "Spread_Segment unicast:4803 { one 127.0.0.2 }\nSpread_Segment unicast:4804 { two 127.0.0.3 }")
	for _, row := range []struct {
		name  string
		c     *Config
		flag  string
		host  string
		addrs string
		index int
		by    string // or part of the error
	}{
		{"by -n, whatever the host", &c, "gamma", "alpha", "10.0.0.1", 2, `name "gamma"`},
		{"by -n, unknown", &c, "gama", "alpha", "10.0.0.1", -1, "did you mean gamma?"},
		{"by host name", &c, "", "Beta", "10.0.0.1", 1, `host name "Beta"`},
		{"by host name with domain", &c, "", "gamma.example.com", "", 2, "host name"},
		{"by address", &c, "", "other", "127.0.0.1 10.0.0.2", 1, "address 10.0.0.2"},
		{"by interface", &c, "", "other", "127.0.0.1 10.8.0.2", 1, "interface address 10.8.0.2"},
		{"by mapped address", &c, "", "other", "::ffff:10.0.0.3", 2, "address 10.0.0.3"},
		{"by address with zone", &c, "", "other", "fd00::4%eth0", 3, "address fd00::4"},
		{"first of the file wins", &c, "", "other", "10.0.0.3 10.0.0.1", 0, "address 10.0.0.1"},
		{"nobody", &c, "", "other", "127.0.0.1 10.0.0.77", -1, `called "other" and has the addresses 127.0.0.1, 10.0.0.77`},
		{"all of 127/8 is local", &local, "", "other", "127.0.0.1", 0, "address 127.0.0.2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			called := false
			id, err := Identify(row.c, row.flag, func() (Host, error) {
				called = true
				addrs, _ := hosts{"x": row.addrs}.LookupNetIP(t.Context(), "ip", "x")
				return Host{Name: row.host, Addrs: addrs}, nil
			})
			if called != (row.flag == "") {
				t.Errorf("host looked up: %v", called)
			}
			said := id.By
			if err != nil {
				said = err.Error()
			}
			if id.Index != row.index || (err != nil) != (row.index < 0) || !strings.Contains(said, row.by) {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
	id, _ := Identify(&c, "", func() (Host, error) {
		return Host{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.1")}}, nil
	})
	if len(id.Others) != 1 || id.Others[0] != "gamma" {
		t.Errorf("others: %q", id.Others)
	}
	three := mustParse(t, "Spread_Segment unicast:4803 { one 127.0.0.1 }\nSpread_Segment unicast:4804 { two 127.0.0.2 }\nSpread_Segment unicast:4805 { x 127.0.0.1 }")
	id, _ = Identify(&three, "", func() (Host, error) { return Host{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, nil })
	if id.Index != 0 || strings.Join(id.Others, " ") != "two x" {
		t.Errorf("at loopback addresses: %d, others %q", id.Index, id.Others)
	}
	if _, err := Identify(&c, "", func() (Host, error) { return Host{}, errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("look-up failed: %v", err)
	}
}

func TestThisHost(t *testing.T) {
	h, err := ThisHost()
	if err != nil || h.Name == "" {
		t.Fatalf("got %+v, %v", h, err)
	}
	for _, a := range h.Addrs {
		if a.Is4In6() {
			t.Errorf("address %v is not comparable with those of a file", a)
		}
	}
}
