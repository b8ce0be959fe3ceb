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
	if err := run(t.Context(), []string{d.ListenAddrs()[0].String()}, strings.NewReader(""), &out); err == nil || err.Error() != "no line to send" {
		t.Errorf("no line: %v", err)
	}
}

// TestMistakes: help and mistakes need no daemon.
func TestMistakes(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{arg}, strings.NewReader(""), &out); err != nil || out.String() != help {
			t.Errorf("%s: %v, printed %q", arg, err, out.String())
		}
	}
	for want, args := range map[string][]string{
		"--help says more":  {"-x"},
		"at most an addres": {"4803", "alice", "hello"},
		"no such file":      {"unix:" + t.TempDir() + "/none"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), args, strings.NewReader(""), &out); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%q: %v, printed %q; want %q", args, err, out.String(), want)
		}
	}
}
