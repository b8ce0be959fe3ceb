// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// lossy takes a share of the datagrams that one goroutine receives. Nil takes none and costs a comparison.
type lossy struct {
	rnd   *rand.Rand
	below uint64 // of 64 random bits
	stats *Stats
}

// newLossy is nil without loss. The address of the receiver and the number of its source are the seed: a run can be repeated,
// and of a datagram to a group each receiver decides by itself.
func newLossy(share float64, local netip.AddrPort, source int, stats *Stats) *lossy {
	if share == 0 {
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte(local.String()))
	return &lossy{rand.New(rand.NewPCG(h.Sum64(), uint64(source))), uint64(share * (1 << 64)), stats}
}

// takes decides about one datagram.
func (l *lossy) takes() bool {
	if l == nil || l.rnd.Uint64() >= l.below {
		return false
	}
	l.stats.DropsInjected.Add(1)
	return true
}

// thin is what is left of ds, in place.
func (l *lossy) thin(ds []Datagram) []Datagram {
	if l == nil {
		return ds
	}
	return slices.DeleteFunc(ds, func(Datagram) bool { return l.takes() })
}
