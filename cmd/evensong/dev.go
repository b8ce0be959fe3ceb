// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/host"
	"evensong/internal/tools/dev"
)

// newDevCommand is "evensong dev".
func newDevCommand() *cobra.Command {
	var o dev.Options
	var seconds time.Duration
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Three daemons in one process, and a conversation to watch and join",
		Long: `Run three daemons in one process, on loopback, and a conversation in a group that you can watch and join.

The first daemon serves clients on port 4803 and /tmp/4803 if nobody has them, else on a free port that is printed.
Nothing is written to disk, and nothing but loopback is used.`,
		Example: "  evensong dev\n  evensong dev --for 10s\n  evensong join -s 4803@localhost demo      in another terminal",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("for") && seconds <= 0 {
				return usage(fmt.Errorf("--for %v: want a positive duration, such as 10s", seconds))
			}
			if cmd.Flags().Changed("port") && (o.Port < 1 || o.Port > 65535) {
				return usage(fmt.Errorf("--port %d: want 1 to 65535", o.Port))
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			surviveClosedPipes() // "evensong dev | head" ends in order, too, and leaves no sockets behind
			o.For = seconds
			o.RuntimeDir = os.Getenv(envRuntimeDir) // where the commands look, too
			o.Color = colorful(cmd.OutOrStdout())
			if exe, err := os.Executable(); err == nil {
				o.Program = calledAs(exe)
			}
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			err := dev.Run(ctx, o, cmd.OutOrStdout())
			switch {
			case errors.Is(err, host.ErrBind) && o.Port != 0:
				return failure{fmt.Errorf("%w\nchoose another port with --port, or leave it out: then it is 4803, or a free one if that is taken", err), exitBind}
			case errors.Is(err, host.ErrBind):
				return failure{err, exitBind}
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&seconds, "for", 0, "end after this `DURATION` (default: run until Ctrl-C)")
	cmd.Flags().IntVar(&o.Port, "port", 0, "TCP `PORT` of the first daemon (default: 4803, or a free one if that is taken)")
	return cmd
}

// calledAs is how commands are called by somebody who has started this executable: go run puts it where nobody finds it again.
func calledAs(exe string) string {
	if strings.Contains(filepath.ToSlash(exe), "/go-build") {
		return "go run ./cmd/evensong"
	}
	return "evensong"
}
