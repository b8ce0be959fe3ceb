// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
)

// usage is what a daemon's process has of the system.
type usage struct {
	files, threads int
	rss, peak      int // bytes
}

func (d *daemon) usage() usage {
	d.c.t.Helper()
	proc := "/proc/" + strconv.Itoa(d.pid())
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		d.c.t.Fatal(err)
	}
	b, err := os.ReadFile(proc + "/status")
	if err != nil {
		d.c.t.Fatal(err)
	}
	u := usage{files: len(fds)}
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "VmRSS:":
			u.rss = n << 10
		case "VmHWM:":
			u.peak = n << 10
		case "Threads:":
			u.threads = n
		}
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d MiB, at most %d MiB", u.files, u.threads, u.rss>>20, u.peak>>20)
}

const barMemory = 200 << 20 // bytes, of a daemon under abuse

// Many clients of one daemon join and leave at the same time.
func TestManyClientsComeAndGo(t *testing.T) {
	const clients, rounds, rooms = 200, 5, 20
	enabled(t)
	c := makeCluster(t, 1, false)
	c.groups = nil
	for i := range rooms {
		c.groups = append(c.groups, "room"+strconv.Itoa(i))
	}
	c.daemons[0].start()
	for i := range clients {
		c.addMember(c.daemons[0], "c"+strconv.Itoa(i))
	}
	c.settled(20 * time.Second)
	begin := time.Now()
	var all sync.WaitGroup
	for i, m := range c.members {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range rounds {
				g := c.groups[r.IntN(rooms)]
				m.join(g)
				m.multicast(client.Agreed, 0, 100, g)
				if h := c.groups[r.IntN(rooms)]; h != g {
					m.multicast(client.FIFO, 0, 100, g, h)
				}
				m.leave(g)
			}
			m.join(c.groups[i%rooms])
		})
	}
	all.Wait()
	c.settled(60 * time.Second)
	samples{time.Since(begin)}.report(t, fmt.Sprintf("%d clients, %d joins, %d leaves, %d messages", clients, clients*(rounds+1), clients*rounds, 2*clients*rounds), 0)
	c.quiesce(20 * time.Second)
	c.judge(true)
	t.Log(c.daemons[0].usage())
}

// session is a connection whose client takes apart no more than it must, so that what is measured is the daemon.
type session struct {
	nc      net.Conn
	private string
	rest    []byte
}

// dialRaw does the handshake by hand.
func dialRaw(network, address, user string) (*session, error) {
	nc, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	s := &session{nc: nc}
	if err := s.handshake(user); err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake of %s: %w", user, err)
	}
	return s, nil
}

func (s *session) handshake(user string) error {
	hello := frame.Connect{Version: frame.Ours, Flags: frame.FlagMembership, User: user}
	if _, err := s.nc.Write(hello.Append(nil)); err != nil {
		return err
	}
	if err := s.expect(func(b []byte) (n int, code frame.Code) { _, n, code = frame.ParseAuthList(b); return }); err != nil {
		return err
	}
	choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
	if err != nil {
		return err
	}
	if _, err := s.nc.Write(choice); err != nil {
		return err
	}
	return s.expect(func(b []byte) (n int, code frame.Code) {
		_, s.private, n, code = frame.ParseAccept(b, frame.Ours)
		return
	})
}

func (s *session) expect(parse func([]byte) (int, frame.Code)) error {
	buf := make([]byte, 512)
	for {
		n, code := parse(s.rest)
		if code != 0 {
			return code
		}
		if n > 0 {
			s.rest = s.rest[n:]
			return nil
		}
		got, err := s.nc.Read(buf)
		s.rest = append(s.rest, buf[:got]...)
		if got == 0 && err != nil {
			return err
		}
	}
}

// views reads everything and calls f with the number of members of every view, until the end of the connection.
func (s *session) views(f func(members int)) error {
	buf := make([]byte, 64<<10)
	have := copy(buf, s.rest)
	skip := 0
	for {
		at := min(skip, have)
		skip -= at
		for skip == 0 && have-at >= frame.HeaderSize {
			h := frame.ParseHeader(buf[at:])
			if h.Type.Kind() == frame.KindView {
				f(int(h.NumGroups))
			}
			size := frame.HeaderSize + int(h.NumGroups)*frame.NameSize + int(h.DataLen)
			skip = max(0, size-(have-at))
			at = min(have, at+size)
		}
		have = copy(buf, buf[at:have])
		n, err := s.nc.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
	}
}

// 900 clients join one group, and each of them is told of each join: 8 GB of views if all are told one by one.
func TestLargeGroup(t *testing.T) {
	const clients = 900
	const bar = 10 * time.Second
	enabled(t)
	for attempt := range 2 {
		c := makeCluster(t, 1, false)
		d := c.daemons[0]
		c.addMember(d, "first")
		d.start()
		c.settled(20 * time.Second)
		sessions := make([]*session, clients)
		begin := time.Now()
		for i := range sessions {
			s, err := dialRaw("unix", d.socket(), "m"+strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			defer s.nc.Close()
			sessions[i] = s
		}
		connected := time.Since(begin)
		var views, full, lost atomic.Int64
		done := make(chan struct{})
		var readers sync.WaitGroup
		begin = time.Now()
		for _, s := range sessions {
			readers.Go(func() {
				err := s.views(func(members int) {
					views.Add(1)
					if members == clients && full.Add(1) == clients {
						close(done)
					}
				})
				if !errors.Is(err, net.ErrClosed) {
					lost.Add(1)
				}
			})
		}
		for _, s := range sessions {
			if _, err := s.nc.Write(frame.AppendJoin(nil, s.private, room)); err != nil {
				t.Fatal(err)
			}
		}
		timeout := false
		select {
		case <-done:
		case <-time.After(60 * time.Second):
			timeout = true
		}
		took := time.Since(begin)
		u := d.usage()
		what := fmt.Sprintf("%d clients join one group", clients)
		t.Logf("connected in %v; %d views read, %d sessions have the last one, %d were lost; %v", connected, views.Load(), full.Load(), lost.Load(), u)
		samples{took}.report(t, what, bar)
		figures.add(what+": memory at most", "1", "", strconv.Itoa(u.peak>>20)+" MiB", "", "< "+strconv.Itoa(barMemory>>20)+" MiB")
		for _, s := range sessions {
			s.nc.Close()
		}
		readers.Wait()
		if u.peak >= barMemory {
			t.Errorf("the daemon took up to %d MiB, the bar is %d", u.peak>>20, barMemory>>20)
		}
		c.end()
		if !timeout && lost.Load() == 0 && took < bar {
			return
		}
		text := fmt.Sprintf("%d of %d clients got the last view within %v, %d lost their session", full.Load(), clients, took, lost.Load())
		t.Logf("%s\nend of the log:\n%s", text, tail(d.log()))
		if attempt > 0 {
			t.Error(text)
		}
	}
}

// Garbage at every door of a daemon: what is no client, what is half a client, and clients whose numbers lie. The others
// do not notice, and when it is over nothing is left of it.
func TestGarbage(t *testing.T) {
	enabled(t)
	for attempt := range 3 {
		trouble, stalls := garbageRun(t)
		if len(trouble) == 0 {
			return
		}
		text := strings.Join(trouble, "; ")
		if len(stalls) == 0 || attempt == 2 {
			t.Fatalf("%s (not scheduled: %v)", text, stalls)
		}
		t.Logf("once more, since daemons were not scheduled (%v): %s", stalls, text)
	}
}

// garbageRun returns what the honest clients had to suffer, and when daemons were not scheduled meanwhile.
func garbageRun(t *testing.T) (trouble, stalls []string) {
	c := makeCluster(t, 3, false)
	defer c.end()
	c.started()
	c.flow(c.members, 10*time.Second)
	time.Sleep(100 * time.Millisecond)
	d := c.daemons[0]
	before := d.usage()
	begun := time.Now()
	var views []int64
	for _, m := range c.members {
		views = append(views, m.views.Load())
	}
	g := &garbage{t: t, d: d, r: rand.New(rand.NewPCG(3, 9))}
	defer g.hangUp()

	// Honest clients go on all the time, and measure how long their messages take.
	stop := make(chan struct{})
	var honest sync.WaitGroup
	var latency samples
	honest.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			begin := time.Now()
			if missing := c.send(c.members).missing(5 * time.Second); missing != "" {
				trouble = append(trouble, "a message did not arrive: "+missing)
				return
			}
			latency = append(latency, time.Since(begin))
		}
	})
	g.noise(100)
	g.halfOpen(150)
	g.lies()
	g.hoard(300)
	g.datagrams(20000)
	g.quickies(500)
	during := d.usage()
	g.timeouts()
	close(stop)
	honest.Wait()
	t.Logf("before: %v; during: %v, %d connections made and not closed by us", before, during, len(g.open))
	latency.report(t, "three Agreed messages beside garbage", 0)
	if m := latency.median(); m > 100*time.Millisecond {
		trouble = append(trouble, fmt.Sprintf("messages took %v in the median", m))
	}
	for i, m := range c.members {
		if n := m.views.Load() - views[i]; n > 0 {
			trouble = append(trouble, fmt.Sprintf("%s saw %d views", m.user, n))
		}
	}
	c.alive()
	figures.add("garbage: memory at most", "1", "", strconv.Itoa(during.peak>>20)+" MiB", "", "< "+strconv.Itoa(barMemory>>20)+" MiB")
	if during.peak >= barMemory {
		t.Errorf("the daemon took up to %d MiB, the bar is %d", during.peak>>20, barMemory>>20)
	}
	g.hangUp()
	var after usage
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if after = d.usage(); after.files <= before.files {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("descriptors are left: %v before, %v after", before, after)
			break
		}
	}
	t.Logf("after: %v", after)
	if after.threads > before.threads+4 {
		t.Errorf("threads are left: %v before, %v after", before, after)
	}
	c.quiesce(20 * time.Second)
	c.judge(true)
	return trouble, c.stalls(begun)
}

// garbage makes trouble for one daemon.
type garbage struct {
	t    *testing.T
	d    *daemon
	r    *rand.Rand
	open []net.Conn
	half []net.Conn // those that the daemon must close by itself
}

// door dials the daemon's Unix socket or its port, in turn.
func (g *garbage) door(i int) net.Conn {
	g.t.Helper()
	network, address := "unix", g.d.socket()
	if i%2 == 1 {
		network, address = "tcp", g.d.addr()+":"+strconv.Itoa(g.d.port)
	}
	nc, err := net.Dial(network, address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.open = append(g.open, nc)
	return nc
}

// guest is a session in good standing, until it lies.
func (g *garbage) guest(i int) *session {
	g.t.Helper()
	s := &session{nc: g.door(i)}
	if err := s.handshake(fmt.Sprintf("g%d", len(g.open))); err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *garbage) hangUp() {
	for _, nc := range g.open {
		nc.Close()
	}
	g.open = nil
}

func (g *garbage) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

// write sends what the daemon may refuse to read to the end.
func (g *garbage) write(nc net.Conn, b []byte) {
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = nc.Write(b)
}

// noise is random bytes from the first one on.
func (g *garbage) noise(n int) {
	for i := range n {
		nc := g.door(i)
		g.write(nc, g.bytes(1+g.r.IntN(5000)))
		if i%3 == 0 {
			nc.Close()
		}
	}
}

// halfOpen is connections that stop in the middle of the handshake. Those whose connect message is not complete the
// daemon ends by itself, soon; who has yet to authenticate gets longer.
func (g *garbage) halfOpen(n int) {
	hello := (&frame.Connect{Version: frame.Ours, Flags: frame.FlagMembership, User: "half"}).Append(nil)
	for i := range n {
		nc := g.door(i)
		switch i % 3 {
		case 0:
			g.half = append(g.half, nc)
		case 1:
			g.write(nc, hello[:1+g.r.IntN(len(hello)-1)])
			g.half = append(g.half, nc)
		case 2:
			g.write(nc, (&frame.Connect{Version: frame.Ours, User: fmt.Sprintf("h%d", i)}).Append(nil))
		}
	}
}

// lies is sessions in good standing whose headers promise what does not come or cannot be.
func (g *garbage) lies() {
	counts := []int32{0, 1, 100, 101, 1 << 15, 1 << 26, 1<<31 - 1, -1, -1 << 31}
	i := 0
	for _, names := range counts {
		for _, data := range []int32{0, 1, 143000, 144001, 1 << 26, 1<<31 - 1, -1, -1 << 31} {
			s := g.guest(i)
			i++
			h := frame.Header{Type: frame.TypeAgreed, Name: []byte(s.private), NumGroups: names, DataLen: data}
			h.Order = frame.ParseHeader(frame.AppendJoin(nil, s.private, room)).Order
			g.write(s.nc, h.Append(nil))
			g.write(s.nc, g.bytes(g.r.IntN(200)))
		}
	}
	// Another's name, a daemon's message, random types, and a flood of random bytes behind a good handshake.
	for k := range 64 {
		s := g.guest(k)
		b := frame.AppendMulticast(nil, s.private, frame.TypeAgreed, 0, []string{"nowhere"}, []byte("hello"))
		switch k % 4 {
		case 0:
			b = frame.AppendMulticast(nil, "#c1#d1", frame.TypeAgreed, 0, []string{room}, make([]byte, 100))
		case 1:
			b = frame.AppendTransition(nil, room, evs.ViewID{1, 2, 3})
		case 2:
			copy(b, g.bytes(4))
		case 3:
			b = append(b, g.bytes(100<<10)...)
		}
		g.write(s.nc, b)
	}
}

// hoard is sessions that each send almost all of the largest message, so that the daemon must keep it.
func (g *garbage) hoard(n int) {
	for k := range n {
		s := g.guest(k)
		b := frame.AppendMulticast(nil, s.private, frame.TypeAgreed, 0, []string{room}, make([]byte, frame.MaxBody-frame.NameSize))
		g.write(s.nc, b[:len(b)-1])
	}
}

// quickies connect and are gone.
func (g *garbage) quickies(n int) {
	for i := range n {
		nc := g.door(i)
		if i%2 == 0 {
			g.write(nc, []byte{4, 4, 0, 1})
		}
		nc.Close()
		g.open = g.open[:len(g.open)-1]
	}
}

// datagrams go to the ports at which the daemons talk among each other: noise, noise that begins right, and packets of
// the right cluster with a right checksum whose bodies are noise.
func (g *garbage) datagrams(n int) {
	var to []net.Conn
	for _, d := range g.d.c.daemons {
		u, err := net.Dial("udp", d.addr()+":"+strconv.Itoa(d.port))
		if err != nil {
			g.t.Fatal(err)
		}
		defer u.Close()
		to = append(to, u)
	}
	stranger := packet.NewSealer("", evs.ProcID{Name: "stranger", Inc: 12345})
	for i := range n {
		b := g.bytes(g.r.IntN(1500))
		if i%100 == 0 {
			b = g.bytes(g.r.IntN(60000))
		}
		if len(b) >= packet.HeaderSize {
			switch i % 3 {
			case 1:
				copy(b, []byte{'E', 'V', packet.Version, byte(1 + g.r.IntN(8))})
			case 2:
				stranger.Seal(b, packet.Kind(1+g.r.IntN(8)))
			}
		}
		_, _ = to[i%len(to)].Write(b) // a full buffer is a lost datagram
		if i%50 == 0 {
			time.Sleep(time.Millisecond) // this is about what they say; a flood is another test
		}
	}
}

// timeouts waits until the daemon has closed the connections without a whole connect message.
func (g *garbage) timeouts() {
	g.t.Helper()
	deadline := time.Now().Add(12 * time.Second)
	for _, nc := range g.half {
		_ = nc.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			g.t.Error("the daemon keeps a connection that stopped in the middle of the handshake for 12 s")
			return
		}
	}
}
