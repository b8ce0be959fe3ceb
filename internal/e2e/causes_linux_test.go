// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"evensong/client"
)

// Survivors tell a daemon that was killed from one that said good-bye, in their logs and to their clients.
func TestCausesTold(t *testing.T) {
	c := newCluster(t, 3)
	c.started()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	watch := func(d *daemon) *client.Conn {
		conn, err := client.Dial(ctx, "evensong://unix:"+d.socket(), client.WithName("watch")) // reaches into its network namespace
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.Join(ctx, "watchers"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// view is the next one with so many members.
	view := func(conn *client.Conn, members int) *client.View {
		t.Helper()
		for {
			ev, err := conn.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := ev.(*client.View); ok && len(v.Members) == members {
				return v
			}
		}
	}
	stay := c.daemons[:2]
	watchers := []*client.Conn{watch(stay[0]), watch(stay[1])}
	lost := c.daemons[2]
	for _, e := range []struct {
		what   string
		end    func()
		reason string
		views  []client.View // one of these causes and details
	}{
		{"kill -9", lost.kill, "member vanished without a word (" + lost.name + ")", []client.View{{Cause: client.CausedByNetwork, Detail: client.DetailVanished}}},
		// The sessions of a daemon that stops end first, unless the ring is so slow that it cannot wait for that.
		{"SIGTERM", func() { lost.signal(syscall.SIGTERM); lost.await() }, "member said good-bye (" + lost.name + ")", []client.View{
			{Cause: client.CausedByDisconnect, Detail: client.DetailShutdown}, {Cause: client.CausedByNetwork, Detail: client.DetailGoodbye}}},
	} {
		watch(lost)
		for _, w := range watchers {
			view(w, 3)
		}
		e.end()
		for i, w := range watchers {
			v := view(w, 2)
			if !slices.ContainsFunc(e.views, func(want client.View) bool { return v.Cause == want.Cause && v.Detail == want.Detail }) {
				t.Errorf("%s: the client of %s sees %v, detail %q", e.what, stay[i].name, v.Cause, v.Detail)
			}
		}
		for _, d := range stay {
			var last logLine
			c.until(d.name+" without "+lost.name, func() bool {
				for _, l := range logLines(d.log()) {
					if l.Msg == "configuration installed" {
						last = l
					}
				}
				return !strings.Contains(last.Members, lost.name)
			})
			if last.Reason != e.reason {
				t.Errorf("%s: %s says %q, want %q", e.what, d.name, last.Reason, e.reason)
			}
		}
		lost.start()
		c.settled(20 * time.Second)
	}
	c.quiesce(20 * time.Second)
	c.judge(true)
}
