// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/daemon"
)

// TestRefusedByADaemon: in a pipe refusals are errors in both dialects and with view synchrony, also where the policy
// refuses what the session sends to itself to see the end of its requests.
func TestRefusedByADaemon(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback},
		AccessRules: "deny join group=secret*\ndeny send user=mute group=\"#mute#*\"\n"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, dialect := range []string{"", "evensong://"} {
		for _, name := range []string{"alice", "mute"} {
			for what, run := range map[string]func(o Options, in string, out, errOut *bytes.Buffer) error{
				"plain": func(o Options, in string, out, errOut *bytes.Buffer) error {
					return Main(ctx, o, strings.NewReader(in), out, errOut)
				},
				"flush": func(o Options, in string, out, errOut *bytes.Buffer) error {
					return FlushMain(ctx, o, true, strings.NewReader(in), out, errOut)
				},
			} {
				var out, errOut bytes.Buffer
				o := Options{Address: dialect + d.ListenAddrs()[0].String(), Name: name}
				err := run(o, "j secrets\nq\n", &out, &errOut)
				if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code != exitRefused {
					t.Errorf("%q, %s, %s: %v", dialect, name, what, err)
				}
				if errOut.String() != "refused by the daemon's access rules: join to secrets\n" || !strings.HasSuffix(out.String(), "\nbye\n") {
					t.Errorf("%q, %s, %s: printed %q and %q", dialect, name, what, out.String(), errOut.String())
				}
				// With view synchrony the view comes later than the order of the join.
				if err := run(Options{Address: o.Address}, "j open\nq\n", &out, &errOut); err != nil || what == "plain" && !strings.Contains(out.String(), "view of open: you joined") {
					t.Errorf("%q, %s: %v, printed %q", dialect, what, err, out.String())
				}
			}
		}
	}
}

// TestAnotherDaemon: in Evensong's own dialect a subscription to everything tells of daemons that come and go, and goes on.
func TestAnotherDaemon(t *testing.T) {
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := free.LocalAddr().(*net.UDPAddr).AddrPort()
	free.Close()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	start := func(name string, bind netip.AddrPort, peers ...netip.AddrPort) *daemon.Daemon {
		d, err := daemon.Start(t.Context(), daemon.Config{Name: name, Cluster: t.Name(), Bind: bind, Peers: peers, Listen: []netip.AddrPort{loopback}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	d := start("d", loopback, other)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	shown, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		s := Subscription{Options: Options{Address: "evensong://" + d.ListenAddrs()[0].String(), Name: "me"}, Groups: []string{"g"}, Format: Text, Views: true}
		done <- Subscribe(ctx, s, out)
		out.Close()
	}()
	lines := bufio.NewScanner(shown)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the subscription ended without %q", want)
	}
	until("you joined")
	e := start("e", other, d.Addr())
	until("daemon e is in reach, should this one end")
	e.Close()
	until("no other daemon is in reach, should this one end")
	cancel()
	for lines.Scan() {
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
