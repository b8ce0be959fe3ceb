// SPDX-License-Identifier: Apache-2.0

package client

import (
	"io"
	"strconv"
	"strings"
	"testing"
)

// payloads are those by which group communication systems are compared.
var payloads = []int{100, 1350, 8192, 65000}

// BenchmarkReceive is the delivery path: a daemon that writes as fast as it can over loopback TCP.
func BenchmarkReceive(b *testing.B) {
	for _, size := range payloads {
		for _, pooled := range []bool{false, true} {
			name := strconv.Itoa(size) + "/copy"
			var opts []Option
			if pooled {
				name = strconv.Itoa(size) + "/pooled"
				opts = append(opts, WithPooledMessages())
			}
			b.Run(name, func(b *testing.B) {
				one := regular("#a#d", "g", 1, strings.Repeat("x", size))
				chunk := []byte(strings.Repeat(string(one), 1+64<<10/len(one)))
				c := dial(b, append(opts, pipeOverTCP(b, func(p *peer) {
					p.accept("#me#d")
					for p.send(chunk) {
					}
				}))...)
				ctx := testContext(b)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					ev, err := c.Next(ctx)
					if err != nil {
						b.Fatal(err)
					}
					ev.(*Message).Release()
				}
				c.Abort()
			})
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
