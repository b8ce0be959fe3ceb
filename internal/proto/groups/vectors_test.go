// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

type vectorRecord struct {
	Connection, Dir, Kind string
	Decoded               struct {
		Type       string
		Sender     string
		Groups     []string
		DataText   string `json:"data_text"`
		Membership *struct {
			Gid  []uint32
			Sets [][]string `json:"vs_sets"`
			Own  int        `json:"local_vs_index"`
		}
		Transition *struct{ Gid []uint32 }
	}
}

// text is a record in the words of transcript, with the ids replaced by names.
func (r *vectorRecord) text(ids map[string]string) string {
	d := &r.Decoded
	id := func(gid []uint32) string { return rename(ids, fmt.Sprint(gid)) }
	switch {
	case d.Membership != nil:
		cause := map[string]string{"1100": "join", "1200": "leave", "1400": "disconnect", "1800": "network"}[d.Type[len(d.Type)-4:]]
		return viewText(d.Sender, id(d.Membership.Gid), cause, d.Groups, d.Membership.Sets, d.Membership.Own)
	case d.Transition != nil:
		return fmt.Sprint("signal ", d.Sender, " ", id(d.Transition.Gid))
	}
	return fmt.Sprint("data ", d.Sender, d.Groups, d.DataText)
}

func viewText(group, id, cause string, members []string, sets [][]string, own int) string {
	return fmt.Sprintf("view %s %s %s %v %v own %d", group, id, cause, members, sets, own)
}

func rename(ids map[string]string, id string) string {
	if ids[id] == "" {
		ids[id] = fmt.Sprint("v", len(ids)+1)
	}
	return ids[id]
}

// transcript writes down what sessions get.
type transcript struct {
	ids     map[string]string
	lines   map[string][]string
	details bool // write the details of views and self-leaves, which vectors do not have
}

func (x *transcript) add(name string, d *Delivery) {
	var s string
	switch d.Kind {
	case KindView:
		s = viewText(d.Group, rename(x.ids, fmt.Sprint(d.ID)), d.View.Cause.String(), privates(d.View.Members), setNames(d.View), d.Own)
		if x.details {
			s += " " + d.View.Detail.String()
		}
	case KindSignal:
		s = fmt.Sprint("signal ", d.Group, " ", rename(x.ids, fmt.Sprint(d.ID)))
	case KindSelfLeave:
		s = "self-leave " + d.Group
		if x.details {
			s += " " + d.Detail.String()
		}
	case KindAck:
		id := "-"
		if d.ID != (evs.ViewID{}) {
			id = rename(x.ids, fmt.Sprint(d.ID))
		}
		s = fmt.Sprint("ack ", d.Request, " ", [...]string{"done", "unchanged", "void", "forbidden"}[d.Outcome], " ", d.Group, " ", id)
	case KindReceipt:
		s = fmt.Sprint("receipt ", d.Request)
	case KindData:
		var gs []string
		for _, g := range d.Data.Groups {
			gs = append(gs, string(g))
		}
		s = fmt.Sprint("data ", d.Sender, gs, string(d.Data.Body))
	}
	x.lines[name] = append(x.lines[name], s)
}

// cluster is d1, d2, d3 under hand control.
type cluster struct {
	t    *testing.T
	x    transcript
	ds   map[string]*node
	ring uint64
}

type node struct {
	c     *cluster
	id    evs.ProcID
	m     *Machine
	fx    Effects
	users map[uint64]string
	ring  evs.RingID
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, ds: map[string]*node{}, x: transcript{ids: map[string]string{}, lines: map[string][]string{}}}
	for i, n := range names {
		id := evs.ProcID{Rank: uint16(i + 1), Name: n, Inc: evs.Incarnation(0x1000 + i)}
		c.ds[n] = &node{c: c, id: id, m: New(Config{Me: id}), users: map[uint64]string{}}
	}
	for _, n := range names {
		c.regular(n)
	}
	return c
}

// open starts session "user" at a daemon; numbers are given in order of opening, from 1.
func (n *node) open(user string, notices bool) uint64 {
	num := uint64(len(n.users) + 1)
	n.users[num] = user
	n.m.Open(num, user, notices)
	return num
}

func (n *node) flush() []Submit {
	n.c.t.Helper()
	if err := n.m.CheckInvariants(); err != nil {
		n.c.t.Fatal(err)
	}
	for i := range n.fx.Deliveries {
		d := &n.fx.Deliveries[i]
		for _, s := range d.Sessions {
			n.c.x.add(privateName(n.users[s], n.id), d)
		}
	}
	out := slices.Clone(n.fx.Submits)
	n.fx.Reset()
	return out
}

// deliver gives a payload from one daemon to several.
func (c *cluster) deliver(from string, service evs.Service, payload []byte, to ...string) {
	c.t.Helper()
	for _, n := range to {
		d := c.ds[n]
		d.m.HandleMessage(c.ds[from].id, service, payload, &d.fx)
		if s := d.flush(); len(s) != 0 {
			c.t.Fatalf("%s submits %d messages", n, len(s))
		}
	}
}

func (c *cluster) ids(names []string) []evs.ProcID {
	var out []evs.ProcID
	for _, n := range names {
		out = append(out, c.ds[n].id)
	}
	return out
}

// transitional tells the named daemons that they go on together.
func (c *cluster) transitional(names ...string) {
	c.t.Helper()
	for _, n := range names {
		d := c.ds[n]
		conf := &evs.Configuration{ID: evs.TransitionalID(d.ring, evs.RingID{Seq: c.ring + 1, Rep: c.ds[names[0]].id.Inc}), Members: c.ids(names)}
		d.m.HandleTransitional(conf, &d.fx)
		d.flush()
	}
}

// regular installs a configuration of the named daemons and lets its exchange end.
func (c *cluster) regular(names ...string) {
	c.t.Helper()
	c.ring++
	conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: c.ring, Rep: c.ds[names[0]].id.Inc}), Members: c.ids(names)}
	for _, n := range names {
		conf.Origins = append(conf.Origins, c.ds[n].ring)
	}
	type msg struct {
		from string
		Submit
	}
	var all []msg
	for _, n := range names {
		d := c.ds[n]
		d.ring = conf.ID.New
		d.m.HandleRegular(conf, evs.DetailDaemons, &d.fx)
		for _, s := range d.flush() {
			all = append(all, msg{n, s})
		}
	}
	for _, s := range all {
		c.deliver(s.from, s.Service, s.Payload, names...)
	}
	for _, n := range names {
		if c.ds[n].m.Exchanging() {
			c.t.Fatalf("%s still exchanges", n)
		}
	}
}

// TestVectors replays what three daemons of the original did: joins, a partition, a merge, a crash. Ids are compared
// up to renaming.
func TestVectors(t *testing.T) {
	c := newCluster(t, "d1", "d2", "d3")
	c.transitional("d1")
	c.transitional("d2")
	c.transitional("d3")
	c.regular("d1", "d2", "d3")
	sessions := map[string]uint64{}
	for _, p := range []string{"a1@d1", "a2@d1", "b1@d2", "c1@d3"} {
		user, d, _ := strings.Cut(p, "@")
		sessions[p] = c.ds[d].open(user, true)
	}
	all := []string{"d1", "d2", "d3"}
	ids, want := map[string]string{}, map[string][]string{} // over all files: signals name views of the file before
	for _, step := range []struct {
		file   string
		event  func()
		groups map[string][]string // who hears whom afterwards
	}{
		{"19-three-daemons-joins", func() {}, map[string][]string{"d1": all, "d2": all, "d3": all}},
		{"20-network-partition", func() {
			c.transitional("d1")
			c.transitional("d2", "d3")
			c.regular("d1")
			c.regular("d2", "d3")
		}, map[string][]string{"d1": {"d1"}, "d2": {"d2", "d3"}, "d3": {"d2", "d3"}}},
		{"21-network-merge-vs-sets", func() {
			c.transitional("d1")
			c.transitional("d2", "d3")
			c.regular(all...)
		}, map[string][]string{"d1": all, "d2": all, "d3": all}},
		{"22-network-daemon-crash", func() {
			c.transitional("d1", "d2")
			c.regular("d1", "d2")
		}, map[string][]string{"d1": {"d1", "d2"}, "d2": {"d1", "d2"}}},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "vectors", step.file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ Records []vectorRecord }
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		step.event()
		for _, r := range v.Records {
			user, daemon, _ := strings.Cut(r.Connection, "@")
			if r.Kind != "message" {
				continue
			}
			if r.Dir == "daemon->client" {
				name := "#" + user + "#" + daemon
				want[name] = append(want[name], r.text(ids))
				continue
			}
			var payload []byte
			if strings.HasSuffix(r.Decoded.Type, "10000") {
				payload = AppendJoin(nil, sessions[r.Connection], user, r.Decoded.Groups[0])
			} else {
				payload = AppendData(nil, &Data{
					Session: sessions[r.Connection], Sender: user, Groups: [][]byte{[]byte(r.Decoded.Groups[0])}, Body: []byte(r.Decoded.DataText),
				})
			}
			c.deliver(daemon, evs.Agreed, payload, step.groups[daemon]...)
		}
		if got := c.x.lines; !sameTranscript(got, want) {
			t.Fatalf("%s:\n%s", step.file, diff(got, want))
		}
	}
}

// sameTranscript compares up to a renaming of ids.
func sameTranscript(a, b map[string][]string) bool {
	fold := func(m map[string][]string) string {
		var keys, out []string
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		ids := map[string]string{}
		for _, k := range keys {
			for _, l := range m[k] {
				f := strings.SplitN(l, " ", 4)
				if f[0] == "view" || f[0] == "signal" {
					f[2] = rename(ids, f[2])
				}
				out = append(out, k+": "+strings.Join(f, " "))
			}
		}
		return strings.Join(out, "\n")
	}
	return fold(a) == fold(b)
}

func diff(got, want map[string][]string) string {
	var b strings.Builder
	for k := range want {
		fmt.Fprintf(&b, "%s\n  got  %s\n  want %s\n", k, strings.Join(got[k], "\n       "), strings.Join(want[k], "\n       "))
	}
	for k := range got {
		if want[k] == nil {
			fmt.Fprintf(&b, "%s\n  got  %s\n", k, strings.Join(got[k], "\n       "))
		}
	}
	return b.String()
}
