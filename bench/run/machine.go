// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Machine is what decides the figures, as far as it is easy to find out.
func Machine() string {
	cpu := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = ", " + strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := runtime.GOOS
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%d cores%s, %s, %s", runtime.NumCPU(), cpu, kernel, runtime.Version())
}

// Commit is the checkout's, with a plus if it was changed; empty if git does not know.
func Commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return ""
	}
	id := string(bytes.TrimSpace(out))
	if out, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(out) > 0 {
		id += "+"
	}
	return id
}

// Progress is one line that changes on a terminal, and lines elsewhere.
type Progress struct {
	W        io.Writer
	Terminal bool
	Off      bool
	open     bool
}

// Say shows what is being done.
func (p *Progress) Say(format string, a ...any) {
	switch {
	case p.Off:
	case p.Terminal:
		fmt.Fprintf(p.W, "\r\x1b[K"+format, a...)
		p.open = true
	default:
		fmt.Fprintf(p.W, format+"\n", a...)
	}
}

// Note is a line that stays, also when there is no progress to be shown.
func (p *Progress) Note(format string, a ...any) {
	p.Done()
	fmt.Fprintf(p.W, format+"\n", a...)
}

// Done clears the line.
func (p *Progress) Done() {
	if p.open {
		fmt.Fprint(p.W, "\r\x1b[K")
		p.open = false
	}
}
