// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

const (
	// batchIn is how many datagrams one receive call takes. More would only lengthen the time until the token that
	// may be among them is passed on.
	batchIn = 32
	// batchOut is how many datagrams one send call takes: a token visit's packets, usually.
	batchOut = 64
	// slotBytes is the room for one datagram, a little more than packet.MaxDatagram. Pages that small datagrams never
	// touch stay unallocated.
	slotBytes = 64 << 10
	// scopedAddrs bounds the memory of addresses with a zone.
	scopedAddrs = 256
)

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes received or sent
}

// Batch is a transport that moves many datagrams with one system call (recvmmsg, sendmmsg) on raw sockets that never
// block. One goroutine owns it, except for Stats. It allocates nothing per packet.
//
// Sends are staged as a list of (address, bytes) and flushed as one call; that list is where a run of equally long
// packets to one address could become one segmented send (UDP_SEGMENT). Receive returns a list of datagrams that is
// longer than the list of slots as soon as a slot holds several (UDP_GRO).
type Batch struct {
	fds   []int // the main socket, one for each further address, then one for each group that needs its own
	is4   bool
	local netip.AddrPort
	homes *homes
	plan  planner
	stats Stats

	in struct {
		hdrs  [batchIn]mmsghdr
		iovs  [batchIn]unix.Iovec
		names [batchIn]unix.RawSockaddrInet6 // holds either family
		slots []byte
		out   [batchIn]Datagram
	}
	out struct {
		hdrs   [batchOut]mmsghdr
		iovs   [batchOut]unix.Iovec
		names  [batchOut]unix.RawSockaddrInet6
		group  [batchOut]bool
		from   [batchOut]uint8 // index of the socket that sends it
		staged int
	}

	// Turning a raw address into a netip.AddrPort and back is a handful of moves, except for zones, which are names in
	// the one and interface numbers in the other. These are remembered.
	zoneNames  map[uint32]string
	zoneNumber map[string]uint32
}

// OpenBatch binds the sockets of a valid cfg and joins its groups.
func OpenBatch(cfg Config) (*Batch, error) {
	b := &Batch{is4: cfg.Bind.Addr().Is4(), plan: planner{groups: cfg.Groups}, zoneNames: make(map[uint32]string), zoneNumber: make(map[string]uint32)}
	if err := b.open(cfg); err != nil {
		b.Close()
		return nil, err
	}
	b.in.slots = make([]byte, batchIn*slotBytes)
	for i := range b.in.hdrs {
		h := &b.in.hdrs[i]
		b.in.iovs[i].Base = &b.in.slots[i*slotBytes]
		b.in.iovs[i].SetLen(slotBytes)
		h.Name = (*byte)(unsafe.Pointer(&b.in.names[i]))
		h.Iov = &b.in.iovs[i]
		h.SetIovlen(1)
	}
	for i := range b.out.hdrs {
		h := &b.out.hdrs[i]
		h.Name = (*byte)(unsafe.Pointer(&b.out.names[i]))
		h.Iov = &b.out.iovs[i]
		h.SetIovlen(1)
	}
	return b, nil
}

func (b *Batch) open(cfg Config) error {
	if err := b.socket(cfg, cfg.Bind, false); err != nil {
		return fmt.Errorf("listen udp %v: %w", cfg.Bind, err)
	}
	main := b.fds[0]
	for _, a := range cfg.Also {
		if err := b.socket(cfg, a, false); err != nil {
			return fmt.Errorf("listen udp %v: %w", a, err)
		}
	}
	var err error
	if b.homes, err = newHomes(cfg); err != nil {
		return err
	}
	sa, err := unix.Getsockname(main)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		b.local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		b.local = netip.AddrPortFrom(cfg.Bind.Addr(), uint16(sa.Port))
	}
	if v, err := unix.GetsockoptInt(main, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		b.stats.ReceiveBuffer.Store(int64(v))
	}
	if v, err := unix.GetsockoptInt(main, unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil {
		b.stats.SendBuffer.Store(int64(v))
	}
	if len(cfg.Groups) == 0 {
		return nil
	}
	ifi, err := multicastInterface(cfg)
	if err != nil {
		return err
	}
	index := 0
	if ifi != nil {
		index = ifi.Index
	}
	for _, g := range cfg.Groups {
		if err := b.prepareSend(cfg, g, index); err != nil {
			return fmt.Errorf("prepare to send to group %v: %w", g.Addr, err)
		}
		if !g.Join {
			continue
		}
		fd := main
		if !cfg.joinsOnMain(g, b.local) {
			if err := b.socket(cfg, g.Addr, true); err != nil {
				return fmt.Errorf("listen udp %v: %w", g.Addr, err)
			}
			fd = b.fds[len(b.fds)-1]
		}
		if err := join(fd, g.Addr.Addr(), index); err != nil {
			return fmt.Errorf("join group %v: %w", g.Addr, err)
		}
	}
	return nil
}

// socket adds a socket bound to addr. shared lets other daemons of this host bind the same group address; the main
// socket must not be shared, or a second daemon would silently take half of the first one's datagrams.
func (b *Batch) socket(cfg Config, addr netip.AddrPort, shared bool) error {
	family := unix.AF_INET6
	if b.is4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	b.fds = append(b.fds, fd)
	if family == unix.AF_INET6 {
		only := 1
		if addr.Addr().IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil && only == 1 {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
		}
	}
	// Only what this socket itself joined shall arrive here, not what other programs on this host joined.
	if b.is4 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	}
	bufferOption(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, cfg.bufferBytes())
	bufferOption(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, cfg.bufferBytes())
	var sa unix.Sockaddr
	if b.is4 {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		zone, err := b.zone(addr.Addr().Zone())
		if err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: zone}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// bufferOption asks for a buffer of n bytes: past the system's limit where this process may, else up to it.
func bufferOption(fd, force, plain, n int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, n) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, n)
	}
}

// prepareSend sets on the main socket how datagrams to g leave.
func (b *Batch) prepareSend(cfg Config, g Group, index int) error {
	fd := b.fds[0]
	loop := 0
	if cfg.Loop {
		loop = 1
	}
	switch {
	case !g.Addr.Addr().IsMulticast():
		return os.NewSyscallError("setsockopt SO_BROADCAST", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
	case b.is4:
		return errors.Join(
			os.NewSyscallError("setsockopt IP_MULTICAST_IF", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)})),
			os.NewSyscallError("setsockopt IP_MULTICAST_TTL", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, cfg.ttl())),
			os.NewSyscallError("setsockopt IP_MULTICAST_LOOP", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, loop)))
	default:
		return errors.Join(
			os.NewSyscallError("setsockopt IPV6_MULTICAST_IF", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)),
			os.NewSyscallError("setsockopt IPV6_MULTICAST_HOPS", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, cfg.ttl())),
			os.NewSyscallError("setsockopt IPV6_MULTICAST_LOOP", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, loop)))
	}
}

// join makes datagrams to the multicast address arrive at fd. A broadcast address needs no joining.
func join(fd int, group netip.Addr, index int) error {
	switch {
	case !group.IsMulticast():
		return nil
	case group.Is4():
		return os.NewSyscallError("setsockopt IP_ADD_MEMBERSHIP",
			unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)}))
	default:
		return os.NewSyscallError("setsockopt IPV6_JOIN_GROUP",
			unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)}))
	}
}

// FDs are the sockets to wait on, for their index in Receive. The slice must not be changed.
func (b *Batch) FDs() []int { return b.fds }

// LocalAddr is the bound address, with the real port.
func (b *Batch) LocalAddr() netip.AddrPort { return b.local }

// Stats may be read by any goroutine.
func (b *Batch) Stats() *Stats { return &b.stats }

// Close closes the sockets.
func (b *Batch) Close() error {
	var errs []error
	for _, fd := range b.fds {
		errs = append(errs, unix.Close(fd))
	}
	b.fds = nil
	return errors.Join(errs...)
}

// Full reports whether n datagrams are all that one Receive could give, so that more may be waiting.
func (b *Batch) Full(n int) bool { return n >= batchIn }

// Receive returns the datagrams that wait at socket i now, at most a batch, in the order of their arrival; none if
// none wait. The result is borrowed until the next Receive.
func (b *Batch) Receive(i int) ([]Datagram, error) {
	for j := range b.in.hdrs {
		b.in.hdrs[j].Namelen = uint32(unsafe.Sizeof(b.in.names[j]))
	}
	var n int
	for tries := 0; ; tries++ {
		b.stats.ReceiveCalls.Add(1)
		r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(b.fds[i]), uintptr(unsafe.Pointer(&b.in.hdrs[0])), batchIn, unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			n = int(r)
			break
		}
		switch errno {
		case unix.EAGAIN:
			return nil, nil
		case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.EINVAL:
			return nil, os.NewSyscallError("recvmmsg", errno)
		}
		// What is left are interruptions and the network's opinion on something sent earlier. Each is reported once;
		// the bound is against a network that answers as quickly as we ask.
		if tries == batchIn {
			return nil, nil
		}
	}
	out := b.in.out[:0]
	var bytes uint64
	for j := range n {
		h := &b.in.hdrs[j]
		if h.Flags&unix.MSG_TRUNC != 0 {
			b.stats.DropsTruncated.Add(1)
			continue
		}
		from := b.parse(&b.in.names[j])
		if h.n == 0 || !from.IsValid() {
			continue // an empty datagram is no packet of ours
		}
		bytes += uint64(h.n)
		at := j * slotBytes
		out = append(out, Datagram{From: from, Bytes: b.in.slots[at : at+int(h.n) : at+int(h.n)]})
	}
	b.stats.DatagramsIn.Add(uint64(len(out)))
	b.stats.BytesIn.Add(bytes)
	return out, nil
}

// Send performs sends in order with as few calls as possible. It never waits.
func (b *Batch) Send(sends []packet.Send) {
	for i := range sends {
		s := &sends[i]
		to, groups := b.plan.destinations(s)
		for j, a := range to {
			b.stage(a, s.Bytes, j < groups)
		}
	}
	b.flush()
	runtime.KeepAlive(sends)
}

// stage appends one datagram to what the next flush sends.
func (b *Batch) stage(to netip.AddrPort, p []byte, group bool) {
	if len(p) == 0 {
		return
	}
	if b.out.staged == batchOut {
		b.flush()
	}
	k := b.out.staged
	n, err := b.format(&b.out.names[k], to)
	if err != nil {
		b.stats.dropError(err)
		return
	}
	b.out.hdrs[k].Namelen = n
	b.out.iovs[k].Base = &p[0]
	b.out.iovs[k].SetLen(len(p))
	b.out.group[k] = group
	b.out.from[k] = uint8(b.homes.from(to.Addr()))
	b.out.staged++
}

// flush sends what is staged. A datagram that the kernel refuses is dropped and the rest goes on: a small token may
// still find room where a large packet did not.
func (b *Batch) flush() {
	n := b.out.staged
	b.out.staged = 0
	refused := 0
	for at := 0; at < n; {
		end := n
		if b.homes != nil { // a run that leaves by one socket
			for end = at + 1; end < n && b.out.from[end] == b.out.from[at]; end++ {
			}
		}
		b.stats.SendCalls.Add(1)
		r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.fds[b.out.from[at]]), uintptr(unsafe.Pointer(&b.out.hdrs[at])), uintptr(end-at), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			b.sent(at, at+int(r))
			at += int(r)
			refused = 0
			continue
		}
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.ECONNREFUSED && refused < 2:
			refused++ // an ICMP answer to an earlier datagram; reporting it took the place of sending this one
			continue
		case errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM:
			b.stats.DropsFull.Add(1)
		default:
			b.stats.dropError(os.NewSyscallError("sendmmsg", errno))
		}
		refused = 0
		at++
	}
}

func (b *Batch) sent(from, to int) {
	var bytes, groups uint64
	for k := from; k < to; k++ {
		bytes += uint64(b.out.iovs[k].Len)
		if b.out.group[k] {
			groups++
		}
	}
	b.stats.DatagramsOut.Add(uint64(to - from))
	b.stats.BytesOut.Add(bytes)
	if groups > 0 {
		b.stats.GroupSends.Add(groups)
	}
}

// parse turns the kernel's address into ours. An unknown family gives the invalid address.
func (b *Batch) parse(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	case unix.AF_INET6:
		a := netip.AddrFrom16(sa.Addr)
		if a.Is4In6() {
			return netip.AddrPortFrom(a.Unmap(), port)
		}
		if sa.Scope_id != 0 {
			a = a.WithZone(b.zoneName(sa.Scope_id))
		}
		return netip.AddrPortFrom(a, port)
	}
	return netip.AddrPort{}
}

// format turns our address into the kernel's and returns its length.
func (b *Batch) format(sa *unix.RawSockaddrInet6, to netip.AddrPort) (uint32, error) {
	a := to.Addr()
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
	if b.is4 {
		a = a.Unmap()
		if !a.Is4() {
			return 0, fmt.Errorf("send to %v: an IPv6 address, and the socket %v is IPv4", to, b.local)
		}
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		sa4.Family = unix.AF_INET
		sa4.Addr = a.As4()
		return unix.SizeofSockaddrInet4, nil
	}
	if !a.IsValid() {
		return 0, fmt.Errorf("send to %v: no address", to)
	}
	sa.Family = unix.AF_INET6
	sa.Addr = a.As16() // maps IPv4
	sa.Scope_id = 0
	if z := a.Zone(); z != "" {
		var err error
		if sa.Scope_id, err = b.zone(z); err != nil {
			return 0, err
		}
	}
	return unix.SizeofSockaddrInet6, nil
}

// zone is the interface number of a zone's name.
func (b *Batch) zone(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if n, ok := b.zoneNumber[name]; ok {
		return n, nil
	}
	var number uint32
	if ifi, err := net.InterfaceByName(name); err == nil {
		number = uint32(ifi.Index)
	} else if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		number = uint32(n)
	} else {
		return 0, fmt.Errorf("zone %q: no such interface", name)
	}
	if len(b.zoneNumber) >= scopedAddrs {
		clear(b.zoneNumber)
	}
	b.zoneNumber[name] = number
	return number, nil
}

// zoneName is the name of an interface number.
func (b *Batch) zoneName(number uint32) string {
	if s, ok := b.zoneNames[number]; ok {
		return s
	}
	s := strconv.FormatUint(uint64(number), 10)
	if ifi, err := net.InterfaceByIndex(int(number)); err == nil {
		s = ifi.Name
	}
	if len(b.zoneNames) >= scopedAddrs {
		clear(b.zoneNames)
	}
	b.zoneNames[number] = s
	return s
}
