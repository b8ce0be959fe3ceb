// SPDX-License-Identifier: Apache-2.0

package dev

import (
	"context"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/client"
)

// output collects what dev writes and tells the port of its first daemon as soon as that is known.
type output struct {
	text strings.Builder
	port chan string
}

var firstDaemon = regexp.MustCompile(`daemon a +clients 127\.0\.0\.1:(\d+)`)

func (o *output) Write(b []byte) (int, error) { // the printer serializes
	o.text.Write(b)
	if m := firstDaemon.FindSubmatch(b); m != nil {
		o.port <- string(m[1])
	}
	return len(b), nil
}

// The main job, as the README promises it: three daemons form a ring, the talkers are heard in one order, and somebody
// from outside joins in. Nothing is left running.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &output{port: make(chan string, 1)}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{RuntimeDir: t.TempDir(), Port: port, Pause: 20 * time.Millisecond}, out)
	}()

	var at string
	select {
	case at = <-out.port:
	case err := <-done:
		t.Fatalf("ended: %v\n%s", err, out.text.String())
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was printed")
	}
	if at != strconv.Itoa(port) {
		t.Errorf("the first daemon serves port %s, want the one asked for, %d", at, port)
	}
	dial, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	c, err := client.Dial(dial, at+"@localhost", client.WithName("guest"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Join(dial, Group); err != nil {
		t.Fatal(err)
	}
	heard := 0
	for heard < 5 {
		ev, err := c.Next(dial)
		if err != nil {
			t.Fatalf("the guest heard %d lines: %v", heard, err)
		}
		if _, ok := ev.(*client.Message); ok {
			heard++
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	text := out.text.String()
	for _, want := range []string{"configuration", "of a, b, c", "guest@a", "in the same order", "Done."} {
		if !strings.Contains(text, want) {
			t.Errorf("the output does not have %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "DIFFER") {
		t.Errorf("members differ:\n%s", text)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(context.Background(), Options{RuntimeDir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port}, &output{port: make(chan string, 9)})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("with the port taken: %v, want an error that says so", err)
	}
}
