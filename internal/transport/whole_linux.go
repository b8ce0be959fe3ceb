// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

// cutting is the option of the sockets that says, for one version of IP, whether datagrams may be cut into fragments.
type cutting struct {
	level, option int
	never         int  // its value for what must stay whole, whatever the kernel believes of the path
	usual         int  // what the sockets have when nothing else is asked for
	known         bool // usual was found out
}

// learnCutting asks fd, which stands for all sockets: they are made alike.
func (b *Batch) learnCutting(fd int) {
	b.cut4 = cutting{level: unix.IPPROTO_IP, option: unix.IP_MTU_DISCOVER, never: unix.IP_PMTUDISC_PROBE}
	b.cut6 = cutting{level: unix.IPPROTO_IPV6, option: unix.IPV6_MTU_DISCOVER, never: unix.IPV6_PMTUDISC_PROBE}
	b.cut4.learn(fd)
	if !b.is4 {
		b.cut6.learn(fd)
	}
}

func (c *cutting) learn(fd int) {
	v, err := unix.GetsockoptInt(fd, c.level, c.option)
	c.usual, c.known = v, err == nil
}

func (c *cutting) set(fd, value int) error { return unix.SetsockoptInt(fd, c.level, c.option, value) }

// cuttingTo is the option that counts for an address: an IPv6 socket treats IPv4 addresses as an IPv4 socket would.
func (b *Batch) cuttingTo(a netip.Addr) *cutting {
	if a.Unmap().Is4() {
		return &b.cut4
	}
	return &b.cut6
}

// sendWhole sends a datagram to its addresses so that nothing on the way may cut it, after everything that is staged. The
// kernel has no such option for one message, but for a socket only: it is set for a call of this datagram's own, and what
// follows finds it as usual. There are few such datagrams. That the interface is too small is an answer and no error (push);
// where the option does not exist nothing is sent, because a datagram that was cut would give the wrong answer.
func (b *Batch) sendWhole(s *packet.Send) {
	to, groups := b.plan.destinations(s)
	for k, a := range to {
		b.flush()
		b.stage(a, s.Bytes, k < groups)
		if b.out.staged == 0 {
			continue // empty, or not an address for these sockets, which is counted
		}
		r := &b.out.runs[0]
		r.whole = true
		fd, c := b.fds[r.from], b.cuttingTo(a.Addr())
		if !c.known || c.set(fd, c.never) != nil {
			b.out.staged, b.out.used = 0, 0
			continue
		}
		b.flush()
		_ = c.set(fd, c.usual) // the kernel takes back what it has told
	}
}
