// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"bytes"
	"context"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/daemon"
	"evensong/internal/tools/user"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestAllInOne(t *testing.T) {
	steps := 0
	c := Config{Session: user.Options{Address: serve(t), Name: "member"}, Size: 5, Count: 20, Pause: -1, Progress: func(int, int) { steps++ }}
	samples, err := Run(limited(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != 20 || steps != 20 {
		t.Errorf("%d samples, %d steps", len(samples), steps)
	}
	for _, s := range samples {
		if s.Join <= 0 || s.Leave <= 0 {
			t.Errorf("%+v", s)
		}
	}
	r := NewReport(c, samples)
	if r.Join.All.Count != 20 || r.Join.Trimmed.Count != 18 || math.Abs(r.Sum.All.Total-r.Join.All.Total-r.Leave.All.Total) > 1e-9 {
		t.Errorf("%+v", r)
	}
	var out bytes.Buffer
	if r.Write(&out); !strings.Contains(out.String(), "group test, 5 members") || strings.Count(out.String(), "\n") != 8 {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	if WriteRaw(&out, samples); strings.Count(out.String(), "\n") != 20 {
		t.Errorf("%s", out.String())
	}
}

// TestApart has load members and two measuring ones in runs of their own. The load members stay for both.
func TestApart(t *testing.T) {
	addr := serve(t)
	ready := make(chan struct{})
	load := make(chan error, 1)
	go func() {
		_, err := Run(limited(t), Config{Session: user.Options{Address: addr}, Role: Load, Group: "g", Size: 3, Measuring: 2, Ready: func() { close(ready) }})
		load <- err
	}()
	<-ready
	for range 2 {
		if samples, err := Run(limited(t), Config{Session: user.Options{Address: addr}, Role: Measure, Group: "g", Size: 3, Count: 3, Pause: time.Microsecond}); err != nil || len(samples) != 3 {
			t.Errorf("%v, %v", samples, err)
		}
	}
	if err := <-load; err != nil {
		t.Error(err)
	}
}

// TestFlush has members with view synchrony, which flush by themselves.
func TestFlush(t *testing.T) {
	samples, err := Run(limited(t), Config{Session: user.Options{Address: serve(t), Name: "member"}, Size: 3, Count: 5, Pause: -1, Flush: true})
	if err != nil || len(samples) != 5 {
		t.Errorf("%v, %v", samples, err)
	}
}

func TestDescribe(t *testing.T) {
	got := Describe([]float64{4, 1, 3, 2, 10})
	want := Stats{Count: 5, Total: 20, Min: 1, Quartile: 2, Median: 3, Upper: 4, Max: 10, Mean: 4, SD: math.Sqrt(12.5)}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Describe([]float64{1, 2}); got.Median != 1.5 || got.Quartile != 1.25 {
		t.Errorf("%+v", got)
	}
	if got := Describe(nil); got != (Stats{}) {
		t.Errorf("%+v", got)
	}
	if got := Describe([]float64{7}); got.SD != 0 || got.Median != 7 {
		t.Errorf("%+v", got)
	}
	var many []float64
	for i := range 40 {
		many = append(many, float64(40-i))
	}
	if got := trim(many); len(got) != 36 || got[0] != 3 || got[35] != 38 {
		t.Errorf("%v", got)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []Config{{Size: -1}, {Size: MaxSize + 1}, {Count: -1}, {Role: Load, Size: 1}, {Measuring: -1}} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := Run(t.Context(), Config{Session: user.Options{Address: "unix:/nowhere/here"}}); err == nil {
		t.Error("no daemon: no error")
	}
}
