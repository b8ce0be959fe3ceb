// SPDX-License-Identifier: Apache-2.0

package check

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// damage is a way to break a correct history. It returns the broken records, or nil if it finds nothing to break.
type damage struct {
	name  string
	rules []string // at least one of them must be violated
	do    func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace
}

// pick is a random record that ok accepts, -1 if there is none.
func pick(rnd *rand.Rand, recs []evs.Trace, ok func(i int) bool) int {
	start := rnd.IntN(len(recs))
	for k := range recs {
		if i := (start + k) % len(recs); ok(i) {
			return i
		}
	}
	return -1
}

// nextOf is the next record of the same owner that like accepts, -1 if another event of the kind stop comes first.
func nextOf(recs []evs.Trace, i int, like func(t *evs.Trace) bool, stop func(t *evs.Trace) bool) int {
	for j := i + 1; j < len(recs); j++ {
		t := &recs[j]
		if t.Proc != recs[i].Proc || t.Session != recs[i].Session {
			continue
		}
		if like(t) {
			return j
		}
		if stop(t) {
			return -1
		}
	}
	return -1
}

func never(*evs.Trace) bool { return false }

func isConf(t *evs.Trace) bool { return t.Kind == evs.TraceConf || t.Kind == evs.TraceSend }

// finalRing is the ring in which the quiet end of a model history happens.
func finalRing(recs []evs.Trace) evs.RingID {
	for i := len(recs) - 1; ; i-- {
		if recs[i].Kind == evs.TraceConf {
			return recs[i].Conf.New
		}
	}
}

var damages = []damage{
	{"drop a delivery at the quiet end", []string{"EVS-10", "EVS-9"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		r := finalRing(recs)
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceDeliver && recs[i].Conf.New == r })
		if i < 0 {
			return nil
		}
		return slices.Delete(recs, i, i+1)
	}},
	{"drop one's own delivery", []string{"EVS-9"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool {
			t := &recs[i]
			return t.Kind == evs.TraceDeliver && t.Origin == t.Proc && nextOf(recs, i, func(t *evs.Trace) bool { return t.Kind == evs.TraceFail }, never) < 0
		})
		if i < 0 {
			return nil
		}
		return slices.Delete(recs, i, i+1)
	}},
	{"repeat a delivery", []string{"EVS-2"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceDeliver })
		return slices.Insert(recs, i+1, recs[i])
	}},
	{"swap two ordered deliveries", []string{"EVS-13", "EVS-11", "EVS-12"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		r := finalRing(recs)
		ordered := func(t *evs.Trace) bool {
			return t.Kind == evs.TraceDeliver && t.Service >= evs.Causal && t.Conf.New == r
		}
		j := -1
		i := pick(rnd, recs, func(i int) bool {
			if !ordered(&recs[i]) {
				return false
			}
			j = nextOf(recs, i, ordered, isConf)
			return j >= 0
		})
		if i < 0 || j < 0 || len(distinctProcs(recs, r)) < 2 {
			return nil
		}
		recs[i], recs[j] = recs[j], recs[i]
		return recs
	}},
	{"corrupt a delivery", []string{"EVS-1"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceDeliver })
		recs[i].Digest ^= 1 << 20
		return recs
	}},
	{"forget a stable write", []string{"EVS-8"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceStore })
		return slices.Delete(recs, i, i+1)
	}},
	{"forget a transitional configuration", []string{"EVS-6"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceConf && recs[i].Conf.Kind == evs.Transitional })
		if i < 0 {
			return nil
		}
		return slices.Delete(recs, i, i+1)
	}},
	{"reorder members", []string{"EVS-5"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceConf && len(recs[i].Members) > 1 })
		if i < 0 {
			return nil
		}
		m := slices.Clone(recs[i].Members)
		m[0], m[1] = m[1], m[0]
		recs[i].Members = m
		return recs
	}},
	{"repeat a client's message", []string{"GRP-8"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceClientMsg })
		if i < 0 {
			return nil
		}
		return slices.Insert(recs, i+1, recs[i])
	}},
	{"swap a message and a view", []string{"GRP-4", "GRP-6", "GRP-8", "GRP-9", "GRP-10"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		// Both must be seen by another session too, which then contradicts.
		seen := map[uint64]int{}
		views := map[evs.ViewID]int{}
		for i := range recs {
			switch t := &recs[i]; t.Kind {
			case evs.TraceClientMsg:
				seen[t.Digest]++
			case evs.TraceView:
				views[t.View.ID]++
			}
		}
		j := -1
		i := pick(rnd, recs, func(i int) bool {
			t := &recs[i]
			if t.Kind != evs.TraceClientMsg || t.Service < evs.Causal || seen[t.Digest] < 2 || len(t.Groups) != 1 {
				return false
			}
			j = nextOf(recs, i, func(v *evs.Trace) bool {
				return v.Kind == evs.TraceView && v.Group == t.Groups[0] && v.View.Cause != evs.CausedByNetwork && views[v.View.ID] > 1
			}, func(v *evs.Trace) bool { return v.Kind >= evs.TraceClientMsg })
			return j >= 0 && otherSawBoth(recs, i, j)
		})
		if i < 0 || j < 0 {
			return nil
		}
		recs[i], recs[j] = recs[j], recs[i]
		return recs
	}},
	{"a ghost in a view", []string{"GRP-2", "GRP-5", "GRP-12", "GRP-13"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceView && recs[i].View.Cause == evs.CausedByNetwork })
		if i < 0 {
			return nil
		}
		v := *recs[i].View
		v.Members = append(slices.Clone(v.Members), "#ghost#d1")
		recs[i].View = &v
		return recs
	}},
	{"a second signal", []string{"GRP-7"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		i := pick(rnd, recs, func(i int) bool { return recs[i].Kind == evs.TraceSignal })
		if i < 0 {
			return nil
		}
		return slices.Insert(recs, i+1, recs[i])
	}},
	{"a message after the self-leave", []string{"GRP-11"}, func(rnd *rand.Rand, recs []evs.Trace) []evs.Trace {
		// The last message to the group before a self-leave moves behind it.
		j := -1
		i := pick(rnd, recs, func(i int) bool {
			t := &recs[i]
			if t.Kind != evs.TraceClientMsg || len(t.Groups) != 1 {
				return false
			}
			j = nextOf(recs, i, func(s *evs.Trace) bool { return s.Kind == evs.TraceSelfLeave && s.Group == t.Groups[0] }, never)
			return j >= 0
		})
		if i < 0 || j < 0 {
			return nil
		}
		moved := recs[i]
		recs = slices.Insert(recs, j+1, moved)
		return slices.Delete(recs, i, i+1)
	}},
}

func distinctProcs(recs []evs.Trace, r evs.RingID) map[evs.ProcID]bool {
	out := map[evs.ProcID]bool{}
	for i := range recs {
		if recs[i].Kind == evs.TraceConf && recs[i].Conf.Kind == evs.Regular && recs[i].Conf.New == r {
			out[recs[i].Proc] = true
		}
	}
	return out
}

// otherSawBoth reports whether another session got both the message i and the view j.
func otherSawBoth(recs []evs.Trace, i, j int) bool {
	m, v := map[evs.SessionID]bool{}, map[evs.SessionID]bool{}
	for k := range recs {
		switch t := &recs[k]; {
		case t.Session == recs[i].Session:
		case t.Kind == evs.TraceClientMsg && t.Digest == recs[i].Digest:
			m[t.Session] = true
		case t.Kind == evs.TraceView && t.Group == recs[j].Group && t.View.ID == recs[j].View.ID:
			v[t.Session] = true
		}
	}
	for s := range m {
		if v[s] {
			return true
		}
	}
	return false
}

func TestDamagedHistoriesFail(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			done := 0
			for seed := range uint64(12) {
				h := modelHistory(seed, 2+int(seed%4), 800)
				rnd := rand.New(rand.NewPCG(seed, 99))
				recs := d.do(rnd, h.Records)
				if recs == nil {
					continue
				}
				done++
				h.Records = recs
				r := Check(h)
				if !slices.ContainsFunc(d.rules, func(rule string) bool { return r.Rule(rule).Verdict == Violated }) {
					t.Errorf("seed %d: not found; violated: %v", seed, r.Violated())
				}
			}
			if done < 3 {
				t.Errorf("only %d histories could be damaged", done)
			}
		})
	}
}

// A wrong implementation must be found by the checker of the promise that it breaks, within a few histories.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		bug   bug
		rules string // each of them must be violated in some history
	}{
		{"safe at once", bugSafeAtOnce, "EVS-15 EVS-17 GRP-7"},
		{"no recovery", bugNoRecovery, "EVS-10 GRP-6"},
		{"no filter behind holes", bugNoFilter, "EVS-12"},
		{"nobody left out of the transitional set", bugWholeStays, "EVS-7"},
		{"ring sequence forgotten", bugRingReuse, "EVS-8 EVS-18"},
		{"no transitional configuration", bugNoSignal, "EVS-6"},
		{"one VS set", bugOneSet, "GRP-5"},
		{"ghosts", bugGhosts, "GRP-12"},
		{"view index reset", bugIndexReset, "GRP-3"},
		{"leaver still hears", bugLeaverHears, "GRP-11"},
		{"self-discard ignored", bugSelfDiscard, "GRP-18"},
		{"token acted upon twice", bugTokenTwice, "EVS-20"},
		{"early messages delivered again", bugBlindRelay, "EVS-2 GRP-8"},
		{"half is a majority", bugHalf, "PC-7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			missing := strings.Fields(c.rules)
			for seed := uint64(0); seed < 150 && len(missing) > 0; seed++ {
				r := Check(buggyHistory(c.bug, seed, 3+int(seed%3), 1200))
				missing = slices.DeleteFunc(missing, func(rule string) bool { return r.Rule(rule).Verdict == Violated })
			}
			if len(missing) > 0 {
				t.Errorf("not found by %v", missing)
			}
		})
	}
}

func TestGraphFindsShortCycle(t *testing.T) {
	g := graph{nodes: 2000}
	for i := range 999 { // a long cycle, a short one, and a long tail below them
		g.add(i, i+1, 0)
	}
	g.add(999, 0, 0)
	g.add(500, 1500, 0)
	g.add(1500, 1501, 0)
	g.add(1501, 1502, 0)
	g.add(1502, 1500, 0)
	for i := 1502; i < 1999; i++ {
		g.add(i, i+1, 0)
	}
	if c := g.cycle(); len(c) == 0 || len(c) > 1000 {
		t.Errorf("cycle of %d edges", len(c))
	}
	g = graph{nodes: 3}
	g.add(0, 1, 0)
	g.add(1, 2, 0)
	g.add(0, 2, 0)
	if c := g.cycle(); c != nil {
		t.Errorf("a cycle in an acyclic graph: %v", c)
	}
}

func TestEmptyAndPartialHistories(t *testing.T) {
	r := Check(&History{})
	if !r.OK() || r.Rule("EVS-1").Verdict != NotApplicable || r.Rule("GRP-8").Verdict != NotApplicable {
		t.Errorf("empty history:\n%s", render(r))
	}
	r = Check(&History{Records: parseHistory(t, group)})
	if r.Rule("EVS-13").Verdict != NotApplicable || r.Rule("GRP-1").Verdict != OK || r.Rule("GRP-10").Verdict != Untested || r.Rule("GRP-12").Verdict != NotApplicable {
		t.Errorf("sessions only:\n%s", render(r))
	}
	r = Check(&History{Records: parseHistory(t, boot)})
	if r.Rule("EVS-5").Verdict != OK || r.Rule("EVS-1").Verdict != Untested || r.Rule("EVS-20").Verdict != NotApplicable || r.Rule("GRP-1").Verdict != NotApplicable {
		t.Errorf("daemons only:\n%s", render(r))
	}
	// The parts of a whole history, alone: each level passes by itself.
	h := modelHistory(3, 4, 1500)
	for _, session := range []bool{false, true} {
		part := *h
		part.Records = slices.DeleteFunc(slices.Clone(h.Records), func(t evs.Trace) bool { return (t.Kind >= evs.TraceConnect) != session })
		if r := Check(&part); !r.OK() {
			t.Errorf("session level %v alone:\n%s", session, render(r))
		}
	}
}

// FuzzCheck: no list of records makes the checkers panic, however broken.
func FuzzCheck(f *testing.F) {
	f.Add(uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, seed, chaos uint64) {
		h := modelHistory(seed%64, 3, 300)
		rnd := rand.New(rand.NewPCG(chaos, 1))
		for range 1 + rnd.IntN(40) {
			i, j := rnd.IntN(len(h.Records)), rnd.IntN(len(h.Records))
			switch rnd.IntN(7) {
			case 0:
				h.Records[i], h.Records[j] = h.Records[j], h.Records[i]
			case 1:
				h.Records = slices.Insert(h.Records, i, h.Records[j])
			case 2:
				h.Records = slices.Delete(h.Records, i, i+1)
			case 3:
				h.Records[i].Kind = evs.TraceKind(rnd.IntN(22))
			case 4:
				h.Records[i].Seq = rnd.Uint64()
			case 5:
				h.Records[i].Conf = h.Records[j].Conf
			case 6:
				h.Records[i].View, h.Records[i].Members = nil, nil
			}
			if len(h.Records) < 2 {
				return
			}
		}
		_ = render(Check(h))
	})
}

func BenchmarkCheck(b *testing.B) {
	h := benchHistory(5, 40000)
	b.ReportAllocs()
	for b.Loop() {
		if r := Check(h); !r.OK() {
			b.Fatal(render(r))
		}
	}
	b.ReportMetric(float64(len(h.Records))*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// benchHistory is a long stay on one ring with traffic of all services at both levels, the case that must be cheap.
func benchHistory(daemons, messages int) *History {
	m := newModel(1, daemons)
	m.reconfigure([][]*mdaemon{m.live()})
	for _, d := range m.live() {
		for _, c := range d.clients {
			op := mop{kind: evs.TraceJoin, client: c, group: "alpha", service: evs.Agreed}
			m.put(evs.Trace{Kind: op.kind, Proc: d.id, Session: c.id, Group: op.group})
			d.queue = append(d.queue, op)
		}
		for len(d.queue) > 0 {
			m.originate(d)
		}
	}
	for i := range messages {
		d := m.daemons[i%daemons]
		c := d.clients[i%len(d.clients)]
		c.number++
		m.digest++
		op := mop{kind: evs.TraceMulticast, client: c, service: evs.Reliable + evs.Service(i%5), digest: 1<<40 + m.digest, groups: modelGroups[:1]}
		m.put(evs.Trace{Kind: op.kind, Proc: d.id, Session: c.id, Groups: op.groups, Service: op.service, Digest: op.digest, Length: 50, Number: c.number})
		d.queue = append(d.queue, op)
		m.originate(d)
		if i%16 == 15 {
			for _, d := range m.live() {
				m.advance(d, 16+i%5)
				for _, c := range d.clients {
					m.read(c, len(c.inbox))
				}
			}
		}
	}
	m.quiet()
	return &History{Records: m.recs, Quiescent: true}
}
