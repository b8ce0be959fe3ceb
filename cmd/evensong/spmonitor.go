// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"evensong/internal/config"
	"evensong/internal/tools/monitor"
)

// spmonitorUsage is the help of the program under its other name.
const spmonitorUsage = `usage: spmonitor [-p port] [-n name] [-t seconds] [-c file]
  -p port     accepted and without effect: answers do not come as datagrams
  -n name     ask the daemon NAME first, and through it the others
  -t seconds  between two looks of status (10)
  -c file     the configuration file: where its daemons have their sockets
Environment: ` + envAdmin + ` names daemons as -n does, which wins: names, paths of sockets, or HOST:PORT with the token in the
file ` + envAdminToken + `.
`

// runSpmonitor is the program when it is called as spmonitor: the flags of the original's monitor, and its menu. args are
// without the program's name. The result is the exit status.
func runSpmonitor(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var r monitor.Reach
	o := monitor.MenuOptions{}
	if help, err := parseSpmonitor(args, &r, &o); err != nil {
		fmt.Fprintf(stderr, "spmonitor: %v\n%s", err, spmonitorUsage)
		return exitUsage
	} else if help {
		io.WriteString(stdout, spmonitorUsage)
		return 0
	}
	adminFromEnv(&r, len(r.Admin) > 0, false)
	if err := runMenu(context.Background(), r, o, stdin, stdout); err != nil {
		fmt.Fprintf(stderr, "spmonitor: %v\n", err)
		return exitCode(err)
	}
	return 0
}

// parseSpmonitor reads the original's flags, which are single letters behind one dash, each with its value in the next
// argument.
func parseSpmonitor(args []string, r *monitor.Reach, o *monitor.MenuOptions) (help bool, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch arg {
		case "-h", "-help", "--help":
			return true, nil
		case "-p", "-n", "-t", "-c":
		default:
			return false, fmt.Errorf("unknown argument %q", arg)
		}
		if i+1 == len(args) {
			return false, fmt.Errorf("%s needs a value", arg)
		}
		i++
		value := args[i]
		switch arg {
		case "-p":
			if n, err := strconv.Atoi(value); err != nil || n < 0 || n > 65535 {
				return false, fmt.Errorf("-p %q: want a port from 0 to 65535", value)
			}
		case "-n":
			r.Admin = []string{value}
		case "-t":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 86400 {
				return false, fmt.Errorf("-t %q: want a number of seconds from 1 to 86400", value)
			}
			o.Interval = time.Duration(n) * time.Second
		case "-c":
			c, err := config.Load(value)
			if err != nil {
				return false, errors.Join(fmt.Errorf("-c %s", value), err)
			}
			r.Dir = c.Local.RuntimeDir
		}
	}
	return false, nil
}
