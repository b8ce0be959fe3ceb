// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/internal/host"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
)

// workers is how many cases run at a time; they wait for answers most of the time.
const workers = 16

// shared are the daemons that cases have in common: one with the usual event loop, one with the portable one.
var shared struct {
	usual, portable *server
	noIPv6          error
}

// A server is a daemon and where it listens.
type server struct {
	name    string
	host    *host.Host
	tcp     netip.AddrPort
	tcp6    netip.AddrPort // invalid if there is no IPv6
	unix    string
	witness *witness
}

func (s *server) addr(socket string) (network, addr string) {
	switch socket {
	case "unix":
		return "unix", s.unix
	case "tcp6":
		return "tcp6", s.tcp6.String()
	}
	return "tcp4", s.tcp.String()
}

// startServer starts a daemon alone. Set changes the configuration, if not nil.
func startServer(name, dir string, set func(*host.Config, *node.Config)) (*server, error) {
	s := &server{name: name, unix: filepath.Join(dir, name)}
	hc := host.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Unix: []string{s.unix}}
	hc.Transport.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	if shared.noIPv6 == nil {
		hc.Listen = append(hc.Listen, netip.MustParseAddrPort("[::1]:0"))
	}
	nc := node.Config{Me: evs.ProcID{Name: name}, Cluster: name, Accelerated: true}
	if set != nil {
		set(&hc, &nc)
	}
	var err error
	s.host, err = host.Start(hc, func(host.Boot) (host.Machine, error) {
		inc, rnd, err := host.NewIdentity()
		if err != nil {
			return nil, err
		}
		nc.Me.Inc = inc
		return node.New(nc, rnd, 0)
	})
	if err != nil {
		return nil, err
	}
	s.tcp = s.host.ListenAddrs()[0]
	if shared.noIPv6 == nil {
		s.tcp6 = s.host.ListenAddrs()[1]
	}
	return s, nil
}

// start starts a daemon for one test.
func start(t *testing.T, name string, set func(*host.Config, *node.Config)) *server {
	t.Helper()
	// Paths of Unix sockets are short, so not t.TempDir, which holds the test's name.
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := startServer(name, dir, set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.host.Close(); err != nil {
			t.Errorf("the daemon %s: %v", name, err)
		}
	})
	return s
}

func TestMain(m *testing.M) {
	status, err := runAll(m)
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func runAll(m *testing.M) (status int, err error) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		shared.noIPv6 = err
		fmt.Fprintln(os.Stderr, "CONFORMANCE OVER IPv6 IS NOT TESTED: this machine has none:", err)
	} else {
		l.Close()
	}
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	for _, s := range []struct {
		to   **server
		name string
		loop host.LoopKind
	}{{&shared.usual, "usual", host.LoopAuto}, {&shared.portable, "portable", host.LoopPortable}} {
		*s.to, err = startServer(s.name, dir, func(hc *host.Config, _ *node.Config) { hc.Loop = s.loop })
		if err != nil {
			return 1, err
		}
		defer (*s.to).host.Close()
		if (*s.to).witness, err = newWitness(*s.to); err != nil {
			return 1, err
		}
		defer (*s.to).witness.close()
	}
	return m.Run(), nil
}

// allWays reports whether each case runs in all ways, and with large numbers.
func allWays() bool { return os.Getenv("EVENSONG_CONFORMANCE") == "all" }

// ways are the ways in which case number i runs.
func ways(i int) []way {
	all := []way{{"tcp", false}, {"tcp", true}, {"unix", false}, {"unix", true}, {"portable", false}, {"portable", true}}
	if shared.noIPv6 == nil {
		all = append(all, way{"tcp6", false}, way{"tcp6", true})
	}
	if allWays() {
		return all
	}
	return []way{all[0], all[1+i%(len(all)-1)]}
}

// run runs cases in several ways each, several at a time.
func run(t *testing.T, cases []testCase) {
	t.Helper()
	seen := map[string]bool{}
	var wg sync.WaitGroup
	turns := make(chan struct{}, workers)
	for i, tc := range cases {
		if seen[tc.name] || tc.cites == "" {
			t.Errorf("%s: two cases of this name, or no place cited", tc.name)
		}
		seen[tc.name] = true
		for _, w := range ways(i) {
			turns <- struct{}{}
			wg.Go(func() {
				defer func() { <-turns }()
				s := shared.usual
				if w.socket == "portable" {
					s = shared.portable
				}
				t.Run(tc.name+"/"+w.String(), func(t *testing.T) { converse(t, s, w, tc) })
			})
		}
	}
	wg.Wait()
}

// converse runs a case, and sees to the witness.
func converse(t *testing.T, s *server, w way, tc testCase) {
	c := &conversation{T: t, way: w, server: s, n: conversations.Add(1)}
	defer func() {
		if t.Failed() {
			t.Logf("the case cites %s", tc.cites)
		}
		if s.witness != nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.witness.beat(ctx); err != nil {
				t.Errorf("the witness: %v", err)
			}
		}
	}()
	tc.run(c)
}

// A witness is a pair of clients that talk as long as their daemon runs. They must get each message and nothing else.
type witness struct {
	a, b net.Conn

	mu    sync.Mutex
	rcvd  int // messages
	err   error
	news  chan struct{} // closed and made anew with each message
	done  chan struct{}
	tired chan struct{} // closed to end it
}

// witnessPause is between two messages of a witness.
const witnessPause = time.Millisecond

func newWitness(s *server) (*witness, error) {
	w := &witness{news: make(chan struct{}), done: make(chan struct{}), tired: make(chan struct{})}
	open := func(user string) (net.Conn, error) {
		c, err := net.Dial("tcp4", s.tcp.String())
		if err != nil {
			return nil, err
		}
		for _, step := range []struct{ say, hear []byte }{{connect(user, 0), list("NULL")}, {choice("NULL"), accept("#" + user + "#" + s.name)}} {
			if _, err := c.Write(step.say); err != nil {
				return nil, err
			}
			if err := hear(c, step.hear); err != nil {
				return nil, err
			}
		}
		return c, nil
	}
	var err error
	if w.a, err = open("witness-a"); err != nil {
		return nil, err
	}
	if w.b, err = open("witness-b"); err != nil {
		return nil, err
	}
	// The receiver asks for its place in the group first; its own message behind that says that it has it.
	b := "#witness-b#" + s.name
	m := frame{typ: agreed, name: b, groups: []string{b}}
	if _, err := w.b.Write(slicesJoin(frame{typ: join, name: b, groups: []string{"witness"}}.bytes(), m.bytes())); err != nil {
		return nil, err
	}
	if err := hear(w.b, m.delivered()); err != nil {
		return nil, err
	}
	go w.talk("#witness-a#" + s.name)
	return w, nil
}

// hear reads exactly these bytes.
func hear(c net.Conn, want []byte) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		k, err := c.Read(got[n:])
		if n += k; err != nil {
			return fmt.Errorf("%w: %s", err, differ(got[:n], want))
		}
	}
	if string(got) != string(want) {
		return fmt.Errorf("wrong bytes: %s", differ(got, want))
	}
	return nil
}

func (w *witness) talk(me string) {
	defer close(w.done)
	for i := 0; ; i++ {
		m := frame{typ: []uint32{reliable, fifo, agreed, safe}[i%4], name: me, groups: []string{"witness"}, hint: hint(int16(i)), data: fmt.Append(nil, "all is well ", i)}
		_, err := w.a.Write(m.bytes())
		if err == nil {
			err = hear(w.b, m.delivered())
		}
		w.mu.Lock()
		w.rcvd, w.err = i+1, err
		close(w.news)
		w.news = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case <-time.After(witnessPause):
		case <-w.tired:
			return
		}
	}
}

// beat waits for a message that was sent after now.
func (w *witness) beat(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for until := w.rcvd + 2; w.rcvd < until; {
		if w.err != nil {
			return w.err
		}
		news := w.news
		w.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return w.err
}

func (w *witness) close() {
	close(w.tired)
	<-w.done
	w.a.Close()
	w.b.Close()
}
