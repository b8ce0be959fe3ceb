// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"evensong/client"
	"evensong/internal/tools/bench"
	"evensong/internal/tools/link"
	"evensong/internal/tools/monitor"
	"evensong/internal/tools/timing"
	"evensong/internal/tools/user"
)

// newBenchCommand is "evensong bench".
func newBenchCommand() *cobra.Command {
	var c bench.Config
	var session *sessionFlags
	var reach adminFlags
	var services, rates []string
	var html string
	var ring int
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure: rate, latency and costs; group changes; links",
		Long: `Without flags: one session sends Agreed messages of 1350 bytes and receives them, for two seconds as fast as the cluster
takes them and for two more at half of that rate. The last line has everything, in a form that compares.

Each service is measured with each size, and each of these at each rate. At the rate max a sender keeps a window of messages
ahead of the slowest receiver. At all other rates (messages per second of all senders together, or a share of max) it sends
by a schedule that waits for nobody, and latencies count from when a message was due. They are of every receiver, and every
sender receives.

The daemons are asked for their CPU time, wake-ups, system calls and retransmissions if their admin planes are in reach.
With --ring the benchmark starts daemons of its own, on this machine, for as long as it takes.

` + reachHelp + "\n\n" + sessionHelp,
		Example: `  evensong bench
  evensong bench --ring 3 --html report.html
  evensong bench --bytes 100,1350,8192 --service agreed,safe --rate max,10000
  evensong bench -s 4803@a -s 4803@b --receivers 4 --groups 10 --time 30s
  evensong bench -s 4803@db1 -o json | jq .runs[0].messages.per_second
  evensong bench membership --size 20
  evensong bench link recv`,
		Args: knownCommand,
	}
	f := cmd.Flags()
	bindServers(cmd, &c.Servers)
	f.StringSliceVar(&services, "service", []string{"agreed"}, "delivery `SERVICES`: unreliable, reliable, fifo, causal, agreed, safe")
	f.IntSliceVarP(&c.Bytes, "bytes", "b", []int{bench.DefaultBytes}, "`SIZES` of messages, from "+strconv.Itoa(bench.MinBytes))
	f.StringSliceVar(&rates, "rate", []string{"max", "50%"}, "`RATES`: max, messages per second, or a share of max such as 50%")
	f.IntVar(&c.Senders, "senders", 0, "how many sessions send and receive: `N` (default: one for each --server, or daemon of --ring)")
	f.IntVar(&c.Receivers, "receivers", 0, "how many sessions beside these only receive: `N`")
	f.IntVar(&c.Groups, "groups", 1, "how many groups everybody joins and messages go to in turn: `N`")
	f.IntVar(&c.Window, "window", bench.DefaultWindow, "how many messages a sender may be ahead at the rate max: `N`")
	f.DurationVar(&c.Time, "time", bench.DefaultTime, "how long each load is measured: `DURATION`")
	f.DurationVar(&c.Warm, "warm", bench.DefaultWarm, "how long it is under way before that: `DURATION`")
	f.IntVar(&ring, "ring", 0, "measure a temporary ring of `N` daemons on this machine")
	f.StringVar(&html, "html", "", "write a page with plots to `FILE`")
	for _, name := range []string{"bytes", "senders", "receivers", "groups", "window", "time", "warm", "ring"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = cmd.RegisterFlagCompletionFunc("service", cobra.FixedCompletions(user.ServiceNames, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("rate", cobra.FixedCompletions([]string{"max", "50%"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("html", "html")
	reach.bind(cmd)
	f.Lookup("timeout").Usage = "how long connecting may take, and asking a daemon: `DURATION`"
	reach.bindOutput(cmd)
	session = bindSession(cmd, &c.Session, "")
	cmd.MarkFlagsMutuallyExclusive("ring", "server")
	cmd.MarkFlagsMutuallyExclusive("ring", "admin")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := reach.ready(cmd); err != nil {
			return err
		}
		c.Session.Timeout, c.Reach = reach.reach.Timeout, reach.reach
		for _, name := range services {
			service, err := user.ParseService(name)
			if err != nil {
				return usage(err)
			}
			c.Services = append(c.Services, service)
		}
		for _, text := range rates {
			rate, err := bench.ParseRate(text)
			if err != nil {
				return usage(err)
			}
			c.Rates = append(c.Rates, rate)
		}
		if ring < 0 || ring > bench.MaxRing {
			return usage(fmt.Errorf("--ring %d: want 1 to %d", ring, bench.MaxRing))
		}
		if f.Changed("senders") && c.Senders < 1 {
			return usage(fmt.Errorf("--senders %d: want at least 1", c.Senders))
		}
		if c.Warm == 0 {
			c.Warm = -1 // zero means the default there
		}
		if err := c.Validate(); err != nil {
			return usage(err)
		}
		session.read(cmd)
		ctx, stop := interruptible(cmd)
		defer stop()
		page, err := createPage(html)
		if err != nil {
			return err
		}
		say, clearLine := progressLine(cmd.ErrOrStderr())
		if ring > 0 {
			say("starting %d daemons", ring)
			r, err := bench.StartRing(ctx, ring, ringDaemon(cmd.ErrOrStderr()))
			if err != nil {
				clearLine()
				dropPage(page)
				return fmt.Errorf("the temporary ring: %w", err)
			}
			defer r.Close()
			c.Servers, c.Reach = r.Servers, monitor.Reach{Admin: r.Admin}
		}
		c.Progress = func(p bench.Progress) { say("%s", progressText(p)) }
		r, err := bench.Run(ctx, c)
		clearLine()
		if err != nil && ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if r == nil {
			dropPage(page)
			return err
		}
		return errors.Join(err, writeBench(cmd, r, page, reach.output))
	}
	cmd.AddCommand(newMembershipCommand(), newLinkCommand(), newRingDaemonCommand())
	return cmd
}

// bindServers adds --server for a command that deals its sessions out to several daemons.
func bindServers(cmd *cobra.Command, servers *[]string) {
	cmd.Flags().StringArrayVarP(servers, "server", "s", nil, "a daemon: `ADDRESS` is "+addressHelp+"; may be given several times (default "+client.DefaultAddress+")")
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.NoFileCompletions)
}

// partSuffix ends the name of a page that is not written yet, so that the page of an earlier run stays until then.
const partSuffix = ".part"

// createPage opens the file of a page before anything is measured: to learn at the end that it cannot be written is late.
func createPage(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	if old, err := os.Stat(path); err == nil && !old.Mode().IsRegular() {
		return os.OpenFile(path, os.O_WRONLY, 0) // a pipe or a device; a directory is refused
	}
	return os.Create(path + partSuffix)
}

// dropPage removes the file of a page when there is nothing to write into it.
func dropPage(page *os.File) {
	if page != nil {
		page.Close()
		if strings.HasSuffix(page.Name(), partSuffix) {
			os.Remove(page.Name())
		}
	}
}

// writeBench prints a report, and the page if one is wanted.
func writeBench(cmd *cobra.Command, r *bench.Report, page *os.File, output string) error {
	if page != nil {
		if err := errors.Join(r.HTML(page), page.Close()); err != nil {
			return err
		}
		if path, part := strings.CutSuffix(page.Name(), partSuffix); part {
			if err := os.Rename(page.Name(), path); err != nil {
				return err
			}
		}
	}
	if output == "json" {
		return writeJSON(cmd.OutOrStdout(), r)
	}
	return r.Write(cmd.OutOrStdout())
}

// progressLine is a line that changes, on a terminal; elsewhere nothing is said.
func progressLine(w io.Writer) (say func(format string, a ...any), clearLine func()) {
	if !isTerminal(w) {
		return func(string, ...any) {}, func() {}
	}
	return func(format string, a ...any) { fmt.Fprintf(w, "\r\x1b[K"+format, a...) }, func() { io.WriteString(w, "\r\x1b[K") }
}

// progressText is what is being done.
func progressText(p bench.Progress) string {
	if p.Elapsed < 0 {
		return p.Load + ": warming up"
	}
	return fmt.Sprintf("%s: %.1f s of %.1f s, %.0f messages/s for each receiver", p.Load, min(p.Elapsed, p.Total).Seconds(), p.Total.Seconds(), p.Rate)
}

// ringDaemon is the command that is one daemon of a temporary ring: this program itself.
func ringDaemon(stderr io.Writer) func() *exec.Cmd {
	return func() *exec.Cmd {
		program, err := os.Executable()
		if err != nil {
			program = os.Args[0]
		}
		cmd := exec.Command(program, "bench", ringDaemonName)
		cmd.Args[0], cmd.Stderr = "evensong", stderr // whatever name this program was called by
		return cmd
	}
}

const ringDaemonName = "ring-daemon"

// newRingDaemonCommand is one daemon of a temporary ring. Nobody calls it by hand: it ends with its input.
func newRingDaemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:    ringDaemonName,
		Short:  "One daemon of a temporary ring",
		Hidden: true,
		Args:   arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(os.Interrupt) // Ctrl-C is for who measures, and ends our input
			// Its warnings, such as that the machine is busy, are in the report.
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError}))
			return bench.Daemon(cmd.InOrStdin(), cmd.OutOrStdout(), log)
		},
	}
}

// newMembershipCommand is "evensong bench membership".
func newMembershipCommand() *cobra.Command {
	var c timing.Config
	var session *sessionFlags
	var output, role string
	var noPause, raw bool
	cmd := &cobra.Command{
		Use:   "membership",
		Short: "Measure how long joining and leaving a group take",
		Long: `A measuring member joins a group and leaves it, over and over, while others are in it; a join ends with the view that
has the member, a leave when it was ordered. Printed are total, quartiles, least, greatest, mean and standard deviation of
join, leave and their sum, over all of them and without the outer 5 % at either end.

Usually this program opens all members. With --role load and --role measure they are in programs of their own, on other
machines for example; load members end when the measuring ones are done.

` + sessionHelp,
		Example: `  evensong bench membership
  evensong bench membership --size 50 --count 1000 --no-pause
  evensong bench membership --flush
  evensong bench membership --role load --size 10 -s 4803@a     on one machine,
  evensong bench membership --role measure --size 10            on another`,
		Args: arguments(0, 0),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&c.Servers, "server", "s", nil, "a daemon: `ADDRESS` is "+addressHelp+"; several deal the members out (default "+client.DefaultAddress+")")
	f.StringVarP(&c.Group, "group", "g", timing.DefaultGroup, "`GROUP` to join and leave")
	f.IntVar(&c.Size, "size", timing.DefaultSize, "how many members there are with the measuring one: `N`")
	f.IntVar(&c.Count, "count", timing.DefaultCount, "how often one joins and leaves: `N`")
	f.StringVar(&role, "role", "all", "`ROLE` of this program: all, load or measure")
	f.IntVar(&c.Measuring, "measuring", 1, "with --role load: end when `N` measuring members are done")
	f.BoolVar(&c.Flush, "flush", false, "members with view synchrony: each view waits until all have flushed")
	f.BoolVar(&noPause, "no-pause", false, "no pause between changes (otherwise "+timing.DefaultPause.String()+")")
	f.BoolVar(&raw, "raw", false, "print each join and leave in ms, a pair on a line, and no statistics")
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table or json")
	for _, name := range []string{"server", "group", "size", "count", "measuring"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"all", "load", "measure"}, cobra.ShellCompDirectiveNoFileComp))
	bindOutputCompletion(cmd)
	session = bindSession(cmd, &c.Session, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		switch role {
		case "all":
		case "load":
			c.Role = timing.Load
		case "measure":
			c.Role = timing.Measure
		default:
			return usage(fmt.Errorf("--role %q: want all, load or measure", role))
		}
		if noPause {
			c.Pause = -1
		}
		for _, name := range []string{"size", "count", "measuring"} {
			if n, err := f.GetInt(name); err == nil && n < 1 {
				return usage(fmt.Errorf("--%s %d: want at least 1", name, n))
			}
		}
		if err := c.Validate(); err != nil {
			return usage(err)
		}
		session.read(cmd)
		ctx, stop := interruptible(cmd)
		defer stop()
		e := cmd.ErrOrStderr()
		clearLine := func() {}
		if isTerminal(e) {
			c.Ready = func() { fmt.Fprintf(e, "\r\x1b[Kthe load members are there") }
			c.Progress = func(done, total int) { fmt.Fprintf(e, "\r\x1b[K%d of %d", done, total) }
			clearLine = func() { io.WriteString(e, "\r\x1b[K") }
		}
		samples, err := timing.Run(ctx, c)
		clearLine()
		switch {
		case err != nil && ctx.Err() != nil:
			return errors.New("interrupted")
		case err != nil:
			return err
		case c.Role == timing.Load:
			return nil
		case raw:
			return timing.WriteRaw(cmd.OutOrStdout(), samples)
		case output == "json":
			return writeJSON(cmd.OutOrStdout(), timing.NewReport(c, samples))
		}
		return timing.NewReport(c, samples).Write(cmd.OutOrStdout())
	}
	return cmd
}

// newLinkCommand is "evensong bench link".
func newLinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "link",
		Short: "Check links and addresses with raw UDP packets, without a daemon",
		Long: `Send numbered UDP packets with a checksum from one machine, and count on another what arrives: whether an address is
reached at all, multicast too, and how many packets are missed or corrupted on the way.`,
		Example: "  evensong bench link recv                     on one machine,\n  evensong bench link send --to 10.0.0.2       on another",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLinkSendCommand(), newLinkRecvCommand())
	return cmd
}

func newLinkSendCommand() *cobra.Command {
	s := link.Sending{}
	var to, from, output string
	var port int
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Send numbered UDP packets to an address",
		Example: `  evensong bench link send --to 10.0.0.2
  evensong bench link send --to 239.1.2.3 --from 10.0.0.1 --burst 20 --interval 1ms`,
		Args: arguments(0, 0),
	}
	f := cmd.Flags()
	f.StringVarP(&to, "to", "a", "127.0.0.1", "`ADDRESS` to send to; a multicast group, too")
	f.StringVar(&from, "from", "", "local `ADDRESS` to send from, which chooses the interface for multicast")
	f.IntVarP(&port, "port", "p", link.DefaultPort, "`PORT` to send to")
	f.IntVarP(&s.Burst, "burst", "b", link.DefaultBurst, "send `N` packets without a pause")
	f.DurationVarP(&s.Interval, "interval", "t", link.DefaultInterval, "pause between two bursts")
	f.IntVarP(&s.Count, "count", "n", link.DefaultCount, "send `N` packets")
	f.IntVar(&s.Bytes, "size", link.DefaultBytes, "`BYTES` in a packet, "+strconv.Itoa(link.MinBytes)+" to "+strconv.Itoa(link.MaxBytes))
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table or json")
	for _, name := range []string{"to", "from", "port", "burst", "interval", "count", "size"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	bindOutputCompletion(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		var err error
		if s.To, err = udpAddress("--to", to, port, 1); err != nil {
			return err
		}
		if from != "" {
			if s.From, err = netip.ParseAddr(from); err != nil {
				return usage(fmt.Errorf("--from %s: want an IP address of this machine", from))
			}
		}
		if err := s.Validate(); err != nil {
			return usage(err)
		}
		clearLine := func() {}
		if e := cmd.ErrOrStderr(); isTerminal(e) {
			s.Progress = func(sent int) { fmt.Fprintf(e, "\r\x1b[Ksent %d of %d", sent, s.Count) }
			clearLine = func() { io.WriteString(e, "\r\x1b[K") }
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		r, err := s.Run(ctx)
		clearLine()
		if r == nil {
			return err
		}
		if output == "json" {
			return errors.Join(err, writeJSON(cmd.OutOrStdout(), r))
		}
		if err := r.Write(cmd.OutOrStdout()); err != nil {
			return err
		}
		switch {
		case err != nil:
			return errors.New("interrupted")
		case r.Failed == r.Packets:
			return errors.New("no packet could be sent")
		}
		return nil
	}
	return cmd
}

func newLinkRecvCommand() *cobra.Command {
	var r link.Receiving
	var at, output string
	var port int
	var display bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "recv",
		Short: "Count the UDP packets of a sender: missed, corrupted, twice, out of order",
		Long: `Wait for a sender, count its packets, and print what was missed, corrupted, came twice or out of order. It ends when the
sender says that this was all, or falls silent.

Exit status: 0 if all packets came, 1 if some were missed or corrupted or none came, 2 for wrong use, 4 if the address
cannot be had.`,
		Example: `  evensong bench link recv
  evensong bench link recv --address 10.0.0.2 --port 4803 --timeout 1m
  evensong bench link recv --address 239.1.2.3 --interface eth1`,
		Args: arguments(0, 0),
	}
	f := cmd.Flags()
	f.StringVarP(&at, "address", "a", "", "local `ADDRESS` to receive at, or a multicast group to join (default: all IPv4 addresses)")
	f.StringVarP(&r.Interface, "interface", "i", "", "`NAME` or address of the interface for a multicast group")
	f.IntVarP(&port, "port", "p", link.DefaultPort, "`PORT`; 0 lets the system choose")
	f.BoolVarP(&display, "display", "d", false, "print each packet")
	f.DurationVar(&r.Idle, "idle", 3*time.Second, "end when the sender was silent for so long")
	f.DurationVar(&timeout, "timeout", 0, "end after this `DURATION` (default: do not)")
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table or json")
	for _, name := range []string{"address", "interface", "port", "idle", "timeout"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	bindOutputCompletion(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		if at == "" {
			at = "0.0.0.0"
		}
		address, err := udpAddress("--address", at, port, 0)
		if err != nil {
			return err
		}
		r.At = address
		if address.Addr().IsMulticast() {
			r.Group = address.Addr()
		} else if r.Interface != "" {
			return usage(errors.New("--interface is for a multicast group; for another address the system knows the interface"))
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		if timeout > 0 {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		out, e := cmd.OutOrStdout(), cmd.ErrOrStderr()
		// A script has to know the port that the system chose, and that packets can come.
		r.Listening = func(a net.Addr) { fmt.Fprintf(e, "listening at %v\n", a) }
		if display {
			r.Packet = func(from netip.AddrPort, n, total uint64, bytes int) {
				fmt.Fprintf(out, "%d of %d, %d bytes from %v\n", n, total, bytes, from)
			}
		} else if isTerminal(e) {
			r.Progress = func(r *link.Received) {
				fmt.Fprintf(e, "\r\x1b[Kreceived %d of %d, missed %d", r.Received, r.Total, r.Missed)
			}
		}
		res, err := r.Run(ctx)
		if r.Progress != nil {
			io.WriteString(e, "\r\x1b[K")
		}
		if err != nil {
			return failure{err, exitBind}
		}
		if output == "json" {
			err = writeJSON(out, res)
		} else {
			err = res.Write(out)
		}
		switch {
		case err != nil:
			return err
		case res.Received == 0:
			return errors.New("no packet came")
		case res.Missed > 0 || res.Corrupted > 0:
			return fmt.Errorf("%d packets missed, %d corrupted", res.Missed, res.Corrupted)
		}
		return nil
	}
	return cmd
}

// udpAddress is an address and a port, from a least one on.
func udpAddress(flag, address string, port, least int) (netip.AddrPort, error) {
	if port < least || port > 65535 {
		return netip.AddrPort{}, usage(fmt.Errorf("--port %d: want a number from %d to 65535", port, least))
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		ip, err := net.ResolveIPAddr("ip", address)
		if err != nil {
			return netip.AddrPort{}, usage(fmt.Errorf("%s %s: %w", flag, address, err))
		}
		a, _ = netip.AddrFromSlice(ip.IP)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
}
