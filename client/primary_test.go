// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"strings"
	"testing"

	"evensong/client"
	"evensong/daemon"
)

// TestPrimary: a session that asks is told in front of its views, and at each change; one that does not ask is told nothing, and
// one of the original's protocol may ask in vain.
func TestPrimary(t *testing.T) {
	if _, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Voters: []string{"d0", "d1"}}); !errors.Is(err, daemon.ErrConfig) || !strings.Contains(err.Error(), `this one, "d", is not among them`) {
		t.Errorf("a daemon that is none of its voters: %v", err)
	}
	ds, addrs := clusterWith(t, 3, func(c *daemon.Config) { c.Voters = []string{"d0", "d1", "d2"} })
	ctx := within(t)
	dial := func(addr, name string, opts ...client.Option) *client.Conn {
		t.Helper()
		c, err := client.Dial(ctx, addr, append(opts, client.WithName(name))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.Join(ctx, name); err != nil { // a group of its own: nobody leaves it
			t.Fatal(err)
		}
		return c
	}
	asks, plain := dial("evensong://"+addrs[0], "asks", client.WithPrimary()), dial("evensong://"+addrs[0], "plain")
	old := dial(addrs[0], "old", client.WithPrimary())
	until := func(want client.Primary) {
		t.Helper()
		for next[*client.PrimaryChange](t, asks).Primary != want {
		}
	}
	until(client.PrimaryYes)
	if v := next[*client.View](t, asks); v.Primary != client.PrimaryYes {
		t.Errorf("view %v, primary %v", v, v.Primary)
	}
	for _, c := range []*client.Conn{plain, old} {
		if v := next[*client.View](t, c); v.Primary != client.PrimaryUnclaimed {
			t.Errorf("view %v, primary %v", v, v.Primary)
		}
	}
	ds[2].Close()
	until(client.PrimaryNo)
	until(client.PrimaryYes) // two of three
	ds[1].Close()
	until(client.PrimaryNo)
	if err := asks.Join(ctx, "h"); err != nil {
		t.Fatal(err)
	}
	if v := view(t, asks, asks.PrivateGroup()); v.Group != "h" || v.Primary != client.PrimaryNo {
		t.Errorf("view %v, primary %v", v, v.Primary)
	}
	if err := plain.Leave(ctx, "plain"); err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := plain.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := ev.(*client.PrimaryChange); ok {
			t.Errorf("who did not ask got %v", p)
		}
		if _, ok := ev.(*client.SelfLeave); ok {
			break
		}
	}
}
