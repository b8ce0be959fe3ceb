// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"evensong/internal/proto/packet"
)

// memQueue is how many datagrams wait at an endpoint of a Mem; more are dropped, as a kernel would.
const memQueue = 4096

// Mem is a network inside the process. Its zero value is ready. Methods may be called concurrently.
type Mem struct {
	mu        sync.RWMutex
	endpoints map[netip.AddrPort]*MemConn
	drop      func(from, to netip.AddrPort) bool
}

// SetDrop installs a function that decides which datagrams are lost; nil loses none. It is called concurrently.
func (m *Mem) SetDrop(f func(from, to netip.AddrPort) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop = f
}

// Open adds an endpoint. The address may be anything not yet in use.
func (m *Mem) Open(addr netip.AddrPort) (*MemConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.endpoints[addr]; taken {
		return nil, fmt.Errorf("listen %v: address already in use", addr)
	}
	c := &MemConn{net: m, addr: addr, in: make(chan Datagram, memQueue), closed: make(chan struct{})}
	c.stats.path.Store(uint32(PathSingle))
	if m.endpoints == nil {
		m.endpoints = make(map[netip.AddrPort]*MemConn)
	}
	m.endpoints[addr] = c
	return c, nil
}

// MemConn is an endpoint of a Mem.
type MemConn struct {
	net    *Mem
	addr   netip.AddrPort
	in     chan Datagram
	stats  Stats
	once   sync.Once
	closed chan struct{}
}

var _ Conn = (*MemConn)(nil)

// Send implements Conn. Each receiver gets a copy of its own.
func (c *MemConn) Send(sends []packet.Send) {
	c.net.mu.RLock()
	defer c.net.mu.RUnlock()
	for i := range sends {
		for _, to := range sends[i].To {
			c.stats.SendCalls.Add(1)
			peer := c.net.endpoints[to]
			if peer == nil || c.net.drop != nil && c.net.drop(c.addr, to) {
				continue // a network does not tell
			}
			b := append([]byte(nil), sends[i].Bytes...)
			select {
			case peer.in <- Datagram{From: c.addr, Bytes: b}:
				c.stats.DatagramsOut.Add(1)
				c.stats.BytesOut.Add(uint64(len(b)))
			default:
				c.stats.DropsFull.Add(1)
			}
		}
	}
}

// Sources implements Conn: there is one.
func (c *MemConn) Sources() []Source { return []Source{c} }

// Receive implements Source.
func (c *MemConn) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		n := copy(b, d.Bytes)
		c.stats.ReceiveCalls.Add(1)
		c.stats.DatagramsIn.Add(1)
		c.stats.BytesIn.Add(uint64(n))
		return n, d.From, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// LocalAddr implements Conn.
func (c *MemConn) LocalAddr() netip.AddrPort { return c.addr }

// Stats implements Conn.
func (c *MemConn) Stats() *Stats { return &c.stats }

// Close implements Conn and frees the address.
func (c *MemConn) Close() error {
	c.once.Do(func() {
		c.net.mu.Lock()
		delete(c.net.endpoints, c.addr)
		c.net.mu.Unlock()
		close(c.closed)
	})
	return nil
}
