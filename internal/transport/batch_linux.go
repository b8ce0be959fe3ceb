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
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

const (
	// batchIn is how many datagrams one receive call takes. More would only lengthen the time until the token that
	// may be among them is passed on.
	batchIn = 32
	// batchOut is how many messages one send call takes: a token visit's packets, usually. With segmentation a message is
	// a run of datagrams; iovsOut bounds the datagrams of all.
	batchOut = 64
	iovsOut  = 4 * batchOut
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
// Sends are staged as a list of messages and flushed as one call. Where the kernel offers segmentation (UDP_SEGMENT) a
// message is a run of datagrams to one address, which passes through the kernel as if it were one; and a receive slot may
// hold several datagrams (UDP_GRO). What the kernel does not offer is found at the start, what a route does not carry
// when it refuses the first run.
type Batch struct {
	fds     []int // the main socket, one for each further address, then one for each group that needs its own
	is4     bool
	many    bool // sendmmsg and recvmmsg exist and are allowed
	segment bool // runs are sent with UDP_SEGMENT
	local   netip.AddrPort
	homes   *homes
	plan    planner
	stats   Stats
	loss    *lossy

	cut4, cut6 cutting // whether datagrams to IPv4 and to IPv6 addresses may be cut

	in struct {
		hdrs     [batchIn]mmsghdr
		iovs     [batchIn]unix.Iovec
		names    [batchIn]unix.RawSockaddrInet6 // holds either family
		controls [batchIn]control
		rooms    [batchIn]*packet.Room // what iovs says
		slots    slots
		used     int // of rooms, by the last receive
		out      []Datagram
		full     bool // the last receive filled all slots
	}
	out struct {
		hdrs     [batchOut]mmsghdr
		names    [batchOut]unix.RawSockaddrInet6
		controls [batchOut]control
		runs     [batchOut]run
		staged   int // messages
		iovs     [iovsOut]unix.Iovec
		used     int                     // of iovs
		single   [segmentsPerRun]mmsghdr // the datagrams of a run that was refused, and what they are
		alone    [segmentsPerRun]run
	}
	refused map[netip.AddrPort]refusal

	// Turning a raw address into a netip.AddrPort and back is a handful of moves, except for zones, which are names in
	// the one and interface numbers in the other. These are remembered.
	zoneNames  map[uint32]string
	zoneNumber map[string]uint32
}

// OpenBatch binds the sockets of a valid cfg and joins its groups.
func OpenBatch(cfg Config) (*Batch, error) {
	b := &Batch{is4: cfg.Bind.Addr().Is4(), many: true, refused: make(map[netip.AddrPort]refusal), plan: planner{groups: cfg.Groups}, zoneNames: make(map[uint32]string), zoneNumber: make(map[string]uint32)}
	if err := b.open(cfg); err != nil {
		b.Close()
		return nil, err
	}
	if err := b.choose(cfg.Path); err != nil {
		b.Close()
		return nil, err
	}
	b.loss = newLossy(cfg.Loss, b.local, 0, &b.stats)
	b.in.out = make([]Datagram, 0, batchIn)
	for i := range b.in.hdrs {
		h := &b.in.hdrs[i]
		b.in.rooms[i] = b.in.slots.get()
		b.in.iovs[i].Base = &b.in.rooms[i].Bytes[0]
		b.in.iovs[i].SetLen(slotBytes)
		h.Name = (*byte)(unsafe.Pointer(&b.in.names[i]))
		h.Iov = &b.in.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&b.in.controls[i]))
	}
	for i := range b.out.hdrs {
		b.out.hdrs[i].Name = (*byte)(unsafe.Pointer(&b.out.names[i]))
	}
	return b, nil
}

func (b *Batch) open(cfg Config) error {
	if err := b.socket(cfg, cfg.Bind, false); err != nil {
		return fmt.Errorf("listen udp %v: %w", cfg.Bind, err)
	}
	main := b.fds[0]
	b.learnCutting(main)
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

// Full reports whether the last Receive took all that one can take, so that more may be waiting.
func (b *Batch) Full() bool { return b.in.full }

// Receive returns the datagrams that wait at socket i now, at most a batch of slots, in the order of their arrival; none
// if none wait. The result is borrowed until the next Receive, but for what is kept in a Room.
func (b *Batch) Receive(i int) ([]Datagram, error) {
	for j := range b.in.hdrs {
		h := &b.in.hdrs[j]
		h.Namelen = uint32(unsafe.Sizeof(b.in.names[j]))
		h.SetControllen(int(unsafe.Sizeof(b.in.controls[j])))
	}
	for j := range b.in.used {
		if r := b.in.slots.replace(b.in.rooms[j]); r != b.in.rooms[j] {
			b.in.rooms[j] = r
			b.in.iovs[j].Base = &r.Bytes[0]
		}
	}
	b.in.slots.tick()
	b.in.full, b.in.used = false, 0
	var n int
	for tries := 0; ; tries++ {
		var errno unix.Errno
		if n, errno = b.recvmmsg(b.fds[i]); errno == 0 {
			break
		}
		switch errno {
		case unix.EAGAIN:
			return nil, nil
		case unix.ENOSYS, unix.EPERM: // a filter of system calls that came later than the start, and knows only the older ones
			if !b.many {
				return nil, os.NewSyscallError("recvmsg", errno)
			}
			b.many = false
			continue
		case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.EINVAL:
			return nil, os.NewSyscallError("recvmmsg", errno)
		}
		// What is left are interruptions and the network's opinion on something sent earlier. Each is reported once;
		// the bound is against a network that answers as quickly as we ask.
		if tries == batchIn {
			return nil, nil
		}
	}
	b.in.full, b.in.used = n == batchIn, n
	lend := mostOut - b.in.slots.out // how many slots
	out := b.in.out[:0]
	var bytes, runs, inRuns uint64
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
		slot, end := b.in.rooms[j].Bytes, int(h.n)
		var room *packet.Room
		if end >= leastLent && lend > 0 {
			room = b.in.rooms[j]
			lend--
		}
		size := b.in.controls[j].segment(h)
		if size == 0 || size >= end {
			out = append(out, Datagram{From: from, Bytes: slot[:end:end], Room: room})
			continue
		}
		runs++
		for at := 0; at < end; at += size {
			to := min(at+size, end)
			out = append(out, Datagram{From: from, Bytes: slot[at:to:to], Room: room})
			inRuns++
		}
	}
	b.in.out = out
	b.stats.DatagramsIn.Add(uint64(len(out)))
	b.stats.BytesIn.Add(bytes)
	if runs > 0 {
		b.stats.RunsIn.Add(runs)
		b.stats.RunDatagramsIn.Add(inRuns)
	}
	return b.loss.thin(out), nil
}

// recvmmsg fills slots with what waits at fd, and returns how many.
func (b *Batch) recvmmsg(fd int) (int, unix.Errno) {
	if b.many {
		b.stats.ReceiveCalls.Add(1)
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in.hdrs[0])), batchIn, unix.MSG_DONTWAIT, 0, 0)
		return int(r), errno
	}
	for j := range b.in.hdrs {
		b.stats.ReceiveCalls.Add(1)
		r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in.hdrs[j].Msghdr)), unix.MSG_DONTWAIT)
		if errno != 0 {
			if j > 0 {
				errno = 0
			}
			return j, errno
		}
		b.in.hdrs[j].n = uint32(r)
	}
	return batchIn, 0
}

// Send performs sends with as few calls as possible, in the order described with the package. It never waits.
func (b *Batch) Send(sends []packet.Send) {
	for i := 0; i < len(sends); { // a block of sends to the same addresses
		if sends[i].Whole {
			b.sendWhole(&sends[i])
			i++
			continue
		}
		to, groups := b.plan.destinations(&sends[i])
		n := 1
		if b.segment && len(to) > 0 {
			for i+n < len(sends) && !sends[i+n].Whole && sends[i+n].Ring == sends[i].Ring && slices.Equal(sends[i+n].To, sends[i].To) {
				n++
			}
		}
		// What follows to one of these addresses alone, a token, may join the run that goes there if that is the last.
		last := len(to) - 1
		if b.segment && last > 0 && i+n < len(sends) {
			if next := &sends[i+n]; len(next.To) == 1 {
				if k := slices.Index(to, next.To[0]); k >= groups {
					last = k
				}
			}
		}
		for k := range to {
			if k != last {
				b.stageAll(to[k], sends[i:i+n], k < groups)
			}
		}
		if last >= 0 {
			b.stageAll(to[last], sends[i:i+n], last < groups)
		}
		i += n
	}
	b.flush()
	runtime.KeepAlive(sends)
}

func (b *Batch) stageAll(to netip.AddrPort, sends []packet.Send, group bool) {
	for i := range sends {
		b.stage(to, sends[i].Bytes, group)
	}
}

// stage appends one datagram to what the next flush sends.
func (b *Batch) stage(to netip.AddrPort, p []byte, group bool) {
	if len(p) == 0 {
		return
	}
	if b.out.used == iovsOut {
		b.flush()
	}
	if k := b.out.staged - 1; k >= 0 && b.out.runs[k].takes(to, len(p)) {
		b.put(p)
		b.out.runs[k].add(len(p))
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
	h := &b.out.hdrs[k]
	h.Namelen = n
	h.Iov = &b.out.iovs[b.out.used]
	b.put(p)
	b.out.runs[k] = run{to: to, from: uint8(b.homes.from(to.Addr())), group: group, size: len(p), bytes: len(p), n: 1, closed: !b.segment || b.refuses(to, len(p))}
	b.out.staged++
}

func (b *Batch) put(p []byte) {
	v := &b.out.iovs[b.out.used]
	v.Base = &p[0]
	v.SetLen(len(p))
	b.out.used++
}

// flush sends what is staged.
func (b *Batch) flush() {
	n := b.out.staged
	b.out.staged, b.out.used = 0, 0
	for k := range n {
		h, r := &b.out.hdrs[k], &b.out.runs[k]
		h.SetIovlen(r.n)
		if r.n == 1 {
			h.Control = nil
			h.SetControllen(0)
			continue
		}
		h.Control = (*byte)(unsafe.Pointer(&b.out.controls[k]))
		h.SetControllen(b.out.controls[k].setSegment(r.size))
	}
	b.push(b.out.hdrs[:n], b.out.runs[:n])
}

// push sends messages, of which runs says what they are. A datagram that the kernel refuses is dropped and the rest goes
// on: a small token may still find room where a large packet did not. Of a run that it refuses only the form is given up.
func (b *Batch) push(hdrs []mmsghdr, runs []run) {
	refused := 0
	for at := 0; at < len(hdrs); {
		end := len(hdrs)
		if b.homes != nil { // those that leave by one socket
			for end = at + 1; end < len(hdrs) && runs[end].from == runs[at].from; end++ {
			}
		}
		n, errno := b.sendmmsg(b.fds[runs[at].from], hdrs[at:end])
		if errno == 0 {
			b.sent(runs[at : at+n])
			at += n
			refused = 0
			continue
		}
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.ECONNREFUSED && refused < 2:
			refused++ // an ICMP answer to an earlier datagram; reporting it took the place of sending this one
			continue
		case errno == unix.ENOSYS && b.many:
			b.many = false
			continue
		case errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM:
			b.stats.DropsFull.Add(uint64(runs[at].n))
		case errno == unix.EMSGSIZE && runs[at].whole: // that is the answer
		case runs[at].n > 1 && refusesRuns(errno):
			b.refuse(&runs[at], errno)
			b.pushAlone(&hdrs[at], &runs[at])
		default:
			for range runs[at].n {
				b.stats.dropError(os.NewSyscallError("sendmmsg", errno))
			}
		}
		refused = 0
		at++
	}
}

// pushAlone sends the datagrams of a run one by one.
func (b *Batch) pushAlone(h *mmsghdr, r *run) {
	iovs := unsafe.Slice(h.Iov, r.n)
	for i := range iovs {
		s := &b.out.single[i]
		s.Msghdr = unix.Msghdr{Name: h.Name, Namelen: h.Namelen, Iov: &iovs[i]}
		s.SetIovlen(1)
		b.out.alone[i] = run{from: r.from, group: r.group, bytes: int(iovs[i].Len), n: 1}
	}
	b.push(b.out.single[:r.n], b.out.alone[:r.n])
}

// sendmmsg sends the first messages of hdrs, and returns how many.
func (b *Batch) sendmmsg(fd int, hdrs []mmsghdr) (int, unix.Errno) {
	b.stats.SendCalls.Add(1)
	if b.many {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
		return int(r), errno
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0].Msghdr)), unix.MSG_DONTWAIT)
	return 1, errno
}

// sent counts what went out.
func (b *Batch) sent(rs []run) {
	var datagrams, bytes, groups, runs, inRuns uint64
	for i := range rs {
		r := &rs[i]
		datagrams += uint64(r.n)
		bytes += uint64(r.bytes)
		if r.group {
			groups += uint64(r.n)
		}
		if r.n > 1 {
			runs++
			inRuns += uint64(r.n)
		}
	}
	b.stats.DatagramsOut.Add(datagrams)
	b.stats.BytesOut.Add(bytes)
	if groups > 0 {
		b.stats.GroupSends.Add(groups)
	}
	if runs > 0 {
		b.stats.RunsOut.Add(runs)
		b.stats.RunDatagramsOut.Add(inRuns)
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
