// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// segmentsPerRun and bytesPerRun bound a run: the kernel's own limits, and so the longest burst that a network card
	// gets in one piece. What a token visit sends in all is bounded by the personal window.
	segmentsPerRun = 64
	bytesPerRun    = 65507
	// maxRefusals bounds the addresses that are remembered to refuse runs; all are forgotten when there are more.
	maxRefusals = 1024
	// datagramsUntilRetry is how many datagrams go one by one to an address that refused a run, until one is tried again:
	// routes change.
	datagramsUntilRetry = 1 << 16
	// probeTime is how long the kernel may take to bring a datagram to a socket of the same process.
	probeTime = 250 * time.Millisecond
)

// run is what a message holds: datagrams to one address, of which all but the last are equally long and the last is not
// longer.
type run struct {
	to     netip.AddrPort
	size   int // of the first datagram
	bytes  int
	n      int
	from   uint8 // index of the socket that sends it
	group  bool
	closed bool // nothing may be added
	whole  bool // one datagram that must not be cut: see sendWhole
}

// takes reports whether a datagram of n bytes to an address may be added.
func (r *run) takes(to netip.AddrPort, n int) bool {
	return !r.closed && n <= r.size && r.n < segmentsPerRun && r.bytes+n <= bytesPerRun && r.to == to
}

// add counts a datagram of n bytes in.
func (r *run) add(n int) {
	r.n++
	r.bytes += n
	r.closed = n < r.size
}

// control is room for the one control message that goes with a run: the length of its datagrams.
type control struct {
	unix.Cmsghdr
	data [8]byte
}

// setSegment writes how long the datagrams of a run to be sent are, and returns the length of the message.
func (c *control) setSegment(size int) int {
	c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	c.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&c.data)) = uint16(size)
	return unix.CmsgSpace(2)
}

// segment is how long the datagrams are that were received as one; zero if there is only one.
func (c *control) segment(h *mmsghdr) int {
	if int(h.Controllen) < unix.CmsgLen(4) || c.Level != unix.SOL_UDP || c.Type != unix.UDP_GRO {
		return 0
	}
	return max(int(*(*int32)(unsafe.Pointer(&c.data))), 0)
}

// refusal is what an address was found to refuse.
type refusal struct {
	size int    // runs of datagrams of this length or longer
	left uint64 // datagrams until it is tried again
}

// refusesRuns reports an error that may be about segmentation rather than about the datagrams: longer than the route's
// largest packet, a device that cannot complete checksums, a kernel without it. Where it is not, each datagram meets the
// error again by itself.
func refusesRuns(errno unix.Errno) bool {
	switch errno {
	case unix.EMSGSIZE, unix.EINVAL, unix.EIO, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		return true
	}
	return false
}

// refuse remembers that a run was refused. Datagrams that are too long for the route say nothing about shorter ones.
func (b *Batch) refuse(r *run, errno unix.Errno) {
	err := fmt.Errorf("%d datagrams of %d bytes to %v at once: %w", r.n, r.size, r.to, errno)
	b.stats.lastRefusal.Store(&err)
	b.stats.RunsRefused.Add(1)
	size := 0
	if errno == unix.EMSGSIZE || errno == unix.EINVAL && r.size > packetAnywhere {
		size = r.size
	}
	if len(b.refused) >= maxRefusals {
		clear(b.refused)
	}
	b.refused[r.to] = refusal{size, datagramsUntilRetry}
}

// packetAnywhere is a length that every route carries in one packet (IPv6 demands 1280 bytes with headers): a shorter one
// is not refused for its length.
const packetAnywhere = 1200

// refuses reports whether an address is known to refuse runs of datagrams of n bytes.
func (b *Batch) refuses(to netip.AddrPort, n int) bool {
	if len(b.refused) == 0 {
		return false
	}
	r, ok := b.refused[to]
	if !ok || n < r.size {
		return false
	}
	if r.left--; r.left == 0 {
		delete(b.refused, to)
		return false
	}
	b.refused[to] = r
	return true
}

// choose decides what the path may use of what the kernel offers.
func (b *Batch) choose(p Path) error {
	b.many = p != PathSingle && manyWorks()
	if p == PathBatch && !b.many {
		return fmt.Errorf("%v: %w", p, ErrPath)
	}
	if p == PathAuto || p == PathSegment {
		err := b.probe()
		if err != nil && p == PathSegment {
			return fmt.Errorf("%v: %w (%w)", p, ErrPath, err)
		}
		b.segment = err == nil
	}
	used := PathSingle
	switch {
	case b.segment:
		used = PathSegment
		for _, fd := range b.fds {
			_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) // without it datagrams come one by one
		}
	case b.many:
		used = PathBatch
	}
	b.stats.path.Store(uint32(used))
	return nil
}

// manyWorks reports whether sendmmsg and recvmmsg exist and may be called. No descriptor is needed to find out.
func manyWorks() bool {
	for _, call := range []uintptr{unix.SYS_SENDMMSG, unix.SYS_RECVMMSG} {
		if _, _, errno := unix.Syscall6(call, ^uintptr(0), 0, 0, 0, 0, 0); errno == unix.ENOSYS || errno == unix.EPERM {
			return false
		}
	}
	return true
}

// probe finds out whether a run goes through the kernel: the option exists, and datagrams that were sent to this host as
// one are received as they should. Where there is no loopback network the option alone has to do.
func (b *Batch) probe() error {
	if _, err := unix.GetsockoptInt(b.fds[0], unix.SOL_UDP, unix.UDP_SEGMENT); err != nil {
		return os.NewSyscallError("getsockopt UDP_SEGMENT", err)
	}
	cfg := Config{Bind: netip.MustParseAddrPort("127.0.0.1:0")}
	if !b.is4 {
		cfg.Bind = netip.MustParseAddrPort("[::1]:0")
	}
	p := &Batch{is4: b.is4, many: b.many, zoneNumber: map[string]uint32{}}
	defer p.Close()
	for range 2 {
		if p.socket(cfg, cfg.Bind, false) != nil {
			return nil
		}
	}
	at, err := unix.Getsockname(p.fds[1])
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	var c control
	n := c.setSegment(probeBytes)
	whole := make([]byte, 2*probeBytes+probeBytes/2)
	for i := range whole {
		whole[i] = byte(i / probeBytes)
	}
	oob := unsafe.Slice((*byte)(unsafe.Pointer(&c)), n)
	switch err := unix.Sendmsg(p.fds[0], whole, oob, at, unix.MSG_DONTWAIT); err {
	case nil:
	case unix.EINVAL, unix.EIO, unix.EMSGSIZE, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		return os.NewSyscallError("sendmsg UDP_SEGMENT", err)
	default:
		return nil // not about segmentation: no route to this host's own address, or a filter
	}
	for rest := whole; len(rest) > 0; {
		if err := readable(p.fds[1]); err != nil {
			return err
		}
		buf := make([]byte, len(whole)+1)
		got, err := unix.Read(p.fds[1], buf)
		want := rest[:min(probeBytes, len(rest))]
		if err != nil || !bytes.Equal(buf[:max(got, 0)], want) {
			return fmt.Errorf("a run came back as a datagram of %d bytes in place of %d (%w)", got, len(want), cmpErr(err))
		}
		rest = rest[len(want):]
	}
	return nil
}

// probeBytes is the length of a probe's datagrams.
const probeBytes = 100

var errContent = errors.New("its content is another one")

func cmpErr(err error) error {
	if err != nil {
		return err
	}
	return errContent
}

// readable waits until something waits at a socket.
func readable(fd int) error {
	for end := time.Now().Add(probeTime); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(time.Until(end), 0)/time.Millisecond))
		switch {
		case n > 0:
			return nil
		case err == nil:
			return errors.New("a run did not come back")
		case err != unix.EINTR:
			return os.NewSyscallError("poll", err)
		}
	}
}
