// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"evensong/internal/admin"
)

// Times of the menu. A partition that is sent is renewed well within its lease, and so ends soon after the menu does.
const (
	DefaultInterval = 10 * time.Second
	renewEvery      = 25 * time.Second
)

// MenuOptions say how the menu behaves.
type MenuOptions struct {
	Interval time.Duration // between two looks of status; zero means DefaultInterval
	Prompt   bool          // a person is there: show the menu after each command, and ask questions
}

// Menu is the monitor as its users know it: items 0 to 9, r and q, one line per choice or answer. It ends with 9, q or the
// end of the input. Every line counts when it comes, whether a person types it or a pipe brings all of them at once.
func Menu(ctx context.Context, r Reach, o MenuOptions, in io.Reader, w io.Writer) error {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &menu{
		ctx: ctx, reach: r, o: o, w: w, lines: make(chan string), watcher: NewWatcher(r),
		components: map[string]int{}, flow: map[string]admin.Settings{},
	}
	go func() {
		defer close(m.lines)
		s := bufio.NewScanner(in)
		for s.Scan() {
			select {
			case m.lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	m.look = time.NewTicker(o.Interval)
	defer m.look.Stop()
	m.renew = time.NewTicker(renewEvery)
	defer m.renew.Stop()
	m.help()
	for {
		line, ok := m.ask("monitor> ")
		if !ok || !m.choose(strings.TrimSpace(line)) {
			break
		}
	}
	if m.sent != nil {
		m.say("The partition in force ends within %v.", admin.DefaultLease)
	}
	return nil
}

// menu is one run of it. It belongs to one goroutine; another only reads lines.
type menu struct {
	ctx     context.Context
	reach   Reach
	o       MenuOptions
	w       io.Writer
	lines   chan string
	watcher *Watcher
	look    *time.Ticker
	renew   *time.Ticker

	all        bool           // status of all daemons
	watched    []string       // status of these
	components map[string]int // of the partition as defined
	sent       map[string]int // in force, renewed; nil: none
	window     *int           // of the flow control as defined
	flow       map[string]admin.Settings
}

func (m *menu) say(format string, a ...any) { fmt.Fprintf(m.w, format+"\n", a...) }

func (m *menu) help() {
	m.say(`Evensong monitor
  0  status of daemons, again and again
  1  define a partition         2  send it      3  show it     4  cancel it
  5  define flow control        6  send it      7  show it
  8  terminate daemons
  r  reload the configuration of all daemons
  9  end (also q)`)
}

// ask waits for a line; meanwhile what is due again and again is done. It is false at the end of the input.
func (m *menu) ask(question string) (string, bool) {
	if m.o.Prompt || question != "monitor> " {
		fmt.Fprint(m.w, question)
	}
	for {
		select {
		case line, ok := <-m.lines:
			if !m.o.Prompt && question != "monitor> " {
				fmt.Fprintln(m.w) // nobody's typing has ended the line
			}
			return line, ok
		case <-m.look.C:
			if m.all || len(m.watched) > 0 {
				m.status()
			}
		case <-m.renew.C:
			if m.sent != nil {
				m.cut(m.sent, false)
			}
		case <-m.ctx.Done():
			return "", false
		}
	}
}

// choose does what a line of the menu asks for, and reports whether to go on.
func (m *menu) choose(line string) bool {
	switch line {
	case "0":
		m.chooseStatus()
	case "1":
		m.definePartition()
	case "2":
		m.sent = maps.Clone(m.components)
		m.renew.Reset(renewEvery)
		m.cut(m.sent, true)
	case "3":
		m.showPartition()
	case "4":
		m.components, m.sent = map[string]int{}, nil
		m.report(func(c context.Context, d Target) (string, error) { x, err := d.Client.Heal(c); return x.Text, err }, nil)
	case "5":
		m.defineFlow()
	case "6":
		m.sendFlow()
	case "7":
		m.showFlow()
	case "8":
		m.terminate()
	case "r", "R":
		m.report(func(c context.Context, d Target) (string, error) {
			x, err := d.Client.Reload(c)
			return reloadText(&x), err
		}, nil)
		m.components, m.sent, m.window, m.flow = map[string]int{}, nil, nil, map[string]admin.Settings{}
		m.all, m.watched = false, nil
	case "9", "q", "Q":
		return false
	case "":
		if m.o.Prompt {
			m.help()
		}
	default:
		m.say("There is no %q in the menu; it has 0 to 9, r and q.", line)
	}
	return true
}

// targets are the daemons that can be reached, with their names.
func (m *menu) targets() []Target {
	ts, err := m.reach.Targets(m.ctx)
	if err != nil {
		m.say("%v", err)
		return nil
	}
	for i := range ts {
		if ts[i].Name != "" {
			continue
		}
		c, cancel := m.reach.limit(m.ctx)
		if s, err := ts[i].Client.Status(c); err == nil {
			ts[i].Name = s.Name
		}
		cancel()
	}
	return ts
}

// names are the daemons that one can speak of: those reached, and those that they know.
func (m *menu) names() []string {
	var out []string
	for _, t := range m.targets() {
		c, cancel := m.reach.limit(m.ctx)
		x, err := t.Client.Members(c)
		cancel()
		if err != nil {
			continue
		}
		for _, d := range slices.Concat(x.Members, x.Missing) {
			out = append(out, d.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// report does something at each daemon, or at those of only, and says what came of it.
func (m *menu) report(f func(context.Context, Target) (string, error), only []string) {
	for _, t := range m.targets() {
		if only != nil && !slices.Contains(only, t.Name) {
			continue
		}
		x := at(m.ctx, m.reach, t, func(c context.Context, _ *admin.Client) (string, error) { return f(c, t) })
		m.say("%s: %s", x.Daemon, x.Text)
	}
}

// chooseDaemons reads names, one per line, until an empty line or the end. Names add to what is chosen, all and none
// replace it.
func (m *menu) chooseDaemons(all bool, chosen []string) (bool, []string) {
	known := m.names()
	if len(known) == 0 {
		m.say("No daemon answers, so there is nothing to choose from; an empty line ends.")
	} else {
		m.say("Daemons are %s. Give names, one per line, or all, or none; an empty line ends.", strings.Join(known, ", "))
	}
	for {
		line, ok := m.ask("daemon: ")
		line = strings.TrimSpace(line)
		switch {
		case !ok || line == "":
			return all, chosen
		case line == "all":
			return true, nil
		case line == "none":
			return false, nil
		case !slices.Contains(known, line):
			m.say("There is no daemon %q.", line)
		case !slices.Contains(chosen, line):
			chosen = append(chosen, line)
		}
	}
}

func (m *menu) chooseStatus() {
	m.all, m.watched = m.chooseDaemons(m.all, m.watched)
	if m.all || len(m.watched) > 0 {
		m.status()
		m.look.Reset(m.o.Interval)
	}
}

// status prints every field of the daemons chosen.
func (m *menu) status() {
	ts := m.targets()
	if !m.all {
		ts = slices.DeleteFunc(ts, func(t Target) bool { return !slices.Contains(m.watched, t.Name) })
	}
	if err := (Output{Long: true}).reports(m.w, m.watcher.Ask(m.ctx, ts), true); err != nil {
		m.say("%v", err)
	}
}

// definePartition asks for the component of each daemon.
func (m *menu) definePartition() {
	for _, name := range m.names() {
		n, ok := m.number(fmt.Sprintf("component of %s [%d]: ", name, m.components[name]), 0, 1<<30)
		if !ok {
			return
		}
		if n != nil {
			m.components[name] = *n
		}
	}
	m.showPartition()
}

// number asks for a number from low to high; nil is an empty line. It is false at the end of the input.
func (m *menu) number(question string, low, high int) (*int, bool) {
	for {
		line, ok := m.ask(question)
		if !ok {
			return nil, false
		}
		if line = strings.TrimSpace(line); line == "" {
			return nil, true
		}
		n, err := strconv.Atoi(line)
		if err == nil && n >= low && n <= high {
			return &n, true
		}
		m.say("Want a number from %d to %d, or an empty line to leave it.", low, high)
	}
}

func (m *menu) showPartition() {
	if len(m.components) == 0 {
		m.say("No partition is defined: all daemons are in component 0.")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m.components)) {
		m.say("%s: component %d", name, m.components[name])
	}
}

// cut sends a partition; told says whether successes are worth a line.
func (m *menu) cut(components map[string]int, told bool) {
	if len(components) == 0 {
		m.say("No partition is defined; 1 defines one.")
		m.sent = nil
		return
	}
	done := 0
	for _, t := range m.targets() {
		x := at(m.ctx, m.reach, t, func(c context.Context, d *admin.Client) (string, error) {
			x, err := d.Partition(c, admin.Partition{Components: components})
			return x.Text, err
		})
		if x.err == nil {
			done++
		}
		if told || x.err != nil {
			m.say("%s: %s", x.Daemon, x.Text)
		}
	}
	if done == 0 {
		m.sent = nil // nothing to renew
	}
}

// defineFlow asks for the windows: one of all, and for each daemon its own.
func (m *menu) defineFlow() {
	const high = 999_999
	n, ok := m.number("window of all daemons: ", 1, high)
	if !ok {
		return
	}
	if n != nil {
		m.window = n
	}
	for _, t := range m.targets() {
		c, cancel := m.reach.limit(m.ctx)
		s, err := t.Client.Status(c)
		cancel()
		if err != nil {
			m.say("%s: %v", nameOr(t.Name, t.Client.Address()), err)
			continue
		}
		f := m.flow[s.Name]
		if n, ok = m.number("personal window of "+s.Name+": ", 1, high); !ok {
			return
		} else if n != nil {
			f.PersonalWindow = n
		}
		if s.Protocol == "accelerated" {
			if n, ok = m.number("accelerated window of "+s.Name+": ", 1, high); !ok {
				return
			} else if n != nil {
				f.AcceleratedWindow = n
			}
		}
		if f.Windows() {
			m.flow[s.Name] = f
		}
	}
	m.showFlow()
}

func (m *menu) showFlow() {
	if m.window == nil && len(m.flow) == 0 {
		m.say("No flow control is defined: everything stays as it is.")
	}
	if m.window != nil {
		m.say("window of all daemons: %d", *m.window)
	}
	for _, name := range slices.Sorted(maps.Keys(m.flow)) {
		f := m.flow[name]
		m.say("%s: personal window %s, accelerated window %s", name, kept(f.PersonalWindow), kept(f.AcceleratedWindow))
	}
}

func kept(n *int) string {
	if n == nil {
		return "as it is"
	}
	return strconv.Itoa(*n)
}

func (m *menu) sendFlow() {
	if m.window == nil && len(m.flow) == 0 {
		m.say("No flow control is defined; 5 defines it.")
		return
	}
	m.report(func(c context.Context, t Target) (string, error) {
		s := m.flow[t.Name]
		s.Window = m.window
		if !s.Windows() {
			return "left as it is", nil
		}
		now, err := t.Client.Set(c, s)
		return settingsText(&now), err
	}, nil)
}

func (m *menu) terminate() {
	all, chosen := m.chooseDaemons(false, nil)
	if !all && len(chosen) == 0 {
		m.say("Nothing is terminated.")
		return
	}
	if all {
		chosen = nil
	}
	m.report(func(c context.Context, t Target) (string, error) { x, err := t.Client.Terminate(c); return x.Text, err }, chosen)
}
