// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
)

// chanLink is a link of members of one process, in one order.
type chanLink struct {
	in  chan []byte
	all []chan []byte
}

func (l *chanLink) Send(ctx context.Context, _ string, data []byte) error {
	for _, c := range l.all {
		c <- append([]byte(nil), data...)
	}
	return nil
}

func (l *chanLink) Receive(ctx context.Context) ([]byte, error) {
	select {
	case d := <-l.in:
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestMember(t *testing.T) {
	const n = 2
	all := make([]chan []byte, n)
	for i := range all {
		all[i] = make(chan []byte, 10000)
	}
	type talk struct {
		in  io.WriteCloser
		out *bufio.Scanner
		end chan error
	}
	var members [n]talk
	for i := range members {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		members[i] = talk{inW, bufio.NewScanner(outR), make(chan error, 1)}
		go func() { members[i].end <- Member(t.Context(), &chanLink{all[i], all}, i, n, inR, outW) }()
	}
	ask := func(i int, command string) string {
		if command != "" {
			fmt.Fprintln(members[i].in, command)
		}
		members[i].out.Scan()
		return members[i].out.Text()
	}
	want := func(command, answer string) {
		t.Helper()
		for i := range members {
			if got := ask(i, command); got != answer {
				t.Fatalf("member %d: %q: %q, want %q", i, command, got, answer)
			}
		}
	}
	want("", "ready")
	for _, order := range []string{"send agreed 100 20 10000 together", "send agreed 100 20 500 together", "send agreed 100 20 10 together", "pace agreed 100 100000"} {
		want(order, "sending")
		want("mark", "marked")
		for i := range members {
			for {
				var r Report
				if err := json.Unmarshal([]byte(ask(i, "report")), &r); err != nil {
					t.Fatal(err)
				}
				if r.Received > 100 && r.Own > 10 {
					if r.P50 <= 0 || r.P99 < r.P50 || r.Seconds <= 0 {
						t.Errorf("%s: %+v", order, r)
					}
					break
				}
			}
		}
		want("stop", "stopped")
	}
	for i := range members {
		members[i].in.Close()
		if err := <-members[i].end; err != nil {
			t.Error(err)
		}
	}
}
