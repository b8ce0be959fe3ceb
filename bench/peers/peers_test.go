// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
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
		{"-what evensong+loss=1", "-what evensong+loss=1: loss=1: want a share, at least 0 and below 1"},
		{"-against nats+loss=0.1", `-against nats+loss=0.1: nats has no option "loss=0.1"`},
		{"-against raw-unix -members 2", "-members 2: raw-unix has one on each node"},
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
	r := result{Machine: "m", Commit: "c", Options: "go run", Time: time.Unix(0, 0).UTC(), Sweep: []swept{{4, 100, "corosync-udp", 12345}}}
	x := row{Nodes: 4, Bytes: 100, What: "evensong", Against: "corosync-udp", Figure: "messages/s per receiver", First: []float64{300000, 100000, 200000}, Second: []float64{100000, 50000, 100000}}
	x.ratio()
	r.Rows = append(r.Rows, x)
	for format, want := range map[string][]string{
		"markdown": {
			"Machine: m. Commit c, 1970-01-01. Command:\n\n    go run\n",
			"| 4 | 100 | evensong | corosync-udp | messages/s per receiver | 200 000 | 100 000 | 2.00 | 2.00 to 3.00 (3) |",
			"| 4 | 100 | corosync-udp | 12 345 |",
		},
		"text": {"2.00 to 3.00 (3)", "peers c 4/100/evensong:corosync-udp/messages/s-per-receiver=2.00"},
		"json": {"\"Median\": 2\n"},
	} {
		var b bytes.Buffer
		if err := r.write(&b, format); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: no %q in\n%s", format, w, b.String())
			}
		}
	}
}

func TestAbandoned(t *testing.T) {
	for name, want := range map[string]bool{"evspeer-1-1-sw": false, "evspeer-999999999-1-1": true, "other-999999999-1": false, "evspeer-x": false} {
		if got := abandoned(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
