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
		{"-part idle -storm", "-part idle -clients 5000 -groups 1000 -members 1000 -joins 20 -storm"},
		{"-part slow -pairs 3 -tcp", "-part slow -readers 50 -bytes 1000 -window 500 -pairs 3 -time 6s -tcp"},
		{"-part fair,slow -serve --slow-client=block", `-part fair,slow -readers 50 -bytes 1000 -window 500 -pace 1000 -pairs 9 -time 6s -serve "--slow-client=block"`},
		{"-part join", "-part join: want some of idle,slow,fair"},
		{"-members 6000", "-members 6000: want 2 to the number of clients, 5000"},
		{"-bytes 7", "-bytes 7: want 8 to 100000"},
		{"-readers 1", "numbers and times must be positive, and there must be two readers"},
		{"-o xml", "-o xml: want text, markdown or json"},
		{"idle", `unexpected argument "idle"`},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = strings.TrimPrefix(o.words(), "go run ./bench/sessions ")
		}
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.args, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	r := result{Origin: run.Origin{Machine: "m", Commit: "c", Options: "go run", Time: time.Unix(0, 0).UTC()}}
	r.add("one", "KiB", "<32", 2.5)
	r.add("several", "%", ">95", 90, 99, 94, 96)
	r.add("even", "%", ">95", 90, 99, 94, 95.5)
	var b bytes.Buffer
	if err := run.Write(&b, "markdown", &r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Machine: m. Commit c, 1970-01-01. Command:\n\n    go run\n",
		"| one | KiB | 2.50 |  | below 32 | yes |",
		"| several | % | 95.0 | 90.0 to 99.0 (4) | above 95 | no |",
		"| even | % | 94.8 | 90.0 to 99.0 (4) | above 95 | no |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := run.Write(&b, "json", &r); err != nil || !strings.Contains(b.String(), `"Bar": "<32"`) {
		t.Errorf("%v %s", err, b.String())
	}
	b.Reset()
	if err := run.Write(&b, "text", &r); err != nil || !strings.Contains(b.String(), "90.0 to 99.0 (4)") {
		t.Errorf("%v %s", err, b.String())
	}
}
