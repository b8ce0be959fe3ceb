// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGroupNames asks two daemons, one of which does not answer.
func TestGroupNames(t *testing.T) {
	dir, err := os.MkdirTemp("", "groups") // shorter than a test's own, for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "a-4803.admin"))
	if err != nil {
		t.Skip("no Unix sockets: ", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/groups" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"total":2,"groups":[{"name":"news"},{"name":"chat"}]}`))
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	if err := os.WriteFile(filepath.Join(dir, "b-4803.admin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := groupNames(context.Background(), dir); !slices.Equal(got, []string{"chat", "news"}) {
		t.Errorf("%q", got)
	}
	if got := without([]string{"chat", "news"}, []string{"chat"}); !slices.Equal(got, []string{"news"}) {
		t.Errorf("%q", got)
	}
}

// TestToolCompletion: what the scripts of the shells call, where no daemon need answer.
func TestToolCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"pub --service ":           "unreliable\nreliable\nfifo\ncausal\nagreed\nsafe\n:4",
		"sub -o ":                  "text\njson\nraw\n:4",
		"flood -o ":                "table\njson\n:4",
		"flood -s ":                ":4",
		"user -u ":                 ":4",
		"join chat ":               ":4",
		"bench ":                   "link\t",
		"bench membership --role ": "all\nload\nmeasure\n:4",
		"bench link recv --port ":  ":4",
	} {
		_, out, _ := evensong(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if !strings.HasPrefix(out, want) {
			t.Errorf("completion of %q: %q, want %q", args, out, want)
		}
	}
}

// TestExamples: every command says in its help how it is used, with an example that begins like the command itself.
func TestExamples(t *testing.T) {
	for _, c := range toolCommands() {
		if !strings.Contains(c.Example, "evensong "+c.Name()) {
			t.Errorf("evensong %s: no example in its help", c.Name())
		}
	}
}
