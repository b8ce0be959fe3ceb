// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
	"evensong/daemon"
	"evensong/internal/tools/latency"
	"evensong/internal/tools/monitor"
	"evensong/internal/tools/user"
)

// ringDaemon in the environment has this program be a daemon of a temporary ring.
const ringDaemon = "BENCH_TEST_RING_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(ringDaemon) == "mute" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	if os.Getenv(ringDaemon) != "" {
		if Daemon(os.Stdin, os.Stdout, slog.New(slog.DiscardHandler)) != nil {
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serve starts a daemon and returns where it serves clients.
func serve(t *testing.T) string {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.ListenAddrs()[0].String()
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestLoads: every service with every size at every rate, several senders, receivers and groups.
func TestLoads(t *testing.T) {
	c := Config{
		Session: user.Options{Address: serve(t), Name: "b"}, Services: []client.Service{client.Unreliable, client.FIFO, client.Agreed, client.Safe},
		Bytes: []int{MinBytes, 3000}, Rates: []Rate{{PerSecond: 2000}, {Percent: 50}, {}}, Senders: 2, Receivers: 1, Groups: 3, Window: 20,
		Warm: -1, Time: 20 * time.Millisecond, NoDaemons: true,
	}
	r, err := Run(limited(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 4*2*3 || r.Receivers != 3 || r.Senders != 2 || r.Groups != 3 || len(r.Warnings) != 0 {
		t.Fatalf("%+v", r)
	}
	for i, l := range r.Runs {
		if want := []string{"max", "2000", "50%"}[i%3]; l.Rate != want {
			t.Errorf("run %d at %s, want %s: max comes first", i, l.Rate, want)
		}
		// Of a schedule 40 messages were due and are counted, late or not; a receiver that had no processor counts none in time.
		if l.Latency == nil || l.Rate == "2000" && l.Latency.Count != 3*40 || l.Latency.P50 > l.Latency.Max || l.Messages.Sent == 0 {
			t.Errorf("%s, %d bytes, %s: %+v %+v", l.Service, l.Bytes, l.Rate, l.Messages, l.Latency)
		}
		for k := range l.Percentiles[1:] {
			if l.Percentiles[k].Share >= l.Percentiles[k+1].Share || l.Percentiles[k].Seconds > l.Percentiles[k+1].Seconds {
				t.Errorf("%s, %d bytes, %s: percentiles %v", l.Service, l.Bytes, l.Rate, l.Percentiles)
				break
			}
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; last != r.Line() || !strings.HasPrefix(last, "bench: 2 senders, 3 receivers, 3 groups; unreliable 24 bytes: max ") {
		t.Errorf("last line %q", last)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	out.Reset()
	if err := r.HTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	if n := strings.Count(page, "<svg "); n != 3 {
		t.Errorf("%d plots", n)
	}
	for _, bad := range []string{"http", "src=", "url(", "@import", "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	checkPlots(t, page)
}

// checkPlots parses the pictures: they are whole, and everything drawn is inside.
func checkPlots(t *testing.T, page string) {
	t.Helper()
	if strings.Contains(page, "<script") {
		t.Error("the page has a script")
	}
	for i, rest := range strings.Split(page, "<svg ")[1:] {
		picture, _, ok := strings.Cut(rest, "</svg>")
		if !ok {
			t.Fatalf("plot %d has no end", i)
		}
		d := xml.NewDecoder(strings.NewReader("<svg " + picture + "</svg>"))
		drawn := map[string]int{}
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("plot %d: %v", i, err)
			}
			e, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			drawn[e.Name.Local]++
			for _, a := range e.Attr {
				limit := map[string]float64{"x": 960, "x1": 960, "x2": 960, "cx": 960, "y": 320, "y1": 320, "y2": 320, "cy": 320}[a.Name.Local]
				if limit == 0 {
					continue
				}
				if v, err := strconv.ParseFloat(a.Value, 64); err != nil || v < 0 || v > limit {
					t.Errorf("plot %d: %s %s=%q is outside", i, e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
		if drawn["path"] == 0 || drawn["circle"] == 0 || drawn["text"] < 4 {
			t.Errorf("plot %d has %v", i, drawn)
		}
	}
}

// TestMuteRing: a daemon that says nothing is not waited for when who wants the ring gives up.
func TestMuteRing(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(limited(t))
	_, err = StartRing(ctx, 2, func() *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), ringDaemon+"=mute")
		cancel()
		return cmd
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestRing: daemons of a temporary ring tell their own figures.
func TestRing(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := StartRing(limited(t), 2, func() *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), ringDaemon+"=1")
		return cmd
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	// Long enough that the daemons did something between being asked and being asked again, however long that takes.
	stop, before := make(chan struct{}), uint64(0)
	enough := func(p Progress) {
		switch {
		case before == 0:
			before = p.Received // the daemons were asked by now
		case stop != nil && p.Received > before+1000:
			close(stop)
			stop = nil
		}
	}
	r, err := Run(limited(t), Config{Servers: ring.Servers, Rates: []Rate{{}}, Warm: -1, Time: time.Hour, Reach: monitor.Reach{Admin: ring.Admin}, Stop: stop, Progress: enough})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 0 || strings.Join(r.Daemons, " ") != "d1 d2" || r.Senders != 2 {
		t.Errorf("%+v", r)
	}
	d := r.Runs[0].Daemons
	if d == nil || d.Count != 2 || d.CPU <= 0 || d.Wakeups <= 0 || d.Calls() <= 0 || d.DatagramsOut <= 0 || d.Rotations <= 0 || d.Packets == 0 || d.ConfigurationChanges != 0 {
		t.Errorf("%+v", d)
	}
	dir := ring.dir
	ring.Close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// TestNoAdmin: where no daemon can be asked there is a warning, and figures of the rest.
func TestNoAdmin(t *testing.T) {
	r, err := Run(limited(t), Config{Session: user.Options{Address: serve(t)}, Rates: []Rate{{}}, Warm: -1, Time: 10 * time.Millisecond, Reach: monitor.Reach{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || r.Runs[0].Daemons != nil || r.Runs[0].Latency == nil {
		t.Errorf("%+v", r)
	}
}

// TestStop: a load of an hour ends when it is asked to, with figures.
func TestStop(t *testing.T) {
	for _, rate := range []Rate{{}, {PerSecond: 1000}} {
		stop := make(chan struct{})
		c := Config{Session: user.Options{Address: serve(t)}, Rates: []Rate{rate}, Warm: -1, Time: time.Hour, NoDaemons: true, Stop: stop}
		c.Progress = func(p Progress) {
			if stop != nil && p.Received > 0 {
				close(stop)
				stop = nil
			}
		}
		r, err := Run(limited(t), c)
		if err != nil {
			t.Fatal(err)
		}
		if l := r.Runs[0]; l.Messages.Received == 0 || l.Seconds <= 0 || l.Seconds > 60 {
			t.Errorf("%+v", l)
		}
	}
}

// TestMeasuredBefore: what was measured before something went wrong is not lost.
func TestMeasuredBefore(t *testing.T) {
	for _, first := range []bool{true, false} {
		ctx, cancel := context.WithCancel(limited(t))
		c := Config{Session: user.Options{Address: serve(t)}, Bytes: []int{100, 200}, Rates: []Rate{{}}, Warm: -1, Time: 1500 * time.Millisecond, NoDaemons: true}
		c.Progress = func(p Progress) {
			if first || strings.Contains(p.Load, "200") {
				cancel()
			}
		}
		r, err := Run(ctx, c)
		switch {
		case !errors.Is(err, context.Canceled):
			t.Errorf("error %v", err)
		case first && r != nil:
			t.Errorf("a report without anything: %+v", r)
		case first:
		case r == nil || len(r.Runs) != 1 || r.Runs[0].Bytes != 100 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "not all was measured"):
			t.Errorf("%+v", r)
		}
	}
}

// TestBehind: a schedule that nobody can keep is said to be that, and what was never sent counts as waiting.
func TestBehind(t *testing.T) {
	r, err := Run(limited(t), Config{Session: user.Options{Address: serve(t)}, Rates: []Rate{{PerSecond: 1e8}}, Warm: -1, Time: 10 * time.Millisecond, NoDaemons: true})
	if err != nil {
		t.Fatal(err)
	}
	l := r.Runs[0]
	if !l.Behind || l.Unsent == 0 || l.Latency.P50 < 0.005 || !strings.Contains(r.Line(), "behind schedule") {
		t.Errorf("%+v %+v", l, l.Latency)
	}
}

// TestBegin: the time of a load is that from its first sender on, which may have waited for a processor.
func TestBegin(t *testing.T) {
	b := &bench{Config: Config{Senders: 2, Warm: time.Second, Time: time.Minute}, start: time.Now()}
	p := newPhase(b, 1, client.Agreed, 100, 0)
	b.start = b.start.Add(-time.Hour)
	p.beginNow()
	<-p.begun
	if p.warm < time.Hour+b.Warm {
		t.Errorf("warm at %v", p.warm)
	}
	warm := p.warm
	b.start = b.start.Add(-time.Hour)
	if p.beginNow(); p.warm != warm {
		t.Errorf("the second sender begins it again, at %v", p.warm)
	}
	p.measureFrom(3 * time.Hour)
	p.measureFrom(4 * time.Hour)
	<-p.measured
	if from, to := time.Duration(p.from.Load()), time.Duration(p.to.Load()); from != 3*time.Hour || to != from+b.Time {
		t.Errorf("measured from %v to %v", from, to)
	}
}

func TestRecordUnsent(t *testing.T) {
	for _, n := range []uint64{1, 999, 1001, 12345678} {
		h := latency.New()
		(&sender{unsent: n, first: time.Second}).recordUnsent(h, 3*time.Second, 2*time.Second, 2)
		if h.Count() != 2*n || h.Quantile(1) < 1999*time.Millisecond || n > 1 && h.Quantile(0) > 1005*time.Millisecond {
			t.Errorf("%d: %d from %v to %v", n, h.Count(), h.Quantile(0), h.Quantile(1))
		}
	}
}

// TestJudge: what must not happen to messages is an error.
func TestJudge(t *testing.T) {
	b := &bench{Config: Config{Session: user.Options{Address: serve(t)}}, start: time.Now(), groups: []string{"g"}}
	b.fill()
	for i := range 2 {
		s, err := b.dial(limited(t), i)
		if err != nil {
			t.Fatal(err)
		}
		b.sessions = append(b.sessions, s)
	}
	b.Senders = 2
	t.Cleanup(b.close)
	message := func(kind int16, sender uint32, number uint64) *client.Message {
		data := make([]byte, headerBytes)
		binary.LittleEndian.PutUint32(data, sender)
		binary.LittleEndian.PutUint32(data[4:], 1)
		binary.LittleEndian.PutUint64(data[8:], number)
		return &client.Message{Sender: "#x#d", Type: kind, Data: data}
	}
	type seen struct {
		kind   int16
		sender uint32
		number uint64
	}
	for _, c := range []struct {
		name    string
		service client.Service
		first   []seen // by the first receiver
		second  []seen
		want    string // of the error
	}{
		{"all", client.Agreed, []seen{{0, 0, 1}, {0, 1, 1}, {1, 0, 1}, {1, 1, 1}}, []seen{{0, 0, 1}, {0, 1, 1}, {1, 0, 1}, {1, 1, 1}}, ""},
		{"missing", client.Agreed, []seen{{0, 0, 1}, {0, 0, 3}}, nil, "got message 3 of #x#d after message 1"},
		{"doubled", client.FIFO, []seen{{0, 0, 1}, {0, 0, 1}}, nil, "got message 1 of #x#d after message 1"},
		{"the last missing", client.Safe, []seen{{0, 0, 1}, {1, 0, 2}}, nil, "has 1 messages of #x#d, which has sent 2"},
		{"lost, and may be", client.Unreliable, []seen{{0, 0, 1}, {0, 0, 3}, {1, 0, 4}, {1, 1, 0}}, []seen{{1, 0, 4}, {1, 1, 0}}, ""},
		{"two orders", client.Agreed, []seen{{0, 0, 1}, {0, 1, 1}, {1, 0, 1}, {1, 1, 1}}, []seen{{0, 1, 1}, {0, 0, 1}, {1, 1, 1}, {1, 0, 1}}, "in different orders"},
		{"two orders, and may be", client.FIFO, []seen{{0, 0, 1}, {0, 1, 1}, {1, 0, 1}, {1, 1, 1}}, []seen{{0, 1, 1}, {0, 0, 1}, {1, 1, 1}, {1, 0, 1}}, ""},
		{"somebody else", client.Agreed, []seen{{0, 7, 1}}, nil, "none of this benchmark"},
	} {
		p := newPhase(b, 1, c.service, 100, 0)
		p.measureFrom(0)
		p.to.Store(int64(time.Hour))
		got := ""
		for i, list := range [][]seen{c.first, c.second} {
			for _, m := range list {
				if err := b.sessions[i].note(p, message(m.kind, m.sender, m.number)); err != nil {
					got = err.Error()
				}
			}
		}
		if got == "" {
			if _, err := p.result(usage{}, usage{}); err != nil {
				got = err.Error()
			}
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSeries: however long it gets, nothing is lost and the points stay few.
func TestSeries(t *testing.T) {
	a, b := newSeries(), newSeries()
	for i := range 100 {
		a.add(time.Duration(i)*time.Minute, time.Second)
	}
	b.add(time.Second, 2*time.Second)
	a.merge(&b)
	n := uint64(0)
	for _, p := range a.at {
		n += p.n
	}
	if n != 101 || len(a.at) > maxPoints || a.at[0].most != 2*time.Second || a.at[0].n < 2 {
		t.Errorf("%d in %d points of %v: %+v", n, len(a.at), a.width, a.at[0])
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]Rate{"max": {}, "50%": {Percent: 50}, "0.5": {PerSecond: 0.5}, "20000": {PerSecond: 20000}} {
		if r, err := ParseRate(text); err != nil || r != want || r.String() != text {
			t.Errorf("%s: %v %v", text, r, err)
		}
	}
	for _, text := range []string{"", "fast", "0", "-1", "%", "NaN", "1e30"} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q is %v", text, r)
		}
	}
	for _, c := range []Config{{Rates: []Rate{{Percent: 50}}}, {Bytes: []int{3}}, {Senders: -1}, {Senders: 300}, {Receivers: -1}, {Groups: -1}, {Window: -1}, {Time: time.Nanosecond}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestPercentText(t *testing.T) {
	for share, want := range map[float64]string{0: "0", 0.5: "50", 0.9: "90", 0.99: "99", 1 - 1e-3: "99.9", 0.99937: "99.94", 1 - 1e-6: "99.9999"} {
		if got := percentText(share); got != want {
			t.Errorf("%v is %s, want %s", share, got, want)
		}
	}
}

// Latencies by schedule of processors that had no time are said to be that, and no others.
func TestBusyProcessors(t *testing.T) {
	for _, x := range []struct {
		scheduled, busy float64
		cores           int
		said            bool
	}{{1000, 1.9, 2, true}, {1000, 1.5, 2, false}, {0, 2, 2, false}, {1000, 0, 2, false}, {1000, 0.9, 1, true}} {
		l := Load{Scheduled: x.scheduled, Busy: x.busy, cores: x.cores}
		said := slices.ContainsFunc(l.remarks(), func(s string) bool { return strings.Contains(s, "were busy") })
		if said != x.said {
			t.Errorf("%+v: %q", x, l.remarks())
		}
	}
}
