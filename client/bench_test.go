// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// payloads are those by which group communication systems are compared.
var payloads = []int{100, 1350, 8192, 65000}

// BenchmarkReceive is the delivery path: a daemon that writes as fast as it can, through a Unix socket and over loopback TCP.
func BenchmarkReceive(b *testing.B) {
	flows := map[string][]byte{"mixed": nil}
	for _, size := range payloads {
		flows[strconv.Itoa(size)] = regular("#a#d", "g", 1, strings.Repeat("x", size))
	}
	// Large messages among small ones; bytes are those of the average.
	flows["mixed"] = slices.Concat(flows["65000"], bytes.Repeat(flows["100"], 20))
	for _, network := range []string{"unix", "tcp"} {
		for _, flow := range slices.Sorted(maps.Keys(flows)) {
			for _, way := range []string{"copy", "pooled"} {
				b.Run(network+"/"+flow+"/"+way, func(b *testing.B) {
					if network == "unix" && runtime.GOOS == "windows" {
						b.Skip("no Unix sockets")
					}
					some := flows[flow]
					chunk := bytes.Repeat(some, 1+64<<10/len(some))
					var opts []Option
					if way == "pooled" {
						opts = append(opts, WithPooledMessages())
					}
					c, err := Dial(testContext(b), listen(b, network, func(p *peer) {
						p.accept("#me#d")
						for p.send(chunk) {
						}
					}), opts...)
					if err != nil {
						b.Fatal(err)
					}
					ctx := testContext(b)
					received := 0
					b.ReportAllocs()
					for b.Loop() {
						ev, err := c.Next(ctx)
						if err != nil {
							b.Fatal(err)
						}
						received += len(ev.(*Message).Data)
						ev.(*Message).Release()
					}
					b.SetBytes(int64(received / b.N))
					c.Abort()
				})
			}
		}
	}
}

// BenchmarkMulticast is the sending path against a daemon that reads as fast as it can.
func BenchmarkMulticast(b *testing.B) {
	for _, size := range payloads {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			c := dial(b, pipeOverTCP(b, func(p *peer) {
				p.accept("#me#d")
				io.Copy(io.Discard, p.nc)
			}))
			ctx := testContext(b)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Multicast(ctx, Agreed, 0, data, "group"); err != nil {
					b.Fatal(err)
				}
			}
			c.Abort()
		})
	}
}

// pipeOverTCP is serve over a loopback connection, for numbers that include system calls.
func pipeOverTCP(b *testing.B, script func(p *peer)) Option {
	addr := listen(b, "tcp", script)
	return WithDialFunc(dialTo(addr))
}

// TestAllocations guards the two hot paths: nothing per message on the way out, message and data on the way in, nothing
// with a pool.
func TestAllocations(t *testing.T) {
	c := &Conn{opts: options{maxMessage: MaxMessage}, privateGroup: "#me#d", privateBytes: []byte("#me#d")}
	c.out.init(1<<20, nil)
	ctx := t.Context()
	data := make([]byte, 1000)
	if got := testing.AllocsPerRun(100, func() {
		if err := c.Multicast(ctx, Agreed, 0, data, "group"); err != nil {
			t.Fatal(err)
		}
		c.out.buf = c.out.buf[:0]
	}); got > 0 {
		t.Errorf("Multicast allocates %v times", got)
	}
	frame := regular("#a#d", "g", 1, strings.Repeat("x", 1000))
	for _, pooled := range []bool{false, true} {
		c.opts.pooled = pooled
		r := reader{conn: c, buf: frame}
		want := 2.0
		if pooled {
			want = 0
		}
		if got := testing.AllocsPerRun(100, func() {
			r.head, r.tail = 0, len(frame)
			ev, _, err := r.next()
			if err != nil {
				t.Fatal(err)
			}
			ev.(*Message).Release()
		}); got > want {
			t.Errorf("receiving with pool %v allocates %v times, want %v", pooled, got, want)
		}
	}
}
