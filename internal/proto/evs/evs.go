// SPDX-License-Identifier: Apache-2.0

// Package evs is the vocabulary that all protocol packages share: who a process is, what a configuration is, which
// services exist. It holds values only; nothing here has behavior over time.
//
// The words are those of the papers (Extended Virtual Synchrony, ICDCS 1994; Totem, TOCS 1995) as docs/guarantees.md
// uses them. A configuration is a membership of daemons; a view is a membership of a process group seen by clients.
package evs

import (
	"cmp"
	"fmt"
	"strings"
)

// Incarnation tells two lives of one daemon apart. It is random, 64 bits, drawn at every start (M-1); zero is no one.
type Incarnation uint64

// String is the short form used in logs: eight hexadecimal digits of the low half.
func (i Incarnation) String() string { return fmt.Sprintf("%08x", uint32(i)) }

// ProcID is the identity of a daemon. A restart is a new incarnation, hence another ProcID (M-1, EVS-18).
//
// Rank is the daemon's place in its configuration file, zero where there is no file. It is part of the identity so
// that all daemons sort members alike even when their files differ: what counts is what each daemon says of itself.
type ProcID struct {
	Rank uint16
	Name string
	Inc  Incarnation
}

// IsZero reports whether p names nobody.
func (p ProcID) IsZero() bool { return p.Inc == 0 && p.Name == "" }

// Compare orders daemons: by rank, then name, then incarnation. Ring order and the order of members that clients see
// are this order.
func (p ProcID) Compare(q ProcID) int {
	if c := cmp.Compare(p.Rank, q.Rank); c != 0 {
		return c
	}
	if c := strings.Compare(p.Name, q.Name); c != 0 {
		return c
	}
	return cmp.Compare(p.Inc, q.Inc)
}

// String is "name/incarnation".
func (p ProcID) String() string { return p.Name + "/" + p.Inc.String() }

// RingID identifies a ring: a counter that only grows at every daemon that took part in an attempt (EVS-8), and the
// incarnation of the representative that formed it. It is compact because every packet carries it; the name of the
// representative is Members[0] of the configuration.
type RingID struct {
	Seq uint64
	Rep Incarnation
}

// IsZero reports whether r names no ring.
func (r RingID) IsZero() bool { return r == RingID{} }

// Compare orders rings by sequence number, then representative. Two rings with one sequence number can exist on two
// sides of a partition; the order between them means nothing but is the same everywhere.
func (r RingID) Compare(s RingID) int {
	if c := cmp.Compare(r.Seq, s.Seq); c != 0 {
		return c
	}
	return cmp.Compare(r.Rep, s.Rep)
}

// String is "seq.representative".
func (r RingID) String() string { return fmt.Sprintf("%d.%s", r.Seq, r.Rep) }

// ConfKind tells regular from transitional configurations.
type ConfKind uint8

const (
	// Regular is a configuration with a ring: messages are originated and delivered in it.
	Regular ConfKind = iota + 1
	// Transitional holds the members that pass together from one regular configuration to the next. Nothing is
	// originated in it.
	Transitional
)

// String is "regular" or "transitional".
func (k ConfKind) String() string {
	switch k {
	case Regular:
		return "regular"
	case Transitional:
		return "transitional"
	}
	return fmt.Sprintf("ConfKind(%d)", uint8(k))
}

// ConfID identifies a configuration: {kind, old ring, new ring}. Old is zero for regular configurations. Transitional
// identifiers need no numbers of their own and cannot collide (pitfall P-36).
type ConfID struct {
	Kind     ConfKind
	Old, New RingID
}

// RegularID is the identifier of the regular configuration of ring r.
func RegularID(r RingID) ConfID { return ConfID{Kind: Regular, New: r} }

// TransitionalID is the identifier of the transitional configuration between two rings.
func TransitionalID(from, to RingID) ConfID { return ConfID{Kind: Transitional, Old: from, New: to} }

// Reg is the ring whose messages are delivered in the configuration: its own if regular, the one it leaves if
// transitional (EVS94, 2.1: reg(c)).
func (c ConfID) Reg() RingID {
	if c.Kind == Transitional {
		return c.Old
	}
	return c.New
}

// String is "R:ring" or "T:old>new".
func (c ConfID) String() string {
	if c.Kind == Transitional {
		return "T:" + c.Old.String() + ">" + c.New.String()
	}
	return "R:" + c.New.String()
}

// Configuration is a membership of daemons. Members are in ring order, which is the order of ProcID.Compare.
//
// Origins is set on regular configurations: for each member the ring it came from. Members with equal origins moved
// together (a transitional set). The slices are shared and must not be changed.
//
// Primary was agreed when the configuration was formed and does not change while it lasts; all members have the same.
type Configuration struct {
	ID      ConfID
	Members []ProcID
	Origins []RingID
	Primary Primary
}

// Representative is the member that formed the ring: the first in ring order.
func (c *Configuration) Representative() ProcID { return c.Members[0] }

// Index is p's place in ring order, or -1.
func (c *Configuration) Index(p ProcID) int {
	for i, m := range c.Members {
		if m == p {
			return i
		}
	}
	return -1
}

// Service is the delivery guarantee that a sender asks for. A higher service includes what the lower ones promise.
type Service uint8

const (
	// Unreliable rides the ring like Reliable (M-8).
	Unreliable Service = iota + 1
	// Reliable is delivered by every member that stays, in no promised order; it may pass gaps.
	Reliable
	// FIFO keeps each sender's order. Delivered here at Agreed's point.
	FIFO
	// Causal follows what its sender had delivered. Delivered here at Agreed's point.
	Causal
	// Agreed is one total order.
	Agreed
	// Safe is Agreed, and delivered only when every member of the configuration is known to have it.
	Safe
)

var serviceNames = [...]string{Unreliable: "unreliable", Reliable: "reliable", FIFO: "fifo", Causal: "causal", Agreed: "agreed", Safe: "safe"}

// Valid reports whether s is one of the six services.
func (s Service) Valid() bool { return s >= Unreliable && s <= Safe }

// String is the lower-case name.
func (s Service) String() string {
	if s.Valid() {
		return serviceNames[s]
	}
	return fmt.Sprintf("Service(%d)", uint8(s))
}
