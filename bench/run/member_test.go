// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
)

// queue is what a member has not yet received. It has no bound: a member that receives nothing while it sends must not be
// what others wait for, nor wait for itself.
type queue struct {
	mu   sync.Mutex
	list [][]byte
	more chan struct{} // room for one
}

func (q *queue) put(data []byte) {
	q.mu.Lock()
	q.list = append(q.list, bytes.Clone(data))
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take is the first message; nil if there is none.
func (q *queue) take() (data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) > 0 {
		data, q.list = q.list[0], q.list[1:]
	}
	return data
}

// queueLink is a link of members of one process.
type queueLink struct {
	in  *queue
	all []*queue
}

func (l *queueLink) Send(_ context.Context, _ string, data []byte) error {
	for _, q := range l.all {
		q.put(data)
	}
	return nil
}

// Receive is as strict as a link may be: a wait that was canceled gives nothing, though there may be something.
func (l *queueLink) Receive(ctx context.Context) ([]byte, error) {
	for ctx.Err() == nil {
		if data := l.in.take(); data != nil {
			return data, nil
		}
		select {
		case <-l.in.more:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

func TestMember(t *testing.T) {
	const n = 2
	all := make([]*queue, n)
	for i := range all {
		all[i] = &queue{more: make(chan struct{}, 1)}
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
		go func() { members[i].end <- Member(t.Context(), &queueLink{all[i], all}, i, n, inR, outW) }()
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
