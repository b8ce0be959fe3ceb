// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"evensong/internal/tools/amount"
)

// What the original does, and what is used where nothing is said.
const (
	DefaultPort     = 4444
	DefaultBurst    = 100
	DefaultInterval = 10 * time.Millisecond
	DefaultCount    = 10000
	DefaultBytes    = 1024
	// goodbyes is how often the end is said, because it may be lost like any packet.
	goodbyes = 10
)

// Sending is what the sender does.
type Sending struct {
	// To is where the packets go; it may be a multicast group.
	To netip.AddrPort
	// From is the local address to send from, and for multicast the interface. The zero value leaves it to the system.
	From netip.Addr
	// Packets in all, of so many bytes, in bursts with a pause between two of them.
	Count, Bytes, Burst int
	Interval            time.Duration
	// Progress, if not nil, is called after each burst.
	Progress func(sent int)
}

// Validate reports what cannot be.
func (s *Sending) Validate() error {
	var errs []error
	check := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	check(s.To.IsValid() && s.To.Port() != 0, "an address with a port is needed to send to")
	check(s.Count >= 1 && s.Count <= MaxCount, "%d packets: want 1 to %d", s.Count, MaxCount)
	check(s.Bytes >= MinBytes && s.Bytes <= MaxBytes, "packets of %d bytes: want %d to %d", s.Bytes, MinBytes, MaxBytes)
	check(s.Burst >= 1, "bursts of %d packets: want at least 1", s.Burst)
	check(s.Interval >= 0, "an interval of %v: want at least 0", s.Interval)
	return errors.Join(errs...)
}

// Sent is what a sender did.
type Sent struct {
	To      string  `json:"to"`
	Packets int     `json:"packets"`
	Bytes   int     `json:"packet_bytes"`
	Failed  int     `json:"failed"` // writes that the system refused, for example because nobody listens there
	Error   string  `json:"last_error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Run sends. Packets that the system does not take are counted, with the last reason, and do not end the run.
func (s *Sending) Run(ctx context.Context) (*Sent, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var local *net.UDPAddr
	if s.From.IsValid() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.From, 0))
	}
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(s.To))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if s.From.IsValid() && s.To.Addr().IsMulticast() {
		if err := multicastFrom(conn, s.From, s.To.Addr()); err != nil {
			return nil, fmt.Errorf("send to %v through the interface of %v: %w", s.To.Addr(), s.From, err)
		}
	}
	r := &Sent{To: s.To.String(), Bytes: s.Bytes}
	start := time.Now()
	buf := make([]byte, s.Bytes)
	p := packet{run: rand.Uint64(), total: uint64(s.Count)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	pause := func() error {
		timer.Reset(s.Interval)
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for n := 1; n <= s.Count; n++ {
		p.number = uint64(n)
		p.encode(buf)
		if _, err := conn.Write(buf); err != nil {
			r.Failed++
			r.Error = err.Error()
		}
		r.Packets++
		if n%s.Burst == 0 || n == s.Count {
			if s.Progress != nil {
				s.Progress(n)
			}
			if err := pause(); err != nil {
				break
			}
		}
	}
	r.Seconds = time.Since(start).Seconds()
	p.number = p.total + 1
	p.encode(buf[:MinBytes])
	for range goodbyes {
		conn.Write(buf[:MinBytes])
		if pause() != nil {
			break
		}
	}
	return r, ctx.Err()
}

// Write prints it for people.
func (r *Sent) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "sent %s of %s to %s in %.3f s\n", amount.Of(r.Packets, "packet"), amount.Of(r.Bytes, "byte"), r.To, r.Seconds)
	if err == nil && r.Failed > 0 {
		_, err = fmt.Fprintf(w, "%d of them were refused by the system: %s\n", r.Failed, r.Error)
	}
	return err
}

// Receiving is what the receiver does.
type Receiving struct {
	// At is where it listens. A zero port lets the system choose. An invalid address means all.
	At netip.AddrPort
	// Group, if valid, is a multicast group to join on Interface; empty leaves the choice to the system.
	Group     netip.Addr
	Interface string
	// Idle ends a run whose sender has fallen silent; zero means never. The first packet is waited for without end.
	Idle time.Duration
	// Listening, if not nil, is called with the address when packets can come.
	Listening func(at net.Addr)
	// Progress, if not nil, is called a few times per second while packets come.
	Progress func(r *Received)
	// Packet, if not nil, is called for each packet: the original's display.
	Packet func(from netip.AddrPort, number, total uint64, bytes int)
}

// Received is what arrived.
type Received struct {
	From      string  `json:"from"`
	Total     uint64  `json:"total"`
	Received  uint64  `json:"received"`
	Missed    uint64  `json:"missed"`
	Corrupted uint64  `json:"corrupted"`
	Foreign   uint64  `json:"foreign"` // packets of others
	Duplicate uint64  `json:"duplicate"`
	Reordered uint64  `json:"reordered"`
	Bytes     uint64  `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	Ended     bool    `json:"ended"` // the sender said that this was all
}

// Run receives one run of a sender, the first that it hears; packets of others count as foreign. The end of ctx ends it
// with what has come so far and no error.
func (r *Receiving) Run(ctx context.Context) (*Received, error) {
	conn, err := r.listen()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if r.Listening != nil {
		r.Listening(conn.LocalAddr())
	}
	var t tally
	var run uint64
	var first, last, shown time.Time
	res := &Received{}
	fill := func() {
		res.Total, res.Received, res.Duplicate, res.Reordered = t.total, t.received, t.duplicate, t.reordered
		res.Missed, res.Seconds = t.missed(res.Ended), last.Sub(first).Seconds()
	}
	buf := make([]byte, MaxBytes+1)
	for !res.Ended {
		if r.Idle > 0 && !first.IsZero() && ctx.Err() == nil {
			conn.SetReadDeadline(time.Now().Add(r.Idle))
			if ctx.Err() != nil {
				conn.SetReadDeadline(time.Unix(1, 0)) // the end of ctx came in between
			}
		}
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			fill()
			return res, nil
		case err != nil && n == 0 && !errors.Is(err, net.ErrClosed):
			// Some systems report here what became of an earlier packet, or that one was larger than the buffer.
			res.Corrupted++
			if res.Corrupted > MaxCount {
				return res, err
			}
			continue
		case err != nil:
			return res, err
		}
		p, err := decode(buf[:n])
		switch {
		case errors.Is(err, errCorrupt):
			res.Corrupted++
			continue
		case err != nil || !first.IsZero() && p.run != run:
			res.Foreign++
			continue
		case first.IsZero() && p.last():
			continue // the goodbyes of a run that was over before this one began
		}
		last = time.Now()
		if first.IsZero() {
			first, shown, run, t.total = last, last, p.run, p.total
			res.From = from.String()
		}
		if p.total != t.total {
			res.Foreign++
			continue
		}
		if p.last() {
			res.Ended = true
			continue
		}
		if r.Packet != nil {
			r.Packet(from, p.number, p.total, n)
		}
		res.Bytes += uint64(n)
		t.note(p)
		if r.Progress != nil && last.Sub(shown) > 200*time.Millisecond {
			shown = last
			fill()
			r.Progress(res)
		}
	}
	fill()
	return res, nil
}

func (r *Receiving) listen() (*net.UDPConn, error) {
	if !r.Group.IsValid() {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(r.At))
	}
	var ifi *net.Interface
	if r.Interface != "" {
		var err error
		if ifi, err = findInterface(r.Interface); err != nil {
			return nil, err
		}
	}
	conn, err := net.ListenMulticastUDP("udp", ifi, net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Group, r.At.Port())))
	if err != nil {
		return nil, fmt.Errorf("join the multicast group %v: %w", r.Group, err)
	}
	return conn, nil
}

// findInterface takes the name of an interface, or one of its addresses.
func findInterface(s string) (*net.Interface, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return net.InterfaceByName(s)
	}
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, ifi := range list {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr.Unmap() {
				return &ifi, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface of this machine has the address %v", addr)
}

// Write prints it for people.
func (r *Received) Write(w io.Writer) error {
	if r.From == "" {
		_, err := fmt.Fprintf(w, "nothing arrived; %s of others, %d corrupted\n", amount.Of(r.Foreign, "packet"), r.Corrupted)
		return err
	}
	how := "the sender has ended"
	if !r.Ended {
		how = "the sender fell silent, so more may be missing at the end"
	}
	rate := 0.0
	if r.Seconds > 0 {
		rate = float64(r.Received) / r.Seconds
	}
	_, err := fmt.Fprintf(w, "received %d of %s from %s in %.3f s, %.0f packets/s; %s\nmissed %d, corrupted %d, twice %d, out of order %d, of others %d\n",
		r.Received, amount.Of(r.Total, "packet"), r.From, r.Seconds, rate, how, r.Missed, r.Corrupted, r.Duplicate, r.Reordered, r.Foreign)
	return err
}
