// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sent is what the other daemon knows of f.
func sent(t *testing.T, f Facts) Facts {
	t.Helper()
	b, err := f.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= MaxFactsSize {
		t.Errorf("%d bytes", len(b))
	}
	g, err := DecodeFacts(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, g, cmpopts.IgnoreUnexported(Facts{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
	return g
}

func TestFactsDiff(t *testing.T) {
	facts := func(file string) Facts {
		c := mustParse(t, file)
		return FactsOf(&c, time.Second)
	}
	segment := func(daemons string) string { return "Spread_Segment 10.0.0.255 { " + daemons + " }" }
	abc := facts(segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3"))
	for _, row := range []struct {
		name  string
		there Facts
		want  []string
	}{
		{"the same", facts(segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3")), nil},
		{"what hosts may set differently", facts("EventLogFile = x\nWindow = 9\n" + segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3 { CD 10.0.0.3 }")), nil},
		{"order", facts(segment("a 10.0.0.1 c 10.0.0.3 b 10.0.0.2")), []string{
			"daemon order differs: b is 2nd here, 3rd there", "daemon order differs: c is 3rd here, 2nd there"}},
		{"address", facts(segment("a 10.0.0.1 b 10.0.0.22 c 10.0.0.3")), []string{"address of b differs"}},
		{"port", facts("Spread_Segment 10.0.0.255:9 { a 10.0.0.1 b 10.0.0.2 c 10.0.0.3 }"),
			[]string{"address of a differs", "address of b differs", "address of c differs"}},
		{"one more there", facts(segment("z 10.0.0.9 a 10.0.0.1 b 10.0.0.2 c 10.0.0.3")), []string{"daemon 1 of the list is only in the list there"}},
		{"one less there", facts(segment("a 10.0.0.1 c 10.0.0.3")), []string{"b is only in the list here"}},
		{"ring", facts("AcceleratedRing = no\n" + segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3")), []string{"ring variant differs: accelerated here, regular there"}},
		{"primary", facts("PrimaryRule = majority\n" + segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3")), []string{"rule for primary configurations differs: none here, majority there"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, Diff(abc, sent(t, row.there))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := Diff(abc, facts(segment("a 10.0.0.1 b 10.0.0.2 c 10.0.0.3 zoe 10.0.0.9"))); len(got) != 1 || got[0] != "zoe is only in the list there" {
		t.Errorf("two files, so both know names: %q", got)
	}
	// Peers without names are known by address only; nothing may be claimed to be missing for that.
	peers := func(name string, args ...string) Facts {
		c, err := Assemble(nil, flags(t, append(args, "--name="+name)...), env(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		return FactsOf(&c, time.Second)
	}
	if got := Diff(peers("a", "--peer=10.0.0.2"), peers("b", "--bind=10.0.0.2", "--peer=10.0.0.1")); got != nil {
		t.Errorf("peers by address: %q", got)
	}
	if got := Diff(peers("a", "--bind=10.0.0.1", "--peer=all.example"), peers("b", "--bind=10.0.0.2", "--peer=all.example,10.0.0.1")); got != nil {
		t.Errorf("peers by a name for all: %q", got)
	}
	if got := Diff(peers("a", "--bind=10.0.0.1", "--peer=b=b.example"), peers("b", "--bind=10.0.0.2", "--peer=a=10.0.0.1")); got != nil {
		t.Errorf("a peer by name: %q", got)
	}
	if got := Diff(peers("a", "--bind=10.0.0.1", "--peer=10.0.0.9"), peers("b", "--bind=10.0.0.2", "--peer=10.0.0.1")); len(got) != 1 || got[0] != "daemon 1 of the list is only in the list there" && got[0] != "b is only in the list there" {
		t.Errorf("a peer by a wrong address: %q", got)
	}
	other := abc
	other.Cluster, other.Ranked, other.TokenTimeout = "b", false, 2*time.Second
	if got := Diff(abc, sent(t, other)); len(got) != 3 {
		t.Errorf("got %q", got)
	}
}

func TestFactsSize(t *testing.T) {
	c := Config{Cluster: strings.Repeat("c", MaxClusterName), Ranked: true}
	for i := range MaxDaemons {
		c.Daemons = append(c.Daemons, Daemon{Name: fmt.Sprintf("daemon-%d", i), Host: fmt.Sprintf("host-%d", i)})
	}
	f := FactsOf(&c, time.Hour)
	sent(t, f)
	f.Daemons = append(f.Daemons, DaemonFact{})
	if _, err := f.AppendBinary(nil); err == nil {
		t.Error("encoded more daemons than can be decoded")
	}
}

// FuzzDecodeFacts: any bytes are refused or survive a round trip, and Diff copes with all of them.
func FuzzDecodeFacts(f *testing.F) {
	c := Config{Cluster: "x", Ranked: true, Daemons: []Daemon{{Name: "a", Host: "a"}, {Name: "b", Host: "b"}, {Host: "c"}}}
	mine := FactsOf(&c, time.Second)
	b, _ := mine.AppendBinary(nil)
	f.Add(b)
	f.Add([]byte{factsVersion, 3, 0, 0, 0, 9, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeFacts(b)
		if err != nil {
			return
		}
		again, err := got.AppendBinary(nil)
		if err != nil || string(again) != string(b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
		Diff(mine, got)
		Diff(got, mine)
	})
}
