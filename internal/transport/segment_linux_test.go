// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

// openSegment opens a transport that sends runs, or skips the test where there is none.
func openSegment(t *testing.T, addr string) *Batch {
	t.Helper()
	b, err := OpenBatch(on(PathSegment, addr))
	if errors.Is(err, ErrPath) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// refuseRuns makes the kernel refuse runs from now on: it does not segment what goes without checksums.
func refuseRuns(t *testing.T, b *Batch) {
	t.Helper()
	for _, fd := range b.fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// all takes what waits at b.
func all(t *testing.T, b *Batch) (out [][]byte) {
	t.Helper()
	for i := range b.FDs() {
		for {
			ds, err := b.Receive(i)
			if err != nil {
				t.Fatal(err)
			}
			if len(ds) == 0 {
				break
			}
			for _, d := range ds {
				out = append(out, bytes.Clone(d.Bytes))
			}
		}
	}
	return out
}

// numbered are sends of these lengths to the same addresses, each with its number in front.
func numbered(to []netip.AddrPort, sizes ...int) (out []packet.Send) {
	for i, n := range sizes {
		p := make([]byte, n)
		p[0] = byte(i)
		out = append(out, packet.Send{To: to, Bytes: p, Ring: len(to) > 1})
	}
	return out
}

func TestRuns(t *testing.T) {
	const full = packet.MaxDatagram
	for _, r := range []struct {
		name  string
		sizes []int
		runs  int // of more than one datagram
		alone int // datagrams that go by themselves
	}{
		{"equal", slices.Repeat([]int{1472}, 20), 1, 0},
		{"a shorter one ends it", []int{1472, 1472, 700, 700, 700}, 2, 0},
		{"a longer one begins another", []int{100, 1472, 1472}, 1, 1},
		{"growing", []int{1, 2, 3, 4}, 0, 4},
		{"as many as a run may have", slices.Repeat([]int{100}, segmentsPerRun+1), 1, 1},
		{"as much as a run may have", slices.Repeat([]int{1472}, bytesPerRun/1472+1), 1, 1},
		{"the longest", []int{full, full}, 0, 2},
		{"more than is staged", slices.Repeat([]int{10}, 2*iovsOut), 2 * iovsOut / segmentsPerRun, 0},
	} {
		a, b := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
		a.Send(numbered([]netip.AddrPort{b.LocalAddr()}, r.sizes...))
		got := all(t, b)
		if len(got) != len(r.sizes) {
			t.Errorf("%s: %d datagrams arrived, want %d", r.name, len(got), len(r.sizes))
			continue
		}
		for i, p := range got {
			if len(p) != r.sizes[i] || p[0] != byte(i) {
				t.Errorf("%s: datagram %d is number %d with %d bytes, want %d", r.name, i, p[0], len(p), r.sizes[i])
			}
		}
		s := a.Stats()
		inRuns := uint64(len(r.sizes) - r.alone)
		if s.RunsOut.Load() != uint64(r.runs) || s.RunDatagramsOut.Load() != inRuns || s.DatagramsOut.Load() != uint64(len(r.sizes)) || s.RunsRefused.Load() != 0 {
			t.Errorf("%s: %d runs of %d datagrams, %d in all, %d refused; want %d of %d", r.name, s.RunsOut.Load(), s.RunDatagramsOut.Load(), s.DatagramsOut.Load(), s.RunsRefused.Load(), r.runs, inRuns)
		}
		if s := b.Stats(); s.RunsIn.Load() != uint64(r.runs) || s.RunDatagramsIn.Load() != inRuns {
			t.Errorf("%s: received %d runs of %d datagrams", r.name, s.RunsIn.Load(), s.RunDatagramsIn.Load())
		}
	}
}

// What a token visit sends to three others is six messages in one system call, whatever the number of its packets: the
// token rides at the end of the run to its receiver, behind what precedes it and before what follows it.
func TestVisitIsOneCall(t *testing.T) {
	a := openSegment(t, "127.0.0.1:0")
	others := []*Batch{openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")}
	var to []netip.AddrPort
	for _, b := range others {
		to = append(to, b.LocalAddr())
	}
	sends := numbered(to, slices.Repeat([]int{1472}, 15)...)
	token := packet.Send{To: to[:1], Bytes: []byte{99, 1, 2}}
	a.Send(slices.Insert(slices.Clone(sends), 10, token))
	if n := a.Stats().SendCalls.Load(); n != 1 {
		t.Errorf("%d send calls, want 1", n)
	}
	if n, d := a.Stats().RunsOut.Load(), a.Stats().RunDatagramsOut.Load(); n != 6 || d != 46 {
		t.Errorf("%d runs of %d datagrams, want 6 of 46", n, d)
	}
	for i, b := range others {
		var got []byte
		for _, p := range all(t, b) {
			got = append(got, p[0])
		}
		want := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
		if i == 0 {
			want = slices.Insert(want, 10, 99)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("daemon %d got %v, want %v", i, got, want)
		}
		if n := b.Stats().ReceiveCalls.Load(); n != 2 { // the second finds nothing
			t.Errorf("daemon %d: %d receive calls", i, n)
		}
	}
	// The order in which messages left, across addresses: the token last of those before it.
	for k, want := range []netip.AddrPort{to[1], to[2], to[0]} {
		if a.out.runs[k].to != want {
			t.Errorf("message %d went to %v, want %v", k, a.out.runs[k].to, want)
		}
	}
}

// A run that is refused in the middle of the daemon's life goes out one by one, in order and at once, and the address
// gets no further one for a while.
func TestRefusedRun(t *testing.T) {
	a, b, c := openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0"), openSegment(t, "127.0.0.1:0")
	sends := numbered([]netip.AddrPort{b.LocalAddr(), c.LocalAddr()}, 1100, 1100, 1100, 1100, 50, 1100, 1100)
	check := func(when string) {
		t.Helper()
		a.Send(sends)
		for _, r := range []*Batch{b, c} {
			got := all(t, r)
			if len(got) != len(sends) {
				t.Fatalf("%s: %d datagrams arrived, want %d", when, len(got), len(sends))
			}
			for i, p := range got {
				if p[0] != byte(i) || len(p) != len(sends[i].Bytes) {
					t.Errorf("%s: datagram %d is number %d of %d bytes", when, i, p[0], len(p))
				}
			}
		}
	}
	s := a.Stats()
	check("before")
	runs := s.RunsOut.Load()
	if runs != 4 || s.RunsRefused.Load() != 0 {
		t.Fatalf("%d runs, %d refused", runs, s.RunsRefused.Load())
	}
	refuseRuns(t, a)
	for _, when := range []string{"when it is refused", "afterwards"} {
		check(when)
		// The second run of each address was staged before the first was refused.
		if s.RunsOut.Load() != runs || s.RunsRefused.Load() != 4 || s.LastRefusal() == nil {
			t.Errorf("%s: %d runs, %d refused (%v)", when, s.RunsOut.Load()-runs, s.RunsRefused.Load(), s.LastRefusal())
		}
	}
	if s.DropsError.Load()+s.DropsFull.Load() != 0 || s.DatagramsOut.Load() != uint64(3*2*len(sends)) {
		t.Errorf("%d datagrams, %d and %d dropped", s.DatagramsOut.Load(), s.DropsError.Load(), s.DropsFull.Load())
	}
	// Routes change: it is tried again one day.
	for to, r := range a.refused {
		r.left = 1
		a.refused[to] = r
	}
	check("tried again")
	if n := s.RunsRefused.Load(); n != 8 {
		t.Errorf("%d runs refused, want 8", n)
	}
	// An error that is not about segmentation is met by each datagram, too.
	if refusesRuns(unix.EPERM) || refusesRuns(unix.EAGAIN) {
		t.Error("a filter or a full buffer is taken for a refused run")
	}
}

// forbid makes the kernel refuse the calls for many messages to this thread, as containers do that do not know them.
func forbid(t *testing.T, errno unix.Errno) bool {
	const no = unix.SECCOMP_RET_ERRNO
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SENDMMSG, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_RECVMMSG, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: no | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Logf("no filters of system calls here: %v", err)
		return false
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Logf("no filters of system calls here: %v", err)
		return false
	}
	return true
}

// The calls for many messages are forbidden from the start, or later: what is left are those for one.
func TestCallsForbidden(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the filter with it
			early := openBatch(t, bindTo("127.0.0.1:0"))
			if !forbid(t, errno) {
				return
			}
			late := openBatch(t, bindTo("127.0.0.1:0"))
			if late.many {
				t.Errorf("%v: the calls for many messages are taken to work", errno)
			}
			if _, err := OpenBatch(on(PathBatch, "127.0.0.1:0")); !errors.Is(err, ErrPath) {
				t.Errorf("%v: a path that does not exist was asked for: %v", errno, err)
			}
			for _, e := range [][2]*Batch{{late, early}, {early, late}} {
				if errno == unix.EPERM && e[0] == early {
					continue // a firewall says this, too
				}
				sends := numbered([]netip.AddrPort{e[1].LocalAddr()}, 500, 500, 500, 400, 500)
				e[0].Send(sends)
				if got := all(t, e[1]); len(got) != len(sends) {
					t.Errorf("%v: %d datagrams, want %d", errno, len(got), len(sends))
				}
			}
		}()
		<-done
	}
}

// Without the calls for many messages every path works.
func TestCallsForManyGoAway(t *testing.T) {
	for _, path := range paths() {
		a, b := openBatch(t, on(path, "127.0.0.1:0")), openBatch(t, on(path, "127.0.0.1:0"))
		a.many, b.many = false, false
		sends := numbered([]netip.AddrPort{b.LocalAddr()}, 500, 500, 500, 400, 500)
		a.Send(sends)
		if got := all(t, b); len(got) != len(sends) {
			t.Errorf("%v: %d datagrams, want %d", path, len(got), len(sends))
		}
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	b := &Batch{refused: map[netip.AddrPort]refusal{}}
	for i := range 3 * maxRefusals {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
		b.refuse(&run{to: to, size: 1472, n: 2}, unix.EMSGSIZE)
		if !b.refuses(to, 1472) || b.refuses(to, 1471) {
			t.Fatal("a run too long for a route says something about longer ones only")
		}
		b.refuse(&run{to: to, size: 1472, n: 2}, unix.EIO)
		if !b.refuses(to, 10) {
			t.Fatal("a device without checksums takes no run at all")
		}
	}
	if len(b.refused) > maxRefusals {
		t.Errorf("%d addresses remembered", len(b.refused))
	}
}

// inNamespaces runs f on a thread of its own that may make networks; enter gives the thread a new one, and a name for it,
// and ip performs commands in the network in which the thread is. It skips the test where that is not allowed.
func inNamespaces(t *testing.T, f func(enter func() string, back func(string), ip func(string))) {
	skip := ""
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the networks with it
		give := func(format string, args ...any) {
			skip = fmt.Sprintf(format, args...)
			runtime.Goexit()
		}
		enter := func() string {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				give("no network namespace: %v", err)
			}
			fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				give("%v", err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
		}
		back := func(name string) {
			var fd int
			_, _ = fmt.Sscanf(path.Base(name), "%d", &fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				give("%v", err)
			}
		}
		ip := func(commands string) {
			c := exec.Command("ip", "-batch", "-")
			c.Stdin = strings.NewReader(commands)
			if out, err := c.CombinedOutput(); err != nil {
				give("ip: %v %s", err, out)
			}
		}
		f(enter, back, ip)
	}()
	<-done
	if skip != "" {
		t.Skip(skip)
	}
}

// A route with smaller packets than the datagrams: as runs they are refused, and go as fragments one by one.
func TestSmallRoute(t *testing.T) {
	openSegment(t, "127.0.0.1:0") // or skip
	inNamespaces(t, func(enter func() string, _ func(string), ip func(string)) {
		enter()
		ip("link set lo mtu 1400\nlink set lo up\n")
		a, err := OpenBatch(on(PathSegment, "127.0.0.1:0"))
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		b, err := OpenBatch(on(PathSegment, "127.0.0.1:0"))
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		sends := numbered([]netip.AddrPort{b.LocalAddr()}, 1472, 1472, 1472, 1000, 1000, 1000)
		for range 2 {
			a.Send(sends)
			if got := all(t, b); len(got) != len(sends) {
				t.Errorf("%d datagrams, want %d", len(got), len(sends))
			}
		}
		s := a.Stats()
		if s.RunsRefused.Load() != 1 || s.RunsOut.Load() != 2 {
			t.Errorf("%d runs refused, %d sent (%v); want 1 and 2", s.RunsRefused.Load(), s.RunsOut.Load(), s.LastRefusal())
		}
	})
}

// Where there is not even a loopback network the probe cannot send; what the kernel says then has to do.
func TestProbeWithoutNetwork(t *testing.T) {
	openSegment(t, "127.0.0.1:0") // or skip
	inNamespaces(t, func(enter func() string, _ func(string), ip func(string)) {
		enter()
		b, err := OpenBatch(Config{Bind: netip.MustParseAddrPort("0.0.0.0:0")})
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		if p := b.Stats().Path(); p != PathSegment {
			t.Errorf("path %v", p)
		}
	})
}

// Multicast through virtual Ethernet devices and a bridge: on each path it arrives whole and in order at two others, a
// run as a run, also where the receiver has no use for runs.
func TestMulticastThroughBridge(t *testing.T) {
	inNamespaces(t, func(enter func() string, back func(string), ip func(string)) {
		hosts := []string{enter(), enter(), enter()}
		enter()
		b := "link set lo up\nlink add br0 type bridge mcast_snooping 0\nlink set br0 up\n"
		for i, h := range hosts {
			b += fmt.Sprintf("link add p%d type veth peer name e0 netns %s\nlink set p%d master br0\nlink set p%d up\n", i, h, i, i)
		}
		ip(b)
		at := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(i + 1)}), 4803)
		}
		for i, h := range hosts {
			back(h)
			ip(fmt.Sprintf("link set lo up\nlink set e0 up\naddress add %v/24 dev e0\n", at(i).Addr()))
		}
		// A port of a bridge passes nothing until the kernel has noticed that there is somebody at it, which takes it up to a
		// second now and then.
		var probes []*net.UDPConn
		for i, h := range hosts {
			back(h)
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at(i).Addr(), 4804)))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			probes = append(probes, c)
		}
		for i, c := range probes[1:] {
			for end := time.Now().Add(20 * time.Second); ; {
				_, _ = probes[0].WriteToUDPAddrPort([]byte("probe"), c.LocalAddr().(*net.UDPAddr).AddrPort())
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				if _, err := c.Read(make([]byte, 10)); err == nil {
					break
				} else if time.Now().After(end) {
					t.Errorf("host 1 does not reach host %d: %v", i+2, err)
					return
				}
			}
		}
		for _, from := range paths() {
			for _, to := range paths() {
				var ends []*Batch
				for i, h := range hosts {
					back(h)
					g := Group{Addr: netip.MustParseAddrPort("239.7.7.7:4803"), Join: true}
					for k := range hosts {
						if k != i {
							g.Members = append(g.Members, at(k))
						}
					}
					cfg := Config{Bind: at(i), Path: to, Groups: []Group{g}}
					if i == 0 {
						cfg.Path = from
					}
					e, err := OpenBatch(cfg)
					if err != nil {
						t.Error(err)
						return
					}
					ends = append(ends, e)
				}
				sends := numbered([]netip.AddrPort{at(1), at(2)}, append(slices.Repeat([]int{1472}, 30), 700, 700, 80)...)
				ends[0].Send(sends)
				s := ends[0].Stats()
				if s.GroupSends.Load() != uint64(len(sends)) || s.DatagramsOut.Load() != uint64(len(sends)) || s.RunsRefused.Load() != 0 {
					t.Errorf("%v: %d sends to the group, %d in all, %d runs refused, last error %v", from, s.GroupSends.Load(), s.DatagramsOut.Load(), s.RunsRefused.Load(), s.LastError())
				}
				if from == PathSegment && (s.SendCalls.Load() != 1 || s.RunsOut.Load() != 2) {
					t.Errorf("%d calls, %d runs", s.SendCalls.Load(), s.RunsOut.Load())
				}
				for _, e := range ends[1:] {
					var got [][]byte
					for end := time.Now().Add(5 * time.Second); len(got) < len(sends) && time.Now().Before(end); {
						got = append(got, all(t, e)...) // the bridge may take a moment
					}
					if len(got) != len(sends) {
						t.Errorf("%v to %v: %d datagrams, want %d", from, to, len(got), len(sends))
						continue
					}
					for i, p := range got {
						if p[0] != byte(i) || len(p) != len(sends[i].Bytes) {
							t.Errorf("%v to %v: datagram %d is number %d of %d bytes", from, to, i, p[0], len(p))
						}
					}
					if n := e.Stats().RunsIn.Load(); from == PathSegment && to == PathSegment && n != 2 {
						t.Errorf("%d runs received, want 2", n)
					}
				}
				for _, e := range ends {
					e.Close()
				}
			}
		}
	})
}
