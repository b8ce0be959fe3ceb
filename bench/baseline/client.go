// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/pprof"
	"strconv"

	"evensong/bench/run"
)

// runClient is the role "client": ADDRESS ME CLIENTS [PROFILE]. It obeys the commands of run.Member.
func runClient(args []string, in io.Reader, out io.Writer) error {
	if len(args) < 3 {
		return errors.New("the role client is started by the program itself")
	}
	me, err1 := strconv.Atoi(args[1])
	n, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(args) > 3 && args[3] != "" {
		f, err := os.Create(args[3])
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return run.EvensongMember(context.Background(), args[0], me, n, func(ctx context.Context, l run.Link) error {
		return run.Member(ctx, l, me, n, in, out)
	})
}
