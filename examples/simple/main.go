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
	"context"
	"fmt"
	"io"
	"os"

	"evensong/client"
)

const group = "simple_group"

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "simple:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
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
	lines.Scan()
	if err := lines.Err(); err != nil {
		return err
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
