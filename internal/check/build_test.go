// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// parseHistory reads a hand-written history, one record per line or semicolon. A daemon is a letter, its second life
// has a 2 behind it; ring n has sequence n, ring n' too; a session is user@daemon, its second connection user2@daemon.
//
//	a start [stored]          a store 3            a conf 3 a,b [yes]   a trans 1>3 a [no]
//	a send 3/5[.1] safe       a dlv 3/5[.1] [sender service]            a fail     a stop
//	a token 3 17              a lost 3 17
//	x@a connect               x@a join g           x@a leave g          x@a self g       x@a bye [reason]
//	x@a cast m1 agreed g,h [discard]               x@a got m1 [sender service groups]
//	x@a view g 3.2 join:y@b x@a,y@b                x@a view g 4.1 net x@a,y@b|z@c        x@a sig g 3.2
//	x@a told yes
//
//	x@a vview g 3.2 join x@a,y@b [came x@a]     x@a vcast m1 agreed g 3.2 [discard|y@b,...]   x@a vgot m1 [sender service group]
//	x@a vreq g             x@a vok g            x@a vsig g           x@a vself g
//
// A delivery is in the configuration that its daemon installed last; it takes sender and service from the send, which
// may stand anywhere in the text.
func parseHistory(t testing.TB, text string) []evs.Trace {
	t.Helper()
	b := &builder{sends: map[string]evs.Trace{}, casts: map[string]evs.Trace{}, cur: map[string]evs.ConfID{}, num: map[string]uint64{}, by: map[string]string{}}
	var lines [][]string
	for _, l := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		if f := strings.Fields(l); len(f) > 1 {
			lines = append(lines, f)
		}
	}
	for _, f := range lines { // sends first: deliveries refer to them
		switch f[1] {
		case "send":
			tr := b.send(f)
			b.sends[f[2]] = tr
		case "cast":
			b.casts[f[2]], b.by[f[2]] = b.cast(f), f[0]
		case "vcast":
			b.casts[f[2]], b.by[f[2]] = vsCast(f), f[0]
		}
	}
	b.num = map[string]uint64{}
	for _, f := range lines {
		tr, err := b.record(f)
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(f, " "), err)
		}
		tr.At = int64(len(b.recs)+1) * 1000
		b.recs = append(b.recs, tr)
	}
	return b.recs
}

type builder struct {
	recs  []evs.Trace
	sends map[string]evs.Trace
	casts map[string]evs.Trace
	cur   map[string]evs.ConfID
	num   map[string]uint64
	by    map[string]string // message -> session that casts it
}

func testProc(s string) evs.ProcID {
	life := 1
	if len(s) > 1 {
		life, _ = strconv.Atoi(s[1:])
	}
	return evs.ProcID{Rank: uint16(s[0]-'a') + 1, Name: s[:1], Inc: evs.Incarnation(int(s[0]-'a'+1)*16 + life)}
}

func testProcs(s string) []evs.ProcID {
	var out []evs.ProcID
	for _, p := range strings.Split(s, ",") {
		out = append(out, testProc(p))
	}
	return out
}

func testSession(s string) evs.SessionID {
	user, d, _ := strings.Cut(s, "@")
	n := uint64(1)
	if l := len(user); l > 1 && user[l-1] >= '2' && user[l-1] <= '9' {
		n, user = uint64(user[l-1]-'0'), user[:l-1]
	}
	return evs.SessionID{Daemon: testProc(d), Number: n, Name: "#" + user + "#" + d[:1]}
}

func testNames(s string) []string {
	var out []string
	for _, n := range strings.Split(s, ",") {
		out = append(out, testSession(n).Name)
	}
	return out
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func testRing(s string) evs.RingID {
	s, other := strings.CutSuffix(s, "'")
	id := evs.RingID{Seq: number(s), Rep: evs.Incarnation(number(s))}
	if other {
		id.Rep += 1000
	}
	return id
}

func testService(s string) evs.Service {
	for v := evs.Unreliable; v <= evs.Safe; v++ {
		if v.String() == s {
			return v
		}
	}
	panic("no service " + s)
}

func (b *builder) send(f []string) evs.Trace {
	ring, rest, _ := strings.Cut(f[2], "/")
	seq, index, _ := strings.Cut(rest, ".")
	if index == "" {
		index = "0"
	}
	b.num[f[0]]++
	tr := evs.Trace{Kind: evs.TraceSend, Proc: testProc(f[0]), Conf: evs.RegularID(testRing(ring)), Seq: number(seq), Index: uint32(number(index)), Number: b.num[f[0]], Length: 8}
	if len(f) > 3 {
		tr.Service = testService(f[3])
	}
	tr.Digest = testRing(ring).Seq*1000 + tr.Seq*10 + uint64(tr.Index)
	return tr
}

func (b *builder) cast(f []string) evs.Trace {
	b.num[f[0]]++
	var groups []string
	for _, g := range strings.Split(f[4], ",") {
		if strings.Contains(g, "@") {
			g = testSession(g).Name
		}
		groups = append(groups, g)
	}
	return evs.Trace{Kind: evs.TraceMulticast, Groups: groups, Service: testService(f[3]), Digest: number(f[2][1:]), Length: 9,
		Number: b.num[f[0]], SelfDiscard: len(f) > 5}
}

func (b *builder) record(f []string) (evs.Trace, error) {
	who, verb := f[0], f[1]
	if strings.Contains(who, "@") {
		tr, err := b.sessionRecord(f)
		tr.Session = testSession(who)
		tr.Proc = tr.Session.Daemon
		return tr, err
	}
	tr := evs.Trace{Proc: testProc(who)}
	switch verb {
	case "start":
		tr.Kind = evs.TraceStart
	case "fail":
		tr.Kind = evs.TraceFail
	case "stop":
		tr.Kind = evs.TraceStop
	case "store":
		tr.Kind, tr.Number = evs.TraceStore, number(f[2])
	case "conf":
		tr.Kind, tr.Conf, tr.Members = evs.TraceConf, evs.RegularID(testRing(f[2])), testProcs(f[3])
		b.cur[who] = tr.Conf
		tr.Primary = testPrimary(f, 4)
	case "trans":
		from, to, _ := strings.Cut(f[2], ">")
		tr.Kind, tr.Conf, tr.Members = evs.TraceConf, evs.TransitionalID(testRing(from), testRing(to)), testProcs(f[3])
		b.cur[who] = tr.Conf
		tr.Primary = testPrimary(f, 4)
	case "token", "lost":
		tr.Kind, tr.Conf, tr.Number = evs.TraceToken, evs.RegularID(testRing(f[2])), number(f[3])
		if verb == "lost" {
			tr.Kind = evs.TraceTokenLost
		}
	case "send":
		tr = b.send(f)
	case "dlv":
		sent, ok := b.sends[f[2]]
		if !ok || len(f) > 3 {
			sent = b.send([]string{f[3], "send", f[2], f[4]})
		}
		tr = sent
		tr.Kind, tr.Origin, tr.Proc, tr.Number = evs.TraceDeliver, sent.Proc, testProc(who), 0
		tr.Conf = b.cur[who]
		if sent.Conf.New != tr.Conf.Reg() {
			tr.Ring = sent.Conf.New
		}
	default:
		return tr, fmt.Errorf("unknown verb %q", verb)
	}
	return tr, nil
}

// testPrimary is the word at place i, if there is one.
func testPrimary(f []string, i int) evs.Primary {
	if len(f) <= i {
		return evs.PrimaryUnclaimed
	}
	return map[string]evs.Primary{"yes": evs.PrimaryYes, "no": evs.PrimaryNo}[f[i]]
}

func testViewID(s string) evs.ViewID {
	ring, index, _ := strings.Cut(s, ".")
	return evs.ViewID{uint32(number(ring)) * 100, uint32(number(ring)), uint32(number(index))}
}

func (b *builder) sessionRecord(f []string) (evs.Trace, error) {
	var tr evs.Trace
	switch f[1] {
	case "connect":
		tr.Kind = evs.TraceConnect
	case "bye":
		tr.Kind = evs.TraceDisconnect
		tr.Reason = strings.Join(f[2:], " ")
	case "join":
		tr.Kind, tr.Group = evs.TraceJoin, f[2]
	case "leave":
		tr.Kind, tr.Group = evs.TraceLeave, f[2]
	case "self":
		tr.Kind, tr.Group = evs.TraceSelfLeave, f[2]
	case "cast":
		tr = b.cast(f)
	case "got":
		sent, ok := b.casts[f[2]]
		who := ""
		if !ok || len(f) > 3 {
			sent, who = b.cast([]string{f[3], "cast", f[2], f[4], f[5]}), f[3]
		} else {
			who = b.by[f[2]]
		}
		tr = sent
		tr.Kind, tr.Sender, tr.Number, tr.SelfDiscard = evs.TraceClientMsg, testSession(who).Name, 0, false
	case "told":
		tr.Kind, tr.Primary = evs.TracePrimary, testPrimary(f, 2)
	case "sig":
		tr.Kind, tr.Group, tr.View = evs.TraceSignal, f[2], &evs.TraceViewInfo{ID: testViewID(f[3])}
	case "view":
		tr.Kind, tr.Group = evs.TraceView, f[2]
		v := &evs.TraceViewInfo{ID: testViewID(f[3])}
		tr.View = v
		if f[4] == "net" {
			v.Cause = evs.CausedByNetwork
			for k, set := range strings.Split(f[5], "|") {
				names := testNames(set)
				v.Sets = append(v.Sets, names)
				v.Members = append(v.Members, names...)
				for _, n := range names {
					if n == testSession(f[0]).Name {
						v.Mine = k
					}
				}
			}
			break
		}
		cause, one, _ := strings.Cut(f[4], ":")
		v.Cause = map[string]evs.Cause{"join": evs.CausedByJoin, "leave": evs.CausedByLeave, "disc": evs.CausedByDisconnect}[cause]
		v.Sets = [][]string{testNames(one)}
		v.Members = testNames(f[5])
	case "vcast":
		tr = vsCast(f)
	case "vgot":
		sent, ok := b.casts[f[2]]
		who := b.by[f[2]]
		if !ok || len(f) > 3 {
			sent, who = vsCast([]string{f[3], "vcast", f[2], f[4], f[5], "0.0"}), f[3]
		}
		tr = evs.Trace{Kind: evs.TraceVSMessage, Group: sent.Group, Service: sent.Service, Digest: sent.Digest, Sender: testSession(who).Name}
	case "vview":
		tr.Kind, tr.Group = evs.TraceVSView, f[2]
		came := f[0]
		if len(f) > 7 {
			came = f[7]
		}
		tr.View = &evs.TraceViewInfo{ID: testViewID(f[3]), Members: testNames(f[5]), Sets: [][]string{testNames(came)},
			Cause: map[string]evs.Cause{"join": evs.CausedByJoin, "leave": evs.CausedByLeave, "disc": evs.CausedByDisconnect, "net": evs.CausedByNetwork}[f[4]]}
	case "vreq":
		tr.Kind, tr.Group = evs.TraceVSFlushRequest, f[2]
	case "vok":
		tr.Kind, tr.Group = evs.TraceVSFlushOK, f[2]
	case "vsig":
		tr.Kind, tr.Group = evs.TraceVSSignal, f[2]
	case "vself":
		tr.Kind, tr.Group = evs.TraceVSSelfLeave, f[2]
	default:
		return tr, fmt.Errorf("unknown verb %q", f[1])
	}
	return tr, nil
}

func vsCast(f []string) evs.Trace {
	tr := evs.Trace{Kind: evs.TraceVSMulticast, Group: f[4], Service: testService(f[3]), Digest: number(f[2][1:]), View: &evs.TraceViewInfo{ID: testViewID(f[5])}}
	if len(f) > 6 {
		if f[6] == "discard" {
			tr.SelfDiscard = true
		} else {
			tr.Groups = testNames(f[6])
		}
	}
	return tr
}
