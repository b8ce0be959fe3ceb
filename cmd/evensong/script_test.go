// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"evensong/client"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"evensong/daemon"
)

// TestMain lets scripts call this program as a process of its own, under each of its names.
func TestMain(m *testing.M) {
	programs := map[string]func(){}
	for _, name := range []string{"evensong", "spread", "spmonitor", "spuser", "sptuser", "spflooder", "flush_user"} {
		programs[name] = main
	}
	testscript.Main(m, programs)
}

// TestScripts runs testdata/script: commands as a user would type them, against a daemon of the script's own that
// EVENSONG_SERVER names. Its name is "d".
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Setup: func(env *testscript.Env) error {
			addr, err := startDaemon(env.Defer)
			if err != nil {
				return err
			}
			env.Setenv(envServer, addr)
			return nil
		},
	})
}

// startDaemon starts a daemon "d" on loopback and returns where it serves clients. cleanup gets the function that stops it.
func startDaemon(cleanup func(func())) (addr string, err error) {
	return startDaemonWith(cleanup, daemon.Config{})
}

// startDaemonWith is startDaemon with further settings.
func startDaemonWith(cleanup func(func()), cfg daemon.Config) (addr string, err error) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Name, cfg.Cluster, cfg.Bind, cfg.Listen, cfg.Logger = "d", "script", loopback, []netip.AddrPort{loopback}, slog.New(slog.DiscardHandler)
	d, err := daemon.Start(context.Background(), cfg)
	if err != nil {
		return "", err
	}
	cleanup(func() { d.Close() })
	return d.ListenAddrs()[0].String(), nil
}

// commands are those that scripts may use beside the usual ones.
//
//	members N GROUP     waits until the group has N members, the asking one not counted
//	status N PROGRAM... runs the program, which must end with this exit status
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"members": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: members N GROUP")
		}
		n, err := strconv.Atoi(args[0])
		ts.Check(err)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ts.Check(awaitMembers(ctx, ts.Getenv(envServer), args[1], n))
	},
	"status": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: status N PROGRAM ARGUMENT...")
		}
		got := 0
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok {
				ts.Fatalf("%v", err)
			}
			got = exit.ExitCode()
		}
		if want := args[0]; strconv.Itoa(got) != want {
			ts.Fatalf("exit status %d, want %s", got, want)
		}
	},
}

// awaitMembers joins the group for as long as it takes to see n other members.
func awaitMembers(ctx context.Context, addr, group string, n int) error {
	c, err := client.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Join(ctx, group); err != nil {
		return err
	}
	for ev, err := range c.Events(ctx) {
		if err != nil {
			return fmt.Errorf("wait for %d members of %s: %w", n, group, err)
		}
		if v, ok := ev.(*client.View); ok && len(v.Members) == n+1 {
			break
		}
	}
	return nil
}
