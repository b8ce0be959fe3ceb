// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"evensong/client"
	"evensong/internal/tools/bench"
	"evensong/internal/tools/flood"
	"evensong/internal/tools/user"
)

// newFloodCommand is "evensong flood".
func newFloodCommand() *cobra.Command {
	var c flood.Config
	var session *sessionFlags
	var output string
	var receiveOnly, sendOnly bool
	var long longFlood
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Send as many messages as the cluster takes, and measure rate and latency",
		Long: `Send as many messages as the cluster takes, and print the rates and how long messages took from sending to delivery.

A session runs up to --window messages ahead of what has come back to it. With --senders, or --members for those of
several programs, nobody starts before all are in the group, and each keeps within the window of the slowest.

Give --server several times to deal the senders out to several daemons. If one of them cannot be reached, or a session is
lost on the way, that is said, and the status is 1.

With --for it runs for a time, or until Ctrl-C, says every now and then how it goes, checks every message, and ends with the
report of "evensong bench", for which it asks the daemons as that does.

` + reachHelp + "\n\n" + sessionHelp,
		Example: `  evensong flood
  evensong flood --messages 100000 --bytes 200 --service safe
  evensong flood -s 4803@a -s 4803@b -s 4803@c
  evensong flood --members 2            on two machines: starts when both are there
  evensong flood --receive-only         and in another terminal: evensong flood --send-only
  evensong flood --for 8h --rate 5000 --every 1m --html night.html
  evensong flood -o json | jq .received.messages_per_second`,
		Args: arguments(0, 0),
	}
	service := bindService(cmd, "agreed")
	f := cmd.Flags()
	bindServers(cmd, &c.Servers)
	f.StringVar(&c.Group, "group", flood.DefaultGroup, "`GROUP` to flood")
	f.IntVarP(&c.Messages, "messages", "m", flood.DefaultMessages, "how many messages each sender sends: `N`")
	f.IntVarP(&c.Bytes, "bytes", "b", flood.DefaultBytes, "size of a message: `N`, from 0 to "+strconv.Itoa(flood.MaxBytes)+", at evensong:// addresses to what the daemon takes")
	f.IntVar(&c.Window, "window", flood.DefaultWindow, "how many messages a sender may be ahead: `N`")
	f.IntVar(&c.Sessions, "senders", 0, "how many sessions this program opens: `N` (default: one for each --server)")
	f.IntVar(&c.Members, "members", 0, "wait until `N` members are in the group, all programs counted")
	f.BoolVar(&receiveOnly, "receive-only", false, "send nothing; end after --messages messages, or with --members when all others have ended")
	f.BoolVar(&sendOnly, "send-only", false, "do not join, and do not wait for what comes back")
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table or json")
	cmd.MarkFlagsMutuallyExclusive("receive-only", "send-only")
	for _, name := range []string{"group", "messages", "bytes", "window", "senders", "members"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	bindOutputCompletion(cmd)
	long.bind(cmd)
	f.Lookup("timeout").Usage = "how long connecting may take, and asking a daemon: `DURATION`"
	session = bindSession(cmd, &c.Session, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if c.Service, err = service(); err != nil {
			return err
		}
		if err := checkOutput(output); err != nil {
			return err
		}
		switch {
		case receiveOnly:
			c.Direction = flood.ReceiveOnly
		case sendOnly:
			c.Direction = flood.SendOnly
		}
		if c.Bytes == 0 {
			c.Bytes = -1 // zero means the default there
		} else if c.Bytes < 0 {
			return usage(fmt.Errorf("--bytes %d: want at least 0", c.Bytes))
		}
		for _, name := range []string{"messages", "window", "senders"} {
			if n, err := f.GetInt(name); err == nil && n < 1 && f.Changed(name) {
				return usage(fmt.Errorf("--%s %d: want at least 1", name, n))
			}
		}
		session.read(cmd)
		if err := c.Validate(); err != nil {
			return usage(err)
		}
		if _, err := long.reach.ready(cmd); err != nil {
			return err
		}
		c.Session.Timeout = long.reach.reach.Timeout
		if f.Changed("for") {
			return long.run(cmd, c, output)
		}
		for _, name := range []string{"rate", "groups", "every", "html", "admin", "runtime-dir", "admin-token-file", "admin-tls", "admin-ca"} {
			if f.Changed(name) {
				return usage(fmt.Errorf("--%s goes with --for DURATION", name))
			}
		}
		r, err := runFlood(cmd, c)
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(cmd.OutOrStdout(), r)
		}
		return r.Write(cmd.OutOrStdout())
	}
	return cmd
}

// longFlood are the flags of a flood that is over when its time is.
type longFlood struct {
	length, every time.Duration
	rate, html    string
	groups        int
	reach         adminFlags
}

func (l *longFlood) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&l.length, "for", 0, "send for this `DURATION`, or until Ctrl-C")
	f.StringVar(&l.rate, "rate", "max", "with --for: `RATE` of all senders together, in messages per second, by a schedule; or max")
	f.IntVar(&l.groups, "groups", 1, "with --for: how many groups the messages go to in turn: `N`")
	f.DurationVar(&l.every, "every", 10*time.Second, "with --for: print a line each `DURATION`")
	f.StringVar(&l.html, "html", "", "with --for: write a page with plots to `FILE`")
	l.reach.bind(cmd)
	for _, other := range []string{"messages", "members", "group", "receive-only", "send-only"} {
		cmd.MarkFlagsMutuallyExclusive("for", other)
	}
	for _, name := range []string{"for", "rate", "groups", "every"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = cmd.MarkFlagFilename("html", "html")
}

// run floods for a time. The first Ctrl-C ends it with its report.
func (l *longFlood) run(cmd *cobra.Command, fc flood.Config, output string) error {
	rate, err := bench.ParseRate(l.rate)
	if err != nil {
		return usage(err)
	}
	if l.length <= 0 {
		return usage(fmt.Errorf("--for %v: want a positive duration, such as 8h", l.length))
	}
	if l.every <= 0 {
		return usage(fmt.Errorf("--every %v: want a positive duration", l.every))
	}
	c := bench.Config{
		Session: fc.Session, Servers: fc.Servers, Services: []client.Service{fc.Service}, Bytes: []int{max(fc.Bytes, 0)}, Rates: []bench.Rate{rate},
		Senders: cmp.Or(fc.Sessions, len(fc.Servers), 1), Groups: l.groups, Window: fc.Window, Time: l.length,
		Reach: l.reach.reach,
	}
	if err := c.Validate(); err != nil {
		return usage(err)
	}
	page, err := createPage(l.html)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	c.Stop = ctx.Done()
	say, clearLine := progressLine(cmd.ErrOrStderr())
	lines := floodLines{every: l.every, receivers: c.Senders}
	c.Progress = func(p bench.Progress) {
		if text := lines.line(p, time.Now()); text != "" && output == "table" {
			clearLine()
			fmt.Fprint(cmd.OutOrStdout(), text)
		}
		say("%s", progressText(p))
	}
	r, err := bench.Run(context.WithoutCancel(ctx), c)
	clearLine()
	if err != nil {
		dropPage(page)
		return err
	}
	return writeBench(cmd, r, page, output)
}

// floodLines makes the lines of a flood that lasts.
type floodLines struct {
	every     time.Duration
	receivers int
	lines     int
	received  uint64    // of which the lines so far, and the time of warming up, have told
	at        time.Time // when that was; zero: nothing has come yet
}

// line is what to print now, if anything. Each line is about the time since the one before it, the first about what is measured: what
// came while the flood warmed up would make it say more than was sent.
func (l *floodLines) line(p bench.Progress, now time.Time) (text string) {
	if p.Elapsed > 0 && p.Elapsed >= time.Duration(l.lines+1)*l.every {
		rate := p.Rate // since the call before, if this is the first one
		if !l.at.IsZero() {
			rate = float64(p.Received-l.received) / float64(l.receivers) / now.Sub(l.at).Seconds()
		}
		text = fmt.Sprintf("%8.1f s  %10.0f messages/s for each receiver\n", p.Elapsed.Seconds(), rate)
		l.lines++
	}
	if text != "" || l.at.IsZero() || p.Elapsed <= 0 {
		l.received, l.at = p.Received, now
	}
	return text
}

// runFlood floods, with progress on a terminal. That it waits for others is said elsewhere, too: it may wait for ever.
func runFlood(cmd *cobra.Command, c flood.Config) (*flood.Report, error) {
	ctx, stop := interruptible(cmd)
	defer stop()
	e := cmd.ErrOrStderr()
	say, clearLine := progressLine(e)
	c.Started = func([]string) { say("waiting for the first message") }
	c.Progress = func(sent, received, total int) { say("sent %d of %d, received %d", sent, total, received) }
	var mu sync.Mutex // of a session that waits, and of this end
	missing := ""
	c.Waiting = func(there, wanted int) {
		mu.Lock()
		defer mu.Unlock()
		if there == wanted {
			missing = ""
			return
		}
		missing = fmt.Sprintf("%d of %d members in group %s", there, wanted, c.Group)
		text := fmt.Sprintf("waiting: %s; start the others, for example another \"flood --members %d\"", missing, wanted)
		if say("%s", text); !isTerminal(e) {
			fmt.Fprintln(e, text)
		}
	}
	r, err := flood.Run(ctx, c)
	clearLine()
	if err != nil && ctx.Err() != nil {
		mu.Lock()
		defer mu.Unlock()
		if missing != "" {
			return nil, errors.New("interrupted with " + missing)
		}
		return nil, errors.New("interrupted")
	}
	return r, err
}

// checkOutput wants table or json.
func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return usage(fmt.Errorf("-o %q: want table or json", output))
	}
	return nil
}

func bindOutputCompletion(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// spflooderBytes is the largest message under that name, as of the original's program.
const spflooderBytes = 100000

// spflooderUsage is the help of the program under its other name.
const spflooderUsage = `usage: spflooder [-u name] [-s address] [-m messages] [-b bytes] [-ro | -wo] [-n members]
  -u name      private name, 1 to 10 characters, longer in the own dialect (flooder)
  -s address   daemon: port (this machine), port@host, host:port or unix:/path (4803);
               evensong:// in front of these chooses Evensong's own dialect,
               evensongs:// that inside of TLS
  -m messages  how many to send, or with -ro to receive (10000)
  -b bytes     size of a message, 1 to 100000 (1000)
  -ro          only receive
  -wo          only send: do not join the group, do not wait
  -n members   wait until so many are in the group, at most 100; each keeps within 200 messages of the slowest
` + tlsEnvUsage

// runSpflooder is the program when it is called as spflooder: the flags of the original's program, and lines like its
// own, with the rate behind them. args are without the program's name. The result is the exit status.
func runSpflooder(args []string, stdout, stderr io.Writer) int {
	c := flood.Config{Session: user.Options{Address: client.DefaultAddress, Name: "flooder", Timeout: user.DefaultTimeout, TLS: tlsFromEnv()}}
	if help, err := parseSpflooder(args, &c); err != nil {
		fmt.Fprintf(stderr, "spflooder: %v\n%s", err, spflooderUsage)
		return exitUsage
	} else if help {
		io.WriteString(stdout, spflooderUsage)
		return 0
	}
	verb := "sent"
	if c.Direction == flood.ReceiveOnly {
		verb = "received"
	}
	var mu sync.Mutex
	say := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(stdout, format, a...)
	}
	c.Started = func(names []string) {
		say("flooder: starting as %s at %s: %d messages of %d bytes, group %s\n", names[0], c.Session.Address, c.Messages, c.Bytes, flood.DefaultGroup)
	}
	c.Step = func(n int) { say("flooder: %s %d messages\n", verb, n) }
	c.Waiting = func(there, wanted int) {
		say("flooder: %d of %d members in group %s\n", there, wanted, flood.DefaultGroup)
	}
	ctx, stop := signal.NotifyContext(context.Background(), terminationSignals...)
	defer stop()
	r, err := flood.Run(ctx, c)
	if err != nil {
		fmt.Fprintf(stderr, "spflooder: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nspflooder: "))
		if exit, ok := errors.AsType[*user.ExitError](err); ok {
			return exit.Code
		}
		return exitFailure
	}
	total := r.Sent.Messages
	if c.Direction == flood.ReceiveOnly {
		total = r.Received.Messages
	}
	say("flooder: completed, %d messages of %d bytes %s\n", total, c.Bytes, verb)
	if err := r.Write(stdout); err != nil {
		fmt.Fprintf(stderr, "spflooder: %v\n", err)
		return exitFailure
	}
	return 0
}

// parseSpflooder reads the original's flags into c.
func parseSpflooder(args []string, c *flood.Config) (help bool, err error) {
	c.Messages, c.Bytes = flood.DefaultMessages, flood.DefaultBytes
	texts := map[string]*string{"-u": &c.Session.Name, "-s": &c.Session.Address}
	numbers := map[string]struct {
		value    *int
		from, to int
	}{"-m": {&c.Messages, 1, 1 << 30}, "-b": {&c.Bytes, 1, spflooderBytes}, "-n": {&c.Members, 1, flood.MaxMembers}}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		text, number := texts[arg], numbers[arg]
		switch {
		case arg == "-ro" && c.Direction == flood.Both, arg == "-ro" && c.Direction == flood.ReceiveOnly:
			c.Direction = flood.ReceiveOnly
		case arg == "-wo" && c.Direction == flood.Both, arg == "-wo" && c.Direction == flood.SendOnly:
			c.Direction = flood.SendOnly
		case arg == "-ro", arg == "-wo":
			return false, errors.New("-ro and -wo exclude each other")
		case arg == "-h", arg == "-help", arg == "--help":
			return true, nil
		case text == nil && number.value == nil:
			return false, fmt.Errorf("unknown argument %q", arg)
		case i+1 == len(args):
			return false, fmt.Errorf("%s needs a value", arg)
		default:
			i++
			if text != nil {
				*text = args[i]
				break
			}
			n, err := strconv.Atoi(args[i])
			if err != nil || n < number.from || n > number.to {
				return false, fmt.Errorf("%s %s: want a number from %d to %d", arg, args[i], number.from, number.to)
			}
			*number.value = n
		}
	}
	if c.Direction == flood.SendOnly && c.Members > 0 {
		return false, errors.New("-n does not go with -wo: who only sends is no member")
	}
	return false, nil
}
