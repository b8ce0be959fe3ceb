// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"evensong/internal/proto/membership"
)

// Rereader returns what reads once more all that c came from: the same file, by its absolute path and no other, the same
// flags and the environment. What it returns may be called from any goroutine, also after the process has given up rights;
// it fails as Read does, and has looked up no names.
func (c *Config) Rereader(v *Values, getenv func(string) (string, bool), hostName func() (string, error)) func() (Config, error) {
	path, err := c.Source, error(nil)
	if path != "" {
		path, err = filepath.Abs(path)
	}
	return func() (Config, error) {
		switch {
		case err != nil:
			return Config{}, fmt.Errorf("configuration: %w", err)
		case c.Source == stdinName:
			return Config{}, errors.New("configuration: it came through standard input, which cannot be read again; name a file with -c and restart")
		case path == "":
			next, err := Assemble(nil, v, getenv, hostName)
			return next.withFiles(err)
		}
		return Read(path, v, getenv, hostName)
	}
}

// Change is one difference between a configuration in force and another one of the same daemon.
type Change struct {
	Key     string // of a value, or "daemons", "interfaces", "segments", "access rules", "rank"
	Text    string // what changes, in a few words
	Restart bool   // a running daemon cannot take it over
}

// atStart are the values that a daemon uses when it starts and never again.
var atStart = []string{"name", "cluster", "bind", "listen", "unix-socket", "UnixSocketMode", "UnixSocketGroup", "DatagramPath", "PacketBytes", "state-dir", "RuntimeDir", "DaemonUser",
	"DaemonGroup", "SocketPortReuse", "DebugFlags", "EventLogFile", "EventTimeStamp", "EventPreciseTimeStamp", "admin-socket", "admin-listen", "admin-token-file",
	"admin-cert", "admin-key"}

// Changes lists how the resolved configuration next differs from now for the daemon called name, which both have: values in
// the order of the documentation, then daemons. What comes with file and line says so. Without a name it is what changes for
// any daemon that both have, but for its own address and place.
func Changes(now, next *Config, name string) []Change {
	var out []Change
	before := map[string]string{}
	for _, v := range now.values() {
		before[v.Key] = v.Value
	}
	word := func(s string) string {
		if s == "" {
			return "default"
		}
		return s
	}
	for _, v := range next.values() {
		if v.Value == before[v.Key] {
			continue
		}
		text := fmt.Sprintf("%s: %s instead of %s", v.Key, word(v.Value), word(before[v.Key]))
		if v.Value != "" {
			text += " (" + v.Origin.String() + ")"
		}
		// Whether datagrams are sealed at all is settled at the start: in between a daemon would hear nobody.
		sealing := v.Key == keyFileKey && (v.Value == "") != (before[v.Key] == "")
		out = append(out, Change{v.Key, text, sealing || slices.Contains(atStart, v.Key)})
	}
	out = append(out, changedKeys(now, next)...)
	if a, b := now.Voters(), next.Voters(); a != nil && b != nil && !membership.MajoritiesMeet(a, b) {
		out = append(out, Change{"PrimaryRule", "PrimaryRule = majority: a daemon that runs refuses this list, since more than half of each of the two could be primary at once; change it by one daemon at a time", true})
	}
	out = append(out, changedDaemons(now, next, name)...)
	if !slices.Equal(now.shared(), next.shared()) {
		out = append(out, Change{"segments", "multicast and broadcast: those of the start are used, and further daemons get copies of their own", true})
	}
	if a, b := now.rules(), next.rules(); !slices.Equal(a, b) {
		out = append(out, Change{"access rules", fmt.Sprintf("access rules: %d instead of %d", len(b), len(a)), false})
		if len(a) == len(b) {
			out[len(out)-1].Text = fmt.Sprintf("access rules: %d, and not the same", len(b))
		}
	}
	return out
}

func changedDaemons(now, next *Config, name string) []Change {
	var out []Change
	say := func(restart bool, format string, args ...any) {
		out = append(out, Change{"daemons", fmt.Sprintf(format, args...), restart})
	}
	index := func(c *Config, d Daemon) int {
		if d.Name != "" {
			return c.Index(d.Name)
		}
		return slices.IndexFunc(c.Daemons, func(o Daemon) bool { return o.Name == "" && o.Addr == d.Addr && o.Host == d.Host })
	}
	where := func(a netip.AddrPort) string {
		if a.Addr().IsValid() {
			return a.String()
		}
		return "no address"
	}
	for i, d := range next.Daemons {
		k := index(now, d)
		if k < 0 {
			say(false, "daemon %s is new, at %s", next.label(i), where(d.Addr))
			continue
		}
		o := now.Daemons[k]
		if o.Addr != d.Addr {
			say(d.Name == name, "daemon %s is at %s instead of %s", next.label(i), where(d.Addr), where(o.Addr))
		}
		if (d.Name == name || name == "") && !slices.Equal(o.Interfaces, d.Interfaces) {
			out = append(out, Change{"interfaces", "interfaces of " + d.Name, true})
		}
	}
	for i, d := range now.Daemons {
		if index(next, d) < 0 {
			say(false, "daemon %s is removed", now.label(i))
		}
	}
	if a, b := now.Rank(now.Index(name)), next.Rank(next.Index(name)); a != b {
		out = append(out, Change{"rank", fmt.Sprintf("place in the ring: %s instead of %s", ordinal(int(b)+1), ordinal(int(a)+1)), true})
	}
	return out
}

// shared describes the segments in which one packet reaches several daemons.
func (c *Config) shared() []string {
	var out []string
	for _, s := range c.Segments {
		if s.Kind != Unicast && len(s.Daemons) > 1 {
			var daemons []string
			for _, i := range s.Daemons {
				daemons = append(daemons, c.label(i)+" "+c.Daemons[i].Addr.String())
			}
			slices.Sort(daemons) // their order does not matter here
			out = append(out, s.Addr.String()+" "+strings.Join(daemons, " "))
		}
	}
	return out
}

// rules are the texts of the access rules.
func (c *Config) rules() []string {
	list := c.Auth.Rules
	if c.Access != nil && c.Access.Rules != nil {
		list = c.Access.Rules.List
	}
	var out []string
	for i := range list {
		out = append(out, strings.TrimSpace(list[i].Text))
	}
	return out
}
