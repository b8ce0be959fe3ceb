// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"evensong/daemon"
)

// TestSimple runs the program against a daemon.
func TestSimple(t *testing.T) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(t.Context(), daemon.Config{Name: "d", Cluster: t.Name(), Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var out bytes.Buffer
	if err := run(t.Context(), []string{d.ListenAddrs()[0].String(), "alice"}, strings.NewReader("hello\n"), &out); err != nil {
		t.Fatal(err)
	}
	want := "#alice#d: type a line\nmembers after join: [#alice#d]\n#alice#d says: hello\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if err := run(t.Context(), []string{"unix:" + t.TempDir() + "/none"}, strings.NewReader(""), &out); err == nil {
		t.Error("no daemon: no error")
	}
}
