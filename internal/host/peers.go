// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/config"
	"evensong/internal/proto/packet"
)

const (
	// findFirst is how long after the start names of peers are looked up again while no other daemon is in the configuration. It
	// doubles up to findAlone; with another daemon it is findTogether.
	findFirst    = time.Second
	findAlone    = 10 * time.Second
	findTogether = time.Minute
	// findTimeout is how long one look-up may take. The name keeps the addresses it had.
	findTimeout = 5 * time.Second
	// findWarn is how often a name that is not found is worth a line.
	findWarn = 10 * time.Minute
)

// PeerName is a host name behind which other daemons are: any number, and others tomorrow.
type PeerName struct {
	Host string
	Port uint16
	// Sought: it was looked up before the start, and stood for Addrs; if for none, that was said.
	Sought bool
	Addrs  []netip.Addr
}

// Peers has a host look for other daemons by name while it runs. Names are looked up one after the other on a goroutine of
// their own, and the loop gets what was found.
type Peers struct {
	Fixed    []netip.AddrPort // the addresses of peers that were given by address
	Names    []PeerName
	Resolver config.Resolver              // nil: that of the system
	Here     func() ([]netip.Addr, error) // the addresses of this machine; nil: asks the system
}

// peersOf is who else is in a configuration: addresses, and names.
func peersOf(c *config.Config, self int) (p Peers) {
	for i, d := range c.Daemons {
		switch {
		case i == self:
		case c.ByName(i):
			p.Names = append(p.Names, PeerName{d.Host, d.Addr.Port(), true, d.Addrs})
		case d.Addr.Addr().IsValid():
			p.Fixed = append(p.Fixed, d.Addr)
		}
	}
	return p
}

// peerName is a name and what is known of it.
type peerName struct {
	host   string
	port   uint16
	found  []netip.AddrPort // sorted
	sought bool             // it was looked up before the start
	warned bool
	warnAt time.Time // when it is worth a line again that it is not found; after warned
}

// finder looks up the names of peers.
type finder struct {
	fixed    []netip.AddrPort
	names    []*peerName
	bind     []netip.AddrPort // of this daemon, the main one first
	resolver config.Resolver
	here     func() ([]netip.Addr, error)
	log      *slog.Logger
}

// newFinder makes one that knows what was found before the start.
func newFinder(p *Peers, bind []netip.AddrPort, log *slog.Logger) *finder {
	f := &finder{fixed: p.Fixed, bind: bind, resolver: p.Resolver, here: p.Here, log: log}
	if f.resolver == nil {
		f.resolver = net.DefaultResolver
	}
	if f.here == nil {
		f.here = func() ([]netip.Addr, error) {
			h, err := config.ThisHost()
			return h.Addrs, err
		}
	}
	if len(p.Names) == 0 {
		return f
	}
	here, _ := f.here() // without them the machine finds out what it sends to itself
	for _, n := range p.Names {
		f.names = append(f.names, &peerName{
			host: n.Host, port: n.Port, found: peersAt(n.Addrs, n.Port, bind, here), sought: n.Sought,
			warned: n.Sought && len(n.Addrs) == 0, warnAt: time.Now().Add(findWarn),
		})
	}
	return f
}

// peersAt are the addresses among addrs, of one name, at which other daemons may be: those that a daemon bound to bind, the
// main address first, can send to and that are not its own; here are the addresses of its machine.
func peersAt(addrs []netip.Addr, port uint16, bind []netip.AddrPort, here []netip.Addr) (out []netip.AddrPort) {
	main := bind[0].Addr()
	reach := slices.DeleteFunc(config.Usable(addrs), func(a netip.Addr) bool {
		anyKind := main.Is6() && main.IsUnspecified() // serves both
		return !anyKind && a.Is4() != main.Is4() || main.IsLoopback() && !a.IsLoopback()
	})
	for _, a := range config.PreferIPv4(reach) {
		own := slices.ContainsFunc(bind, func(b netip.AddrPort) bool {
			mine := b.Addr() == a || b.Addr().IsUnspecified() && (a.IsLoopback() || slices.Contains(here, a.WithZone("")) || slices.Contains(here, a))
			return mine && b.Port() == port
		})
		if !own {
			out = append(out, netip.AddrPortFrom(a, port))
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// peers are all addresses that are known, at most as many as there can be daemons.
func (f *finder) peers() []netip.AddrPort {
	out := slices.Clone(f.fixed)
	for _, n := range f.names {
		for _, a := range n.found {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out[:min(len(out), packet.MaxProcs)]
}

// find looks all names up. One that is not found keeps the addresses it had: that a resolver does not answer says nothing of
// the daemons.
func (f *finder) find(ctx context.Context, now time.Time) {
	here, _ := f.here()
	for _, n := range f.names {
		within, cancel := context.WithTimeout(ctx, findTimeout)
		addrs, err := f.resolver.LookupNetIP(within, "ip", n.host)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && len(config.Usable(addrs)) == 0 {
			err = errors.New("no usable address")
		}
		if err != nil {
			if !n.warned || !now.Before(n.warnAt) {
				n.warned, n.warnAt = true, now.Add(findWarn)
				f.log.Warn("peers: a host name is not found, and is looked up again", "peer", n.host, "reason", err.Error(), "kept", len(n.found))
			}
			continue
		}
		if found := peersAt(addrs, n.port, f.bind, here); !slices.Equal(found, n.found) {
			n.found = found
			f.log.Info("peers: a host name stands for other addresses", "peer", n.host, "address", fmt.Sprint(found))
		}
	}
}

// run looks names up until ctx ends. set gives the loop what is known, and reports whether no other daemon is there.
func (f *finder) run(ctx context.Context, set func(context.Context, []netip.AddrPort) (alone bool, err error)) {
	wait, last := findFirst, time.Now()
	if slices.ContainsFunc(f.names, func(n *peerName) bool { return !n.sought }) {
		wait = 0
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		alone, err := set(ctx, f.peers()) // a reload may have brought others
		if err == nil && (alone || time.Since(last) >= findTogether) {
			f.find(ctx, time.Now())
			last = time.Now()
			_, err = set(ctx, f.peers())
		}
		if err != nil {
			return
		}
		if wait = min(max(2*wait, findFirst), findAlone); !alone {
			wait = findAlone // to notice that the others are gone
		}
	}
}

// peerSetter is a machine that can be told where others are.
type peerSetter interface {
	SetPeers(now time.Duration, peers []netip.AddrPort, fx *Effects) (bool, error)
}

// setPeers tells the machine where others may be, and reports whether none of them is in its configuration.
func (h *Host) setPeers(ctx context.Context, peers []netip.AddrPort) (alone bool, err error) {
	c := h.core
	m, ok := c.m.(peerSetter)
	if !ok {
		return false, errors.New("this machine has no peers")
	}
	var refused error
	err = h.Do(ctx, func(now time.Duration) {
		if _, refused = m.SetPeers(now, peers, &c.fx); refused == nil {
			c.perform()
		}
	})
	if refused != nil {
		c.cfg.Logger.Error("peers: the addresses of other daemons are refused", "reason", refused.Error())
	}
	if err != nil {
		return false, err
	}
	members, err := h.Members(ctx)
	return len(members) < 2, err
}
