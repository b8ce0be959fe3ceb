// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A frame that comes after a pause is written by its sender, as far as the socket takes it; what is left, and what comes at once
// behind it, goes through the writer, in order.
func TestDirectWrite(t *testing.T) {
	for _, takes := range []int{0, 2, 4} {
		synctest.Test(t, func(t *testing.T) {
			var stream []byte // as the daemon gets it
			directly := 0
			var o outbox
			o.init(1<<10, func(b []byte) int {
				n := min(takes, len(b))
				stream = append(stream, b[:n]...)
				directly += n
				return n
			})
			go func() {
				var buf []byte
				for {
					var ok bool
					if buf, ok = o.take(buf); !ok {
						return
					}
					stream = append(stream, buf...)
				}
			}()
			synctest.Wait()
			send := func(s string) {
				buf, err := o.begin(t.Context(), len(s))
				if err != nil {
					t.Fatal(err)
				}
				o.commit(append(buf, s...))
			}
			time.Sleep(time.Second)
			send("abcd")
			send("efgh")
			synctest.Wait()
			if string(stream) != "abcdefgh" || directly != takes {
				t.Errorf("a socket that takes %d bytes got %q, %d of them directly", takes, stream, directly)
			}
			if o.unwritten() || o.flush(t.Context()) != nil {
				t.Errorf("%d bytes of %d count as written", o.written, o.accepted)
			}
			time.Sleep(directPause)
			send("ijkl")
			synctest.Wait()
			if string(stream) != "abcdefghijkl" || directly != 2*takes {
				t.Errorf("after a pause: %q, %d of them directly", stream, directly)
			}
			o.fail(io.ErrClosedPipe)
			synctest.Wait()
		})
	}
}

func TestDirectWriteAllocatesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	write := directWriter(nc)
	if write == nil {
		t.Skip("direct writes are not offered on this system")
	}
	frame := []byte("frame")
	if got := testing.AllocsPerRun(100, func() { write(frame) }); got > 0 {
		t.Errorf("a direct write allocates %v times", got)
	}
	nc.Close()
	if n := write(frame); n != 0 {
		t.Errorf("a closed socket took %d bytes", n)
	}
}

// awaitReader waits until a goroutine with such a call waits for the network.
func awaitReader(t *testing.T, call string) {
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if state, _, _ := strings.Cut(stack, "\n"); strings.Contains(state, "[IO wait") && strings.Contains(stack, call) {
				return
			}
		}
	}
	t.Error("nobody waits in ", call)
}

// TestDirectRead: reading past the runtime says what reading says: bytes, the end, a deadline, a closed connection.
func TestDirectRead(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Skip("no sockets of this kind: ", err)
		}
		defer l.Close()
		there := make(chan net.Conn, 1)
		go func() {
			nc, _ := l.Accept()
			there <- nc
		}()
		nc, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		peer := <-there
		read := directReader(nc)
		buf, more := make([]byte, 4), make([]byte, 4)
		want := func(text string, fault error) {
			t.Helper()
			n, err := read(buf, nil)
			if string(buf[:n]) != text || !errors.Is(err, fault) {
				t.Errorf("%s: %q, %v; want %q, %v", network, buf[:n], err, text, fault)
			}
			if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op != "read" || e.Net != network || e.Addr.String() != nc.RemoteAddr().String()) {
				t.Errorf("%s: the error is about something else: %v", network, err)
			}
		}
		if n, err := read(nil, nil); n != 0 || err != nil {
			t.Errorf("%s: nothing was asked for: %d, %v", network, n, err)
		}
		peer.Write([]byte("abcdef"))
		want("abcd", nil)
		want("ef", nil)
		peer.Write([]byte("abcdef"))
		if n, err := read(buf, more); string(buf) != "abcd" || err != nil || n != 4 && (n != 6 || string(more[:2]) != "ef") {
			t.Errorf("%s: of abcdef %d came as %q and %q, %v", network, n, buf, more, err)
		} else if n == 4 { // one read has one target here
			if runtime.GOOS == "linux" {
				t.Errorf("%s: a read for two buffers filled one", network)
			}
			want("ef", nil)
		}
		go func() {
			awaitReader(t, "client.TestDirectRead(")
			peer.Write([]byte("g"))
		}()
		want("g", nil) // it waits
		if got := testing.AllocsPerRun(50, func() {
			peer.Write(buf[:1])
			read(buf, nil)
			peer.Write(buf[:1])
			read(buf, more)
		}); got > 0 {
			t.Errorf("%s: a read allocates %v times", network, got)
		}
		nc.SetReadDeadline(time.Now().Add(-time.Second))
		want("", os.ErrDeadlineExceeded)
		nc.SetReadDeadline(time.Time{})
		peer.Close()
		want("", io.EOF)
		nc.Close()
		want("", net.ErrClosed)
		if network == "tcp" {
			if nc, err = net.Dial(network, l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
			n, err := directReader(nc)(buf, nil)
			if e, ok := errors.AsType[*net.OpError](err); n != 0 || !ok || e.Op != "read" || e.Source.String() != nc.LocalAddr().String() || e.Addr.String() != nc.RemoteAddr().String() {
				t.Errorf("a connection that was reset: %d, %v", n, err)
			}
		}
	}
	here, there := net.Pipe()
	go there.Write([]byte("ab"))
	buf := make([]byte, 4)
	if n, err := directReader(here)(buf, nil); n != 2 || err != nil {
		t.Errorf("a connection that is no socket: %d, %v", n, err)
	}
}
