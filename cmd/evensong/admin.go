// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/admin"
	"evensong/internal/tools/monitor"
)

// adminCommands are the commands that speak to the admin plane of daemons.
func adminCommands() []*cobra.Command {
	return []*cobra.Command{
		newStatusCommand(), newMembersCommand(), newGroupsCommand(), newSetCommand(), newDrainCommand(), newMonitorCommand(), newCompletionCommand(),
	}
}

// These stand for --admin, --admin-token-file and --runtime-dir; the last one for that of daemons, too.
const (
	envRuntimeDir = "EVENSONG_RUNTIME_DIR"
	envAdmin      = "EVENSONG_ADMIN"
	envAdminToken = "EVENSONG_ADMIN_TOKEN_FILE"
)

// adminFlags are what the commands that speak to the admin plane have in common.
type adminFlags struct {
	reach  monitor.Reach
	output string
}

const reachHelp = `Which daemon: without --admin those whose admin sockets are in the runtime directory. --admin takes the name of such
a daemon, the path of a socket, or HOST:PORT with --admin-token-file; it may be repeated. ` + envAdmin + `,
` + envAdminToken + ` and ` + envRuntimeDir + ` stand for --admin, --admin-token-file and --runtime-dir.`

func (f *adminFlags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.reach.Admin, "admin", nil, "`DAEMON`: name, path of a socket, or HOST:PORT; may be repeated")
	fs.StringVar(&f.reach.Dir, "runtime-dir", "", "`DIR` with the admin sockets of daemons (default: evensong in $XDG_RUNTIME_DIR, else /run/evensong for root and its owner on Linux, else evensong-UID in the directory for temporary files)")
	fs.StringVar(&f.reach.TokenFile, "admin-token-file", "", "`FILE` with the token for daemons on TCP, readable by its owner only")
	fs.BoolVar(&f.reach.TLS, "admin-tls", false, "speak TLS to daemons on TCP")
	fs.StringVar(&f.reach.CAFile, "admin-ca", "", "`FILE` with the certificates to trust (PEM), for TLS")
	fs.DurationVar(&f.reach.Timeout, "timeout", 5*time.Second, "how long one request to a daemon may take: `DURATION`")
	_ = cmd.RegisterFlagCompletionFunc("admin", completeDaemons)
	_ = cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	_ = cmd.MarkFlagDirname("runtime-dir")
}

func (f *adminFlags) bindOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "`FORMAT`: table or json")
	bindOutputCompletion(cmd)
}

func (f *adminFlags) bindAll(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&f.reach.All, "all", false, what)
}

// ready fills in the environment and checks the flags.
func (f *adminFlags) ready(cmd *cobra.Command) (context.Context, error) {
	adminFromEnv(&f.reach, cmd.Flags().Changed("admin"), cmd.Flags().Changed("admin-token-file"))
	if f.output != "" && f.output != "table" && f.output != "json" {
		return nil, failure{fmt.Errorf("unknown output format %q; choose table or json", f.output), exitUsage}
	}
	if f.reach.Timeout <= 0 {
		return nil, failure{fmt.Errorf("--timeout %v: want a positive duration, such as 5s", f.reach.Timeout), exitUsage}
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return ctx, nil
}

// adminFromEnv takes the environment for what no flag has said.
func adminFromEnv(r *monitor.Reach, admin, token bool) {
	if v := os.Getenv(envAdmin); v != "" && !admin {
		r.Admin = strings.Split(v, ",")
	}
	r.Dir = cmp.Or(r.Dir, os.Getenv(envRuntimeDir))
	if v, ok := os.LookupEnv(envAdminToken); ok && !token {
		r.TokenFile = v
	}
}

func (f *adminFlags) out() monitor.Output { return monitor.Output{JSON: f.output == "json"} }

// completeDaemons are the daemons of this host that are there.
func completeDaemons(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, _ := cmd.Flags().GetString("runtime-dir")
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	return monitor.Choices(ctx, admin.Dir(cmp.Or(dir, os.Getenv(envRuntimeDir)))), cobra.ShellCompDirectiveNoFileComp
}

// live are the names of groups, or of daemons, that a running daemon knows. A completion that takes long is no help.
func (f *adminFlags) live(cmd *cobra.Command, groups bool) []string {
	f.output = ""
	if _, err := f.ready(cmd); err != nil {
		return nil
	}
	f.reach.Timeout = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return monitor.Names(ctx, f.reach, groups)
}
