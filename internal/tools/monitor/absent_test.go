// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"strings"
	"testing"
	"time"

	"evensong/internal/admin"
)

// TestStatusTellsWhoIsAbsent: who is missing, whose configuration differs, who is kept out, and a foreign address stand in a
// status, with what to do, and in the note of a table.
func TestStatusTellsWhoIsAbsent(t *testing.T) {
	s := &admin.Status{Name: "a", Ready: true,
		Members: []admin.Member{{Name: "a", Me: true, Address: "192.0.2.1:4803", Foreign: true}, {Name: "b", Differs: []string{"address of c differs"}}},
		Missing: []admin.Member{{Name: "c"}, {Name: "d"}},
		Packets: admin.Packets{Ignored: map[string]uint64{"sealed": 40, "key": 2, "token": 1}},
		Others:  []admin.Member{{Name: "e", KeptOut: true, Differs: []string{"e is only in the list there"}}},
	}
	var b strings.Builder
	if err := writeStatus(&b, &Report{Status: s}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  missing        c d; start them",
		"                 42 datagrams ignored because only one side has a ClusterKeyFile, or theirs has other keys; the log says whose",
		"  address        192.0.2.1:4803 is none of this machine",
		"  kept out       e, which no configuration here lists",
		"  differs        daemon b has another configuration: address of c differs; compare the files (evensong config check, config diff), and reload",
		"  differs        daemon e has another configuration: e is only in the list there",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if got, want := remark(s, time.Time{}), "missing c d; a: its address is none of its machine; b: another configuration; e: kept out; e: another configuration"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
	if got := remark(&admin.Status{Name: "a", Members: []admin.Member{{Name: "a"}}}, time.Time{}); got != "" {
		t.Errorf("note of a daemon that is well: %q", got)
	}
}

// Status says what has become of the group address, and whom it does not reach, in the table, too.
func TestStatusTellsOfTheGroupAddress(t *testing.T) {
	for _, x := range []struct {
		g            *admin.GroupAddress
		text, remark string
	}{
		{nil, "", ""},
		{&admin.GroupAddress{Address: "239.1.2.3:4803", Used: true, Reason: "reaches everybody; packets go there once for all"},
			"239.1.2.3:4803 reaches everybody; packets go there once for all; 12 datagrams", ""},
		{&admin.GroupAddress{Address: "239.1.2.3:4803", Missing: []string{"b", "c"}, Reason: "does not reach everybody; packets go to each daemon by itself"},
			"239.1.2.3:4803 does not reach everybody; packets go to each daemon by itself (missing b c); 12 datagrams", "239.1.2.3:4803 does not reach b c"},
	} {
		s := &admin.Status{Name: "a", GroupAddress: x.g, Packets: admin.Packets{DatagramsToGroup: 12}}
		if got := remark(s, time.Time{}); got != x.remark {
			t.Errorf("remark %q, want %q", got, x.remark)
		}
		var out strings.Builder
		if err := writeStatus(&out, &Report{Status: s}); err != nil {
			t.Fatal(err)
		}
		var row string
		for line := range strings.Lines(out.String()) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "group address"); ok {
				row = strings.TrimSpace(rest)
			}
		}
		if row != x.text {
			t.Errorf("row %q, want %q", row, x.text)
		}
	}
}
