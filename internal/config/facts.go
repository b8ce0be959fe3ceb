// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
	"unicode/utf8"
)

// MaxFactsSize is the most bytes that AppendBinary writes: a packet of any network holds it.
const MaxFactsSize = 1024

// Facts is what the configurations of two daemons must have in common to work together, small enough to be sent.
// Daemons are known by hashes only; Diff gives them the names that this side knows.
type Facts struct {
	Cluster      string
	Ranked       bool          // the order of Daemons matters
	Accelerated  bool          // ring variant
	Majority     bool          // the majority of Daemons is primary
	TokenTimeout time.Duration // in force, whole milliseconds; it may differ, but is worth a sentence
	Daemons      []DaemonFact

	names map[uint32]string // known to this side only, not sent
}

// DaemonFact stands for one daemon. 32 and 24 bits of a hash keep 128 daemons below 1 KiB; a collision could only hide a
// difference from a diagnosis, never admit a daemon.
type DaemonFact struct {
	Name uint32 // zero: a peer without a name
	Addr uint32 // low 24 bits; zero: not known, or a name that may stand for another address tomorrow
}

// FactsOf computes the facts of a resolved configuration. tokenTimeout is the one in force, after defaults.
func FactsOf(c *Config, tokenTimeout time.Duration) Facts {
	f := Facts{
		Cluster: c.Cluster, Ranked: c.Ranked, Accelerated: c.Ring.Accelerated, Majority: c.Primary == PrimaryMajority,
		TokenTimeout: tokenTimeout.Truncate(time.Millisecond),
		names:        make(map[uint32]string),
	}
	for i, d := range c.Daemons {
		fact := DaemonFact{}
		if d.Name != "" {
			fact.Name = max(1, hash32(d.Name))
			f.names[fact.Name] = d.Name
		}
		switch {
		case c.ByName(i):
		case d.Addr.Addr().IsValid():
			fact.Addr = max(1, hash32(d.Addr.String())&0xffffff)
		case d.Host != "":
			fact.Addr = max(1, hash32(fmt.Sprintf("%s:%d", d.Host, d.Addr.Port()))&0xffffff)
		}
		f.Daemons = append(f.Daemons, fact)
	}
	return f
}

// Knowing returns f with names that its sender may mean: only hashes of them were sent.
func (f Facts) Knowing(names []string) Facts {
	f.names = make(map[uint32]string, len(names))
	for _, n := range names {
		f.names[max(1, hash32(n))] = n
	}
	return f
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// The encoding, big endian:
//
//	0      1       2             6         7          7+n      8+n
//	+------+-------+-------------+---------+----------+--------+---------------------------------+
//	| 1    | flags | timeout, ms | n       | cluster  | count  | count x (name 4, address 3)     |
//	+------+-------+-------------+---------+----------+--------+---------------------------------+
//
// flags: 1 ranked, 2 accelerated, 4 majority. The first byte is the version of this layout.
const (
	factsVersion     = 1
	flagRanked       = 1
	flagAccelerated  = 2
	flagMajority     = 4
	factsHeader      = 7
	daemonFactLength = 7
)

// AppendBinary appends the encoding to b. It fails if Cluster is longer than MaxClusterName, or Daemons than MaxDaemons.
func (f Facts) AppendBinary(b []byte) ([]byte, error) {
	if len(f.Cluster) > MaxClusterName || len(f.Daemons) > MaxDaemons {
		return b, fmt.Errorf("facts too large: cluster name of %d bytes, %d daemons", len(f.Cluster), len(f.Daemons))
	}
	var flags byte
	if f.Ranked {
		flags |= flagRanked
	}
	if f.Accelerated {
		flags |= flagAccelerated
	}
	if f.Majority {
		flags |= flagMajority
	}
	ms := min(max(f.TokenTimeout.Milliseconds(), 0), maxTimer.Milliseconds())
	b = append(b, factsVersion, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(ms))
	b = append(b, byte(len(f.Cluster)))
	b = append(b, f.Cluster...)
	b = append(b, byte(len(f.Daemons)))
	for _, d := range f.Daemons {
		b = binary.BigEndian.AppendUint32(b, d.Name)
		b = append(b, byte(d.Addr>>16), byte(d.Addr>>8), byte(d.Addr))
	}
	return b, nil
}

// errFacts is all that is said about malformed facts: they come from the network.
var errFacts = errors.New("malformed configuration facts")

// DecodeFacts reads what AppendBinary wrote. Every bound is checked before anything is allocated.
func DecodeFacts(b []byte) (Facts, error) {
	if len(b) < factsHeader+1 || b[0] != factsVersion || b[1]&^(flagRanked|flagAccelerated|flagMajority) != 0 {
		return Facts{}, errFacts
	}
	flags, ms, n := b[1], binary.BigEndian.Uint32(b[2:]), int(b[6])
	rest := b[factsHeader:]
	if n > MaxClusterName || len(rest) < n+1 || int64(ms) > maxTimer.Milliseconds() || !utf8.Valid(rest[:n]) {
		return Facts{}, errFacts
	}
	cluster, count := rest[:n], int(rest[n])
	rest = rest[n+1:]
	if count > MaxDaemons || len(rest) != count*daemonFactLength {
		return Facts{}, errFacts
	}
	f := Facts{Cluster: string(cluster), Ranked: flags&flagRanked != 0, Accelerated: flags&flagAccelerated != 0, Majority: flags&flagMajority != 0,
		TokenTimeout: time.Duration(ms) * time.Millisecond}
	for i := range count {
		d := rest[i*daemonFactLength:]
		f.Daemons = append(f.Daemons, DaemonFact{Name: binary.BigEndian.Uint32(d), Addr: uint32(d[4])<<16 | uint32(d[5])<<8 | uint32(d[6])})
	}
	return f, nil
}

// Diff says how there differs from here, one sentence per difference, the gravest first; nil if they agree. Names come
// from whichever side knows them, so it also compares two files.
func Diff(here, there Facts) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if here.Cluster != there.Cluster {
		say("cluster name differs: %q here, %q there", here.Cluster, there.Cluster)
	}
	if here.Accelerated != there.Accelerated {
		say("ring variant differs: %s here, %s there", variant(here), variant(there))
	}
	if here.Majority != there.Majority {
		say("rule for primary configurations differs: %s here, %s there", primaryRule(here), primaryRule(there))
	}
	if here.Ranked != there.Ranked {
		say("daemon list comes from %s here, from %s there", listSource(here), listSource(there))
	}
	name := func(id uint32, where Facts) string {
		if n, ok := here.names[id]; ok {
			return n
		}
		if n, ok := there.names[id]; ok {
			return n
		}
		return fmt.Sprintf("daemon %d of the list", where.index(id)+1)
	}
	var common []DaemonFact // in the order of here
	for _, d := range here.Daemons {
		switch i := there.index(d.Name); {
		case d.Name == 0:
		case i < 0 && !there.mayList(d):
			say("%s is only in the list here", name(d.Name, here))
		case i >= 0:
			common = append(common, d)
			if o := there.Daemons[i]; d.Addr != 0 && o.Addr != 0 && d.Addr != o.Addr {
				say("address of %s differs", name(d.Name, here))
			}
		}
	}
	for _, d := range there.Daemons {
		if d.Name != 0 && here.index(d.Name) < 0 && !here.mayList(d) {
			say("%s is only in the list there", name(d.Name, there))
		}
	}
	if here.Ranked && there.Ranked {
		out = append(out, diffOrder(here, there, common, name)...)
	}
	if here.TokenTimeout != there.TokenTimeout {
		say("token timeout differs: %v here, %v there; failures are detected after the longer", here.TokenTimeout, there.TokenTimeout)
	}
	return out
}

// diffOrder compares the order of the daemons that both lists have. Places are those of the lists as they are, which an
// operator can count; that a daemon missing on one side shifts them is no difference of order by itself.
func diffOrder(here, there Facts, common []DaemonFact, name func(uint32, Facts) string) []string {
	order := slices.Clone(common) // in the order of there
	slices.SortFunc(order, func(a, b DaemonFact) int { return there.index(a.Name) - there.index(b.Name) })
	var out []string
	for i := range common {
		if common[i].Name == order[i].Name {
			continue
		}
		id := common[i].Name
		out = append(out, fmt.Sprintf("daemon order differs: %s is %s here, %s there", name(id, here), ordinal(here.index(id)+1), ordinal(there.index(id)+1)))
	}
	return out
}

// mayList reports whether d, whose name is not in the list, may be one of the peers that were given without a name.
func (f Facts) mayList(d DaemonFact) bool {
	return slices.ContainsFunc(f.Daemons, func(o DaemonFact) bool {
		return o.Name == 0 && (o.Addr == 0 || d.Addr == 0 || o.Addr == d.Addr)
	})
}

func (f Facts) index(name uint32) int {
	return slices.IndexFunc(f.Daemons, func(d DaemonFact) bool { return d.Name == name })
}

func variant(f Facts) string {
	if f.Accelerated {
		return "accelerated"
	}
	return "regular"
}

func primaryRule(f Facts) string {
	if f.Majority {
		return PrimaryMajority
	}
	return PrimaryNone
}

func listSource(f Facts) string {
	if f.Ranked {
		return "a file"
	}
	return "a list of peers"
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
