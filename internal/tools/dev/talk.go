// SPDX-License-Identifier: Apache-2.0

package dev

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"evensong/client"
	"evensong/internal/tools/amount"
)

// The three who talk, one at each daemon, and what they say: a round that goes on for ever.
var talkers = []string{"ada", "ben", "cem"}

var lines = []string{
	"Is everybody here? I see the same view as you do.",
	"Yes. A token goes round between the daemons, and rests while nobody has anything to say.",
	"And all of us get every line in the same order, whoever sends first.",
	"This one is Safe: when you read it, all three daemons have it.",
	"If one of us dies now, the others get a new view, and agree on what came before it.",
	"Anybody may join: a view will tell all of us, at the same place between two lines.",
	"Then we go on. What was the question?",
}

// member is one talker: its connection, and a digest over what it has received, in order.
type member struct {
	name string
	conn *client.Conn

	mu     sync.Mutex
	count  int
	digest []uint64 // digest[n] is over the first n messages since the view with all three
	ready  bool
	apart  bool // a daemon went out of reach since then: orders may differ from here on
}

// converse lets the talkers talk until ctx ends.
func converse(ctx context.Context, c *cluster, pause time.Duration, p *printer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	ms := make([]*member, len(talkers))
	for i, name := range talkers {
		dial, stop := context.WithTimeout(ctx, 5*time.Second)
		conn, err := client.Dial(dial, c.hosts[i].ListenAddrs()[0].String(), client.WithName(name))
		stop()
		if err != nil {
			return fmt.Errorf("%s connects to daemon %s: %w", name, names[i], err)
		}
		defer conn.Close()
		ms[i] = &member{name: name, conn: conn, digest: []uint64{0}}
	}
	if err := waitForRing(ctx, c); err != nil {
		return err
	}
	for i, m := range ms {
		wg.Go(func() {
			if err := m.listen(ctx, i == 0, p); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", m.name, err))
			}
		})
		if err := m.conn.Join(ctx, Group); err != nil {
			return err
		}
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			p.say("order", "%s", compare(ms))
			return nil
		case <-tick.C:
		}
		m, text, service := ms[turn%len(ms)], lines[turn%len(lines)], client.Agreed
		if strings.Contains(text, "Safe") {
			service = client.Safe
		}
		if err := m.conn.Multicast(ctx, service, 1, []byte(text), Group); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if turn > 0 && turn%9 == 0 {
			p.say("order", "%s", compare(ms))
		}
	}
}

// waitForRing waits until the three daemons are in one configuration, so that the first views say so.
func waitForRing(ctx context.Context, c *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		together := true
		for _, h := range c.hosts {
			n, err := h.Members(ctx)
			if err != nil {
				return err
			}
			together = together && len(n) == len(names)
		}
		if together {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemons did not find each other: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// listen receives, keeps the digest, and for one of the members writes everything down.
func (m *member) listen(ctx context.Context, show bool, p *printer) error {
	for ev, err := range m.conn.Events(ctx) {
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case *client.Message:
			m.note(ev)
			if show {
				who, daemon := split(ev.Sender)
				p.say(who, "%s  (at daemon %s)", strings.TrimRight(string(ev.Data), "\n"), daemon)
			}
		case *client.View:
			m.mu.Lock()
			if !m.ready && len(ev.Members) >= len(talkers) {
				m.ready, m.count, m.digest = true, 0, []uint64{0}
			}
			m.mu.Unlock()
			if show {
				p.say("view", "%s", describe(ev))
			}
		case *client.Transition:
			m.mu.Lock()
			m.apart = m.ready
			m.mu.Unlock()
			if show {
				p.say("view", "a member is out of reach; a new view follows")
			}
		}
	}
	return nil
}

func (m *member) note(ev *client.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		return
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%x %s %s", m.digest[m.count], ev.Sender, ev.Data)
	m.count++
	m.digest = append(m.digest, h.Sum64())
}

// compare says whether all members have received the same messages in the same order, as far as the slowest one is.
func compare(ms []*member) string {
	n := -1
	for _, m := range ms {
		m.mu.Lock()
		if m.apart {
			m.mu.Unlock()
			return "the members were not together all the time, and each part had an order of its own"
		}
		if n < 0 || m.count < n {
			n = m.count
		}
		m.mu.Unlock()
	}
	var first uint64
	for i, m := range ms {
		m.mu.Lock()
		d := m.digest[n]
		m.mu.Unlock()
		if i == 0 {
			first = d
		} else if d != first {
			return fmt.Sprintf("%s and %s DIFFER within their first %s; that is a bug, please report it", ms[0].name, m.name, amount.Of(n, "message"))
		}
	}
	return fmt.Sprintf("%s have received the same %s in the same order (digest %016x)", strings.Join(talkers, ", "), amount.Of(n, "message"), first)
}

// describe puts a view into words.
func describe(v *client.View) string {
	var who []string
	for _, m := range v.Members {
		name, daemon := split(m)
		who = append(who, name+"@"+daemon)
	}
	changed := ""
	for _, c := range []struct{ name, verb string }{{v.Joined, "joined"}, {v.Left, "left"}, {v.Disconnected, "disconnected"}} {
		if c.name != "" {
			name, _ := split(c.name)
			changed = fmt.Sprintf("%s %s; ", name, c.verb)
		}
	}
	if changed == "" {
		changed = "the network changed; "
	}
	return fmt.Sprintf("%smembers of %q: %s", changed, v.Group, strings.Join(who, ", "))
}

// split takes "#user#daemon" apart.
func split(private string) (user, daemon string) {
	user, daemon, _ = strings.Cut(strings.TrimPrefix(private, "#"), "#")
	return user, daemon
}
