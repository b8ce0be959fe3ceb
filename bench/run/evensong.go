// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"fmt"
	"time"

	"evensong/client"
)

const group = "bench"

var services = map[string]client.Service{"fifo": client.FIFO, "causal": client.Causal, "agreed": client.Agreed, "safe": client.Safe}

// IsService says whether members can send with a service of this name.
func IsService(name string) bool { return services[name] != 0 }

// evensongLink is a client of a daemon.
type evensongLink struct {
	conn *client.Conn
	last *client.Message
}

// EvensongMember is the life of a member that is a client of the daemon at an address. It begins when all are there.
func EvensongMember(ctx context.Context, address string, me, n int, run func(context.Context, Link) error) error {
	var conn *client.Conn
	var err error
	for try := 0; ; try++ {
		if conn, err = client.Dial(ctx, address, client.WithName(fmt.Sprintf("c%d", me)), client.WithPooledMessages()); err == nil {
			break
		}
		if try == 100 {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the daemon is starting
	}
	defer conn.Abort()
	if err := conn.Join(ctx, group); err != nil {
		return err
	}
	if err := awaitAll(ctx, conn, n); err != nil {
		return err
	}
	return run(ctx, &evensongLink{conn: conn})
}

// awaitAll waits for the view with all clients.
func awaitAll(ctx context.Context, conn *client.Conn, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ev, err := conn.Next(ctx)
		if err != nil {
			return fmt.Errorf("wait for the view with all %d clients: %w", n, err)
		}
		if v, ok := ev.(*client.View); ok && len(v.Members) == n {
			return nil
		}
	}
}

func (l *evensongLink) Send(ctx context.Context, service string, data []byte) error {
	return l.conn.Multicast(ctx, services[service], 0, data, group)
}

func (l *evensongLink) Receive(ctx context.Context) ([]byte, error) {
	if l.last != nil {
		l.last.Release()
		l.last = nil
	}
	ev, err := l.conn.Next(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := ev.(*client.Message)
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrChanged, ev)
	}
	l.last = m
	return m.Data, nil
}
