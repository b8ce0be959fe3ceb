// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

// longLoopback skips a test where the loopback interface does not carry datagrams of n bytes in one packet.
func longLoopback(t *testing.T, n int) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip("the loopback interface has another name here")
	}
	if lo.MTU < n+48 { // the headers of IPv6 and UDP
		t.Skipf("NOT RUN: the loopback interface carries packets of %d bytes only, and the test wants datagrams of %d", lo.MTU, n)
	}
}

// cuttings are what the kernel says of a transport's sockets: for each the option of IPv4, and that of IPv6 where there is one.
func cuttings(t *testing.T, b *Batch) (out []int) {
	t.Helper()
	for _, fd := range b.fds {
		v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
		if err != nil {
			t.Error(err)
		}
		out = append(out, v)
		if b.is4 {
			continue
		}
		if v, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); err != nil {
			t.Error(err)
		}
		out = append(out, v)
	}
	return out
}

// whole marks some of the sends.
func whole(sends []packet.Send, which ...int) []packet.Send {
	for _, i := range which {
		sends[i].Whole = true
	}
	return sends
}

// lengths are those of datagrams, each with its number.
func lengths(ds [][]byte) (out [][2]int) {
	for _, d := range ds {
		out = append(out, [2]int{int(d[0]), len(d)})
	}
	return out
}

// A datagram that must stay whole arrives so on each path, with a call of its own for each address, between what was asked
// for before it and after it; the sockets are as before.
func TestWhole(t *testing.T) {
	const long = 32768
	longLoopback(t, long)
	for _, r := range []struct{ from, to string }{
		{"127.0.0.1:0", "127.0.0.1:0"},
		{"[::1]:0", "[::1]:0"},
		{"[::]:0", "127.0.0.1:0"},
	} {
		if r.from[0] == '[' && !hasIPv6() {
			continue
		}
		for _, path := range paths() {
			what := fmt.Sprintf("%v, %s to %s", path, r.from, r.to)
			a, b, c := openBatch(t, on(path, r.from)), openBatch(t, on(path, r.to)), openBatch(t, on(path, r.to))
			before := cuttings(t, a)
			to := []netip.AddrPort{b.LocalAddr(), c.LocalAddr()}
			// Lengths that would make runs of all but the last, were there none that must stay whole.
			sends := whole(numbered(to, 1000, 1000, 1000, 1000, 1000, long, 900, 900), 2, 5)
			a.Send(sends)
			for i, e := range []*Batch{b, c} {
				if got := lengths(all(t, e)); !slices.Equal(got, [][2]int{{0, 1000}, {1, 1000}, {2, 1000}, {3, 1000}, {4, 1000}, {5, long}, {6, 900}, {7, 900}}) {
					t.Errorf("%s: receiver %d got %v", what, i, got)
				}
			}
			s := a.Stats()
			want := uint64(2 * len(sends))
			if n := s.DatagramsOut.Load(); n != want || s.DropsError.Load() != 0 {
				t.Errorf("%s: %d datagrams sent, want %d (%v)", what, n, want, s.LastError())
			}
			calls, runs := want, uint64(0)
			if path != PathSingle {
				calls = 3 + 2*2
			}
			if path == PathSegment {
				runs = 3 * 2
			}
			if s.SendCalls.Load() != calls || s.RunsOut.Load() != runs || s.RunDatagramsOut.Load() != 2*runs {
				t.Errorf("%s: %d calls, %d runs of %d datagrams; want %d, and %d of %d", what, s.SendCalls.Load(), s.RunsOut.Load(), s.RunDatagramsOut.Load(), calls, runs, 2*runs)
			}
			if after := cuttings(t, a); !slices.Equal(after, before) {
				t.Errorf("%s: the sockets say %v of datagrams that are too long, before %v", what, after, before)
			}
		}
	}
}

// Errors other than the answer are counted for what must stay whole as for everything else, and do not leave the sockets
// changed.
func TestWholeErrors(t *testing.T) {
	for _, path := range paths() {
		a, b := openBatch(t, on(path, "127.0.0.1:0")), openBatch(t, on(path, "127.0.0.1:0"))
		before := cuttings(t, a)
		bad := []netip.AddrPort{
			netip.MustParseAddrPort("[::1]:9"),           // wrong family
			netip.MustParseAddrPort("127.255.255.255:9"), // a broadcast, which nobody has allowed
			b.LocalAddr(),
		}
		a.Send([]packet.Send{
			{To: bad, Bytes: []byte("x"), Whole: true},
			{To: bad[2:], Whole: true}, // nothing
			{To: bad[2:], Bytes: make([]byte, 70000), Whole: true},
			{To: bad[2:], Bytes: []byte("y")},
		})
		if got := all(t, b); len(got) != 2 || string(got[0]) != "x" || string(got[1]) != "y" {
			t.Errorf("%v: got %q", path, got)
		}
		if n := a.Stats().DropsError.Load(); n != 2 {
			t.Errorf("%v: DropsError = %d, want 2 (last: %v)", path, n, a.Stats().LastError())
		}
		if after := cuttings(t, a); !slices.Equal(after, before) {
			t.Errorf("%v: the sockets say %v of datagrams that are too long, before %v", path, after, before)
		}
	}
}

// Where the option cannot be set nothing goes that could be cut, and what is around it goes.
func TestWholeUnknown(t *testing.T) {
	a, b := openBatch(t, on(PathBatch, "127.0.0.1:0")), openBatch(t, on(PathBatch, "127.0.0.1:0"))
	sends := whole(numbered([]netip.AddrPort{b.LocalAddr()}, 10, 20, 30), 1)
	check := func(when string) {
		t.Helper()
		a.Send(sends)
		if got := lengths(all(t, b)); !slices.Equal(got, [][2]int{{0, 10}, {2, 30}}) {
			t.Errorf("%s: got %v", when, got)
		}
	}
	a.cut4.known = false
	check("not known")
	a.cut4.known, a.cut4.never = true, 1000
	check("not accepted")
	if n := a.Stats().DropsError.Load(); n != 0 {
		t.Errorf("DropsError = %d (%v)", n, a.Stats().LastError())
	}
}

// What is longer than the interface's packets is refused without a word if it must stay whole, and goes in fragments otherwise,
// also right behind.
func TestWholeOnSmallInterface(t *testing.T) {
	inNamespaces(t, func(enter func() string, _ func(string), ip func(string)) {
		enter()
		// Sockets that are opened now do not find out about paths: what they have is not what the kernel usually gives.
		noDiscovery := os.WriteFile("/proc/sys/net/ipv4/ip_no_pmtu_disc", []byte("1"), 0) == nil
		ip("link set lo mtu 1500\nlink set lo up\n")
		for _, r := range []struct {
			from, to string
			mapped   bool // the address is in the form of IPv6
			fits     int
		}{
			{"127.0.0.1:0", "127.0.0.1:0", false, 1472},
			{"127.0.0.1:0", "127.0.0.1:0", true, 1472},
			{"[::1]:0", "[::1]:0", false, 1452},
			{"[::]:0", "127.0.0.1:0", false, 1472},
			{"[::]:0", "127.0.0.1:0", true, 1472},
		} {
			if r.from[0] == '[' && !hasIPv6() {
				continue
			}
			for _, path := range paths() {
				what := fmt.Sprintf("%v, %s to %s (mapped: %v)", path, r.from, r.to, r.mapped)
				var ends []*Batch
				for _, addr := range []string{r.from, r.to} {
					e, err := OpenBatch(on(path, addr))
					if err != nil {
						t.Error(err)
						return
					}
					defer e.Close()
					ends = append(ends, e)
				}
				a, b := ends[0], ends[1]
				before := cuttings(t, a)
				if noDiscovery && before[0] != unix.IP_PMTUDISC_DONT {
					t.Errorf("the usual setting is %d, want %d", before[0], unix.IP_PMTUDISC_DONT)
				}
				to := b.LocalAddr()
				if r.mapped {
					to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
				}
				a.Send(whole(numbered([]netip.AddrPort{to}, r.fits+1, r.fits, r.fits+1, 9000, 9000), 1, 2, 3))
				if got := lengths(all(t, b)); !slices.Equal(got, [][2]int{{0, r.fits + 1}, {1, r.fits}, {4, 9000}}) {
					t.Errorf("%s: got %v", what, got)
				}
				s := a.Stats()
				if s.DropsError.Load()+s.DropsFull.Load()+s.RunsRefused.Load() != 0 || s.LastError() != nil || s.DatagramsOut.Load() != 3 {
					t.Errorf("%s: %d datagrams sent, %d and %d dropped, %d runs refused, last error %v; want 3 and no word", what, s.DatagramsOut.Load(), s.DropsError.Load(), s.DropsFull.Load(), s.RunsRefused.Load(), s.LastError())
				}
				if after := cuttings(t, a); !slices.Equal(after, before) {
					t.Errorf("%s: the sockets say %v of datagrams that are too long, before %v", what, after, before)
				}
			}
		}
	})
}

// A router whose second network is smaller drops what must stay whole, and says so; ordinary datagrams go on through it, in
// fragments if they must. That the kernel now knows the path does not keep it from asking again.
func TestWholeThroughRouter(t *testing.T) {
	inNamespaces(t, func(enter func() string, back func(string), ip func(string)) {
		hosts := []string{enter(), enter()}
		router := enter()
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			t.Logf("no router here: %v", err)
			return
		}
		ip(fmt.Sprintf(`link add p0 mtu 9000 type veth peer name e0 mtu 9000 netns %s
link add p1 mtu 1500 type veth peer name e0 mtu 1500 netns %s
address add 10.99.0.254/24 dev p0
address add 10.99.1.254/24 dev p1
link set p0 up
link set p1 up
`, hosts[0], hosts[1]))
		var ends []*Batch
		for i, h := range hosts {
			back(h)
			ip(fmt.Sprintf("link set lo up\naddress add 10.99.%d.1/24 dev e0\nlink set e0 up\nroute add default via 10.99.%d.254\n", i, i))
		}
		for i, h := range hosts {
			back(h)
			e, err := OpenBatch(Config{Bind: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, byte(i), 1}), 4803)})
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			ends = append(ends, e)
		}
		back(router)
		a, b := ends[0], ends[1]
		// arrives sends until what is wanted arrives: devices that have just begun drop what comes before they are ready, and a
		// router says what it cannot carry when it has lost it.
		arrives := func(want [2]int, sends []packet.Send) (got [][2]int) {
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
				a.Send(sends)
				if err := readable(b.fds[0]); err != nil {
					continue
				}
				got = append(got, lengths(all(t, b))...)
				if slices.Contains(got, want) {
					return got
				}
			}
			t.Errorf("got %v, want %v (%v)", got, want, a.Stats().LastError())
			return got
		}
		to := []netip.AddrPort{b.LocalAddr()}
		arrives([2]int{0, 100}, numbered(to, 100))
		if got := arrives([2]int{2, 8000}, whole(numbered(to, 8000, 1472, 8000), 0, 1)); slices.Contains(got, [2]int{0, 8000}) {
			t.Error("8000 bytes went whole where 1500 is all that fits")
		}
		if s := a.Stats(); s.DropsError.Load() != 0 {
			t.Errorf("DropsError = %d (%v)", s.DropsError.Load(), s.LastError())
		}
		// The kernel at the sender does not know of a larger path for minutes; who asks finds out.
		back(router)
		ip("link set p1 mtu 9000\n")
		back(hosts[1])
		ip("link set e0 mtu 9000\n")
		back(router)
		arrives([2]int{1, 8000}, whole(numbered(to, 100, 8000), 1))
	})
}
