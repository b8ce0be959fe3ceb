// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"evensong/internal/proto/packet"
)

// The net package offers no write that does not wait for room in the socket's buffer, so these are the bounds instead:
// one wait, and how many of them one Send may spend.
const (
	portableSendWait  = time.Millisecond
	portableSendWaits = 5
)

// Portable is a transport on the net package: one system call per datagram, any operating system.
type Portable struct {
	main  *net.UDPConn
	local netip.AddrPort
	is4   bool           // main is an IPv4 socket
	conns []*net.UDPConn // main, one for each further address, then one for each group that needs its own
	homes *homes
	plan  planner
	loss  float64
	stats Stats
}

var _ Conn = (*Portable)(nil)

// OpenPortable binds the sockets of a valid cfg and joins its groups.
func OpenPortable(cfg Config) (*Portable, error) {
	if cfg.Path == PathSegment || cfg.Path == PathBatch {
		return nil, fmt.Errorf("%v: %w", cfg.Path, ErrPath)
	}
	network := "udp4"
	if cfg.Bind.Addr().Is6() {
		network = "udp6"
		if cfg.Bind.Addr().IsUnspecified() {
			network = "udp" // serves IPv4, too
		}
	}
	main, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(cfg.Bind))
	if err != nil {
		return nil, err
	}
	p := &Portable{main: main, is4: cfg.Bind.Addr().Is4(), conns: []*net.UDPConn{main}, plan: planner{groups: cfg.Groups}, loss: cfg.Loss}
	p.stats.path.Store(uint32(PathSingle))
	_ = main.SetWriteDeadline(time.Now().Add(portableSendWait))
	p.local = main.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, a := range cfg.Also {
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(a))
		if err != nil {
			p.Close()
			return nil, err
		}
		_ = c.SetWriteDeadline(time.Now().Add(portableSendWait))
		p.conns = append(p.conns, c)
	}
	if p.homes, err = newHomes(cfg); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.join(cfg); err != nil {
		p.Close()
		return nil, err
	}
	for _, c := range p.conns {
		// The kernel's limit may be lower; then it grants what it allows, or refuses and the default stays.
		_ = c.SetReadBuffer(cfg.bufferBytes())
		_ = c.SetWriteBuffer(cfg.bufferBytes())
	}
	return p, nil
}

// join makes the groups' datagrams arrive, and says how ours leave.
func (p *Portable) join(cfg Config) error {
	if len(cfg.Groups) == 0 {
		return nil
	}
	ifi, err := multicastInterface(cfg)
	if err != nil {
		return err
	}
	p4, p6 := ipv4.NewPacketConn(p.main), ipv6.NewPacketConn(p.main)
	for _, g := range cfg.Groups {
		addr := net.UDPAddrFromAddrPort(g.Addr)
		if g.Addr.Addr().IsMulticast() {
			if p.is4 {
				err = errors.Join(p4.SetMulticastTTL(cfg.ttl()), p4.SetMulticastLoopback(cfg.Loop))
				if ifi != nil {
					err = errors.Join(err, p4.SetMulticastInterface(ifi))
				}
			} else {
				err = errors.Join(p6.SetMulticastHopLimit(cfg.ttl()), p6.SetMulticastLoopback(cfg.Loop))
				if ifi != nil {
					err = errors.Join(err, p6.SetMulticastInterface(ifi))
				}
			}
			if err != nil {
				return fmt.Errorf("prepare to send to group %v: %w", g.Addr, err)
			}
		}
		if !g.Join {
			continue
		}
		switch {
		case cfg.joinsOnMain(g, p.local) && !g.Addr.Addr().IsMulticast():
			// A broadcast reaches a wildcard socket by itself.
		case cfg.joinsOnMain(g, p.local) && p.is4:
			err = p4.JoinGroup(ifi, addr)
		case cfg.joinsOnMain(g, p.local):
			err = p6.JoinGroup(ifi, addr)
		case g.Addr.Addr().IsMulticast():
			network := "udp6"
			if p.is4 {
				network = "udp4"
			}
			// The net package listens on the wildcard address for this; the kernel must let it stand beside the main socket.
			allowNeighbor(p.main)
			var c *net.UDPConn
			if c, err = net.ListenMulticastUDP(network, ifi, addr); err == nil {
				p.conns = append(p.conns, c)
			}
		default:
			var c *net.UDPConn
			if c, err = net.ListenUDP("udp4", addr); err == nil {
				p.conns = append(p.conns, c)
			}
		}
		if err != nil {
			return fmt.Errorf("join group %v: %w", g.Addr, err)
		}
	}
	return nil
}

// multicastInterface is the interface that cfg names, or that has the bound address; nil leaves it to the system.
func multicastInterface(cfg Config) (*net.Interface, error) {
	if cfg.Interface != "" {
		ifi, err := net.InterfaceByName(cfg.Interface)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", cfg.Interface, err)
		}
		return ifi, nil
	}
	if cfg.Bind.Addr().IsUnspecified() {
		return nil, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // the interface went away meanwhile
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			// All of 127/8 is local though the interface lists one address of it.
			if n.IP.Equal(cfg.Bind.Addr().AsSlice()) || n.IP.IsLoopback() && n.Contains(cfg.Bind.Addr().AsSlice()) {
				return &ifi, nil
			}
		}
	}
	return nil, nil
}

// Send implements Conn. Sends that must stay Whole are left out.
func (p *Portable) Send(sends []packet.Send) {
	if len(sends) == 0 {
		return
	}
	waits := portableSendWaits
	for i := range sends {
		s := &sends[i]
		if s.Whole {
			continue
		}
		to, groups := p.plan.destinations(s)
		for j, a := range to {
			p.stats.SendCalls.Add(1)
			c := p.conns[p.homes.from(a.Addr())]
			_, _, err := c.WriteMsgUDPAddrPort(s.Bytes, nil, a)
			for errors.Is(err, os.ErrDeadlineExceeded) && waits > 0 {
				// Usually the deadline of an earlier wait has passed meanwhile, and nothing was tried. On a busy machine the new
				// one may pass before it is looked at, too.
				_ = c.SetWriteDeadline(time.Now().Add(portableSendWait))
				if _, _, err = c.WriteMsgUDPAddrPort(s.Bytes, nil, a); err != nil {
					waits--
				}
			}
			switch {
			case err == nil:
				p.stats.DatagramsOut.Add(1)
				p.stats.BytesOut.Add(uint64(len(s.Bytes)))
				if j < groups {
					p.stats.GroupSends.Add(1)
				}
			case errors.Is(err, os.ErrDeadlineExceeded) || isNoBuffers(err):
				p.stats.DropsFull.Add(1)
			case errors.Is(err, net.ErrClosed):
				return
			default:
				p.stats.dropError(err)
			}
		}
	}
}

// Sources implements Conn: the main socket and one per group that needed its own.
func (p *Portable) Sources() []Source {
	s := make([]Source, len(p.conns))
	for i, c := range p.conns {
		s[i] = &portableSource{c: c, stats: &p.stats, loss: newLossy(p.loss, p.local, i, &p.stats)}
	}
	return s
}

// LocalAddr implements Conn.
func (p *Portable) LocalAddr() netip.AddrPort { return unmap(p.local) }

// Stats implements Conn.
func (p *Portable) Stats() *Stats { return &p.stats }

// Close implements Conn.
func (p *Portable) Close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

type portableSource struct {
	c     *net.UDPConn
	stats *Stats
	loss  *lossy
}

// Receive implements Source. Errors that the network caused (an ICMP answer to something sent before) are passed over.
func (s *portableSource) Receive(b []byte) (int, netip.AddrPort, error) {
	for {
		n, _, _, from, err := s.c.ReadMsgUDPAddrPort(b, nil)
		s.stats.ReceiveCalls.Add(1)
		switch {
		case err == nil && n > 0:
			s.stats.DatagramsIn.Add(1)
			s.stats.BytesIn.Add(uint64(n))
			if s.loss.takes() {
				continue
			}
			return n, unmap(from), nil
		case err == nil:
			// An empty datagram is no packet of ours.
		case isNetworkError(err):
		default:
			return 0, netip.AddrPort{}, err
		}
	}
}

// unmap gives an IPv4 address that came through an IPv6 socket its usual form, so that equal peers compare equal.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
