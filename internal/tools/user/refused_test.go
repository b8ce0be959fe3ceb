// SPDX-License-Identifier: Apache-2.0

package user

import (
	"bytes"
	"context"
	"errors"
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
