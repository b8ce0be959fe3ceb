// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"evensong/internal/config"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/node"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
	"evensong/internal/seal"
	"evensong/internal/transport"
)

// Assemble turns the resolved configuration of a cluster into what daemon number self of it runs with: the host's
// part, and the function that builds the machine once the sockets are bound, which fails with ErrConfig. Every call draws
// a new incarnation (M-1).
func Assemble(c *config.Config, self int, log *slog.Logger) (Config, func(Boot) (Machine, error), error) {
	d := c.Daemons[self]
	bind, also, err := bindAddrs(c, d)
	if err != nil {
		return Config{}, nil, err
	}
	listen, err := listenAddrs(c, d)
	if err != nil {
		return Config{}, nil, err
	}
	access := c.Access
	if access == nil {
		if access, err = config.LoadAccess(c); err != nil {
			return Config{}, nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	keys := c.Keys
	if keys == nil {
		if keys, err = config.LoadKeys(c); err != nil {
			return Config{}, nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	certificate := c.Certificate
	if certificate == nil {
		if certificate, err = config.LoadTLS(c, time.Now()); err != nil {
			return Config{}, nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	rc := RingConfig(c)
	path, _ := transport.ParsePath(cmp.Or(c.Local.DatagramPath, transport.PathAuto.String())) // config has checked it
	h := Config{
		Transport:    transport.Config{Bind: bind, Also: also, Path: path, Groups: groupsOf(c, self), Loop: sharesHost(c, self)},
		Keys:         keys,
		Listen:       listen,
		Unix:         unixPaths(c, clientPort(listen, d.Addr.Port())),
		UnixMode:     c.Local.UnixMode,
		UnixGroup:    c.Local.UnixGroup,
		MaxSessions:  c.Sessions.Limit,
		StateDir:     c.Local.StateDir,
		NoReuse:      c.Local.SocketPortReuse == config.Off,
		TokenTimeout: rc.TokenTimeout,
		TLS:          certificate.Config(),
		Logger:       log,
		certificate:  certificate,
	}
	h.Admin = adminConfig(c)
	inc, rnd, err := NewIdentity()
	if err != nil {
		return Config{}, nil, err
	}
	n, differences, err := nodeConfig(c, self, access)
	if err != nil {
		return Config{}, nil, err
	}
	h.Peers = peersOf(c, self)
	n.Me.Inc = inc
	if g := h.Transport.Groups; len(g) > 0 {
		n.Ring.Group = &ring.Group{Addr: g[0].Addr, Members: g[0].Members}
	}
	h.Differences = differences
	started := *c
	h.started, h.name = &started, d.Name
	if h.foreign = len(c.Local.Bind) == 0 && bind.Addr().IsUnspecified() && isForeign(d.Addr.Addr()); h.foreign {
		log.Warn("this daemon's own address is none of this machine: the others send to another one. Correct the file, or -n; where addresses are translated on the way (NAT, a container), --bind 0.0.0.0 says that this is meant",
			"proc", d.Name, "address", d.Addr.Addr().String())
	}
	build := func(b Boot) (Machine, error) {
		n.Stable, n.StoredRingSeq = b.Stable, b.RingSeq
		n.Ring.Larger, n.Ring.LargerCut = largerPackets(c, b.Segments, n.Ring.PacketBytes)
		n.Listeners = Announced(b.Listen, d.Addr.Addr())
		m, err := node.New(n, rnd, 0)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		return m, nil
	}
	return h, build, nil
}

// isForeign reports whether a is an address that this machine does not have, as far as the system says.
func isForeign(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		return false
	}
	here, err := config.ThisHost()
	return err == nil && len(here.Addrs) > 0 && !slices.ContainsFunc(here.Addrs, func(b netip.Addr) bool { return b.WithZone("") == a.Unmap().WithZone("") })
}

// nodeConfig is the machine's part of a configuration, but for what only a start decides, and what compares the facts of
// others with it.
func nodeConfig(c *config.Config, self int, access *config.Access) (node.Config, func([]byte, []string) []string, error) {
	rc := RingConfig(c)
	facts := config.FactsOf(c, rc.TokenTimeout)
	encoded, err := facts.AppendBinary(nil)
	if err != nil {
		return node.Config{}, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	policy, _ := session.ParsePolicy(cmp.Or(c.Sessions.SlowPolicy, session.PolicyClose.String())) // config has checked it
	n := node.Config{
		Me:          evs.ProcID{Rank: c.Rank(self), Name: c.Daemons[self].Name},
		Cluster:     c.Cluster,
		Accelerated: c.Ring.Accelerated,
		Ring:        rc,
		Membership:  MembershipConfig(c),
		Facts:       encoded,
		Session:     session.Config{Methods: access.Methods, Rules: access.Rules, TLSRequired: c.TLS.Required},
		MaxSessions: c.Sessions.Limit,

		SlowPolicy:       policy,
		SessionBytes:     int(c.Sessions.ByteBudget),
		SessionHardBytes: int(c.Sessions.HardBytes),
		SessionQueue:     c.Sessions.MaxMessages,
		SessionStall:     c.Sessions.Stall,
		SessionWait:      c.Sessions.Wait,
		QueueMemory:      int(c.Sessions.TotalBytes),
		MessageBytes:     int(c.Sessions.MessageBytes),
		Program:          program(),
	}
	for _, p := range c.Daemons {
		if p.Name != "" {
			n.Daemons = append(n.Daemons, p.Name)
		}
	}
	bind, also, err := bindAddrs(c, c.Daemons[self])
	if err != nil {
		return node.Config{}, nil, err
	}
	n.Peers = newFinder(new(peersOf(c, self)), append([]netip.AddrPort{bind}, also...), nil).peers()
	n.Voters = c.Voters()
	if c.Ranked {
		n.Listed = c.Names() // a file says who belongs to the cluster; without one whoever comes does
	}
	return n, func(b []byte, known []string) []string {
		theirs, err := config.DecodeFacts(b)
		if err != nil {
			return []string{"what it says about its configuration cannot be read: " + err.Error()}
		}
		return config.Diff(facts, theirs.Knowing(known))
	}, nil
}

// NewIdentity draws what tells one start of a daemon from all others: its incarnation, so that a daemon that crashed and
// came back is never taken for the old one (M-1), and the randomness of its machine.
func NewIdentity() (evs.Incarnation, *rand.Rand, error) {
	var b [24]byte
	if _, err := crand.Read(b[:]); err != nil {
		return 0, nil, fmt.Errorf("draw an incarnation: %w", err)
	}
	le := binary.LittleEndian
	inc := evs.Incarnation(le.Uint64(b[:]) | 1) // zero is nobody
	return inc, rand.New(rand.NewPCG(le.Uint64(b[8:]), le.Uint64(b[16:]))), nil
}

// wideTokenTimeout is the token timeout of a wide-area network if nobody gives one. A rotation between continents takes
// up to about a second, and one lost token must not end the ring.
const wideTokenTimeout = 2 * time.Second

// RingConfig is the ring's part of a configuration, with all defaults filled in.
func RingConfig(c *config.Config) ring.Config {
	r := ring.Config{TokenTimeout: c.Timers.TokenTimeout, PersonalWindow: c.Ring.Personal, GlobalWindow: c.Ring.Global, AcceleratedWindow: c.Ring.AcceleratedWindow, PacketBytes: c.Ring.PacketBytes}
	if r.TokenTimeout == 0 && c.WideTimers() {
		r.TokenTimeout = wideTokenTimeout
	}
	if c.Timers.Hurry > 0 && 2*c.Timers.Hurry <= r.WithDefaults().TokenTimeout {
		r.TokenRetransmit = c.Timers.Hurry
	}
	d := ring.Config{}.WithDefaults()
	w := c.Ring.WithDefaults(config.Ring{Global: d.GlobalWindow, Personal: d.PersonalWindow, AcceleratedWindow: d.AcceleratedWindow})
	// Files of the original may have windows of six digits, which mean no limit there. Ours is what a ring can hold.
	r.GlobalWindow = min(w.Global, ring.MaxSpan/2)
	r.PersonalWindow, r.AcceleratedWindow = min(w.Personal, r.GlobalWindow), min(w.AcceleratedWindow, w.Personal, r.GlobalWindow)
	r.MaxGap = min(max(d.MaxGap, 4*r.GlobalWindow), ring.MaxSpan/2) // a few rotations of full windows, so that the gap is not what limits them
	if c.Ring.Global == 0 && c.Ring.Personal == 0 && c.Ring.AcceleratedWindow == 0 {
		r.Tune, r.TuneLong, r.TuneGlobal = ring.DefaultTune, ring.DefaultTuneLong, ring.DefaultTuneGlobal
	} else {
		r.WholeVisit = 1 // what somebody chose is followed at every visit
	}
	r = r.WithDefaults()
	if c.Local.KeyFile != "" {
		r.PacketBytes -= seal.Overhead // PacketBytes of a configuration is what goes over the network
	}
	return r
}

// How many packets' worth of data a ring may try in one: multiples, so that they fill windows.
const (
	// wholePackets fit a frame of 9000 bytes, sealed and with IPv6 as well. Loopback carries it, too.
	wholePackets = 6
	// cutPackets go in 22 fragments: half a slot of the transport, which keeps such a datagram without a copy. More are lost as a whole more often.
	cutPackets = 22
)

// largerPackets is the length of packets that a ring may try in place of the usual ones, and whether they may go in fragments; zero if the
// configuration says how long they are. segments says that the system takes runs of datagrams as one, so that fragments would gain nothing;
// over long distances they are lost too often.
func largerPackets(c *config.Config, segments bool, usual int) (n int, cut bool) {
	switch {
	case c.Ring.PacketBytes != 0:
		return 0, false
	case segments || c.WideTimers():
		return wholePackets * usual, false
	}
	return cutPackets * usual, true
}

// MembershipConfig is the membership's part. The nine timers of the original map to fewer of ours: gathering here has
// one stage. What a file does not give derives from the token timeout. Where a file's timers do not fit each other here,
// though they did there, the intervals give way: a daemon starts with every file that the original accepts.
func MembershipConfig(c *config.Config) membership.Config {
	t := RingConfig(c).TokenTimeout
	m := membership.Config{TokenTimeout: t, ConsensusTimeout: c.Timers.Gather, CommitTimeout: c.Timers.Form, JoinInterval: c.Timers.Join, ProbeInterval: c.Timers.Lookup}
	d := m.WithDefaults()
	m.JoinInterval = min(d.JoinInterval, d.ConsensusTimeout/4, d.CommitTimeout/2)
	m.ReachTimeout = max(d.ReachTimeout, 3*d.ProbeInterval)
	return m
}

// Check says what a daemon would refuse of a configuration that config has accepted: relations that come from how the
// protocols use it.
func Check(c *config.Config) error {
	m := MembershipConfig(c)
	m.Me = evs.ProcID{Name: "check", Inc: 1}
	return errors.Join(RingConfig(c).Validate(), m.Validate())
}

// bindAddrs are where daemon d receives datagrams, the main address first: what was said, else the interfaces for daemon
// traffic, else its own address if that is a loopback address (several daemons can then share a host), else all
// addresses. Of several interfaces the main one is that which the other daemons know.
func bindAddrs(c *config.Config, d config.Daemon) (main netip.AddrPort, also []netip.AddrPort, err error) {
	all := slices.Clone(c.Local.Bind)
	if len(all) == 0 {
		for _, in := range d.Interfaces {
			if in.DaemonTraffic && in.Addr.IsValid() {
				all = append(all, netip.AddrPortFrom(in.Addr, d.Addr.Port()))
			}
		}
		if i := slices.Index(all, d.Addr); i > 0 {
			all[0], all[i] = all[i], all[0]
		}
	}
	// All addresses are all addresses.
	if i := slices.IndexFunc(all, func(a netip.AddrPort) bool { return a.Addr().IsUnspecified() }); i >= 0 && len(all) > 1 {
		if len(c.Local.Bind) > 0 {
			return main, nil, fmt.Errorf("%w: bind %v means all addresses; leave out the others, or give only specific ones", ErrConfig, all[i])
		}
		all = all[i : i+1]
	}
	if len(all) > 0 {
		return all[0], all[1:], nil
	}
	port := d.Addr.Port()
	a := d.Addr.Addr()
	switch {
	case a.IsValid() && a.IsLoopback():
		return d.Addr, nil, nil
	case a.IsValid() && a.Is6() && !a.Is4In6():
		return netip.AddrPortFrom(netip.IPv6Unspecified(), port), nil, nil
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), port), nil, nil
}

// listenAddrs are the TCP addresses for clients, by the same rule.
func listenAddrs(c *config.Config, d config.Daemon) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, s := range c.Local.Listen {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return nil, fmt.Errorf("%w: listen %q: %w", ErrConfig, s, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%w: listen %q: port %q: want a number from 0 to 65535", ErrConfig, s, port)
		}
		if host == "" || host == "*" {
			out = append(out, netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)))
			continue
		}
		ips, err := net.LookupIP(host)
		if err != nil {
			return nil, fmt.Errorf("%w: listen %q: %w", ErrBind, s, err)
		}
		for _, ip := range ips {
			a, _ := netip.AddrFromSlice(ip)
			out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	port := d.Addr.Port()
	if len(d.Interfaces) > 0 {
		for _, in := range d.Interfaces {
			if in.Client && in.Addr.IsValid() {
				out = append(out, netip.AddrPortFrom(in.Addr, port))
			}
		}
		return out, nil
	}
	if a := d.Addr.Addr(); a.IsValid() && a.IsLoopback() {
		return []netip.AddrPort{d.Addr}, nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), port)}, nil
}

// clientPort is the port that clients know: of the first TCP listener with one, else of the segment.
func clientPort(listen []netip.AddrPort, segment uint16) uint16 {
	for _, a := range listen {
		if a.Port() != 0 {
			return a.Port()
		}
	}
	return segment
}

// unixPaths are the sockets for clients on this host: /tmp/<port>, which clients of the original have built in, and one
// in the runtime directory.
func unixPaths(c *config.Config, port uint16) []string {
	if c.Local.UnixSockets != nil {
		return c.Local.UnixSockets
	}
	name := strconv.Itoa(int(port))
	paths := []string{filepath.Join(os.TempDir(), name)}
	if os.PathSeparator == '/' {
		paths[0] = "/tmp/" + name
	}
	switch {
	case c.Local.RuntimeDir != "":
		paths = append(paths, filepath.Join(c.Local.RuntimeDir, name))
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		paths = append(paths, filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "evensong", name))
	}
	return paths
}

// groupsOf lists the multicast or broadcast address that saves copies: that of the daemon's own segment, if it has one
// and others are in it. Members of other segments are reached by unicast, because a multicast address means something
// else, or nothing, in another network. Whether the address reaches those whom it should, the ring finds out (ring.Config.Group).
func groupsOf(c *config.Config, self int) []transport.Group {
	s := c.Segments[c.Daemons[self].Segment]
	if s.Kind == config.Unicast || len(s.Daemons) < 2 {
		return nil
	}
	g := transport.Group{Addr: s.Addr, Join: true}
	for _, k := range s.Daemons {
		if k != self {
			g.Members = append(g.Members, c.Daemons[k].Addr)
		}
	}
	return []transport.Group{g}
}

// sharesHost reports whether another daemon of the segment is on this host, so that multicasts must come back to it.
func sharesHost(c *config.Config, self int) bool {
	return slices.ContainsFunc(c.Segments[c.Daemons[self].Segment].Daemons, func(k int) bool {
		return k != self && c.Daemons[k].Addr.Addr().IsLoopback()
	})
}
