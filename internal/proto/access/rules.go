// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Point is a place where a decision is made.
type Point uint8

// The points.
const (
	// Open: a client that has passed its authentication methods wants a session. It has no group.
	Open Point = iota
	// Join and Leave of a group.
	Join
	Leave
	// Send: a message to a private name, which takes the place of the group.
	Send
	// Multicast: a message to a group.
	Multicast
	// See: to be told that a group exists and who its members are, without being one of them.
	See
	// NumPoints is how many there are.
	NumPoints = int(See) + 1
)

var pointNames = [NumPoints]string{"open", "join", "leave", "send", "multicast", "see"}

// String is the word by which rules call the point.
func (p Point) String() string {
	if int(p) < NumPoints {
		return pointNames[p]
	}
	return fmt.Sprintf("Point(%d)", uint8(p))
}

// PointNames are the words for the points in their order.
func PointNames() []string { return slices.Clone(pointNames[:]) }

// ParsePoint is the point that a word names.
func ParsePoint(word string) (Point, bool) {
	i := slices.Index(pointNames[:], word)
	return Point(max(i, 0)), i >= 0
}

// Points is a set of points.
type Points uint8

// AllPoints has every point.
const AllPoints = Points(1<<NumPoints - 1)

// PointsOf is the set of the given ones.
func PointsOf(ps ...Point) (s Points) {
	for _, p := range ps {
		s |= 1 << p
	}
	return s
}

// Has reports whether p is in s.
func (s Points) Has(p Point) bool { return s&(1<<p) != 0 }

// String lists the words, "all" for every point.
func (s Points) String() string {
	if s == AllPoints {
		return "all"
	}
	var words []string
	for p := range Point(NumPoints) {
		if s.Has(p) {
			words = append(words, p.String())
		}
	}
	return strings.Join(words, " ")
}

// Principal is what is known about a client. The zero value is nobody in particular on a Unix socket.
type Principal struct {
	// User is the private name that the client has, which it chose itself: unique at its daemon, and no proof of anything.
	User string
	// Addr is where it comes from; invalid for a Unix socket.
	Addr netip.Addr
	// Methods are the authentication methods that it has passed, in the order in which they ran.
	Methods []string
	// Name is what the last of them proved, the user of PWORD; empty if none proved a name.
	Name string
	// Cert is the name in the certificate that it showed over TLS, which an authority of ours has signed; empty if there is none.
	Cert string
	// UID is the user of the operating system at the other end of a Unix socket. HasUID says that the system told it.
	UID    uint32
	HasUID bool
}

// From is one origin of clients: a network, or the Unix sockets. The zero value matches nobody.
type From struct {
	Unix bool
	Net  netip.Prefix
}

func (f From) match(p *Principal) bool {
	if !p.Addr.IsValid() {
		return f.Unix
	}
	return f.Net.IsValid() && f.Net.Contains(p.Addr.Unmap().WithZone(""))
}

// UIDs is a range of users of the operating system, both ends in it.
type UIDs struct{ Low, High uint32 }

// Rule is one line: its conditions are lists of which one entry must fit; an empty list always holds.
type Rule struct {
	Allow  bool
	Points Points
	User   []Pattern // private name
	From   []From
	Method []string  // one that the client has passed
	Name   []Pattern // a proved name; a client without one never fits
	Cert   []Pattern // the name in a certificate; a client without one never fits
	UID    []UIDs    // a client whose user is not known never fits
	Group  []Pattern // group, or the private name that a Send goes to; never fits at Open
	// Where is its place for people, "spread.conf:12"; Text is the rule as it was written.
	Where, Text string
}

// String is "spread.conf:12: deny join group=chat*".
func (r *Rule) String() string {
	if r.Where == "" {
		return r.Text
	}
	return r.Where + ": " + r.Text
}

// concerns reports whether all conditions hold that do not depend on a group.
func (r *Rule) concerns(p *Principal) bool {
	if len(r.User) > 0 && !matchAny(r.User, p.User) {
		return false
	}
	if len(r.From) > 0 && !slices.ContainsFunc(r.From, func(f From) bool { return f.match(p) }) {
		return false
	}
	if len(r.Method) > 0 && !slices.ContainsFunc(r.Method, func(m string) bool { return slices.Contains(p.Methods, m) }) {
		return false
	}
	if len(r.Name) > 0 && (p.Name == "" || !matchAny(r.Name, p.Name)) {
		return false
	}
	if len(r.Cert) > 0 && (p.Cert == "" || !matchAny(r.Cert, p.Cert)) {
		return false
	}
	if len(r.UID) > 0 && !(p.HasUID && slices.ContainsFunc(r.UID, func(u UIDs) bool { return u.Low <= p.UID && p.UID <= u.High })) {
		return false
	}
	return true
}

// MaxRules bounds a list of rules: a session keeps up to two bytes for each rule and point. More is an error of whoever
// reads them.
const MaxRules = 1000

// Rules is a list of rules and what holds where none fits. Not modified after it is in use.
type Rules struct {
	List []Rule // at most MaxRules
	Deny bool   // what no rule decides is refused; else it is permitted
}

// Empty reports whether everything is permitted. A nil *Rules is empty.
func (r *Rules) Empty() bool { return r == nil || len(r.List) == 0 && !r.Deny }
