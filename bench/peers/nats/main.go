// SPDX-License-Identifier: Apache-2.0

// Nats is a member that talks through a NATS server, with NATS's own Go client: ADDRESS ME MEMBERS. It is a module of its
// own, so that the client stays out of what Evensong needs; bench/peers builds and starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"evensong/bench/run"
)

const (
	data  = "bench.data"
	hello = "bench.hello"
)

// link receives through a channel, the way with the fewest hand-overs that the client has.
type link struct {
	conn *nats.Conn
	in   chan *nats.Msg
}

func (l *link) Send(_ context.Context, _ string, payload []byte) error {
	return l.conn.Publish(data, payload)
}

func (l *link) Receive(ctx context.Context) ([]byte, error) {
	select {
	case m := <-l.in:
		return m.Data, nil
	default:
	}
	select {
	case m := <-l.in:
		return m.Data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func main() {
	if err := member(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func member(args []string) error {
	if len(args) != 3 {
		return errors.New("arguments: ADDRESS ME MEMBERS")
	}
	me, err1 := strconv.Atoi(args[1])
	n, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var conn *nats.Conn
	var err error
	for try := 0; ; try++ {
		if conn, err = nats.Connect(args[0], nats.NoReconnect()); err == nil {
			break
		}
		if try == 100 {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the server is starting
	}
	defer conn.Close()
	l := &link{conn, make(chan *nats.Msg, 1<<20)}
	if _, err := conn.ChanSubscribe(data, l.in); err != nil {
		return err
	}
	// Servers learn in order what each one's clients want. So once one has heard another one's hello, that one's server
	// also knows where data is wanted here; and when all have heard all, data reaches everybody.
	greetings := make(chan *nats.Msg, 1<<16)
	greet, err := conn.ChanSubscribe(hello, greetings)
	if err != nil {
		return err
	}
	heard := map[string]bool{}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); len(heard) < n; {
		select {
		case m := <-greetings:
			heard[string(m.Data)] = true
		case <-tick.C:
			if time.Since(begin) > 30*time.Second {
				return fmt.Errorf("only %d of %d members are there", len(heard), n)
			}
		}
		if err := conn.Publish(hello, []byte(args[1])); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil {
			return err
		}
	}
	// The last ones need our greeting; it was sent after we had heard them.
	if err := greet.Unsubscribe(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1) // as the other members
	return run.Member(context.Background(), l, me, n, os.Stdin, os.Stdout)
}
