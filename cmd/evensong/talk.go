// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"evensong/client"
	"evensong/internal/admin"
	"evensong/internal/tools/user"
)

// newPubCommand is "evensong pub".
func newPubCommand() *cobra.Command {
	var p user.Publication
	var session *sessionFlags
	var discard bool
	var messType int
	cmd := &cobra.Command{
		Use:        "pub GROUP... [MESSAGE|-]",
		SuggestFor: []string{"publish", "send"},
		Short:      "Send a message, or a message for each line of the input",
		Long: `Send a message to one or several groups, or a message for each line of the standard input.

With one argument, the group, and with "-" as the last one, messages are the lines of the input. Otherwise the last
argument is the message. A group may be a private group, such as '#alice#db1'.

The command ends when the daemons have given the last message its place in the order.

` + sessionHelp,
		Example: `  evensong pub chat hello
  evensong pub chat news 'to two groups'
  tail -f app.log | evensong pub --service fifo log
  seq 1000 | evensong pub --rate 50 chat -
  evensong pub --repeat 3 --type 7 --self-discard chat again`,
		Args:              groupArgs(1),
		ValidArgsFunction: completeGroups,
	}
	service := bindService(cmd, "agreed")
	f := cmd.Flags()
	f.IntVar(&messType, "type", 0, "`NUMBER` from -32768 to 32767 that tags the message for its receivers")
	f.BoolVar(&discard, "self-discard", false, "do not deliver the message to the own session")
	f.IntVar(&p.Repeat, "repeat", 1, "send each message `N` times")
	f.Float64Var(&p.Rate, "rate", 0, "send at most `N` messages per second (default: as many as the daemon takes)")
	f.DurationVar(&p.Timeout, "timeout", user.DefaultTimeout, "`DURATION` that connecting, and at the end the order of the last message, may take")
	for _, name := range []string{"type", "repeat", "rate", "timeout"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	session = bindSession(cmd, &p.Options, "")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if p.Service, err = service(); err != nil {
			return err
		}
		switch {
		case messType < math.MinInt16 || messType > math.MaxInt16:
			return usage(fmt.Errorf("--type %d: want a number from -32768 to 32767", messType))
		case p.Repeat < 1:
			return usage(fmt.Errorf("--repeat %d: want at least 1", p.Repeat))
		case p.Rate < 0 || math.IsNaN(p.Rate):
			return usage(fmt.Errorf("--rate %v: want a positive number", p.Rate))
		}
		p.Type = int16(messType)
		if discard {
			p.Service |= client.SelfDiscard
		}
		last := len(args) - 1
		switch {
		case len(args) == 1:
			p.Groups, p.Lines = args, cmd.InOrStdin()
		case args[last] == "-":
			p.Groups, p.Lines = args[:last], cmd.InOrStdin()
		default:
			p.Groups, p.Message = args[:last], []byte(args[last])
		}
		session.read(cmd)
		ctx, stop := interruptible(cmd)
		defer stop()
		sent, err := user.Publish(ctx, p)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = errors.New("interrupted")
		}
		if isTerminal(cmd.ErrOrStderr()) && sent != 1 && err == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "sent %d messages\n", sent)
		}
		return err
	}
	return cmd
}

// newSubCommand is "evensong sub".
func newSubCommand() *cobra.Command {
	var s user.Subscription
	var session *sessionFlags
	var output string
	cmd := &cobra.Command{
		Use:        "sub GROUP...",
		SuggestFor: []string{"subscribe", "receive"},
		Short:      "Join groups and print what is sent to them",
		Long: `Join one or several groups and print the messages that are sent to them, in their order.

Text is a line in words for each message; JSON is an object on a line, with data_base64 in place of data where a message
is not UTF-8; raw is the bytes of each message and a newline. --views adds views, with the reason for each.

` + sessionHelp + ` With --count and --timeout it is 1 if too few messages came in time.`,
		Example: `  evensong sub chat
  evensong sub --views -o json chat news | jq .
  evensong sub --count 1 --timeout 10s chat
  evensong sub -o raw log >>copy.log`,
		Args:              groupArgs(1),
		ValidArgsFunction: completeGroups,
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", string(user.Text), "`FORMAT`: text, json or raw")
	f.BoolVar(&s.Views, "views", false, "print views and other events too")
	f.IntVar(&s.Count, "count", 0, "end after `N` messages (default: do not)")
	f.DurationVar(&s.For, "timeout", 0, "end after this `DURATION`, connecting included (default: do not)")
	for _, name := range []string{"count", "timeout"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "raw"}, cobra.ShellCompDirectiveNoFileComp))
	session = bindSession(cmd, &s.Options, "")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if s.Format, err = user.ParseFormat(output); err != nil {
			return usage(err)
		}
		switch {
		case s.Count < 0 || f.Changed("count") && s.Count == 0:
			return usage(fmt.Errorf("--count %d: want at least 1", s.Count))
		case s.For < 0 || f.Changed("timeout") && s.For == 0:
			return usage(fmt.Errorf("--timeout %v: want a positive duration, such as 10s", s.For))
		}
		session.read(cmd)
		s.Groups = args
		s.Color = colorful(cmd.OutOrStdout())
		ctx, stop := interruptible(cmd)
		defer stop()
		return unlessStopped(ctx, user.Subscribe(ctx, s, cmd.OutOrStdout()))
	}
	return cmd
}

// newJoinCommand is "evensong join".
func newJoinCommand() *cobra.Command {
	var c user.Conversation
	var session *sessionFlags
	cmd := &cobra.Command{
		Use:   "join GROUP",
		Short: "Join a group, watch its views and messages in words, and type lines to send",
		Long: `Join a group: its messages and views appear in words, with the reason for each view, and each line that you type is
sent to it. Ctrl-D or /quit leaves, /members shows who is here.

With a pipe as input each line is sent, and the command ends when the last one has come back.

` + sessionHelp,
		Example: `  evensong join chat
  evensong join -u alice -s 4803@db1 chat
  printf 'hello\n' | evensong join chat`,
		Args:              cobra.MatchAll(groupArgs(1), arguments(1, 1)),
		ValidArgsFunction: completeGroups,
	}
	service := bindService(cmd, "agreed")
	session = bindSession(cmd, &c.Options, "")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if c.Service, err = service(); err != nil {
			return err
		}
		session.read(cmd)
		c.Group = args[0]
		c.Color = colorful(cmd.OutOrStdout())
		ctx, stop := interruptible(cmd)
		defer stop()
		return unlessStopped(ctx, user.Converse(ctx, c, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()))
	}
	return cmd
}

// completionPatience is how long a shell may wait for names.
const completionPatience = 500 * time.Millisecond

// completeGroups are the groups that the daemons of this host know, as far as their admin planes answer at once. A
// session's daemon may be another one, but its groups are those of the whole cluster.
func completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if cmd.Name() == "join" && len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	return without(groupNames(ctx, admin.Dir(os.Getenv(envRuntimeDir))), args), cobra.ShellCompDirectiveNoFileComp
}

// groupNames asks the daemons with an admin socket in dir, one after the other, and takes one page of each.
func groupNames(ctx context.Context, dir string) []string {
	var names []string
	for _, s := range admin.Sockets(dir) {
		c := admin.NewClient(s.Path, admin.DialOptions{})
		page, err := c.Groups(ctx, "", admin.MaxPage)
		c.Close()
		if err != nil {
			continue // a shell has no place for why
		}
		for _, g := range page.Groups {
			names = append(names, g.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func without(names, used []string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(used, n) })
}
