// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"evensong/client"
)

// TestAccessRules: an embedded daemon judges its clients by rules, and refuses to start with wrong ones.
func TestAccessRules(t *testing.T) {
	cfg := Config{
		Name: "a", Cluster: t.Name(), Bind: netip.MustParseAddrPort("127.0.0.1:0"), Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AccessRules: "allow open user=alice\nallow join group=chat*\n", AccessDeny: true,
	}
	d, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	addr := d.ListenAddrs()[0].String()
	if _, err := client.Dial(t.Context(), addr, client.WithName("bob")); !errors.Is(err, client.ErrAuth) {
		t.Errorf("bob: %v", err)
	}
	alice, err := client.Dial(t.Context(), addr, client.WithName("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	for _, group := range []string{"secret", "chat"} {
		if err := alice.Join(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
	ev, err := alice.Next(t.Context())
	if r, ok := ev.(*client.Rejected); err != nil || !ok || r.Request != client.RequestJoin || r.GroupName() != "secret" {
		t.Errorf("got %v, %v", ev, err)
	}
	ev, err = alice.Next(t.Context())
	if v, ok := ev.(*client.View); err != nil || !ok || v.Group != "chat" {
		t.Errorf("got %v, %v", ev, err)
	}

	cfg.AccessRules = "allow open\nalow join\n"
	if _, err := Start(t.Context(), cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "AccessRules:2:1: error: a rule begins with allow or deny") {
		t.Errorf("wrong rules: %v", err)
	}
}
