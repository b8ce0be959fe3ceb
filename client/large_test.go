// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"evensong/internal/proto/frame"
)

// testReader is the reader of a session without a connection, without its goroutine.
func testReader(read func(b, more []byte) (int, error), buffer int, own bool, opts ...Option) *reader {
	o, _ := newOptions(append(opts, WithReadBuffer(buffer)), own)
	c := &Conn{opts: o, privateGroup: "#me#d"}
	c.out.init(1<<20, nil)
	r := &reader{conn: c, read: read, buf: make([]byte, o.readBuffer)}
	r.decode = r.next
	if own {
		c.own = &ownSession{asked: map[uint32]chan answer{}}
		r.decode = r.nextOwn
		r.parts.Limit = frame.MaxOwnBody
	}
	return r
}

// describe is all of an event, in short.
func describe(ev Event) string {
	m, ok := ev.(*Message)
	if !ok {
		return fmt.Sprintf("%T %v", ev, ev)
	}
	return fmt.Sprintf("%s %q %v %d %v %d bytes %08x", m.Sender, m.Groups, m.Service, m.Type, m.EndianMismatch, len(m.Data), crc32.ChecksumIEEE(m.Data))
}

// largeSizes has every step between small and large messages, and several of each kind in a row.
var largeSizes = []int{0, 100, 65000, 65000, 100, 200, directBytes - 1, directBytes, directBytes + 1, 8192, claimBytes, 300, claimBytes + 1, 1, 65000}

// largeMessages is a message of each of these sizes, as frames of a dialect.
func largeMessages(own bool) (frames [][]byte) {
	for i, size := range largeSizes {
		data := make([]byte, size)
		for k := range data {
			data[k] = byte(k*k>>3 + i)
		}
		groups := [][]byte{[]byte("g"), []byte("another group")}[:1+i%2]
		order := []frame.Order{frame.LittleEndian, frame.BigEndian}[i/2%2]
		hint := frame.NewHint(int16(i), order)
		if own {
			frames = append(frames, frame.AppendOwnMessage(nil, uint16(1+i), frame.TypeAgreed, hint, "#sender with a long name#d", groups, data))
			continue
		}
		h := frame.Header{Type: frame.TypeSafe, Order: order, Name: []byte("#s#d"), NumGroups: int32(len(groups)), Hint: hint, DataLen: int32(size)}
		b := h.Append(nil)
		for _, g := range groups {
			b = frame.AppendName(b, g)
		}
		frames = append(frames, append(b, data...))
	}
	return frames
}

// largeStream is all of them, with another frame between. at, if there is one, gets the places in the stream around which something
// changes: where frames, names and data begin, and where so much of a message is missing that it is begun.
func largeStream(own bool, at *[]int) (stream []byte) {
	for i, f := range largeMessages(own) {
		if at != nil {
			data := len(f) - largeSizes[i]
			header := frame.HeaderSize
			if own {
				header = frame.OwnHeaderSize
			}
			for _, place := range []int{0, header, data, data + aheadBytes, len(f) / 2, len(f) - directBytes, len(f) - 1} {
				if place >= 0 {
					*at = append(*at, len(stream)+place)
				}
			}
		}
		stream = append(stream, f...)
		if i%3 == 2 && own {
			stream = frame.AppendOwnPing(stream, [8]byte{1})
		} else if i%3 == 2 {
			stream = append(stream, frame.AppendTransition(nil, "g", [3]uint32{1, 2, uint32(i)})...)
		}
	}
	return stream
}

// TestLargeMessages has reads end at, and next to, the places where a reader has something to decide, at all of them and at every
// second to tenth: events, and what they count for, are those of a stream that was read at once.
func TestLargeMessages(t *testing.T) {
	for _, own := range []bool{false, true} {
		var places []int
		stream := largeStream(own, &places)
		want := readAll(t, stream, len(stream)+1, own)
		if got := strings.Count(want, "bytes"); got != len(largeSizes) {
			t.Fatalf("%d messages of %d in\n%s", got, len(largeSizes), want)
		}
		var cuts []int
		for _, p := range places {
			for d := -2; d <= 2; d++ {
				cuts = append(cuts, p+d)
			}
		}
		slices.Sort(cuts)
		cuts = slices.Compact(cuts)
		for _, pooled := range []bool{false, true} {
			for _, vector := range []bool{false, true} { // whether a read may fill two buffers
				for _, buffer := range []int{minReadBuffer, defaultReadBuffer} {
					for every := 1; every <= 10; every++ {
						for first := range every {
							var some []int
							for i := first; i < len(cuts); i += every {
								some = append(some, cuts[i])
							}
							readCut(t, stream, some, buffer, own, pooled, vector, want)
						}
					}
				}
			}
		}
		for piece := 1; piece < len(stream); piece = piece*3/2 + 1 {
			if got := readAll(t, stream, piece, own); got != want {
				t.Errorf("own dialect %v, in pieces of %d bytes:\n%s\nwant\n%s", own, piece, got, want)
			}
		}
	}
}

// readCut reads stream with a read ending at each of the cuts.
func readCut(t *testing.T, stream []byte, cuts []int, buffer int, own, pooled, vector bool, want string) {
	t.Helper()
	at, all := 0, cuts
	read := func(b, more []byte) (n int, _ error) {
		rest := stream[at:]
		for len(cuts) > 0 && cuts[0] <= at {
			cuts = cuts[1:]
		}
		if len(cuts) > 0 && cuts[0]-at < len(rest) {
			rest = rest[:cuts[0]-at]
		}
		n = copy(b, rest)
		if vector {
			n += copy(more, rest[n:])
		}
		at += n
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
	var opts []Option
	if pooled {
		opts = append(opts, WithPooledMessages())
	}
	r := testReader(read, buffer, own, opts...)
	var got strings.Builder
	var kept []queued
	var err error
	for err == nil {
		err = r.fill()
		for {
			ev, n, fault := r.event()
			if fault != nil {
				t.Fatal(fault)
			}
			if ev == nil {
				break
			}
			if !pooled {
				kept = append(kept, queued{ev, n}) // what comes next must not change it
				continue
			}
			fmt.Fprintln(&got, n, describe(ev))
			if m, ok := ev.(*Message); ok {
				clear(m.Data) // what comes next must not depend on it
				m.Release()
			}
		}
	}
	for _, q := range kept {
		fmt.Fprintln(&got, q.bytes, describe(q.event))
	}
	fmt.Fprintln(&got, r.explain(err))
	if got.String() != want {
		t.Errorf("own dialect %v, pooled %v, buffer %d, two buffers in a read %v, cut at %d:\n%s\nwant\n%s", own, pooled, buffer, vector, all, &got, want)
	}
}

// TestLargeIsDirect: of a large message only what came with its header, and of what follows only a little, goes through the buffer.
func TestLargeIsDirect(t *testing.T) {
	const size, messages = 65000, 20
	for _, own := range []bool{false, true} {
		one := regular("#a#d", "g", 1, strings.Repeat("x", size))
		if own {
			one = frame.AppendOwnMessage(nil, 0, frame.TypeAgreed, frame.NewHint(1, frame.LittleEndian), "#a#d", [][]byte{[]byte("g")}, make([]byte, size))
		}
		source := bytes.NewReader(bytes.Repeat(one, messages))
		reads, buffered := 0, 0
		r := testReader(func(b, more []byte) (int, error) {
			reads++
			n, err := source.Read(b)
			if more == nil {
				buffered += n
				return n, err
			}
			m, _ := source.Read(more)
			buffered += m
			return n + m, err
		}, defaultReadBuffer, own)
		for range messages {
			for {
				ev, _, err := r.event()
				if err != nil {
					t.Fatal(err)
				}
				if ev != nil {
					break
				}
				if err := r.fill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if reads > messages+1 || buffered > defaultReadBuffer+messages*aheadBytes {
			t.Errorf("own dialect %v: %d messages took %d reads, and %d bytes went through the buffer", own, messages, reads, buffered)
		}
	}
}

// TestLargeClaims: what a header says claims memory for one usual message at most; more only as it comes.
func TestLargeClaims(t *testing.T) {
	const usual = 4 * minReadBuffer
	long := frame.Header{Type: frame.TypeAgreed, Name: []byte("#a#d"), NumGroups: 1, Hint: frame.NewHint(1, frame.LittleEndian), DataLen: frame.MaxReceivedData}
	piece := frame.OwnHeader{Length: frame.OwnFragment, Type: frame.OwnMessage, More: true, Stream: 1}
	whole := frame.OwnHeader{Length: frame.OwnFragment, Type: frame.OwnMessage}
	ownBody := frame.AppendOwnMessage(nil, 0, frame.TypeAgreed, frame.NewHint(1, frame.LittleEndian), "#a#d", [][]byte{[]byte("g")}, nil)[frame.OwnHeaderSize:]
	claim := binary.LittleEndian.AppendUint32(nil, frame.MaxOwnBody)
	for _, tt := range []struct {
		name  string
		own   bool
		start []byte
	}{
		{"the longest message", false, frame.AppendName(long.Append(nil), "g")},
		{"the longest frame", true, append(whole.Append(nil), ownBody...)},
		{"the longest body in pieces", true, append(append(piece.Append(nil), claim...), ownBody...)},
	} {
		source := io.MultiReader(bytes.NewReader(tt.start), io.LimitReader(zeros{}, 1<<20))
		got, step := 0, 1
		r := testReader(func(b, _ []byte) (int, error) {
			n, err := source.Read(b[:min(len(b), step)])
			got, step = got+n, min(2*step, 10000)
			return n, err
		}, usual, tt.own)
		for {
			ev, _, err := r.event()
			if ev != nil || err != nil {
				break // zeros are no frames
			}
			held := len(r.buf) + r.parts.Bytes()
			if r.large.event != nil {
				held += cap(r.large.event.Data)
			}
			if held > 4*got+usual+claimBytes {
				t.Errorf("%s: %d bytes held when %d had come", tt.name, held, got)
				break
			}
			if err := r.fill(); err != nil {
				break
			}
		}
		if got < 1<<17 {
			t.Errorf("%s: reading ended after %d bytes", tt.name, got)
		}
	}
}

// zeros has any number of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestLargeAllocatesNothing: nor does a message that goes straight to its data, with a pool.
func TestLargeAllocatesNothing(t *testing.T) {
	one := regular("#a#d", "g", 1, strings.Repeat("x", 65000))
	for _, pooled := range []bool{false, true} {
		want := 2.0
		var opts []Option
		if pooled {
			opts, want = append(opts, WithPooledMessages()), 0
		}
		at := 0
		r := testReader(func(b, more []byte) (int, error) {
			n := copy(b, one[at:])
			at = (at + n) % len(one)
			return n, nil
		}, minReadBuffer, false, opts...)
		if got := testing.AllocsPerRun(100, func() {
			for {
				ev, _, err := r.event()
				if err != nil {
					t.Fatal(err)
				}
				if ev != nil {
					ev.(*Message).Release()
					return
				}
				if err := r.fill(); err != nil {
					t.Fatal(err)
				}
			}
		}); got > want {
			t.Errorf("receiving with pool %v allocates %v times, want %v", pooled, got, want)
		}
	}
}

// TestLargeOverSockets has all kinds of connections, and writes of all lengths.
func TestLargeOverSockets(t *testing.T) {
	stream := largeStream(false, nil)
	want := readAll(t, stream, len(stream)+1, false)
	for _, network := range []string{"tcp", "unix", "pipe"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue
		}
		for _, pooled := range []bool{false, true} {
			for _, piece := range []int{1, 97, 9000, 70000, len(stream)} {
				script := func(p *peer) {
					p.accept("#me#d")
					for i, b := range slices.Collect(slices.Chunk(stream, max(piece, 10))) {
						if piece == 1 && i%100 == 0 { // byte by byte now and then, else it would take long
							for _, one := range b {
								p.send([]byte{one})
							}
							continue
						}
						p.send(b)
					}
				}
				addr, opts := "4803@test", []Option{}
				if network == "pipe" {
					opts = append(opts, serve(t, script))
				} else {
					addr = listen(t, network, script)
				}
				if pooled {
					opts = append(opts, WithPooledMessages())
				}
				c, err := Dial(testContext(t), addr, opts...)
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for {
					ev, err := c.Next(testContext(t))
					if err != nil {
						fmt.Fprintln(&got, err)
						break
					}
					fmt.Fprintln(&got, describe(ev))
					if m, ok := ev.(*Message); ok {
						m.Release()
					}
				}
				c.Close()
				if !sameEvents(got.String(), want) {
					t.Errorf("%s, pooled %v, writes of %d bytes:\n%s\nwant\n%s", network, pooled, piece, &got, want)
				}
			}
		}
	}
}

// sameEvents compares without what they count for, and without how the stream ended.
func sameEvents(got, counted string) bool {
	want := strings.Split(strings.TrimSpace(counted), "\n")
	want = want[:len(want)-1]
	for i, w := range want {
		_, want[i], _ = strings.Cut(w, " ")
	}
	return strings.HasPrefix(got, strings.Join(want, "\n")+"\n")
}

// TestLargeIsCutOff: in the middle of a large message the session ends, by the daemon, by Close, or because nothing comes any more.
func TestLargeIsCutOff(t *testing.T) {
	one := regular("#a#d", "g", 1, strings.Repeat("x", 65000))
	for _, network := range []string{"tcp", "unix"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue
		}
		for _, there := range []int{100, 40000, len(one) - 1} {
			for _, way := range []string{"daemon", "close", "abort"} {
				sent := make(chan struct{})
				c, err := Dial(testContext(t), listen(t, network, func(p *peer) {
					p.accept("#me#d")
					p.send(slices.Concat(one, one[:there]))
					close(sent)
					if way != "daemon" {
						p.drain()
					}
				}), WithPooledMessages())
				if err != nil {
					t.Fatal(err)
				}
				next[*Message](t, c).Release()
				<-sent
				want, text := error(ErrConnectionClosed), "in the middle of a message"
				switch way {
				case "close":
					want, text = ErrClosed, ""
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				case "abort":
					want, text = ErrClosed, ""
					c.Abort()
				}
				if _, err := c.Next(testContext(t)); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
					t.Errorf("%s, %d bytes there, ended by %s: %v", network, there, way, err)
				}
				c.Close()
			}
		}
	}
	// A daemon that was silent for three intervals is taken for gone, in the middle of a message, too.
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		r := testReader(plainReader(here), minReadBuffer, true)
		r.conn.nc = here
		r.conn.own.ping = time.Second
		go there.Write(frame.AppendOwnMessage(nil, 0, frame.TypeAgreed, frame.NewHint(1, frame.LittleEndian), "#a#d", nil, make([]byte, 65000))[:30000])
		start := time.Now()
		for {
			if ev, _, err := r.event(); ev != nil || err != nil {
				t.Fatal(ev, err)
			}
			err := r.fill()
			if err == nil {
				continue
			}
			if r.large.event == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(r.explain(err).Error(), "no sign of life") || time.Since(start) != silentIntervals*time.Second {
				t.Errorf("%v after %v", r.explain(err), time.Since(start))
			}
			return
		}
	})
}

// TestJoinedDataIsNotCopied: a body that came in pieces becomes the data. Its first piece is none of the messages that are begun, even
// if it looks like one behind the length that it begins with.
func TestJoinedDataIsNotCopied(t *testing.T) {
	const size = 1 << 20
	stream := frame.AppendOwnMessage(nil, 1, frame.TypeAgreed, frame.NewHint(0, frame.LittleEndian), "#a#d", [][]byte{[]byte("g")}, append(make([]byte, size-8), "abcdefgh"...))
	if whole, parts := readAll(t, stream, len(stream)+1, true), readAll(t, stream, 5000, true); whole != parts {
		t.Errorf("at once:\n%s\nin pieces:\n%s", whole, parts)
	}
	r := testReader(nil, minReadBuffer, true)
	r.buf, r.tail = stream, len(stream)
	ev, n, err := r.event()
	if err != nil {
		t.Fatal(err)
	}
	m := ev.(*Message)
	clear(stream)
	if len(m.Data) != size || !bytes.Equal(m.Data[size-8:], []byte("abcdefgh")) || n < size || cap(m.Data) != size {
		t.Errorf("%d bytes of capacity %d, counted as %d", len(m.Data), cap(m.Data), n)
	}
	m.Release()
}
