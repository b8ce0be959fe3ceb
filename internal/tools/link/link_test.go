// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// receive starts a receiver and returns where it listens.
func receive(t *testing.T, r Receiving) (to netip.AddrPort, result <-chan *Received) {
	t.Helper()
	if !r.At.IsValid() {
		r.At = netip.AddrPortFrom(loopback, 0)
	}
	at := make(chan net.Addr, 1)
	done := make(chan *Received, 1)
	r.Listening = func(a net.Addr) { at <- a }
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	go func() {
		res, err := r.Run(ctx)
		if err != nil {
			t.Error(err)
			close(at)
		}
		done <- res
	}()
	a := <-at
	if a == nil {
		t.FailNow()
	}
	return a.(*net.UDPAddr).AddrPort(), done
}

func TestSendAndReceive(t *testing.T) {
	numbers := uint64(0)
	to, done := receive(t, Receiving{Idle: 10 * time.Second, Packet: func(_ netip.AddrPort, n, total uint64, bytes int) { numbers += n }})
	bursts := 0
	s := Sending{To: to, From: loopback, Count: 25, Bytes: 100, Burst: 10, Interval: time.Millisecond, Progress: func(int) { bursts++ }}
	sent, err := s.Run(t.Context())
	if err != nil || sent.Packets != 25 || sent.Failed != 0 || bursts != 3 {
		t.Errorf("%+v, %v, %d bursts", sent, err, bursts)
	}
	r := <-done
	if r.Received != 25 || r.Total != 25 || r.Missed != 0 || !r.Ended || r.Bytes != 2500 || numbers != 25*26/2 || !strings.HasPrefix(r.From, "127.0.0.1:") {
		t.Errorf("%+v", r)
	}
	var out bytes.Buffer
	sent.Write(&out)
	r.Write(&out)
	for _, part := range []string{"sent 25 packets of 100 bytes to 127.0.0.1:", "received 25 of 25 packets from 127.0.0.1:", "the sender has ended", "missed 0, corrupted 0"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in %s", part, out.String())
		}
	}
}

// TestWhatIsWrong sends packets by hand: lost ones, one that was changed, one twice, one late, and other programs' ones.
func TestWhatIsWrong(t *testing.T) {
	to, done := receive(t, Receiving{})
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	send := func(p packet, change int) {
		p.encode(buf)
		if change > 0 {
			buf[change]++
		}
		if _, err := conn.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	send(packet{1, 11, 10}, 0) // the end of an earlier run
	for _, n := range []uint64{1, 3, 2, 3, 7} {
		send(packet{2, n, 10}, 0)
	}
	send(packet{2, 8, 10}, 40)
	send(packet{3, 1, 10}, 0)
	send(packet{2, 8, 9}, 0)
	conn.Write([]byte("hello"))
	send(packet{2, 11, 10}, 0)
	r := <-done
	r.From, r.Seconds = "", 0
	want := Received{Total: 10, Received: 4, Missed: 6, Corrupted: 1, Foreign: 3, Duplicate: 1, Reordered: 1, Bytes: 5 * 64, Ended: true}
	if *r != want {
		t.Errorf("%+v\nwant %+v", *r, want)
	}
}

func TestSilentSender(t *testing.T) {
	to, done := receive(t, Receiving{Idle: 20 * time.Millisecond})
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	packet{1, 4, 10}.encode(buf)
	conn.Write(buf)
	if r := <-done; r.Ended || r.Received != 1 || r.Missed != 3 {
		t.Errorf("%+v", r)
	}
}

func TestNothingArrives(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := Receiving{At: netip.AddrPortFrom(loopback, 0), Listening: func(net.Addr) { cancel() }}
	res, err := r.Run(ctx)
	if err != nil || res.Received != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	var out bytes.Buffer
	if res.Write(&out); !strings.HasPrefix(out.String(), "nothing arrived") {
		t.Error(out.String())
	}
}

// TestMulticast sends to a group on the loopback interface, where that is possible.
func TestMulticast(t *testing.T) {
	lo, err := findInterface("127.0.0.1")
	if err != nil {
		t.Skip("no loopback interface: ", err)
	}
	if lo.Flags&net.FlagMulticast == 0 {
		t.Skip("the loopback interface has no multicast")
	}
	group := netip.MustParseAddr("239.255.77.1")
	at, done := receive(t, Receiving{At: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), Group: group, Interface: lo.Name})
	s := Sending{To: netip.AddrPortFrom(group, at.Port()), From: loopback, Count: 3, Bytes: 50, Burst: 1}
	if _, err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Received != 3 {
		t.Errorf("%+v", r)
	}
}

func TestValidate(t *testing.T) {
	good := Sending{To: netip.AddrPortFrom(loopback, 1), Count: 1, Bytes: MinBytes, Burst: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := Sending{Count: MaxCount + 1, Bytes: MinBytes - 1, Interval: -1}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("%v", err)
	}
	if _, err := findInterface("192.0.2.1"); err == nil {
		t.Error("an interface for an address that nobody has")
	}
}

func TestDecode(t *testing.T) {
	buf := make([]byte, MinBytes)
	p := packet{5, 3, 4}
	p.encode(buf)
	if got, err := decode(buf); got != p || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, p := range []packet{{1, 0, 4}, {1, 6, 4}, {1, 1, 0}, {1, 1, MaxCount + 1}} {
		p.encode(buf)
		if _, err := decode(buf); !errors.Is(err, errForeign) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	buf := make([]byte, 40)
	packet{1, 2, 3}.encode(buf)
	f.Add(buf)
	f.Add(buf[:headBytes])
	f.Add([]byte("EVS0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(data)
		if err != nil {
			return
		}
		if p.number == 0 || p.number > p.total+1 || p.total > MaxCount {
			t.Fatalf("%+v", p)
		}
	})
}
