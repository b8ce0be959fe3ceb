// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
)

// paths are the ways of datagrams that this system offers.
func paths() []Path {
	out := []Path{PathBatch, PathSingle}
	if b, err := OpenBatch(Config{Bind: netip.MustParseAddrPort("127.0.0.1:0"), Path: PathSegment}); err == nil {
		b.Close()
		out = append(out, PathSegment)
	}
	return out
}

func init() {
	for _, p := range paths() {
		kinds["batch/"+p.String()] = func(t *testing.T, cfg Config) (opened, error) {
			cfg.Path = p
			return read(t, cfg)
		}
	}
}

// read opens a Batch and reads it.
func read(t *testing.T, cfg Config) (opened, error) {
	b, err := OpenBatch(cfg)
	if err != nil {
		return opened{}, err
	}
	if cfg.Path != PathAuto && b.Stats().Path() != cfg.Path {
		t.Errorf("path %v in use, want %v", b.Stats().Path(), cfg.Path)
	}
	in := make(chan Datagram, 10000)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var polls []unix.PollFd
		for _, fd := range b.FDs() {
			polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Poll(polls, 10)
			for i := range polls {
				ds, err := b.Receive(i)
				if err != nil {
					t.Error(err)
					return
				}
				for _, d := range ds {
					in <- Datagram{From: d.From, Bytes: bytes.Clone(d.Bytes)}
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		b.Close()
	})
	return opened{b, in}, nil
}

func openBatch(t testing.TB, cfg Config) *Batch {
	b, err := OpenBatch(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// on is a configuration with a path.
func on(p Path, addr string) Config {
	cfg := bindTo(addr)
	cfg.Path = p
	return cfg
}

func TestBatchUsesFewCalls(t *testing.T) {
	a, b := openBatch(t, on(PathBatch, "127.0.0.1:0")), openBatch(t, on(PathBatch, "127.0.0.1:0"))
	sends := make([]packet.Send, 60)
	for i := range sends {
		sends[i] = packet.Send{To: []netip.AddrPort{b.LocalAddr()}, Bytes: []byte{byte(i)}}
	}
	a.Send(sends)
	if n := a.Stats().SendCalls.Load(); n != 1 {
		t.Errorf("%d send calls for %d datagrams, want 1", n, len(sends))
	}
	next := 0
	for _, want := range []int{batchIn, 60 - batchIn, 0} {
		ds, err := b.Receive(0)
		if err != nil || len(ds) != want || b.Full() != (want == batchIn) {
			t.Fatalf("received %d, %v; want %d", len(ds), err, want)
		}
		for _, d := range ds {
			if int(d.Bytes[0]) != next {
				t.Fatalf("datagram %d out of order, want %d", d.Bytes[0], next)
			}
			next++
		}
	}
}

func TestBatchDoesNotAllocate(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		if addr[0] == '[' && !hasIPv6() {
			continue
		}
		for _, path := range paths() {
			for _, refused := range []bool{false, true} {
				a, b := openBatch(t, on(path, addr)), openBatch(t, on(path, addr))
				if refused {
					refuseRuns(t, a)
				}
				p := make([]byte, 1350)
				to := []netip.AddrPort{b.LocalAddr()}
				sends := []packet.Send{{To: to, Bytes: p}, {To: to, Bytes: p}, {To: to, Bytes: p[:50]}, {To: to, Bytes: p}}
				got := 0
				n := testing.AllocsPerRun(200, func() {
					a.Send(sends)
					for {
						ds, _ := b.Receive(0)
						got += len(ds)
						if len(ds) == 0 {
							return
						}
					}
				})
				if n != 0 {
					t.Errorf("%s, %v: %v allocations per turn", addr, path, n)
				}
				if got < 800 {
					t.Errorf("%s, %v: %d datagrams", addr, path, got)
				}
			}
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, path := range paths() {
		b.Run(path.String(), func(b *testing.B) { benchmarkPath(b, path) })
	}
}

func benchmarkPath(b *testing.B, path Path) {
	for _, size := range []int{100, 1350, 8192, 65000} {
		b.Run(sizeName(size), func(b *testing.B) {
			x, y := openBatch(b, on(path, "127.0.0.1:0")), openBatch(b, on(path, "127.0.0.1:0"))
			p := make([]byte, size)
			sends := make([]packet.Send, 16)
			for i := range sends {
				sends[i] = packet.Send{To: []netip.AddrPort{y.LocalAddr()}, Bytes: p}
			}
			b.ReportAllocs()
			b.SetBytes(int64(size * len(sends)))
			for b.Loop() {
				x.Send(sends)
				for got := 0; got < len(sends); {
					ds, err := y.Receive(0)
					if err != nil || len(ds) == 0 {
						b.Fatal("lost on loopback", err)
					}
					got += len(ds)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(sends)), "ns/datagram")
		})
	}
}

func sizeName(n int) string {
	switch n {
	case 100:
		return "100B"
	case 1350:
		return "1350B"
	case 8192:
		return "8KiB"
	}
	return "65000B"
}
