// SPDX-License-Identifier: Apache-2.0

// Package run is what the measuring programs of this directory have in common: building evensong, starting and ending
// processes, showing progress, and reports, which say on which machine and commit a figure was taken.
package run

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Patience with children: to answer, and to end before they are killed.
const (
	answerTime = 40 * time.Second
	endTime    = 5 * time.Second
)

// Child is a process that a measuring program started. It is stopped by its process id, whatever happens.
type Child struct {
	Name  string
	In    io.WriteCloser
	Log   string        // file with its standard error
	Ended chan struct{} // closed once it was waited for
	// Codes are the errors that some exit codes stand for; others are shown with the end of the log.
	Codes map[int]error

	cmd   *exec.Cmd
	lines chan string // of its standard output; closed at the end
}

// Start runs a program with its log in dir.
func Start(dir, name string, env []string, program string, args ...string) (*Child, error) {
	c := &Child{Name: name, cmd: exec.Command(program, args...), lines: make(chan string, 4), Ended: make(chan struct{}), Log: filepath.Join(dir, name+".log")}
	log, err := os.Create(c.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stderr, c.cmd.Env = log, env
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.In, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			c.lines <- s.Text()
		}
		close(c.lines)
		_ = c.cmd.Wait() // how it ended is in its log
		close(c.Ended)
	}()
	return c, nil
}

// PID is the number of its process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Ask writes a command, if it is not empty, and returns the answer.
func (c *Child) Ask(ctx context.Context, command string) (string, error) {
	if command != "" {
		if err := c.Tell(command); err != nil {
			return "", err
		}
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return "", c.Problem("it has ended")
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	case <-timer.C:
		return "", c.Problem("no answer to " + command)
	}
}

// Tell writes a command.
func (c *Child) Tell(command string) error {
	if _, err := io.WriteString(c.In, command+"\n"); err != nil {
		return c.Problem(err.Error())
	}
	return nil
}

// Problem is an error with the end of what the child said, or the one of Codes if it ended with such a code.
func (c *Child) Problem(what string) error {
	select {
	case <-c.Ended:
		if err := c.Codes[c.cmd.ProcessState.ExitCode()]; err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	case <-time.After(time.Second): // it runs; or it has closed its output and is about to end
	}
	b, _ := os.ReadFile(c.Log)
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return fmt.Errorf("%s: %s\n%s", c.Name, what, bytes.TrimSpace(b))
}

// LastLine is the last line of the child's log.
func (c *Child) LastLine() string {
	b, _ := os.ReadFile(c.Log)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// Terminate asks the child to end and waits for it.
func (c *Child) Terminate() { c.End(func() { _ = c.Signal() }) }

// Signal asks the child to end and does not wait.
func (c *Child) Signal() error { return c.cmd.Process.Signal(Terminate) }

// End waits for the child after asking it, then kills it.
func (c *Child) End(ask func()) {
	ask()
	go func() {
		for range c.lines { // nobody listens any more
		}
	}()
	select {
	case <-c.Ended:
	case <-time.After(endTime):
		_ = c.cmd.Process.Kill()
		<-c.Ended
	}
}

// Environment is ours without what would configure the daemons.
func Environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "EVENSONG_") {
			env = append(env, e)
		}
	}
	return env
}

// FreePorts are UDP ports that nobody has at the moment.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer c.Close()
		ports = append(ports, c.LocalAddr().(*net.UDPAddr).Port)
	}
	return ports, nil
}

// Build makes the program that is measured.
func Build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "evensong")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "evensong/cmd/evensong").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build evensong: %w\n%s", err, out)
	}
	return program, nil
}

// Pause waits, or fails when ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
