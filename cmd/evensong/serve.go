// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/eventlog"
	"evensong/internal/host"
)

// newServeCommand is "evensong serve": one daemon, in the foreground.
func newServeCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a daemon",
		Long: `Run a daemon, in the foreground, until SIGTERM or SIGINT; a second signal stops it at once. SIGHUP has it read its
configuration again: what is wrong is logged and changes nothing, and so is what needs a restart.

With -c it reads a file in the format of spread.conf; without a file, flags or EVENSONG_* variables say who it is and
where the others are. Flags win over variables, these over the file, and the file over defaults.

Exit status: 0 after an orderly stop, 1 if it failed, 2 for wrong use, 3 if the configuration is wrong, 4 if an address
is taken.`,
		Example: `  evensong serve -n a -c spread.conf
  evensong serve --name a --bind 10.0.0.1 --peer b=10.0.0.2 --peer c=10.0.0.3
  evensong serve --peer evensong.shop.svc     whoever this name stands for, now and later
  evensong serve --name solo --listen 127.0.0.1:4803 --unix-socket /tmp/4803`,
		Args: arguments(0, 0),
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "`FILE` in the format of spread.conf (default: the first of "+fmt.Sprint(config.SearchPath)+")")
	values := config.BindFlags(cmd.Flags())
	_ = cmd.MarkFlagFilename("config", "conf")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Read(path, values, os.LookupEnv, os.Hostname)
		if err != nil {
			return failure{err, exitConfig}
		}
		return serve(cmd.Context(), c, c.Rereader(values, os.LookupEnv, os.Hostname), cmd.ErrOrStderr())
	}
	return cmd
}

// spreadUsage is the help of the program under its other name.
const spreadUsage = `usage: spread [-n NAME] [-c FILE] [-l y|n]
  -n NAME  be this daemon of the file
  -c FILE  the configuration file
  -l y|n   y asks for a record of activity, which there is not: the log has it (n)
`

// runSpread is the program under the name spread: the flags of the original's daemon.
func runSpread(args []string, stderr io.Writer) int {
	name, path, record := "", "", "n"
	if help, err := parseSpread(args, &name, &path, &record); err != nil {
		fmt.Fprintf(stderr, "spread: %v\n%s", err, spreadUsage)
		return exitUsage
	} else if help {
		io.WriteString(stderr, spreadUsage)
		return 0
	}
	if record == "y" {
		fmt.Fprintln(stderr, "spread: -l y: there is no activity record of its own; the log has connects, disconnects and configurations")
	}
	cmd := newServeCommand()
	var flags []string
	if name != "" {
		flags = append(flags, "--name", name)
	}
	if path != "" {
		flags = append(flags, "--config", path)
	}
	cmd.SetArgs(flags)
	cmd.SetErr(stderr)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(flagMistake)
	err := cmd.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "spread: %v\n", err)
	return exitCode(err)
}

// parseSpread reads the original's flags, which are single letters, each with its value in the next argument or behind =.
func parseSpread(args []string, name, path, record *string) (help bool, err error) {
	values := map[string]*string{"-n": name, "-c": path, "-l": record}
	for len(args) > 0 {
		arg, value, given := strings.Cut(args[0], "=")
		to := values[arg]
		switch {
		case arg == "-h" || arg == "-help" || arg == "--help":
			return true, nil
		case to == nil:
			return false, fmt.Errorf("unknown argument %q", args[0])
		case !given && len(args) == 1:
			return false, fmt.Errorf("%s needs a value", arg)
		case !given:
			args = args[1:]
			value = args[0]
		}
		*to = value
		args = args[1:]
	}
	if *record != "y" && *record != "n" {
		return false, fmt.Errorf("-l %q: want y or n", *record)
	}
	return false, nil
}

func exitCode(err error) int {
	if code, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return code.ExitCode()
	}
	return exitFailure
}

// serve runs the daemon of a configuration until a signal. reread reads that configuration again.
func serve(ctx context.Context, c config.Config, reread func() (config.Config, error), stderr io.Writer) (err error) {
	hostName, _ := os.Hostname() // without one, %h is empty
	events, err := eventlog.Open(c.Log, hostName, stderr)
	if err != nil {
		return failure{err, exitConfig}
	}
	defer events.Close()
	log := events.Logger()
	running, inFile := false, c.Log.File != ""
	defer func() {
		// Standard error has it from the caller; who looks into the file later finds no start without an end there.
		if err != nil && !running && inFile {
			log.Error("stopped before it was ready", "reason", err.Error())
		}
	}()
	noteSource(&c, log)
	c, self, err := locate(ctx, c)
	if err != nil {
		return failure{err, exitConfig}
	}
	for _, w := range append(slices.Clip(c.Warnings), config.MisspeltVariables(os.Environ())...) {
		log.Warn("configuration", "reason", w.String())
	}
	stopProfile, err := startProfile(os.Getenv(profileVariable), log)
	if err != nil {
		return failure{err, exitConfig}
	}
	defer stopProfile()
	d := c.Daemons[self.Index]
	h, build, err := host.Assemble(&c, self.Index, log)
	if err != nil {
		return failure{err, exitConfig}
	}
	if h.Transport.Loss, err = lossOf(os.Getenv(lossVariable), log); err != nil {
		return failure{err, exitConfig}
	}
	h.Admin.UseDefaultSocket(&c, self.Index)
	h.Admin.Level = events.Level()
	if h.Bound, err = giveUpRights(&c, &h, events, log); err != nil {
		return failure{err, exitConfig}
	}
	watch := &manager{log: log}
	defer watch.stopping()
	signals, stop := interrupts()
	defer stop()
	h.Reread = func(ctx context.Context) (config.Config, error) {
		next, err := reread()
		if err != nil {
			return next, err
		}
		return resolve(ctx, next)
	}
	h.Reloadables = append(h.Reloadables, host.Reloadable{
		Keys:    logKeys,
		Prepare: func(next *config.Config) (apply, discard func(), err error) { return events.Prepare(next.Log) },
	})
	hangup, stopHangups := hangups()
	defer stopHangups()
	h.Started = func(h *host.Host) {
		running = true // from here on the host says in the log why it ends
		watch.started(h)
		go func() {
			for {
				select {
				case <-hangup:
					reopen(events, log)
					_, _ = h.Reload(ctx) // the outcome is in the log
				case <-h.Done():
					return
				}
			}
		}()
	}
	log.Info("daemon starts", "proc", d.Name, "reason", "this is "+self.By, "address", h.Transport.Bind.String(), "daemons", len(c.Daemons))
	if len(self.Others) > 0 {
		log.Warn("configuration", "reason", "this machine could also be "+strings.Join(self.Others, ", ")+": with several daemons on one, start each with -n NAME")
	}
	if h.StateDir == "" {
		log.Info("no state directory", "reason", "ring numbers do not survive a restart; --state-dir keeps them")
	}
	err = host.Run(ctx, h, build, signals)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failure{fmt.Errorf("%w; another program has this address: stop it, or choose another with --listen for clients, --bind for daemons", err), exitBind}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure{fmt.Errorf("%w; this is not an address of this machine", err), exitBind}
	case isPortForbidden(err):
		return failure{fmt.Errorf("%w; ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE: choose another with --listen for clients, --bind for daemons, or have root start it with DaemonUser (--user)", err), exitBind}
	case errors.Is(err, host.ErrBind):
		return failure{err, exitBind}
	case errors.Is(err, host.ErrConfig):
		return failure{err, exitConfig}
	}
	return err
}

// isPortForbidden reports whether an address could not be had because its port is not for this user. Of sockets that it may not make
// the error itself says what to do.
func isPortForbidden(err error) bool {
	text := fmt.Sprint(err)
	return errors.Is(err, host.ErrBind) && errors.Is(err, syscall.EACCES) && (strings.Contains(text, "listen tcp") || strings.Contains(text, "listen udp"))
}

// logKeys are the values of the log, which this program changes while a daemon runs.
var logKeys = []string{"EventLogFile", "EventPriority", "DebugFlags", "EventTimeStamp", "EventPreciseTimeStamp"}

// noteSource says which file the configuration comes from, and why that one: a daemon that takes the file of the directory
// where it was started does so in silence otherwise.
func noteSource(c *config.Config, log *slog.Logger) {
	if c.Source == "" {
		log.Info("configuration comes from flags and environment, no file was read", "reason", c.Chosen)
		return
	}
	path := c.Source
	if abs, err := filepath.Abs(path); err == nil && c.FromFile() {
		path = abs
	}
	log.Info("configuration read", "file", path, "reason", c.Chosen)
}

// profileVariable names the file for a profile of where a daemon spends its processor time. It is no flag, because it is
// for those who work on Evensong, and because a daemon that a script starts with fixed flags can be profiled, too.
const profileVariable = "EVENSONG_CPUPROFILE"

// startProfile writes a CPU profile to a file until the function it returns is called. No path means no profile.
func startProfile(path string, log *slog.Logger) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", profileVariable, err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", profileVariable, err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			log.Error("profile", "reason", err.Error())
		}
	}, nil
}

// lossVariable names the variable that has a daemon lose datagrams. It is no flag and stands in no file, so that no operator
// comes across it.
const lossVariable = "EVENSONG_LOSS"

// lossOf is the share of the received datagrams that is to be thrown away. No text means none.
func lossOf(text string, log *slog.Logger) (float64, error) {
	if text == "" {
		return 0, nil
	}
	share, err := strconv.ParseFloat(text, 64)
	if err != nil || !(share >= 0 && share < 1) {
		return 0, fmt.Errorf("%s=%s: want a share, at least 0 and below 1", lossVariable, text)
	}
	if share > 0 {
		log.Warn("datagrams are thrown away at random", "reason", lossVariable+" is set, which is for tests only", "share", share)
	}
	return share, nil
}

// resolve turns names into addresses. Names of peers may be found later, so a daemon does not wait long for them.
func resolve(ctx context.Context, c config.Config) (config.Config, error) {
	limit := 30 * time.Second
	if !c.Ranked {
		limit = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return config.Resolve(ctx, c, net.DefaultResolver)
}

// locate finds out which daemon this is and turns names into addresses.
func locate(ctx context.Context, c config.Config) (config.Config, config.Identity, error) {
	c, err := resolve(ctx, c)
	if err != nil {
		return c, config.Identity{}, err
	}
	self, err := config.Identify(&c, c.Local.Name, config.ThisHost)
	return c, self, err
}

// reopen opens the log again, which whoever moves logs away wants when sending SIGHUP.
func reopen(events *eventlog.Log, log *slog.Logger) {
	if err := events.Reopen(); err != nil {
		log.Error("log stays in the old file", "reason", err.Error())
		return
	}
	log.Info("log opened again", "reason", "hangup")
}

// giveUpRights is what a daemon that root has started does once it has bound its sockets: become DaemonUser, and give that
// user what it goes on to need. Nil if there is nothing to give up.
func giveUpRights(c *config.Config, h *host.Config, events *eventlog.Log, log *slog.Logger) (func() error, error) {
	switch {
	case os.Geteuid() != 0 && c.Local.User != "":
		log.Info("rights are kept", "reason", "DaemonUser counts only for a daemon that root starts")
		return nil, nil
	case os.Geteuid() != 0:
		return nil, nil
	case c.Local.User == "":
		log.Warn("rights of root are kept", "reason", "no DaemonUser is set; --user names the user to become once the sockets are bound")
		return nil, nil
	}
	rights, err := host.FindRights(c.Local.User, c.Local.Group)
	if err != nil {
		return nil, err
	}
	// Only a directory that is there for nothing else: one that an operator has named may have other uses.
	sockets := ""
	if h.Admin.Optional {
		sockets = filepath.Dir(h.Admin.Socket)
		if _, err := os.Lstat(sockets); err == nil && sockets != admin.Dir("") {
			sockets = ""
		}
	}
	return func() error {
		uid, gid := rights.IDs()
		if err := events.Own(uid, gid); err != nil {
			return fmt.Errorf("give the log to user %q: %w", rights.User, err)
		}
		paths := append([]string{}, h.Unix...)
		if h.StateDir != "" {
			paths = append(paths, h.StateDir)
		}
		if at := h.Admin.Socket; at != "" {
			paths = append(paths, at)
		}
		if sockets != "" {
			if err := rights.TakeDir(sockets); err != nil {
				return err
			}
		}
		if err := rights.Take(paths...); err != nil {
			return err
		}
		log.Info("rights of root are given up", "user", rights.User, "uid", uid, "gid", gid)
		for _, path := range c.Files() {
			f, err := os.Open(path)
			if err == nil {
				f.Close()
			} else if errors.Is(err, fs.ErrPermission) {
				log.Warn("rights: a reload will be refused, because DaemonUser cannot read a file that it reads again; give the file to that user, and its directory as well", "file", path, "user", rights.User)
			}
		}
		return nil
	}, nil
}
