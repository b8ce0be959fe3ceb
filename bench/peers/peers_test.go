// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/bench/run"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args, want string // want: the command that repeats it, or the error
	}{
		{"-against corosync-udpu", "-what evensong -against corosync-udpu -nodes 4 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s"},
		{
			"-what evensong+safe,evensong+unicast+--window=100 -against evensong,raw-multicast -nodes 1,8 -measure low,half -serve --token-timeout=1s",
			`-what evensong+safe,evensong+unicast+--window=100 -against evensong,raw-multicast -nodes 1,8 -bytes 100 -measure low,half -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s -rate 100 -serve "--token-timeout=1s"`,
		},
		{
			"-sweep default,window_size=100+netmtu=8000 -time 2s",
			"-what evensong -against corosync -nodes 4 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 2s -sweep default,window_size=100+netmtu=8000 -sweep-time 1s",
		},
		{
			"-against nats -nodes 1 -members 2 -one-sender",
			"-what evensong -against nats -nodes 1 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s -members 2 -one-sender",
		},
		{
			"-what evensong+loss=0.01 -against evensong",
			"-what evensong+loss=0.01 -against evensong -nodes 4 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s",
		},
		{
			"-against evensong-best+safe -sweep-windows tuned,80 -sweep-packets 1472,8192 -sweep-rounds 2",
			"-what evensong -against evensong-best+safe -nodes 4 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s -sweep-windows tuned,80 -sweep-packets 1472,8192 -sweep-rounds 2 -sweep-time 1s",
		},
		{
			"-scale -nodes 4,8",
			"-what evensong -scale -nodes 4,8 -bytes 100 -measure load -pairs 9 -window 200 -lead 2097152 -warm 300ms -time 1s",
		},
		{"-scale -nodes 4", "-scale: want two numbers of -nodes at least"},
		{"-scale -nodes 4,8,4", "-nodes: 4 stands there twice; leave one out"},
		{"-scale -nodes 4,8 -measure ping,low", "-scale: the verdict is about deliveries under load; add load to -measure"},
		{"-bytes 100,1350,0100", "-bytes: 100 stands there twice; leave one out (-pairs has more runs of the same)"},
		{"-what evensong+safe,evensong,evensong+safe", "-what: evensong+safe stands there twice"},
		{"-against raw-unix,raw-unix", "-against: raw-unix stands there twice"},
		{"-measure ping,ping", "-measure: ping stands there twice"},
		{"-sweep default,default", "-sweep: default stands there twice"},
		{"-scale -nodes 4,8 -against evensong", "-scale: each of -what is compared with itself; leave -against out"},
		{"-what evensong-best", "-what evensong-best: the best of a sweep can only be on the other side"},
		{"-against evensong-best+--window=80", "-against evensong-best+--window=80: --window is what the sweep chooses; leave it out, or compare with evensong+--window=80"},
		{"-against evensong-best -serve --packet-bytes=8000", "-serve --packet-bytes: it is what the sweep of evensong-best chooses"},
		{"-against evensong-best -measure ping", "-against evensong-best: the best is the one that carries most; add load to -measure"},
		{"-against evensong-best -sweep-windows tuned -sweep-packets 1472", "-sweep-windows, -sweep-packets: they only repeat the defaults"},
		{"-sweep-windows 0", "-sweep-windows 0: want tuned and numbers from 1 to 999999"},
		{"-sweep-windows 20,20", "-sweep-windows: 20 stands there twice"},
		{"-sweep-windows tuned,80,tuned", "-sweep-windows: tuned stands there twice"},
		{"-sweep-packets 100", "-sweep-packets 100: want default and numbers from 512 to 65507"},
		{"-sweep-rounds 0", "-sweep-rounds 0: want at least 1"},
		{"-what evensong+loss=1", "-what evensong+loss=1: loss=1: want a share, at least 0 and below 1"},
		{"-against nats+loss=0.1", `-against nats+loss=0.1: nats has no option "loss=0.1"`},
		{"-against raw-unix -members 2", "-members 2: raw-unix has one on each node"},
		{"-against raw-unix -scale -nodes 1,2 -what raw-unix -members 2", "-members 2: raw-unix has one on each node"},
		{"-members 9", "-members 9: want at most 8"},
		{"-what corosync", "-what corosync: the best of a sweep can only be on the other side"},
		{"-against spread", "-against spread: want one of"},
		{"-against raw-unix+safe", `-against raw-unix+safe: raw-unix has no option "safe"`},
		{"-sweep window_size", `-sweep window_size: corosync-knet+window_size: corosync-knet has no option "window_size"`},
		{"-measure rest", "-measure rest: want some of"},
		{"-nodes 9", "-nodes 9: want numbers from 1 to 8"},
		{"-bytes 80", "-bytes 80: want numbers from 88 to 65000"},
		{"-pairs 0", "numbers and times must be positive"},
		{"-o xml", "-o xml: want text, markdown or json"},
		{"all", `unexpected argument "all"`},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = strings.TrimPrefix(o.words(), "go run ./bench/peers ")
		}
		if err == nil && got != c.want || err != nil && !strings.HasPrefix(got, c.want) {
			t.Errorf("%q:\n got %s\nwant %s", c.args, got, c.want)
		}
	}
}

func TestCorosyncConf(t *testing.T) {
	s, err := parseSystem("corosync-udp+window_size=300+sched_rr=yes")
	if err != nil {
		t.Fatal(err)
	}
	conf := corosyncConf(s, 1, 2)
	for _, want := range []string{
		"    transport: udp\n", "    window_size: 300\n", "bindnetaddr: 10.99.0.2\n", "system {\n    sched_rr: yes\n}",
		"nodeid: 1\n        name: n1\n        ring0_addr: 10.99.0.1\n", "nodeid: 2\n        name: n2\n        ring0_addr: 10.99.0.2\n",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("no %q in\n%s", want, conf)
		}
	}
}

func TestReport(t *testing.T) {
	r := result{Origin: run.Origin{Machine: "m", Commit: "c", Options: "go run", Time: time.Unix(0, 0).UTC()}, Sweep: []swept{{4, 100, "corosync-udp", 12345}}}
	x := row{Nodes: 4, Bytes: 100, What: "evensong", Against: "corosync-udp", Figure: "messages/s per receiver", First: []float64{300000, 100000, 200000}, Second: []float64{100000, 50000, 100000}}
	x.ratio()
	r.Rows = append(r.Rows, x)
	x.Nodes, x.AgainstNodes = 8, 4
	r.Verdicts = append(r.Verdicts, deliveries(x, 8, 4))
	r.Tried = append(r.Tried, row{Nodes: 4, Bytes: 1350, Figure: rateFigure, First: []float64{1}, Second: []float64{2}, Ratio: []float64{0.5}, Median: 0.5})
	for format, want := range map[string][]string{
		"markdown": {
			"Machine: m. Commit c, 1970-01-01. Command:\n\n    go run\n",
			"| 4 | 100 | evensong | corosync-udp | messages/s per receiver | 200 000 | 100 000 | 2.00 | 2.00 to 3.00 (3) |",
			"| 4 | 100 | corosync-udp | 12 345 |",
			"| nodes | bytes | sweep | second | figure |",
			"| 4 | 1350 |  |  | messages/s per receiver | 1.00 | 2.00 | 0.50 | 0.50 to 0.50 (1) |",
			"| nodes | bytes | first | second | verdict |",
			"| 8:4 | 100 | evensong | corosync-udp | deliveries/s, 2·T(8)/T(4) | 1 600 000 | 400 000 | 4.00 | 4.00 to 6.00 (3) |",
		},
		"text": {"2.00 to 3.00 (3)", "peers c 4/100/evensong:corosync-udp/messages/s-per-receiver=2.00 8:4/100/evensong:corosync-udp/deliveries/s-2·T(8)/T(4)=4.00"},
		"json": {"\"Median\": 2\n", "\"AgainstNodes\": 4,", "\"Median\": 4\n"},
	} {
		var b bytes.Buffer
		if err := run.Write(&b, format, &r); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: no %q in\n%s", format, w, b.String())
			}
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		system           string
		windows, packets []int
		want             []string
	}{
		{"evensong-best", []int{0, 20}, []int{0, 1472, 8192}, []string{ // 1472 is the default
			"evensong+--packet-bytes=8192",
			"evensong+--window=1024+--personal-window=20+--accelerated-window=10",
			"evensong+--window=1024+--personal-window=20+--accelerated-window=10+--packet-bytes=8192",
		}},
		{"evensong-best+safe+loss=0.01", []int{1, 4000}, []int{1472}, []string{
			"evensong+safe+loss=0.01+--window=1024+--personal-window=1+--accelerated-window=1",
			"evensong+safe+loss=0.01+--window=4000+--personal-window=4000+--accelerated-window=2000",
		}},
	} {
		o := options{windows: c.windows, packets: c.packets}
		s, err := parseSystem(c.system)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range o.candidates(s) {
			got = append(got, s.text)
			if s.name != evensong {
				t.Errorf("%s: its name is %s", s.text, s.name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %v\nwant %v", c.system, got, c.want)
		}
	}
}

// TestField plays the rounds of a sweep.
func TestField(t *testing.T) {
	f := &field{}
	for i, ratio := range []float64{1.2, 0.9, 1.0, 1.1, 0.8} {
		f.list = append(f.list, &entrant{s: system{text: string(rune('a' + i))}, row: row{Median: ratio}})
	}
	f.left = len(f.list)
	check := func(order string, left int) {
		t.Helper()
		got := ""
		for _, e := range f.list {
			got += e.s.text
		}
		if got != order || f.left != left {
			t.Errorf("got %s, %d left, want %s, %d left", got, f.left, order, left)
		}
	}
	f.halve()
	check("ebcda", 3)
	if f.find(system{text: "a"}) != nil {
		t.Error("a has gone, and is found")
	}
	f.find(system{text: "c"}).row.Median = 0.7 // the next round sees it so
	f.halve()
	check("cebda", 2)
	f.halve() // never fewer than are measured in the end
	check("cebda", 2)
	f.drop(system{text: "c"})
	check("ebda", 2)
	f.drop(system{text: "a"})
	f.drop(system{text: "b"})
	f.drop(system{text: "d"})
	check("e", 1)
	f.halve()
	check("e", 1)
	f.drop(system{text: "e"})
	f.halve()
	check("", 0)
}

// A sweep in which nothing works is one comparison that failed, and the others go on.
func TestSweepFails(t *testing.T) {
	b := &bench{o: &options{bytes: []int{100}}, p: &run.Progress{W: io.Discard}} // there is nothing to try
	for _, against := range []string{corosync, evensongBest} {
		if err := b.compare(t.Context(), system{text: evensong}, system{text: against, name: against}, 4); err != nil {
			t.Errorf("%s: %v", against, err)
		}
	}
	if want := []string{"evensong : corosync, 4 nodes, 100 bytes", "evensong : evensong-best, 4 nodes"}; !slices.Equal(b.r.Failed, want) {
		t.Errorf("failed: %q, want %q", b.r.Failed, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.compare(ctx, system{text: evensong}, system{text: corosync, name: corosync}, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("after an interrupt: %v", err)
	}
}

// TestInterrupt: an interrupt costs the pair that is measured, and no other.
func TestInterrupt(t *testing.T) {
	twos := []string{"-what", "evensong", "-against", "raw-unix,nats", "-pairs", "9", "-bytes", "100,1350"}
	for _, c := range []struct {
		args  []string
		after int // runs that are complete
		want  []string
		not   []string
	}{
		{twos, 1, nil, []string{"nodes"}}, // not one pair
		{twos, 7, []string{" 2.00 to 2.00 (3 of 9 pairs, interrupted)", "messages/s-per-receiver=2.00(3-of-9)", interrupted}, []string{"1350", "nats"}},
		{twos, 18 + 4, []string{" (9)", "1350", " (2 of 9 pairs, interrupted)", interrupted}, []string{"nats"}},
		{twos, 4 * 18, []string{" (9)", "1350", "nats"}, []string{"of 9", interrupted}},
		{[]string{"-scale", "-nodes", "4,8", "-pairs", "3"}, 5, []string{"verdict", "deliveries/s, 2·T(8)/T(4)", " (2 of 3 pairs, interrupted)", interrupted}, nil},
		{
			[]string{"-against", "evensong-best", "-sweep-windows", "tuned,40", "-sweep-packets", "8192", "-sweep-rounds", "2"}, 7,
			[]string{"1 of 2 pairs, interrupted", "(2)", interrupted}, []string{"verdict"},
		},
	} {
		o, err := parse(c.args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		b := &bench{o: &o, p: &run.Progress{W: io.Discard}, once: func(_ *duel, _ context.Context, side int, _ string, _ int, _ float64) (sample, error) {
			if runs++; runs > c.after {
				cancel()
				return sample{}, errors.New("a child has ended")
			}
			return sample{rate: float64(200 / (1 + side))}, nil
		}}
		var out bytes.Buffer
		err = b.end(ctx, b.all(ctx), &out)
		if whole := !slices.Contains(c.want, interrupted) && len(c.want) > 0; whole != (err == nil) {
			t.Errorf("%q, interrupted after %d: %v", c.args, c.after, err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%q, interrupted after %d: no %q in\n%s", c.args, c.after, w, &out)
			}
		}
		for _, n := range c.not {
			if strings.Contains(out.String(), n) {
				t.Errorf("%q, interrupted after %d: %q in\n%s", c.args, c.after, n, &out)
			}
		}
		cancel()
	}
}

func TestVerdicts(t *testing.T) {
	rows := []row{
		{Bytes: 100, Against: "one", Figure: rateFigure, Median: 0.98},
		{Bytes: 100, Against: "one", Figure: "CPU µs per delivery", Median: 0.5},
		{Bytes: 8192, Against: "one", Figure: rateFigure, Median: 0.8},
		{Bytes: 100, Against: "two", Figure: rateFigure, Median: 0.95},
		{Bytes: 8192, Against: "two", Figure: rateFigure, Median: 0.9},
	}
	got := verdicts(rows, []int{100, 1350, 8192}, 17) // 1350 could not be measured
	if len(got) != 2 || got[0].Against != "two" || got[0].Bytes != 100 || got[1].Against != "one" || got[1].Bytes != 8192 || got[1].Figure != "messages/s, first / best of 17 settings" {
		t.Errorf("got %+v", got)
	}
	if rows[0].Figure != rateFigure {
		t.Errorf("a verdict has changed its row: %+v", rows[0])
	}
}

func TestAbandoned(t *testing.T) {
	for name, want := range map[string]bool{"evspeer-1-1-sw": false, "evspeer-999999999-1-1": true, "other-999999999-1": false, "evspeer-x": false} {
		if got := abandoned(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
