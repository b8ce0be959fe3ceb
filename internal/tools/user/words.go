// SPDX-License-Identifier: Apache-2.0

package user

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"evensong/client"
	"evensong/internal/tools/amount"
)

// maxShownMembers and maxShownBytes keep one event from flooding the screen; what is left out is counted.
const (
	maxShownMembers = 50
	maxShownBytes   = 2048
)

// A narrator puts one session's events into words. It remembers each group's last view, because what a change between
// daemons means shows only beside the view before it. The zero value lacks me, the session's private group. Its methods
// must not be called concurrently.
type narrator struct {
	me   string
	last map[string]*client.View
}

// tell is an event in words, without a newline at its end.
func (n *narrator) tell(ev client.Event) string {
	text := describe(ev, n.me, n.last[ev.GroupName()])
	n.remember(ev)
	return text
}

// remember takes note of an event that is told otherwise.
func (n *narrator) remember(ev client.Event) {
	switch ev := ev.(type) {
	case *client.View:
		if n.last == nil {
			n.last = map[string]*client.View{}
		}
		n.last[ev.Group] = ev
	case *client.SelfLeave:
		delete(n.last, ev.Group)
	}
}

// describe is an event in words. me is the session's private group; before is the group's previous view, nil if there is
// none.
func describe(ev client.Event, me string, before *client.View) string {
	switch ev := ev.(type) {
	case *client.Message:
		return describeMessage(ev)
	case *client.View:
		return describeView(ev, me, before)
	case *client.Transition:
		return fmt.Sprintf("%s: members of the view became unreachable; until the next view, safe means safe only among those that stay together (id %v)",
			ev.Group, ev.ID)
	case *client.SelfLeave:
		return fmt.Sprintf("you left %s", ev.Group)
	case *client.Rejected:
		what := ev.Request.String()
		if ev.Request == client.RequestMulticast {
			what = fmt.Sprintf("%v message of type %d, %s,", ev.Service, ev.Type, amount.Of(len(ev.Data), "byte"))
		}
		return fmt.Sprintf("refused by the daemon's access rules: %s to %s", what, destinations(ev.Groups))
	case *client.Peers:
		if len(ev.List) == 0 {
			return "no other daemon is in reach, should this one end"
		}
		names := make([]string, len(ev.List))
		for i, d := range ev.List {
			names[i] = d.Name
		}
		return daemonList(names, "is", "are") + " in reach, should this one end"
	case *client.PrimaryChange:
		return describePrimary(ev.Primary)
	case *client.Lost:
		return fmt.Sprintf("the session with %s is lost: %v", printable(ev.Address), ev.Err)
	case *client.Moved:
		return fmt.Sprintf("connected to %s as %s", printable(ev.Address), printable(ev.PrivateGroup))
	}
	panic(fmt.Sprintf("user: unknown event %T", ev))
}

func describePrimary(p client.Primary) string {
	switch p {
	case client.PrimaryYes:
		return "primary: the majority of the configured daemons is here"
	case client.PrimaryNo:
		return "not primary: from here on the majority of the configured daemons may be elsewhere"
	}
	return "the daemons do not say any more whether they are primary"
}

func describeMessage(m *client.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s (%v, type %d, %s", m.Sender, destinations(m.Groups), m.Service, m.Type, amount.Of(len(m.Data), "byte"))
	if m.EndianMismatch {
		b.WriteString(", sender has another byte order")
	}
	b.WriteString(")")
	b.WriteString(describeData(m.Data))
	return b.String()
}

// describeData is ": " and the text of a message, indented below if it has several lines; nothing for an empty one.
func describeData(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	var b strings.Builder
	shown := data
	if len(shown) > maxShownBytes {
		shown = shown[:maxShownBytes]
		for len(shown) > 0 && !utf8.Valid(shown) && utf8.Valid(data) {
			shown = shown[:len(shown)-1] // do not cut a character in two
		}
	}
	text := strings.TrimSuffix(string(shown), "\n")
	switch {
	case !isText(text):
		b.WriteString(": " + strconv.Quote(text))
	case strings.Contains(text, "\n"):
		b.WriteString(":")
		for line := range strings.SplitSeq(text, "\n") {
			b.WriteString("\n    " + line)
		}
	default:
		b.WriteString(": " + text)
	}
	if left := len(data) - len(shown); left > 0 {
		fmt.Fprintf(&b, " ... and %s more", amount.Of(left, "byte"))
	}
	return b.String()
}

// describeView has the whole id, and no number: the last word of an id begins anew after each change between daemons, so it
// would look as if views went back.
func describeView(v *client.View, me string, before *client.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "view of %s: ", v.Group)
	b.WriteString(whyView(v, me, before))
	fmt.Fprintf(&b, "; %s: %s", amount.Of(len(v.Members), "member"), memberList(v.Members, me))
	if rank := v.Rank(me); rank >= 0 {
		fmt.Fprintf(&b, "; you are number %d", rank+1)
	}
	fmt.Fprintf(&b, " (id %v)", v.ID)
	if v.Cause == client.CausedByNetwork {
		for i, set := range v.VSSets {
			whence := "came from another view (OTHER)"
			if i == v.Mine {
				whence = "came with you (LOCAL)"
			}
			fmt.Fprintf(&b, "\n    %s: %s", whence, memberList(set, me))
		}
	}
	return b.String()
}

func whoIs(member, me string) string {
	if member == me {
		return "you"
	}
	return printable(member)
}

func memberList(members []string, me string) string {
	var parts []string
	for _, m := range members[:min(len(members), maxShownMembers)] {
		if m == me {
			m += " (you)"
		}
		parts = append(parts, printable(m))
	}
	s := strings.Join(parts, ", ")
	if left := len(members) - maxShownMembers; left > 0 {
		s += fmt.Sprintf(" and %d more", left)
	}
	return s
}

func destinations(groups []string) string {
	if len(groups) == 0 {
		return "nobody"
	}
	var parts []string
	for _, g := range groups {
		parts = append(parts, printable(g))
	}
	return strings.Join(parts, ", ")
}

// printable keeps names from other programs from sending control codes to the terminal.
func printable(s string) string {
	if isText(s) && !strings.Contains(s, "\n") {
		return s
	}
	return strconv.Quote(s)
}

func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) < 0
}
