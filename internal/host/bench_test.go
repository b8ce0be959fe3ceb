// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// bouncer is a machine that passes each datagram on at once, as a daemon with nothing to say passes the token. Its
// rounds field counts down; then it says so and stops.
type bouncer struct {
	echo
	peer   [1]netip.AddrPort
	rounds int
	done   chan struct{}
	times  []time.Duration // of each round
	began  time.Time
}

func (b *bouncer) HandleDatagram(_ time.Duration, from netip.AddrPort, p []byte, _ *packet.Room, fx *Effects) {
	if b.done != nil {
		if now := time.Now(); !b.began.IsZero() {
			b.times = append(b.times, now.Sub(b.began))
			b.began = now
		}
		if b.rounds--; b.rounds < 0 {
			close(b.done)
			b.done = nil
			return
		}
		if b.began.IsZero() {
			b.began = time.Now()
		}
	}
	b.peer[0] = from
	fx.Sends = append(fx.Sends, packet.Send{To: b.peer[:], Bytes: p})
}

// TestBounceProcess is no test: it is the other process of BenchmarkTokenPath, which starts it.
func TestBounceProcess(t *testing.T) {
	kind, ok := os.LookupEnv("EVENSONG_BOUNCE")
	if !ok {
		t.Skip("started by BenchmarkTokenPath")
	}
	h := start(t, local(map[string]LoopKind{"epoll": LoopEpoll, "portable": LoopPortable}[kind]), &bouncer{})
	fmt.Println("listening", h.Addr())
	io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// BenchmarkTokenPath is a datagram that goes back and forth between two daemons through their whole loops: one
// operation is one round, that is two hops.
func BenchmarkTokenPath(b *testing.B) {
	for _, kind := range []string{"epoll", "portable"} {
		if kind == "epoll" && !haveEpoll {
			continue
		}
		cfg := local(map[string]LoopKind{"epoll": LoopEpoll, "portable": LoopPortable}[kind])
		b.Run(kind+"/one process", func(b *testing.B) {
			other := start(b, cfg, &bouncer{})
			tokenRounds(b, cfg, other.Addr())
		})
		b.Run(kind+"/two processes", func(b *testing.B) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestBounceProcess$")
			cmd.Env = append(os.Environ(), "EVENSONG_BOUNCE="+kind)
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer cmd.Wait()
			defer in.Close()
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
					tokenRounds(b, cfg, netip.MustParseAddrPort(addr))
					return
				}
			}
			b.Fatal("the other process did not start")
		})
	}
}

func tokenRounds(b *testing.B, cfg Config, other netip.AddrPort) {
	m := &bouncer{rounds: b.N, done: make(chan struct{})}
	done := m.done
	h := start(b, cfg, m)
	b.ResetTimer()
	// The first datagram seems to come from the other one: from here on they are alone.
	err := h.Do(context.Background(), func(now time.Duration) {
		h.core.m.HandleDatagram(now, other, make([]byte, 100), nil, &h.core.fx)
		h.core.perform()
	})
	if err != nil {
		b.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		b.Fatal("a datagram was lost")
	}
	b.StopTimer()
	slices.Sort(m.times)
	if n := len(m.times); n > 0 {
		b.ReportMetric(float64(m.times[n/2].Nanoseconds())/1000, "p50-µs")
		b.ReportMetric(float64(m.times[n*99/100].Nanoseconds())/1000, "p99-µs")
	}
}

// BenchmarkClientEcho is one client's message to the daemon and back, 16 in each write.
func BenchmarkClientEcho(b *testing.B) {
	for _, kind := range []LoopKind{LoopEpoll, LoopPortable} {
		if kind == LoopEpoll && !haveEpoll {
			continue
		}
		b.Run(map[LoopKind]string{LoopEpoll: "epoll", LoopPortable: "portable"}[kind], func(b *testing.B) {
			h := start(b, local(kind), &echo{})
			c, err := net.Dial("tcp", h.ListenAddrs()[0].String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			p := make([]byte, 1600)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
