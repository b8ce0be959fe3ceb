// SPDX-License-Identifier: Apache-2.0

// Package transport moves datagrams between daemons. It knows addresses and bytes, nothing of what is in them.
//
// There are three implementations. Batch (Linux) owns raw non-blocking sockets and moves up to a batch of datagrams
// with one system call; its caller waits for readiness itself, so that one thread can wait for datagrams and clients
// together. Portable sits on the net package and is what other systems use; its caller reads each Source from a
// goroutine of its own. Mem is a network inside the process for tests.
//
// All of them perform packet.Sends in the order given, which protocols rely on (the accelerated ring sends its token
// before its last data packets). Only Sends that follow each other and go to the same addresses may be taken together:
// each address gets them in order, and one address after the other. No transport blocks the sender for longer than a
// moment, and all drop rather than wait: a datagram that found no room is counted, and the protocol above repairs the
// loss like any other.
//
// Where a group address (IP multicast or broadcast) is configured, a Send to the whole ring goes out once for all
// members that the group reaches. Everything else is unicast, which needs nothing from the network.
//
// A Send that must stay Whole asks whether its path carries datagrams of that length. Batch has the kernel refuse it where its
// interface is too small and mark it for routers; Portable leaves it out, as no option for this is the same on all systems:
// nobody is asked there. Through Mem everything goes whole.
package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"evensong/internal/proto/packet"
)

// DefaultBufferBytes is asked of the kernel for each socket's receive and send buffer: a whole window of packets may
// arrive while the daemon is busy with clients, and what the kernel cannot hold is lost and costs a retransmission.
const DefaultBufferBytes = 4 << 20

// Config says where a transport receives and which groups it may use.
type Config struct {
	// Bind is the address and port of the socket. Port zero lets the system choose. The unspecified IPv6 address
	// also serves IPv4. A specific address is also the source of all that is sent.
	Bind netip.AddrPort
	// Also are further addresses of a host with several networks: it receives at each, and what goes to a daemon in the
	// network of one of them is sent from there, everything else from Bind. All are specific, as Bind then must be.
	Also []netip.AddrPort
	// Path is how datagrams are handed to the kernel and taken from it. Zero means the best that it offers.
	Path Path
	// BufferBytes is wanted for the socket buffers; the kernel may grant less. Zero means DefaultBufferBytes.
	BufferBytes int
	// Groups are the multicast or broadcast addresses that reach several daemons at once. None means unicast only.
	Groups []Group
	// Interface names the network interface that multicast uses. Empty leaves it to Bind's address or, if that is
	// unspecified, to the system.
	Interface string
	// TTL is how many networks a multicast datagram may cross. Zero means 1: it stays on its own network.
	TTL int
	// Loop lets multicast datagrams come back to this host. It is needed only where several daemons share a host; a
	// daemon then gets its own datagrams, too, and must ignore them.
	Loop bool
	// Loss is the share of the received datagrams that is thrown away at random, each by itself, as if the network had lost
	// it: for tests and benches. At least 0, the usual value, and below 1.
	Loss float64
}

// A Path is a way of datagrams into the kernel and out of it.
type Path uint8

const (
	// PathAuto takes the first of the others that works here, and another one where a route refuses it later.
	PathAuto Path = iota
	// PathSegment hands runs of equally long datagrams over as one (UDP_SEGMENT, UDP_GRO), many runs with a system call.
	// To ask for it is an error where the kernel does not offer it; routes may still refuse it.
	PathSegment
	// PathBatch moves many datagrams with a system call (sendmmsg, recvmmsg). To ask for it is an error where there is no
	// such call.
	PathBatch
	// PathSingle moves one datagram with a system call.
	PathSingle
)

var pathNames = [...]string{"auto", "segment", "batch", "single"}

// String is the name as it stands in a configuration.
func (p Path) String() string {
	if int(p) < len(pathNames) {
		return pathNames[p]
	}
	return "unknown path"
}

// ParsePath is the path of a name.
func ParsePath(name string) (Path, bool) {
	i := slices.Index(pathNames[:], name)
	return Path(max(i, 0)), i >= 0
}

// ErrPath means that the system does not offer the Path that was asked for.
var ErrPath = errors.New("the system does not offer this path of datagrams")

// Group is one address that reaches several daemons.
type Group struct {
	// Addr is an IP multicast address, or the broadcast address of a network, with the port its members listen on.
	Addr netip.AddrPort
	// Members are the addresses that a datagram to Addr reaches.
	Members []netip.AddrPort
	// Join says that this daemon is itself a member and listens on Addr.
	Join bool
}

// Validate returns all that is wrong with c at once, or nil.
func (c Config) Validate() error {
	var errs []error
	if !c.Bind.Addr().IsValid() {
		errs = append(errs, errors.New("bind: no address"))
	}
	if c.Bind.Addr().IsMulticast() {
		errs = append(errs, fmt.Errorf("bind %v: a multicast address belongs into a group", c.Bind))
	}
	if len(c.Also) > 0 && c.Bind.Addr().IsUnspecified() {
		errs = append(errs, fmt.Errorf("bind %v receives at all addresses; further ones have no use", c.Bind))
	}
	for i, a := range c.Also {
		switch {
		case !a.Addr().IsValid() || a.Addr().IsUnspecified() || a.Addr().IsMulticast():
			errs = append(errs, fmt.Errorf("bind %v: of several addresses each must be one of this host's own", a))
		case a.Addr().Is4() != c.Bind.Addr().Is4():
			errs = append(errs, fmt.Errorf("bind %v: not of the same IP version as %v", a, c.Bind))
		case a == c.Bind || slices.Contains(c.Also[:i], a):
			errs = append(errs, fmt.Errorf("bind %v: there twice", a))
		}
	}
	if c.BufferBytes < 0 {
		errs = append(errs, fmt.Errorf("buffer of %d bytes: must not be negative", c.BufferBytes))
	}
	if c.TTL < 0 || c.TTL > 255 {
		errs = append(errs, fmt.Errorf("ttl %d: must be 0 to 255", c.TTL))
	}
	if !(c.Loss >= 0 && c.Loss < 1) {
		errs = append(errs, fmt.Errorf("loss of %v: must be at least 0 and below 1", c.Loss))
	}
	for _, g := range c.Groups {
		switch {
		case !g.Addr.IsValid() || g.Addr.Port() == 0:
			errs = append(errs, fmt.Errorf("group %v: needs an address and a port", g.Addr))
		case c.Bind.Addr().IsValid() && g.Addr.Addr().Is4() != c.Bind.Addr().Is4():
			errs = append(errs, fmt.Errorf("group %v: not of the same IP version as %v", g.Addr, c.Bind))
		case g.Addr.Addr().Is6() && !g.Addr.Addr().IsMulticast():
			errs = append(errs, fmt.Errorf("group %v: IPv6 has no broadcast, and this is no multicast address", g.Addr))
		}
		if len(g.Members) == 0 {
			errs = append(errs, fmt.Errorf("group %v: no members", g.Addr))
		}
	}
	return errors.Join(errs...)
}

func (c Config) bufferBytes() int {
	if c.BufferBytes == 0 {
		return DefaultBufferBytes
	}
	return c.BufferBytes
}

func (c Config) ttl() int {
	if c.TTL == 0 {
		return 1
	}
	return c.TTL
}

// joinsOnMain reports whether datagrams to g already reach the port of the main socket, bound to local, once it has
// joined: then a second socket on that port would only get in the way.
func (c Config) joinsOnMain(g Group, local netip.AddrPort) bool {
	return local.Addr().IsUnspecified() && g.Addr.Port() == local.Port()
}

// Stats counts what a transport did. Any goroutine may read it; only the transport writes.
type Stats struct {
	DatagramsIn, DatagramsOut atomic.Uint64
	BytesIn, BytesOut         atomic.Uint64
	// ReceiveCalls and SendCalls are system calls (for Mem: operations), so DatagramsIn/ReceiveCalls is the batch.
	ReceiveCalls, SendCalls atomic.Uint64
	// GroupSends is how many datagrams went to a group address in place of several unicasts.
	GroupSends atomic.Uint64
	// RunsOut counts messages handed to the kernel that were several datagrams at once, RunDatagramsOut the datagrams in
	// them; RunsIn and RunDatagramsIn those taken from it. RunsRefused counts runs that it refused and whose datagrams
	// then went one by one.
	RunsOut, RunDatagramsOut, RunsIn, RunDatagramsIn, RunsRefused atomic.Uint64
	// DropsFull counts datagrams not sent because the kernel had no room (for Mem: the receiver), DropsError those it
	// refused for another reason, DropsTruncated those received that were longer than MaxDatagram, DropsInjected those of
	// DatagramsIn that Config.Loss took. One that must stay Whole and is too long for its way counts nowhere: it has its answer.
	DropsFull, DropsError, DropsTruncated, DropsInjected atomic.Uint64
	// ReceiveBuffer and SendBuffer are the sizes in bytes that the kernel granted; zero where unknown.
	ReceiveBuffer, SendBuffer atomic.Int64

	path        atomic.Uint32
	lastError   atomic.Pointer[error]
	lastRefusal atomic.Pointer[error]
}

// Path is the one in use, never PathAuto once the transport is open.
func (s *Stats) Path() Path { return Path(s.path.Load()) }

// LastRefusal is the most recent reason for a RunsRefused, or nil.
func (s *Stats) LastRefusal() error {
	if e := s.lastRefusal.Load(); e != nil {
		return *e
	}
	return nil
}

// LastError is the most recent reason for a DropsError, or nil.
func (s *Stats) LastError() error {
	if e := s.lastError.Load(); e != nil {
		return *e
	}
	return nil
}

func (s *Stats) dropError(err error) {
	s.DropsError.Add(1)
	s.lastError.Store(&err)
}

// Datagram is one received packet. Bytes is borrowed and writable until the next receive of the same transport, or in a Room that is not nil for as
// long as that is kept; the goroutine that receives keeps and leaves it. No memory of others is within the capacity of Bytes.
type Datagram struct {
	From  netip.AddrPort
	Bytes []byte
	Room  *packet.Room
}

// Conn is a transport whose sources are read by blocking goroutines. Send must not be called concurrently with
// itself; everything else may be called at any time.
type Conn interface {
	// Send sends each datagram to each of its addresses, in order. What cannot be sent now is dropped and counted; what cannot
	// be sent Whole is left out.
	Send([]packet.Send)
	// Sources are the independent places to receive from, each to be read by one goroutine.
	Sources() []Source
	// LocalAddr is the bound address, with the real port.
	LocalAddr() netip.AddrPort
	Stats() *Stats
	// Close ends every Receive with net.ErrClosed.
	Close() error
}

// Source is one place to receive from.
type Source interface {
	// Receive waits for a datagram and copies it into b, which should hold packet.MaxDatagram bytes.
	Receive(b []byte) (int, netip.AddrPort, error)
}

// A homes tells from which of a host's addresses a datagram leaves: networks in the order of the addresses that are in
// them, the main one first. Nil where there is only one address. It remembers its answers; not safe for concurrent use.
type homes struct {
	nets  []netip.Prefix // by socket: the network of its address; invalid if the system does not say
	known map[netip.Addr]int
}

// maxHomes bounds what homes remembers; it forgets all when full.
const maxHomes = 1024

// newHomes finds out the networks of the addresses of c.
func newHomes(c Config) (*homes, error) {
	if len(c.Also) == 0 {
		return nil, nil
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find the networks of %v and %v: %w", c.Bind, c.Also, err)
	}
	var local []netip.Prefix
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			local = append(local, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
		}
	}
	h := &homes{known: map[netip.Addr]int{}}
	for _, b := range append([]netip.AddrPort{c.Bind}, c.Also...) {
		var network netip.Prefix
		for _, p := range local {
			if p.Addr() == b.Addr().WithZone("") {
				network = p.Masked()
			}
		}
		h.nets = append(h.nets, network)
	}
	return h, nil
}

// from is the index of the socket that sends to a: 0 for the main one.
func (h *homes) from(a netip.Addr) int {
	if h == nil {
		return 0
	}
	a = a.WithZone("")
	i, ok := h.known[a]
	if !ok {
		i = max(slices.IndexFunc(h.nets, func(p netip.Prefix) bool { return p.IsValid() && p.Contains(a) }), 0)
		if len(h.known) >= maxHomes {
			clear(h.known)
		}
		h.known[a] = i
	}
	return i
}

// planner decides to which addresses a Send goes. It remembers its last answer, because nearly all ring sends of one
// configuration name the same members. Not safe for concurrent use.
type planner struct {
	groups []Group
	last   []netip.AddrPort // To of the remembered answer
	answer []netip.AddrPort
	nGroup int // how many of answer are groups
}

// destinations is where s goes: its addresses, with each group that reaches two or more of them in their place. A
// group that reaches only one is no gain over the unicast, which works in more networks. The result is borrowed until
// the next call. The second result is the number of groups, which come first.
func (p *planner) destinations(s *packet.Send) ([]netip.AddrPort, int) {
	if !s.Ring || len(p.groups) == 0 || len(s.To) < 2 {
		return s.To, 0
	}
	if slices.Equal(s.To, p.last) {
		return p.answer, p.nGroup
	}
	p.last = append(p.last[:0], s.To...)
	p.answer, p.nGroup = p.answer[:0], 0
	rest := slices.Clone(s.To)
	for _, g := range p.groups {
		reached := func(a netip.AddrPort) bool { return slices.Contains(g.Members, a) }
		n := 0
		for _, a := range rest {
			if reached(a) {
				n++
			}
		}
		if n >= 2 {
			p.answer = append(p.answer, g.Addr)
			p.nGroup++
			rest = slices.DeleteFunc(rest, reached)
		}
	}
	p.answer = append(p.answer, rest...)
	return p.answer, p.nGroup
}
