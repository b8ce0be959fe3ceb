// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"io"
	"strings"

	"evensong/internal/proto/evs"
)

// WriteTo renders the report for people: the table of rules, then each violation with its records, then the coverage
// counters. It implements io.WriterTo.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s  %-15s %12s  %s\n", "rule", "verdict", "antecedents", "")
	for i := range r.Rules {
		rr := &r.Rules[i]
		note := rr.Title
		switch rr.Verdict {
		case NotApplicable:
			note += " (needs " + rr.Needs + ")"
		case Violated:
			note += fmt.Sprintf(" (%d violations)", rr.Violations)
		case OK, Untested:
		}
		fmt.Fprintf(&b, "%-7s  %-15s %12d  %s\n", rr.Rule, rr.Verdict, rr.Antecedents, note)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "\n%s\n", v)
		for i := range v.Window {
			fmt.Fprintf(&b, "    %s\n", Describe(&v.Window[i]))
		}
	}
	fmt.Fprintf(&b, "\n%d records", r.Records)
	for _, c := range r.Coverage {
		fmt.Fprintf(&b, "\n%12d  %s", c.Count, c.Name)
	}
	b.WriteString("\n")
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Describe is one record in one line, with the fields that its kind has.
func Describe(t *evs.Trace) string {
	var b strings.Builder
	if t.Step != 0 {
		fmt.Fprintf(&b, "step %d ", t.Step)
	}
	if t.Kind >= evs.TraceConnect {
		fmt.Fprintf(&b, "%s ", sessionText(t.Session))
	} else {
		fmt.Fprintf(&b, "%s ", t.Proc)
	}
	message := func() {
		fmt.Fprintf(&b, " %s seq %d.%d digest %x length %d", t.Service, t.Seq, t.Index, t.Digest, t.Length)
	}
	switch t.Kind {
	case evs.TraceStart:
		fmt.Fprintf(&b, "start, stored ring sequence %d", t.Number)
	case evs.TraceConf:
		fmt.Fprintf(&b, "conf %s %v", t.Conf, t.Members)
		if t.Primary != evs.PrimaryUnclaimed {
			fmt.Fprintf(&b, " primary %v", t.Primary)
		}
	case evs.TraceSend:
		fmt.Fprintf(&b, "send #%d in %s", t.Number, t.Conf)
		message()
	case evs.TraceDeliver:
		fmt.Fprintf(&b, "deliver from %s in %s", t.Origin, t.Conf)
		message()
	case evs.TraceFail:
		b.WriteString("fail")
	case evs.TraceStop:
		b.WriteString("stop")
	case evs.TraceStore:
		fmt.Fprintf(&b, "store %d", t.Number)
	case evs.TraceToken:
		fmt.Fprintf(&b, "token %d of %s", t.Number, t.Conf)
	case evs.TraceTokenLost:
		fmt.Fprintf(&b, "token lost after %d of %s", t.Number, t.Conf)
	case evs.TraceConnect:
		b.WriteString("connect")
	case evs.TraceDisconnect:
		fmt.Fprintf(&b, "disconnect %s", t.Reason)
	case evs.TraceJoin:
		fmt.Fprintf(&b, "join %s", t.Group)
	case evs.TraceLeave:
		fmt.Fprintf(&b, "leave %s", t.Group)
	case evs.TraceMulticast:
		fmt.Fprintf(&b, "multicast #%d %s to %v digest %x length %d", t.Number, t.Service, t.Groups, t.Digest, t.Length)
		if t.SelfDiscard {
			b.WriteString(" self-discard")
		}
	case evs.TraceClientMsg:
		fmt.Fprintf(&b, "message from %s %s to %v digest %x length %d", t.Sender, t.Service, t.Groups, t.Digest, t.Length)
	case evs.TraceView:
		if t.View == nil {
			fmt.Fprintf(&b, "view of %s without content", t.Group)
		} else {
			fmt.Fprintf(&b, "view of %s %x by %s %v sets %v mine %d", t.Group, t.View.ID, t.View.Cause, t.View.Members, t.View.Sets, t.View.Mine)
		}
	case evs.TraceSignal:
		fmt.Fprintf(&b, "signal of %s", t.Group)
		if t.View != nil {
			fmt.Fprintf(&b, " ending %x", t.View.ID)
		}
	case evs.TraceSelfLeave:
		fmt.Fprintf(&b, "self-leave of %s", t.Group)
	case evs.TracePrimary:
		fmt.Fprintf(&b, "told that primary is %v", t.Primary)
	case evs.TraceVSMulticast:
		fmt.Fprintf(&b, "vs multicast %s to %s %v digest %x", t.Service, t.Group, t.Groups, t.Digest)
		if t.View != nil {
			fmt.Fprintf(&b, " in %x", t.View.ID)
		}
	case evs.TraceVSMessage:
		fmt.Fprintf(&b, "vs message of %s from %s %s digest %x", t.Group, t.Sender, t.Service, t.Digest)
	case evs.TraceVSView:
		if t.View == nil {
			fmt.Fprintf(&b, "vs view of %s without content", t.Group)
		} else {
			fmt.Fprintf(&b, "vs view of %s %x by %s %v came %v", t.Group, t.View.ID, t.View.Cause, t.View.Members, t.View.Sets)
		}
	case evs.TraceVSSignal:
		fmt.Fprintf(&b, "vs signal of %s", t.Group)
	case evs.TraceVSFlushRequest:
		fmt.Fprintf(&b, "flush request of %s", t.Group)
	case evs.TraceVSFlushOK:
		fmt.Fprintf(&b, "flush of %s", t.Group)
	case evs.TraceVSSelfLeave:
		fmt.Fprintf(&b, "vs self-leave of %s", t.Group)
	default:
		fmt.Fprintf(&b, "TraceKind(%d)", uint8(t.Kind))
	}
	return b.String()
}

func sessionText(s evs.SessionID) string { return fmt.Sprintf("%s(%s:%d)", s.Name, s.Daemon, s.Number) }
