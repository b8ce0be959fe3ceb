// SPDX-License-Identifier: Apache-2.0

// Simple is the simplest program of its kind: it joins a group, sends one line that is typed as an Agreed message, prints
// what arrives until that was a message, and ends.
//
//	go run ./examples/simple [ADDRESS [NAME]]
//
// The address is that of a daemon as for client.Dial; "evensong dev" runs one at 4803.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"evensong/client"
)

const group = "simple_group"

const help = `usage: simple [ADDRESS [NAME]]
  ADDRESS   a daemon's: port (this machine), port@host, host:port or unix:/path (4803)
  NAME      private name, unique at the daemon (one that the daemon invents)
It joins the group ` + group + `, sends the line that you type, and prints what arrives until that was a message.
"evensong dev" runs a daemon at 4803.
`

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "simple:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	for _, a := range args {
		switch {
		case a == "-h", a == "-help", a == "--help":
			_, err := io.WriteString(out, help)
			return err
		case strings.HasPrefix(a, "-"), len(args) > 2:
			return errors.New("want at most an address and a name; --help says more")
		}
	}
	address, name := client.DefaultAddress, ""
	if len(args) > 0 {
		address = args[0]
	}
	if len(args) > 1 {
		name = args[1]
	}
	c, err := client.Dial(ctx, address, client.WithName(name))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Join(ctx, group); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: type a line\n", c.PrivateGroup())
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return cmp.Or(lines.Err(), errors.New("no line to send"))
	}
	if err := c.Multicast(ctx, client.Agreed, 0, lines.Bytes(), group); err != nil {
		return err
	}
	for ev, err := range c.Events(ctx) {
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case *client.View:
			fmt.Fprintf(out, "members after %v: %v\n", ev.Cause, ev.Members)
		case *client.Message:
			fmt.Fprintf(out, "%s says: %s\n", ev.Sender, ev.Data)
			return nil
		}
	}
	return nil
}
