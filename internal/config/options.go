// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/session"
)

// EnvPrefix begins the names of the environment variables: --token-timeout is EVENSONG_TOKEN_TIMEOUT.
const EnvPrefix = "EVENSONG_"

// OriginKind says which kind of source a value came from. A greater kind wins over a smaller one.
type OriginKind uint8

const (
	FromDefault OriginKind = iota // nobody gave it
	Derived                       // decided from other values
	FromFile
	FromEnv
	FromFlag
)

// Origin says where a value in force came from.
type Origin struct {
	Kind OriginKind
	// Where is "spread.conf:7", "EVENSONG_NAME", "--name", or for Derived the reason.
	Where string
}

// String is "default", "decided: reason", or the place.
func (o Origin) String() string {
	switch o.Kind {
	case FromDefault:
		return "default"
	case Derived:
		return "decided: " + o.Where
	}
	return o.Where
}

// MarshalText is String, for JSON.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Origin tells where the value called key came from; key is the keyword of a directive or the name of an Option.
func (c *Config) Origin(key string) Origin {
	for _, o := range options {
		if o.Name == key && o.Key != "" {
			key = o.Key
		}
	}
	return c.origins[key]
}

// Option is a value that can be given as a flag or as an environment variable.
type Option struct {
	Name      string // of the flag, without dashes
	Shorthand string // one letter, or empty
	Key       string // the directive of a file that it overrides, or empty
	Usage     string // one line; the word in backquotes names the value
	List      bool   // may be repeated, or be a list with commas; the last source wins as a whole
	Default   string // what the daemon does without it, in words, for the documentation

	set func(c *Config, values []string) error
}

// Env is the name of the environment variable.
func (o Option) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

func (o Option) key() string {
	if o.Key != "" {
		return o.Key
	}
	return o.Name
}

// Options lists them in the order of the help text.
func Options() []Option { return slices.Clone(options) }

var options = append([]Option{
	{Name: "name", Shorthand: "n", Usage: "be the daemon `NAME` (1 to 19 characters)", Default: "found by host name and interface addresses",
		set: one(func(c *Config, v string) error { c.Local.Name = v; return checkDaemonName(v) })},
	{Name: "cluster", Usage: "`NAME` of the cluster; daemons of other clusters are ignored", Default: "the empty name",
		set: one(func(c *Config, v string) error { c.Cluster = v; return checkClusterName(v) })},
	{Name: "peer", List: true, Usage: "another daemon, or all that a host name stands for, `[NAME=]HOST[:PORT]`; replaces the daemons of a file", Default: "none: a cluster of one",
		set: setPeers},
	{Name: "bind", List: true, Usage: "local `ADDRESS[:PORT]` for traffic between daemons", Default: "the interfaces of the file, else this daemon's address if that is loopback, else all addresses, on its port",
		set: setBind},
	{Name: "listen", List: true, Usage: "`HOST:PORT` for clients over TCP; port 0 takes any free one", Default: "the interfaces of the file, else this daemon's address if that is loopback, else all addresses, on its port",
		set: setListen},
	{Name: "unix-socket", List: true, Usage: "`PATH` of a socket for clients on this host; none for no socket", Default: "/tmp/<port>, and <port> in the runtime directory if --runtime-dir or $XDG_RUNTIME_DIR tells it",
		set: setUnixSockets},
	{Name: "unix-mode", Key: "UnixSocketMode", Usage: "permissions of these sockets, `OCTAL`", Default: "0666: everybody on this host",
		set: one(func(c *Config, v string) (err error) { c.Local.UnixMode, err = parseMode(v); return err })},
	{Name: "unix-group", Key: "UnixSocketGroup", Usage: "`GROUP` of these sockets, a name or a number", Default: "that of the daemon",
		set: one(func(c *Config, v string) error { c.Local.UnixGroup = v; return checkPath(v) })},
	{Name: "datagram-path", Key: "DatagramPath", Usage: "`PATH` of datagrams into the kernel: auto, segment, batch or single", Default: "auto: the best that the system offers",
		set: one(func(c *Config, v string) error {
			if v = strings.ToLower(v); !slices.Contains(datagramPaths, v) {
				return fmt.Errorf("%q is no path of datagrams; write %s", v, strings.Join(datagramPaths, ", "))
			}
			c.Local.DatagramPath = v
			return nil
		})},
	{Name: "cluster-key-file", Key: "ClusterKeyFile", Usage: "`FILE` with the key by which daemons seal what they send each other, readable by its owner only", Default: "none: it can be read and forged",
		set: one(func(c *Config, v string) error { c.Local.KeyFile = v; return checkPath(v) })},
	{Name: "state-dir", Usage: "`DIR` for what must survive a restart", Default: "none: ring numbers do not survive it",
		set: one(func(c *Config, v string) error { c.Local.StateDir = v; return checkPath(v) })},
	{Name: "runtime-dir", Key: "RuntimeDir", Usage: "`DIR` for sockets", Default: "evensong in $XDG_RUNTIME_DIR, else /run/evensong for root and its owner on Linux, else evensong-UID in the directory for temporary files; the last two for admin sockets alone",
		set: one(func(c *Config, v string) error { c.Local.RuntimeDir = v; return checkPath(v) })},
	{Name: "user", Key: "DaemonUser", Usage: "after a start by root become the user `NAME`", Default: "stay root",
		set: one(func(c *Config, v string) error { c.Local.User = v; return checkIdentity(v) })},
	{Name: "group", Key: "DaemonGroup", Usage: "and the group `NAME`", Default: "the group of that user",
		set: one(func(c *Config, v string) error { c.Local.Group = v; return checkIdentity(v) })},
	{Name: "token-timeout", Key: "TokenTimeout", Usage: "a ring without token for this `DURATION` is lost; the other timers scale with it", Default: "that of the ring",
		set: duration(func(c *Config) *time.Duration { return &c.Timers.TokenTimeout })},
	{Name: "timer-profile", Key: "TimerProfile", Usage: "defaults of timers: `PROFILE` is auto, LAN or WAN", Default: "auto: WAN if the daemons are not in one network",
		set: one(func(c *Config, v string) error {
			p, ok := profileOf(v)
			if !ok {
				return fmt.Errorf("%q is no profile of timers; write auto, LAN or WAN", v)
			}
			c.Timers.Profile = p
			return nil
		})},
	{Name: "lookup-timeout", Key: "LookupTimeout", Usage: "`DURATION` between two searches for missing daemons", Default: "that of the ring",
		set: duration(func(c *Config) *time.Duration { return &c.Timers.Lookup })},
	{Name: "window", Key: "Window", Usage: "`PACKETS` per token round of all daemons together", Default: "tuned by the ring",
		set: integer(1, maxWindow, func(c *Config, n int64) { c.Ring.Global = int(n) })},
	{Name: "personal-window", Key: "PersonalWindow", Usage: "`PACKETS` per token visit of one daemon", Default: "tuned by the ring",
		set: integer(1, maxWindow, func(c *Config, n int64) { c.Ring.Personal = int(n) })},
	{Name: "accelerated-window", Key: "AcceleratedWindow", Usage: "`PACKETS` of a daemon that follow the token", Default: "tuned by the ring",
		set: integer(1, maxWindow, func(c *Config, n int64) { c.Ring.AcceleratedWindow = int(n) })},
	{Name: "packet-bytes", Key: "PacketBytes", Usage: "largest datagram that this daemon sends, in `BYTES`", Default: "that of the ring",
		set: integer(minPacket, packet.MaxDatagram, func(c *Config, n int64) { c.Ring.PacketBytes = int(n) })},
	{Name: "accelerated-ring", Key: "AcceleratedRing", Usage: "`BOOL`: pass the token before the last packets; equal on all daemons", Default: "true if the daemons are in one network",
		set: one(func(c *Config, v string) error { return parseBool(v, &c.Ring.Accelerated) })},
	{Name: "primary-rule", Key: "PrimaryRule", Usage: "`RULE` for primary configurations of daemons, majority or none; equal on all daemons", Default: "none",
		set: one(func(c *Config, v string) error {
			if v = strings.ToLower(v); !slices.Contains(primaryRules, v) {
				return fmt.Errorf("%q is no rule for primary configurations; write %s", v, strings.Join(primaryRules, " or "))
			}
			c.Primary = v
			return nil
		})},
	{Name: "max-clients", Usage: "most `CLIENTS` at a time", Default: "20000, or what the descriptor limit allows",
		set: integer(1, 10_000_000, func(c *Config, n int64) { c.Sessions.Limit = int(n) })},
	{Name: "client-bytes", Usage: "`BYTES` that wait for a client from which on it is slow (KiB, MiB, GiB allowed)", Default: "8MiB",
		set: byteSize(func(c *Config) *int64 { return &c.Sessions.ByteBudget })},
	{Name: "client-hard-bytes", Usage: "`BYTES` that wait for a client at which it is closed, though it reads", Default: "eight times --client-bytes",
		set: byteSize(func(c *Config) *int64 { return &c.Sessions.HardBytes })},
	{Name: "all-client-bytes", Usage: "most `BYTES` that wait for all clients together", Default: "512MiB",
		set: byteSize(func(c *Config) *int64 { return &c.Sessions.TotalBytes })},
	{Name: "slow-client", Usage: "`POLICY` for a slow client that still reads: close, block or drop", Default: "close",
		set: one(func(c *Config, v string) error { return setSlowPolicy(&c.Sessions.SlowPolicy, v) })},
	{Name: "slow-client-stall", Usage: "close a slow client that reads nothing for this `DURATION`", Default: "10s",
		set: duration(func(c *Config) *time.Duration { return &c.Sessions.Stall })},
	{Name: "slow-client-wait", Usage: "`DURATION` that others wait for a slow client with the policy block", Default: "10s",
		set: duration(func(c *Config) *time.Duration { return &c.Sessions.Wait })},
	{Name: "max-message", Usage: "most `BYTES` of data in a message of a client that speaks Evensong's own dialect", Default: "16MiB",
		set: one(func(c *Config, v string) error { return setMessageBytes(&c.Sessions.MessageBytes, v) })},
	{Name: "max-session-messages", Key: "MaxSessionMessages", Usage: "most `MESSAGES` that wait for a client, 0 for no limit by count", Default: "no limit by count",
		set: integer(0, 1<<31-1, func(c *Config, n int64) { c.Sessions.MaxMessages = int(n) })},
	{Name: "required-auth", Key: "RequiredAuthMethods", List: true, Usage: "authentication `METHOD` checked for every client: NULL, IP or PWORD", Default: "none",
		set: setMethods(func(c *Config) *[]string { return &c.Auth.Required })},
	{Name: "allowed-auth", Key: "AllowedAuthMethods", List: true, Usage: "authentication `METHOD` that a client may choose", Default: "NULL",
		set: setMethods(func(c *Config) *[]string { return &c.Auth.Allowed })},
	{Name: "access-ip", Key: "AccessIPFile", Usage: "`FILE` of networks for method IP", Default: "spread.access_ip here or in /etc",
		set: one(func(c *Config, v string) error { c.Auth.NetworksFile = v; return checkPath(v) })},
	{Name: "access-pword", Key: "AccessPasswordFile", Usage: "`FILE` of users and hashes for method PWORD", Default: "spread.access_pword here or in /etc",
		set: one(func(c *Config, v string) error { c.Auth.PasswordsFile = v; return checkPath(v) })},
	{Name: "access-rules", Key: "AccessRulesFile", Usage: "`FILE` of access rules; replaces those of the configuration file", Default: "none",
		set: one(setRulesFile)},
	{Name: "access-policy", Key: "AccessControlPolicy", Usage: "what no access rule decides: `PERMIT` or DENY", Default: "PERMIT",
		set: one(setPolicy)},
	{Name: "log-file", Key: "EventLogFile", Usage: "append the log to `FILE`; %h is the host name", Default: "standard error",
		set: one(func(c *Config, v string) error { c.Log.File = v; return checkPath(v) })},
	{Name: "log-level", Key: "EventPriority", Usage: "least `LEVEL` that is logged: debug, info, warn or error", Default: "info",
		set: one(setLogLevel)},
	{Name: "dangerous-monitor", Key: "DangerousMonitor", Usage: "`BOOL`: permit operators to partition and stop daemons", Default: "false",
		set: one(func(c *Config, v string) error { return parseBool(v, &c.DangerousMonitor) })},
}, slices.Concat(tlsOptions, adminOptions)...)

// Values holds what was given as flags, for Assemble.
type Values struct {
	flags *pflag.FlagSet
	given map[string]*values
}

// values is one option as pflag sees it.
type values struct {
	list []string
	opt  Option
}

func (v *values) String() string { return strings.Join(v.list, ",") }
func (v *values) Type() string   { return "value" }

// Set keeps the text; it is judged in Assemble, which reports all mistakes at once.
func (v *values) Set(s string) error {
	if !v.opt.List {
		v.list = v.list[:0]
		v.list = append(v.list, s)
		return nil
	}
	v.list = append(v.list, splitList(s)...)
	return nil
}

// BindFlags defines the flags of all options in fs.
func BindFlags(fs *pflag.FlagSet) *Values {
	v := &Values{flags: fs, given: make(map[string]*values)}
	for _, o := range options {
		one := &values{opt: o}
		v.given[o.Name] = one
		f := fs.VarPF(one, o.Name, o.Shorthand, o.Usage+" (default: "+o.Default+")")
		f.DefValue = ""
	}
	return v
}

// Assemble puts a flag over an environment variable over the file over the default and checks the result. file is the
// parsed file, or nil to run without one; getenv is os.LookupEnv or a table; v may be nil. An empty variable counts as
// not given.
//
// With no file the daemons are this one and its peers, and hostName supplies the name if none is given. Host names are
// left to Resolve. The error is Problems: everything wrong in flags and environment, in the order of Options.
func Assemble(file *Config, v *Values, getenv func(string) (string, bool), hostName func() (string, error)) (Config, error) {
	c := Config{}
	if file != nil {
		c = *file
	}
	c.origins = make(map[string]Origin)
	if file != nil {
		for k, o := range file.origins {
			c.origins[k] = o
		}
	}
	problems := Problems(slices.Clone(c.Warnings))
	aboutTimers := func(p Problem) bool { return strings.HasPrefix(p.Text, timersInForce) }
	for _, o := range options {
		list, origin := v.lookup(o, getenv)
		if origin.Kind == FromDefault {
			continue
		}
		if err := o.set(&c, list); err != nil {
			problems = append(problems, Problem{File: origin.Where, Severity: Error, Text: err.Error(), Hint: "see evensong serve --help"})
			continue
		}
		c.origins[o.key()] = origin
		if o.Key == "TokenTimeout" {
			problems = slices.DeleteFunc(problems, aboutTimers) // the notice speaks of the value replaced
		}
	}
	if problems.Errors() > 0 {
		_, err := problems.split()
		return c, err
	}
	if file == nil && len(c.Daemons) == 0 || c.Origin("peer").Kind > FromFile {
		if err := c.addSelf(hostName); err != nil {
			problems = append(problems, Problem{File: "--name", Severity: Error, Text: err.Error(), Hint: "give a name of 1 to 19 characters with --name"})
		}
	}
	if c.Ranked && c.Local.Name != "" && c.Index(c.Local.Name) < 0 {
		_, err := Identify(&c, c.Local.Name, nil)
		if more, ok := errors.AsType[Problems](err); ok {
			problems = append(problems, more...)
		}
	}
	for _, p := range slices.Concat(c.authProblems(), c.tlsProblems(), c.windowProblems(), c.primaryProblems(), c.Sessions.problems(), c.Timers.problems()) {
		if overridden(&c, p.keys) { // otherwise the file's own problem is there already, with its place
			p.File = c.lastOrigin(p.keys)
			problems = append(problems, p.Problem)
		}
	}
	problems = append(problems, c.adminProblems()...)
	for _, p := range c.addressProblems() {
		if !slices.Contains(problems, p) {
			problems = append(problems, p)
		}
	}
	c.decide()
	var err error
	c.Warnings, err = problems.split()
	return c, err
}

// overridden reports whether one of the keys was given by flag or environment.
func overridden(c *Config, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return c.origins[k].Kind > FromFile })
}

func (c *Config) lastOrigin(keys []string) string {
	best := Origin{}
	for _, k := range keys {
		if o := c.origins[k]; o.Kind > best.Kind {
			best = o
		}
	}
	return best.Where
}

// lookup finds the source of greatest precedence above the file.
func (v *Values) lookup(o Option, getenv func(string) (string, bool)) ([]string, Origin) {
	if v != nil && v.flags.Changed(o.Name) {
		return v.given[o.Name].list, Origin{FromFlag, "--" + o.Name}
	}
	if s, ok := getenv(o.Env()); ok && s != "" {
		if o.List {
			return splitList(s), Origin{FromEnv, o.Env()}
		}
		return []string{s}, Origin{FromEnv, o.Env()}
	}
	return nil, Origin{}
}

func splitList(s string) []string {
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// addSelf makes this daemon the first of a cluster without a file. A peer of the same name, or at the address that this
// daemon binds, is this daemon: so one list of peers can be given to all of them.
func (c *Config) addSelf(hostName func() (string, error)) error {
	peers := c.Daemons
	c.Daemons, c.Segments, c.Ranked = nil, nil, false
	c.where.daemons, c.where.segments = nil, nil
	name := c.Local.Name
	if name == "" {
		full, err := hostName()
		if err != nil {
			return fmt.Errorf("find the name of this daemon: %w", err)
		}
		name, _, _ = strings.Cut(full, ".")
		if err := checkDaemonName(name); err != nil {
			return fmt.Errorf("the host name %q does not serve as name: %w", full, err)
		}
		c.Local.Name = name
		c.origins["name"] = Origin{Derived, "host name"}
	}
	self := Daemon{Name: name, Addr: netip.AddrPortFrom(netip.Addr{}, DefaultPort)}
	if len(c.Local.Bind) > 0 {
		self.Addr = c.Local.Bind[0]
		if self.Addr.Addr().IsUnspecified() {
			self.Addr = netip.AddrPortFrom(netip.Addr{}, self.Addr.Port())
		}
	}
	var rest []Daemon
	for _, p := range peers {
		switch {
		case p.Name == name, p.Name == "" && p.Addr.Addr().IsValid() && slices.Contains(c.Local.Bind, p.Addr):
			if !self.Addr.Addr().IsValid() {
				self.Host, self.Addr = p.Host, p.Addr
			}
		default:
			rest = append(rest, p)
		}
	}
	if !self.Addr.Addr().IsValid() && self.Host == "" && len(rest) == 0 {
		// Nobody else will ever need the address of a daemon that has no peers.
		self.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), self.Addr.Port())
	}
	for i, d := range append([]Daemon{self}, rest...) {
		d.Segment = i
		c.Daemons = append(c.Daemons, d)
		c.Segments = append(c.Segments, Segment{Addr: netip.AddrPortFrom(netip.Addr{}, d.Addr.Port()), Kind: Unicast, Daemons: []int{i}})
	}
	return nil
}

// checkIdentity judges the name of a user or group of the system.
func checkIdentity(v string) error {
	if v == "" || len(v) > maxUserName || strings.ContainsAny(v, " :\x00") {
		return fmt.Errorf("%q is no name of a user or group: want 1 to %d bytes without blanks and colons", v, maxUserName)
	}
	return nil
}

func one(set func(c *Config, v string) error) func(*Config, []string) error {
	return func(c *Config, list []string) error {
		if len(list) != 1 {
			return fmt.Errorf("takes one value, not %d", len(list))
		}
		return set(c, list[0])
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, []string) error {
	return one(func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a duration; write 500ms or 1.5s", v)
		case d < time.Millisecond || d > maxTimer:
			return fmt.Errorf("%v is out of range; choose 1ms to %v", d, maxTimer)
		}
		*field(c) = d
		return nil
	})
}

func integer(low, high int64, set func(c *Config, n int64)) func(*Config, []string) error {
	return one(func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("%q is not a number; write digits only, %d to %d", v, low, high)
		}
		if err != nil || n < low || n > high {
			return fmt.Errorf("%s is out of range; choose %d to %d", v, low, high)
		}
		set(c, n)
		return nil
	})
}

func parseBool(v string, to *bool) error {
	switch strings.ToLower(v) {
	case "true", "yes", "on":
		*to = true
	case "false", "no", "off":
		*to = false
	default:
		return fmt.Errorf("%q is neither true nor false", v)
	}
	return nil
}

func byteSize(field func(*Config) *int64) func(*Config, []string) error {
	return one(func(c *Config, v string) (err error) { *field(c), err = parseBytes(v); return err })
}

func setSlowPolicy(to *string, v string) error {
	p, ok := session.ParsePolicy(v)
	if !ok {
		return fmt.Errorf("%q is no policy for slow clients; write %s", v, strings.Join(session.Policies(), ", "))
	}
	*to = p.String()
	return nil
}

func setMessageBytes(to *int64, v string) error {
	n, err := parseBytes(v)
	if err == nil && n > frame.MaxOwnMessage {
		err = fmt.Errorf("%q is more than a message can have, 64MiB", v)
	}
	if err == nil {
		*to = n
	}
	return err
}

// parseBytes reads a number of bytes with an optional unit KiB, MiB or GiB, at least 256 KiB: less could hardly
// hold two full-size messages of the original's clients.
func parseBytes(v string) (int64, error) {
	const least = 256 << 10
	number, factor := v, int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(v, unit); ok {
			number, factor = n, int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is not a number of bytes; write 8388608 or 8MiB", v)
	case err != nil, n > (1<<40)/factor, n*factor < least:
		return 0, fmt.Errorf("%s is out of range; choose 256KiB to 1024GiB", v)
	}
	return n * factor, nil
}

func setLogLevel(c *Config, v string) error {
	levels := map[string]string{"debug": "pDEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR"}
	p, ok := levels[strings.ToLower(v)]
	if !ok {
		return fmt.Errorf("%q is not a level; write debug, info, warn or error", v)
	}
	c.Log.Priority = p
	return nil
}

func setRulesFile(c *Config, v string) error {
	c.Auth.RulesFile, c.Auth.Rules = v, nil
	delete(c.origins, rulesKeyword)
	return checkPath(v)
}

func setPolicy(c *Config, v string) error {
	if v != policyPermit && v != policyDeny {
		return fmt.Errorf("%q is no policy; write %s or %s", v, policyPermit, policyDeny)
	}
	c.Auth.Policy = v
	return nil
}

func checkClusterName(v string) error {
	if len(v) > MaxClusterName {
		return fmt.Errorf("the cluster name is too long (%d > %d bytes)", len(v), MaxClusterName)
	}
	for _, r := range v {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return fmt.Errorf("the cluster name %q holds a character that cannot be shown", v)
		}
	}
	return nil
}

func checkPath(v string) error {
	switch {
	case v == "" || strings.ContainsRune(v, 0):
		return errors.New("the path is empty or holds a zero byte")
	case len(v) > maxPath:
		return fmt.Errorf("the path is too long (%d > %d bytes)", len(v), maxPath)
	}
	return nil
}

func setPeers(c *Config, list []string) error {
	if len(list) > MaxDaemons-1 {
		return fmt.Errorf("%d peers; the most is %d", len(list), MaxDaemons-1)
	}
	var out []Daemon
	var errs []string
	for _, s := range list {
		d, err := parsePeer(s)
		switch {
		case err != nil:
			errs = append(errs, fmt.Sprintf("peer %q: %v", s, err))
		case d.Name != "" && slices.ContainsFunc(out, func(o Daemon) bool { return o.Name == d.Name }):
			errs = append(errs, fmt.Sprintf("peer %q: there is another peer of that name", s))
		default:
			out = append(out, d)
		}
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, ", "))
	}
	c.Daemons, c.Segments, c.Ranked = out, nil, false
	return nil
}

// ParseHost reads HOST or HOST:PORT, where HOST is the name of a host and no address; without a port it is DefaultPort.
func ParseHost(s string) (host string, port uint16, err error) {
	e, err := parseEndpoint(s)
	switch {
	case err != nil:
		return "", 0, err
	case e.host == "":
		return "", 0, fmt.Errorf("%q is an address, not the name of a host", s)
	}
	return e.host, cmp.Or(e.port, DefaultPort), nil
}

func parsePeer(s string) (Daemon, error) {
	name, where, named := strings.Cut(s, "=")
	if !named {
		name, where = "", s
	} else if err := checkDaemonName(name); err != nil {
		return Daemon{}, err
	}
	e, err := parseEndpoint(where)
	switch {
	case err != nil:
		return Daemon{}, err
	case e.addr.IsValid() && (e.addr.IsUnspecified() || e.addr.IsMulticast()):
		return Daemon{}, fmt.Errorf("%s is not the address of a host", e.addr)
	case e.port == 0:
		e.port = DefaultPort
	}
	return Daemon{Name: name, Host: e.host, Addr: netip.AddrPortFrom(e.addr, e.port)}, nil
}

func setBind(c *Config, list []string) error {
	var out []netip.AddrPort
	for _, s := range list {
		e, err := parseEndpoint(s)
		if err != nil {
			return err
		}
		if !e.addr.IsValid() || e.addr.IsMulticast() {
			return fmt.Errorf("%q is not a local address; a name could change while the daemon runs", s)
		}
		if e.port == 0 {
			e.port = DefaultPort
		}
		out = append(out, netip.AddrPortFrom(e.addr, e.port))
	}
	c.Local.Bind = out
	return nil
}

func setListen(c *Config, list []string) error {
	for _, s := range list {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return fmt.Errorf("%q is not HOST:PORT", s)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("port %q is not a number from 0 to 65535", port)
		}
		if host == "" {
			continue
		}
		if _, err := netip.ParseAddr(host); err != nil {
			if err := checkHostName(host); err != nil {
				return err
			}
		}
	}
	c.Local.Listen = slices.Clone(list)
	return nil
}

// maxUnixPath is what a socket address holds on the strictest of our systems (macOS: 104 with the final zero).
const maxUnixPath = 103

func setUnixSockets(c *Config, list []string) error {
	if len(list) == 1 && list[0] == "none" {
		c.Local.UnixSockets = []string{}
		return nil
	}
	for _, s := range list {
		if err := checkPath(s); err != nil {
			return err
		}
		if len(s) > maxUnixPath {
			return fmt.Errorf("socket path %q is too long (%d > %d bytes)", s, len(s), maxUnixPath)
		}
		if filepath.Clean(s) == "." || strings.HasSuffix(s, "/") {
			return fmt.Errorf("%q is a directory, not the path of a socket", s)
		}
	}
	c.Local.UnixSockets = slices.Clone(list)
	return nil
}
