// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// The commands that dev names are those that its user can call.
func TestCalledAs(t *testing.T) {
	for exe, want := range map[string]string{
		"/usr/local/bin/evensong":                      "evensong",
		"/tmp/go-build123456/b001/exe/evensong":        "go run ./cmd/evensong",
		"/home/someone/evensong/cmd/evensong/evensong": "evensong",
	} {
		if got := calledAs(exe); got != want {
			t.Errorf("%s: %q, want %q", exe, got, want)
		}
	}
}
