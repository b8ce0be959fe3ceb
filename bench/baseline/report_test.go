// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"evensong/bench/run"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args, want string // want: the command that repeats it, or the error
	}{
		{"-quick", "-daemons 1,3 -bytes 100,1350 -service agreed -window 200 -lead 4194304 -warm 500ms -time 500ms -ping 500ms -repeat 1"},
		{"-quick -daemons 4 -time 3s -counters", "-daemons 4 -bytes 100,1350 -service agreed -window 200 -lead 4194304 -warm 500ms -time 3s -ping 500ms -repeat 1 -counters"},
		{"-bytes 10", "-bytes 10: want numbers from 88 to 100000, separated by commas"},
		{"-daemons 9", "-daemons 9: want numbers from 1 to 8, separated by commas"},
		{"-service fifo", "-service fifo: want agreed or safe"},
		{"-o xml", "-o xml: want text, markdown or json"},
		{"-window 0", "windows, times and repetitions must be positive"},
		{"-counters -binary evensong", "-counters runs the daemons in this program, so it does not go with -binary"},
		{"run", `unexpected argument "run"`},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		got := strings.TrimPrefix(o.words(), "go run ./bench/baseline ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.args, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	cells := newCells(options{daemons: []int{3}, services: []string{"agreed"}, bytes: []int{100}})
	for _, rate := range []float64{900, 1_234_567, 1000} {
		cells[0].rows = append(cells[0].rows, row{key: cells[0].key, Rate: 1000 * rate, LoadP50: rate, LoadP99: 2 * rate, DaemonCPU: 1.5, ClientCPU: 0.25})
	}
	r := result{Origin: run.Origin{Machine: "2 cores", Commit: "abc", Options: "go run", Time: time.Unix(0, 0).UTC()}, Rows: []row{cells[0].median()}}
	var b bytes.Buffer
	if err := run.Write(&b, "markdown", &r); err != nil {
		t.Fatal(err)
	}
	const want = `Machine: 2 cores. Commit abc, 1970-01-01. Command:

    go run

| daemons | service | bytes | messages/s per receiver | MB/s | latency under load, µs p50 / p99 | CPU µs per delivery, daemons + clients |
| --- | --- | --- | --- | --- | --- | --- |
| 3 | agreed | 100 | 1 000 000 | 100.0 | 1000 / 2000 | 1.50 + 0.25 |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if got, want := r.line(), "baseline abc 3/agreed/100=1000000@1.75us"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
}
