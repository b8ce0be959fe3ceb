// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/proto/evs"
)

// file writes a configuration file for daemon d that lists the given daemons in this order.
func (d *daemon) file(directives string, list ...*daemon) {
	d.c.t.Helper()
	var b strings.Builder
	for _, o := range list {
		fmt.Fprintf(&b, "Spread_Segment unicast:%d { %s %s }\n", o.port, o.name, o.addr())
	}
	d.conf = d.path(".conf")
	if err := os.WriteFile(d.conf, []byte(b.String()+directives), 0o644); err != nil {
		d.c.t.Fatal(err)
	}
}

// says counts the lines of a daemon's log with this message.
func (d *daemon) says(msg string) (n int) {
	for _, l := range logLines(d.log()) {
		if l.Msg == msg {
			n++
		}
	}
	return n
}

// reload is SIGHUP, and waits until the daemon says what came of it.
func (d *daemon) reload(want string) {
	d.c.t.Helper()
	before := d.says(want)
	d.signal(syscall.SIGHUP)
	d.c.until(d.name+" says "+want, func() bool { return d.says(want) > before })
}

// until waits until something is so.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.alive()
			c.logTails()
			c.t.Fatal("waited in vain: " + what)
		}
	}
}

// Windows and timers change, a daemon is added and another one removed, all by files that one daemon after the other reads
// again, while clients send without a pause. In a group that loses nobody every message comes to everybody, once, and no
// view and no signal does; in a group that loses somebody there is one view for it.
func TestReloadUnderLoad(t *testing.T) {
	// Between two daemons: more than it takes to leave a daemon out that nobody lists, so that who has read a file has the
	// time to fall out with those who have not.
	const pause = 700 * time.Millisecond
	c := newCluster(t, 5)
	// The one that goes is the first in ring order, which has the most to say in every change.
	removed, d2, d3, added, d5 := c.daemons[0], c.daemons[1], c.daemons[2], c.daemons[3], c.daemons[4]
	first := []*daemon{removed, d2, d3, d5}
	for _, d := range first {
		d.file("", first...)
		d.start()
	}
	stay := []*member{c.addMember(d2, "c2", room, "red"), c.addMember(d3, "c3", room), c.addMember(d5, "c5", room)}
	leaver := c.addMember(removed, "c1", "red", "green")
	c.settled(20 * time.Second)

	calm := c.history.len() // from here on
	stop := make(chan struct{})
	var sent atomic.Int64
	var senders sync.WaitGroup
	for k, m := range stay {
		senders.Go(func() {
			level := []client.Service{client.Agreed, client.Safe, client.FIFO, client.Reliable, client.Causal}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if !m.multicast(level[(i+k)%len(level)], 0, 100+i*37%3000, room) {
					t.Errorf("%s was not accepted", m.user)
					return
				}
				sent.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	begin, installed := time.Now(), map[*daemon]int{}
	change := func(daemons []*daemon, directives string, list ...*daemon) {
		t.Helper()
		for _, d := range daemons {
			d.file(directives, list...)
			d.reload("configuration reloaded")
			time.Sleep(pause)
		}
	}
	quiet := func(what string) {
		t.Helper()
		for _, d := range []*daemon{d2, d3, d5} {
			n, _ := d.installed(begin)
			if n != installed[d] {
				t.Errorf("%s: %s installed %d configurations", what, d.name, n-installed[d])
			}
			installed[d] = n
		}
	}
	once := func(what string) {
		t.Helper()
		for _, d := range []*daemon{d2, d3, d5} {
			installed[d]++
		}
		quiet(what)
	}

	change(first, "Window = 60\nPersonalWindow = 15\nAcceleratedWindow = 10\n", first...)
	quiet("windows")
	change(first, "TokenTimeout = 2500\nWindow = 200\nPersonalWindow = 50\n", first...)
	quiet("timers")
	change(first, "", first...)
	quiet("timers and windows back")
	for _, d := range first { // a bad file
		if err := os.WriteFile(d.conf, []byte("Spread_Segment {"), 0o644); err != nil {
			t.Fatal(err)
		}
		d.reload("configuration not reloaded; the one in force stays")
	}
	quiet("a bad file")

	all := []*daemon{removed, d2, d3, added, d5}
	added.file("", all...)
	added.start()
	newcomer := c.addMember(added, "c4", "green")
	change(first, "", all...)
	c.until("the newcomer sees green", func() bool { return newcomer.sees("green", []string{"#c1#d1", "#c4#d4"}) == "" })
	time.Sleep(time.Second)
	once("a daemon is added")

	left := []*daemon{d2, d3, added, d5}
	change([]*daemon{d5, d2, added, d3}, "", left...)
	c.until("green without the removed daemon", func() bool { return newcomer.sees("green", []string{"#c4#d4"}) == "" })
	c.until("red without the removed daemon", func() bool { return stay[0].sees("red", []string{"#c2#d2"}) == "" })
	c.until("the removed daemon by itself", func() bool { return leaver.sees("green", []string{"#c1#d1"}) == "" })
	time.Sleep(time.Second)
	once("a daemon is removed")
	if !removed.running() {
		t.Error("the removed daemon has ended by itself")
	}

	close(stop)
	senders.Wait()
	leaver.stop()
	c.members = slices.DeleteFunc(c.members, func(m *member) bool { return m == leaver })
	removed.signal(syscall.SIGTERM)
	removed.await()
	removed.cmd = nil // nobody misses it
	c.quiesce(20 * time.Second)
	c.countAll(stay, calm)
	t.Logf("%d messages in %v", sent.Load(), time.Since(begin).Round(time.Millisecond))
	c.judge(true)
}

// countAll demands of the members of room, who have not changed, that each got each message for room once since the record
// numbered from, and neither a view nor a signal.
func (c *cluster) countAll(members []*member, from int) {
	c.t.Helper()
	type message struct {
		sender string
		digest uint64
	}
	var wanted []message
	got := map[string]map[message]int{}
	for _, m := range members {
		got[m.sess.Name] = map[message]int{}
	}
	for _, r := range c.history.copy()[from:] {
		mine := got[r.Session.Name]
		switch {
		case r.Kind == evs.TraceMulticast && slices.Equal(r.Groups, []string{room}):
			wanted = append(wanted, message{r.Session.Name, r.Digest})
		case mine != nil && r.Kind == evs.TraceClientMsg && slices.Contains(r.Groups, room):
			mine[message{r.Sender, r.Digest}]++
		case mine != nil && r.Group == room && (r.Kind == evs.TraceView || r.Kind == evs.TraceSignal):
			c.t.Errorf("%s, which has lost nobody: %s", r.Session.Name, line(&r))
		case mine != nil && r.Kind == evs.TraceDisconnect:
			c.t.Errorf("%s", line(&r))
		}
	}
	if len(wanted) < 1000 {
		c.t.Errorf("only %d messages were sent", len(wanted))
	}
	for name, mine := range got {
		lost, doubled := 0, 0
		for _, w := range wanted {
			switch n := mine[w]; {
			case n == 0:
				lost++
			case n > 1:
				doubled++
			}
		}
		if lost+doubled > 0 || len(mine) != len(wanted) {
			c.t.Errorf("%s: of %d messages %d are lost and %d came more than once; %d different ones came", name, len(wanted), lost, doubled, len(mine))
		}
	}
}
