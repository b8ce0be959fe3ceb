// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/node"
	"evensong/internal/proto/session"
)

// rawClient is a connection that reads only when it is told to.
type rawClient struct {
	t       *testing.T
	conn    net.Conn
	private string
}

func dialRaw(t *testing.T, path, user string) *rawClient {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &rawClient{t: t, conn: conn, private: frame.PrivateName(user, "a")}
	hello := frame.Connect{Version: frame.Ours, User: user}
	c.write(hello.Append(nil))
	c.skip(len(frame.AppendAuthList(nil, []string{frame.AuthNull})))
	choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
	if err != nil {
		t.Fatal(err)
	}
	c.write(choice)
	c.skip(len(frame.AppendAccept(nil, frame.Ours, c.private)))
	return c
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) skip(n int) {
	c.t.Helper()
	if _, err := io.CopyN(io.Discard, c.conn, int64(n)); err != nil {
		c.t.Fatal(err)
	}
}

// number reads the next message and returns its number; an error is the end of the connection.
func (c *rawClient) number() (int, error) {
	head := make([]byte, frame.HeaderSize)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return 0, err
	}
	h := frame.ParseHeader(head)
	body := make([]byte, h.BodySize())
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return 0, err
	}
	return int(binary.LittleEndian.Uint32(body[frame.NameSize:])), nil
}

// servePressure starts a real daemon with limits for slow clients, and returns its Unix socket.
func servePressure(t *testing.T, kind host.LoopKind, limits config.Sessions) (h *host.Host, path string, log *logBuffer) {
	t.Helper()
	c, err := config.Parse("test.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }"))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "s")
	c.Local.UnixSockets, c.Local.Listen = []string{path}, []string{"127.0.0.1:0"}
	c.Local.Bind = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	c.Sessions = limits
	log = &logBuffer{}
	hc, build, err := host.Assemble(&c, 0, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	hc.Loop = kind
	if h, err = host.Start(hc, build); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, path, log
}

// until waits until the daemon's sessions are as f wants them.
func until(t *testing.T, h *host.Host, what string, f func([]node.SessionStatus) bool) {
	t.Helper()
	var list []node.SessionStatus
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var err error
		if list, _, err = h.Sessions(context.Background()); err != nil {
			t.Fatal(err)
		}
		if f(list) {
			return
		}
	}
	t.Fatalf("waited in vain for %s: %+v", what, list)
}

// TestSlowReaderPolicies: from a word of the configuration to what a client on a real socket gets, with both loops.
func TestSlowReaderPolicies(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no Unix sockets with buffers of a known size")
	}
	const messages, size = 300, 10_000
	limits := config.Sessions{ByteBudget: 64 << 10, HardBytes: 16 << 20, Stall: time.Minute, Wait: time.Minute}
	loops := map[string]host.LoopKind{"portable": host.LoopPortable, "default": host.LoopAuto}
	send := func(c *rawClient, service func(i int) evs.Service) {
		data := make([]byte, size)
		for i := range messages {
			binary.LittleEndian.PutUint32(data, uint32(i))
			// A daemon that makes senders wait does not take all; the test goes on meanwhile.
			if _, err := c.conn.Write(frame.AppendMulticast(nil, c.private, frame.MulticastType(service(i), false), 1, []string{"g"}, data)); err != nil {
				return
			}
		}
	}
	agreed := func(int) evs.Service { return evs.Agreed }
	mixed := func(i int) evs.Service { return []evs.Service{evs.Unreliable, evs.Agreed}[i%2] }
	of := func(list []node.SessionStatus, c *rawClient) (s node.SessionStatus) {
		for _, x := range list {
			if x.Name == c.private {
				s = x
			}
		}
		return s
	}
	for loop, kind := range loops {
		begin := func(t *testing.T, l config.Sessions, service func(int) evs.Service) (h *host.Host, sender, slow *rawClient, sent <-chan struct{}, log *logBuffer) {
			h, path, log := servePressure(t, kind, l)
			slow, sender = dialRaw(t, path, "slow"), dialRaw(t, path, "sender")
			slow.write(frame.AppendJoin(nil, slow.private, "g"))
			// To itself, which is behind the join in the order only once that has its place: the sender knows by its own message.
			slow.write(frame.AppendMulticast(nil, slow.private, frame.MulticastType(evs.Agreed, false), 1, []string{slow.private}, make([]byte, 4)))
			if _, err := slow.number(); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); send(sender, service) }()
			t.Cleanup(func() { sender.conn.Close(); <-done })
			return h, sender, slow, done, log
		}
		t.Run("block/"+loop, func(t *testing.T) {
			l := limits
			l.SlowPolicy = "block"
			h, sender, slow, _, _ := begin(t, l, agreed)
			until(t, h, "a sender that waits", func(list []node.SessionStatus) bool {
				s := of(list, slow)
				return s.OverSince > 0 && of(list, sender).InputStalled
			})
			for want := range messages {
				if got, err := slow.number(); err != nil || got != want {
					t.Fatalf("message %d, %v; want %d", got, err, want)
				}
			}
			until(t, h, "a reader that has caught up", func(list []node.SessionStatus) bool {
				s := of(list, slow)
				return s.OverSince == 0 && s.QueuedBytes == 0 && !of(list, sender).InputStalled
			})
		})
		t.Run("drop/"+loop, func(t *testing.T) {
			l := limits
			l.SlowPolicy = "drop"
			h, sender, slow, sent, _ := begin(t, l, mixed)
			// Nobody waits, so all is taken. What the sender says to itself then is behind it in the order: once it is back, each
			// message is queued for the slow reader or left out.
			<-sent
			sender.write(frame.AppendMulticast(nil, sender.private, frame.MulticastType(evs.Agreed, false), 1, []string{sender.private}, make([]byte, 4)))
			if _, err := sender.number(); err != nil {
				t.Fatal(err)
			}
			list, _, err := h.Sessions(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			dropped := int(of(list, slow).Dropped)
			if dropped == 0 {
				t.Error("no message is left out")
			}
			next := 0
			for range messages - dropped {
				got, err := slow.number()
				if err != nil || got < next {
					t.Fatalf("message %d, %v; want %d or later", got, err, next)
				}
				for ; next < got; next++ {
					if mixed(next) == evs.Agreed {
						t.Fatalf("message %d is missing, which is Agreed", next)
					}
				}
				next++
			}
			if next != messages {
				t.Errorf("the last message is %d, want %d", next-1, messages-1)
			}
		})
		t.Run("close/"+loop, func(t *testing.T) {
			l := limits
			l.Stall = 50 * time.Millisecond
			h, _, slow, _, log := begin(t, l, agreed)
			until(t, h, "a client that is closed", func(list []node.SessionStatus) bool { return of(list, slow).ID == 0 })
			for {
				if _, err := slow.number(); err != nil {
					break
				}
			}
			_ = h.Close()
			for _, want := range []string{"client reads too slowly", session.ReasonStalled.Sentence()} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %q:\n%s", want, log.String())
				}
			}
		})
	}
}

// TestIdleClientMemory: what a client that has sent and received much keeps in the daemon once it is silent, with both loops.
// The other ends of the connections are in this process, too.
func TestIdleClientMemory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no Unix sockets with buffers of a known size")
	}
	const clients, size, most = 100, 60_000, 12 << 10
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools kept over the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for loop, kind := range map[string]host.LoopKind{"portable": host.LoopPortable, "default": host.LoopAuto} {
		t.Run(loop, func(t *testing.T) {
			h, path, _ := servePressure(t, kind, config.Sessions{})
			first := dialRaw(t, path, "first") // what the first client needs stays
			speak := func(c *rawClient) {
				data := make([]byte, size)
				for range 2 {
					c.write(frame.AppendMulticast(nil, c.private, frame.MulticastType(evs.Agreed, false), 1, []string{c.private}, data))
					if _, err := c.number(); err != nil {
						t.Fatal(err)
					}
				}
				for range 20 { // and then little, as clients do
					c.write(frame.AppendMulticast(nil, c.private, frame.MulticastType(evs.Agreed, false), 1, []string{c.private}, make([]byte, 4)))
					if _, err := c.number(); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 5 {
				speak(first)
			}
			before := heap()
			all := make([]*rawClient, clients)
			for i := range all {
				all[i] = dialRaw(t, path, fmt.Sprintf("c%d", i))
				speak(all[i])
			}
			until(t, h, "silence", func(list []node.SessionStatus) bool {
				for _, s := range list {
					if s.QueuedBytes > 0 {
						return false
					}
				}
				return len(list) == clients+1
			})
			if each := (heap() - before) / clients; each > most {
				t.Errorf("a silent client keeps %d bytes, want at most %d", each, most)
			} else {
				t.Logf("a silent client keeps %d bytes", each)
			}
			runtime.KeepAlive(all)
		})
	}
}
