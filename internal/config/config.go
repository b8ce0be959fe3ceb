// SPDX-License-Identifier: Apache-2.0

// Package config turns what an operator wrote into a checked configuration of one daemon: a file in the format of
// spread.conf, or flags and environment variables where there is no file, or both.
//
// The steps are separate so that each is a pure function of its arguments and can be tested without a network:
//
//	Parse     bytes of a file       -> Config, or all Problems of the file
//	Assemble  Config + flags + env  -> Config; a flag wins over EVENSONG_*, that over the file, that over the default
//	Read      both of them, from the named file or the search path: what a daemon calls first
//	Resolve   host names            -> addresses, by a resolver that the caller passes in
//	Identify  which daemon am I     -> index into Daemons, by name, host name or interface addresses passed in
//	FactsOf   what must agree       -> Facts, small enough for a packet; Diff says in words how two daemons differ
//
// A value that nobody gave is zero, and the package that uses it supplies its default: this package knows which
// values are given and whether they fit together. Nothing here is modified after it was returned; slices may be shared
// between copies of a Config and must not be changed. All functions may be called concurrently.
package config

import (
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/seal"
)

const (
	// DefaultPort is the port of a segment that names none, and where clients look for a daemon.
	DefaultPort = 4803
	// MaxNameLength is the longest daemon name in bytes: private group names of clients of the original (#user#daemon)
	// must fit into their 32 bytes.
	MaxNameLength = 19
	// MaxDaemons bounds the daemons of one configuration and of one segment. More is an error.
	MaxDaemons = 128
	// MaxInterfaces bounds the addresses of one interface stanza. More is an error.
	MaxInterfaces = 10
	// OriginalSegments is how many segments the original accepts. More is a warning: here the only bound is
	// MaxDaemons, because one segment per daemon is how a cluster works without multicast.
	OriginalSegments = 20
	// MaxFileSize bounds a configuration file in bytes. The largest sensible one is some ten kilobytes.
	MaxFileSize = 256 << 10
	// MaxClusterName bounds the name of a cluster in bytes, so that Facts stay below 1 KiB.
	MaxClusterName = 63
)

// Config is a checked configuration.
type Config struct {
	// Source is the file it was read from; empty without a file. Chosen says in words why that one, or why none.
	Source, Chosen string
	// Cluster separates clusters that can hear each other. Empty is a name like any other; a file has none.
	Cluster string
	// Daemons of the cluster: those of a file in the order of the file, else this daemon followed by its peers.
	Daemons []Daemon
	// Segments in the order of the file. Without a file every daemon is a Unicast segment of its own.
	Segments []Segment
	// Ranked says that the order of Daemons is the order of the ring (they come from a file). Otherwise all daemons have
	// rank zero and the ring is ordered by name.
	Ranked bool
	// Wide says that the first daemons of the segments are not in one network (/16 for IPv4, /48 for IPv6), so that timers
	// should be those of a wide-area network. It is known once all addresses are (after Resolve).
	Wide bool

	// Primary is the rule by which a configuration of daemons is primary: PrimaryMajority, or PrimaryNone. Empty: PrimaryNone.
	Primary string

	Local    Local
	Ring     Ring
	Timers   Timers
	Sessions Sessions
	Log      Log
	Auth     Auth
	TLS      TLS
	Admin    Admin

	// Certificate is what TLS comes to, with its files read; nil without TLS, and before Read or LoadTLS.
	Certificate *Certificate

	// Access is what Auth comes to, with its files read; nil before Read or LoadAccess.
	Access *Access
	// Keys are those of Local.KeyFile; nil without one, and before Read or LoadKeys.
	Keys *seal.Keys

	// DangerousMonitor permits the operator's commands that disturb service: partitions, windows, terminate. Default false.
	DangerousMonitor bool

	// Warnings holds the warnings and notices of a configuration without errors, in the order of the file.
	Warnings []Problem

	origins map[string]Origin
	where   places
}

// The rules for primary configurations.
const (
	// PrimaryMajority: more than half of the daemons of the list.
	PrimaryMajority = "majority"
	// PrimaryNone: no configuration is said to be primary.
	PrimaryNone = "none"
)

// Voters are the names of the daemons of which a primary configuration has more than half; nil: nothing is claimed.
func (c *Config) Voters() []string {
	if c.Primary != PrimaryMajority {
		return nil
	}
	return c.Names()
}

// Rank is the place of daemon i in ring order as all daemons must agree on it: its index, or zero without a file.
func (c *Config) Rank(i int) uint16 {
	if !c.Ranked {
		return 0
	}
	return uint16(i)
}

// ByName reports whether daemon i is a peer that was given by the name of a host, whose addresses may change while the cluster
// runs. Those of a file keep the address that they have when it is read.
func (c *Config) ByName(i int) bool { return !c.Ranked && i > 0 && c.Daemons[i].Host != "" }

// Index is the position of the daemon called name in Daemons, or -1.
func (c *Config) Index(name string) int {
	return slices.IndexFunc(c.Daemons, func(d Daemon) bool { return d.Name == name })
}

// Names are the names of the daemons in order; one is empty where a peer was given by address only.
func (c *Config) Names() []string {
	names := make([]string, len(c.Daemons))
	for i, d := range c.Daemons {
		names[i] = d.Name
	}
	return names
}

// Resolved reports whether every address is known, so that Resolve has nothing to do.
func (c *Config) Resolved() bool {
	for _, d := range c.Daemons {
		if !d.Addr.Addr().IsValid() && d.Host != "" && len(d.Addrs) == 0 {
			return false
		}
		for _, in := range d.Interfaces {
			if !in.Addr.IsValid() {
				return false
			}
		}
	}
	return true
}

// Daemon is one server process of the cluster.
type Daemon struct {
	// Name is unique: 1 to MaxNameLength characters from '$' to '~' of ASCII. Empty for a peer given by address only.
	Name string
	// Host is the host name as written where no address was; it is the daemon's name if the file gives nothing else.
	Host string
	// Addr is where other daemons reach it, with the port of its segment. The address part is invalid, with the port set,
	// while Host is unresolved; also for this daemon in a cluster without a file if no address was given, because its peers
	// know where it is, and for a peer by name (ByName), always.
	Addr netip.AddrPort
	// Addrs are what Host stands for, if this is a peer by name, as Resolve has found them: any number of daemons may be there,
	// and others at another time. Empty: none was found.
	Addrs []netip.Addr
	// Segment indexes Config.Segments.
	Segment int
	// Interfaces lists the only local addresses that the daemon opens. Empty: all addresses, for every purpose.
	Interfaces []Interface
}

// Interface is a local address of a daemon and what it is for. At least one of the purposes is set.
type Interface struct {
	Addr          netip.Addr // invalid while Host is unresolved
	Host          string     // host name as written, if no address was
	Client        bool       // letter C: connections of clients
	DaemonTraffic bool       // letter D: token and data of other daemons
	Monitor       bool       // letter M: the operator's console. Kept, as in the original nothing checks it
}

// SegmentKind says how one packet reaches all daemons of a segment.
type SegmentKind uint8

const (
	// Unicast: one copy to each daemon. The address of the segment is not used, only its port.
	Unicast SegmentKind = iota + 1
	// Multicast: to a group address, 224.0.0.0/4 or ff00::/8.
	Multicast
	// Broadcast: to the broadcast address of an IPv4 subnet.
	Broadcast
)

// String is the lower-case word.
func (k SegmentKind) String() string {
	switch k {
	case Unicast:
		return "unicast"
	case Multicast:
		return "multicast"
	case Broadcast:
		return "broadcast"
	}
	return "unknown kind"
}

// MarshalText is String, for JSON.
func (k SegmentKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Segment is a set of daemons that one packet may reach together.
type Segment struct {
	Addr    netip.AddrPort
	Kind    SegmentKind
	Daemons []int // indexes into Config.Daemons, ascending, never empty
}

// Local is what concerns this daemon only and may differ on every host.
type Local struct {
	// Name is the daemon to be; empty: found by Identify, or without a file the host name.
	Name string
	// Bind are addresses for daemon traffic. Empty: those of the interface stanza, or all addresses on the port of the
	// segment.
	Bind []netip.AddrPort
	// Listen are host:port pairs for clients over TCP, port 0 meaning any free one. Empty: the interfaces with purpose
	// Client on the port of the segment, or the
	// daemon's own address if that is a loopback one, or all addresses.
	Listen []string
	// UnixSockets are paths of stream sockets for clients. Nil: the default, /tmp/<port>, and <port> in RuntimeDir or evensong in $XDG_RUNTIME_DIR;
	// empty but not nil: none.
	UnixSockets []string
	// UnixMode are the permissions of these sockets; zero: 0666, everybody on this machine. UnixGroup is their group, a name
	// or a number; empty: that of the daemon.
	UnixMode  fs.FileMode
	UnixGroup string
	// DatagramPath is how datagrams pass into the kernel and out of it: auto, segment, batch or single. Empty: auto, the
	// best that the system offers.
	DatagramPath string
	// KeyFile has the cluster's keys, with which daemons seal what they send each other. Empty: they send it as it is.
	KeyFile string
	// StateDir holds what must survive a restart, the stored ring sequence number above all. Empty: nothing does.
	StateDir string
	// RuntimeDir holds sockets; the original changes its root there when started by root. Empty: evensong in
	// $XDG_RUNTIME_DIR if that is set, else there is none for clients; admin.Dir has what it is for operators.
	RuntimeDir string
	// User and Group are the identity to take after a start by root, at most 32 bytes. Empty: not given in the file.
	User, Group string
	// SocketPortReuse is the address reuse option of the TCP listener: Auto (the zero value; only if bound to a specific
	// address in the original; here always, so that a daemon that starts again need not wait), On, Off.
	SocketPortReuse Tristate
}

// Tristate is a choice that may be left to the program.
type Tristate uint8

const (
	Auto Tristate = iota // the program decides
	On
	Off
)

// String is the word as it stands in a file.
func (t Tristate) String() string {
	switch t {
	case Auto:
		return "auto"
	case On:
		return "on"
	case Off:
		return "off"
	}
	return "unknown choice"
}

// Ring is flow control and the variant of the ring protocol. Windows count packets of the usual length; zero means the default of the ring.
type Ring struct {
	// Global is the most packets that all daemons together send per token round (Window, 1 to 999,999).
	Global int
	// Personal is the most packets that one daemon sends per token visit (PersonalWindow, 1 to Global).
	Personal int
	// AcceleratedWindow is how many of them may follow the token (AcceleratedWindow, at most Personal). A file that says 0
	// gets the regular ring instead, which is the same without a special case.
	AcceleratedWindow int
	// PacketBytes is the largest datagram that this daemon sends, 512 to 65507 bytes; zero means 1472, what an Ethernet frame
	// holds, and more where every daemon is found to get it. What the path does not carry in one frame goes in fragments.
	PacketBytes int
	// Accelerated selects the accelerated ring. All daemons of a cluster must agree. A configuration that does not say is
	// accelerated unless it is Wide; Resolve decides once, before Facts are computed, so that a reload changes nothing.
	Accelerated bool
}

// WithDefaults replaces each window that is zero by the one of defaults, reduced where it would exceed a given one.
// Values that were given are never changed.
func (r Ring) WithDefaults(defaults Ring) Ring {
	if r.Global == 0 {
		r.Global = max(defaults.Global, r.Personal)
	}
	if r.Personal == 0 {
		r.Personal = max(r.AcceleratedWindow, min(defaults.Personal, r.Global))
	}
	if r.AcceleratedWindow == 0 {
		r.AcceleratedWindow = min(defaults.AcceleratedWindow, r.Personal)
	}
	return r
}

// Profile says which defaults apply to timers that nobody gave.
type Profile uint8

const (
	ProfileAuto Profile = iota // those of a wide-area network if the configuration is Wide
	ProfileLAN                 // daemons near each other
	ProfileWAN                 // daemons far from each other
)

// String is the word as it stands in a file.
func (p Profile) String() string {
	switch p {
	case ProfileAuto:
		return "auto"
	case ProfileLAN:
		return "LAN"
	case ProfileWAN:
		return "WAN"
	}
	return "unknown profile"
}

// profileOf reads a profile, in any case; false if there is none of that name.
func profileOf(word string) (Profile, bool) {
	for _, p := range []Profile{ProfileAuto, ProfileLAN, ProfileWAN} {
		if strings.EqualFold(word, p.String()) {
			return p, true
		}
	}
	return ProfileAuto, false
}

// WideTimers reports whether timers that nobody gave are those of a wide-area network. It is known after Resolve.
func (c *Config) WideTimers() bool {
	return c.Timers.Profile == ProfileWAN || c.Timers.Profile == ProfileAuto && c.Wide
}

// Timers are the nine of the original, and which defaults apply. Zero means not given. A file may give any of them.
type Timers struct {
	// Profile chooses the defaults of the others. It should be equal on all daemons, as the timers are.
	Profile Profile
	// TokenTimeout: no token and no packet of the ring for this long means that the ring is lost.
	TokenTimeout time.Duration
	// Hurry: the representative sends the token again when it did not come round. Less than TokenTimeout.
	Hurry time.Duration
	// Alive: interval of the packets by which daemons of a segment find each other. At most half of Seg and of Rep.
	Alive time.Duration
	// Seg: how long a daemon collects its segment before one of it becomes representative.
	Seg time.Duration
	// Join: interval of the packets by which representatives find each other. At most half of Gather.
	Join time.Duration
	// Rep: a daemon starts over when its representative is silent for this long.
	Rep time.Duration
	// Gather: how long representatives collect others before they form a ring. At least half of TokenTimeout, so that
	// daemons which have not yet missed the token are not left out.
	Gather time.Duration
	// Form: limit for the rounds of the forming token.
	Form time.Duration
	// Lookup: interval at which a stable ring looks for daemons that are missing. More than Gather.
	Lookup time.Duration
}

// fields pairs the timers with their keywords, in the order of the documentation.
func (t *Timers) fields() []timerField {
	return []timerField{
		{"TokenTimeout", &t.TokenTimeout}, {"HurryTimeout", &t.Hurry}, {"AliveTimeout", &t.Alive},
		{"SegTimeout", &t.Seg}, {"JoinTimeout", &t.Join}, {"RepTimeout", &t.Rep},
		{"GatherTimeout", &t.Gather}, {"FormTimeout", &t.Form}, {"LookupTimeout", &t.Lookup},
	}
}

type timerField struct {
	key   string
	value *time.Duration
}

// WithDefaults fills in the timers that were not given. Those of defaults are scaled by the ratio of the two token
// timeouts, because timers only make sense together; Lookup is not scaled, it costs nothing and detects no failure.
func (t Timers) WithDefaults(defaults Timers) Timers {
	scale := 1.0
	if t.TokenTimeout > 0 && defaults.TokenTimeout > 0 {
		scale = float64(t.TokenTimeout) / float64(defaults.TokenTimeout)
	}
	have, want := t.fields(), defaults.fields()
	for i := range have {
		switch {
		case *have[i].value != 0:
		case have[i].key == "LookupTimeout":
			*have[i].value = *want[i].value
		default:
			*have[i].value = time.Duration(float64(*want[i].value) * scale)
		}
	}
	return t
}

// Sessions bounds what clients may cost. Zero means the default of the session layer.
type Sessions struct {
	// MaxMessages closes a client with this many undelivered messages (MaxSessionMessages). Zero: no limit by count, only
	// by bytes.
	MaxMessages int
	// ByteBudget is how many bytes may wait for one client before it counts as slow. Default 8 MiB.
	ByteBudget int64
	// HardBytes closes a client with this many bytes waiting, even if it reads. Default: eight times the budget.
	HardBytes int64
	// TotalBytes is how many bytes may wait for all clients together. Default 512 MiB.
	TotalBytes int64
	// SlowPolicy is what is done about a slow client that still reads: close (at the hard bound), block, drop. Empty: close.
	SlowPolicy string
	// Stall closes a slow client that has taken nothing for so long. Default 10 s.
	Stall time.Duration
	// Wait is how long the others wait for a slow client under the policy block. Default 10 s.
	Wait time.Duration
	// Limit is how many clients may be connected. Default 20,000, or what the descriptor limit allows.
	Limit int
	// MessageBytes is how large the data of a message of the own dialect may be. Default 16 MiB, at most 64 MiB.
	MessageBytes int64
}

// Log says what is logged and where.
type Log struct {
	// Flags are the event types of DebugFlags that remain after every !X, sorted. Nil, the default: all.
	Flags []string
	// Priority is the word of EventPriority; empty: INFO.
	Priority string
	// File receives the log, appended; empty: standard error. "%h" and "%H" stand for the host name, see Path.
	File string
	// TimeStamp asks for a time in front of each line; TimeFormat is its strftime format, empty for the built-in one.
	TimeStamp  bool
	TimeFormat string
	// Precise adds microseconds.
	Precise bool
}

// Level is Priority as a level of log/slog: PRINT and FATAL of the original have no place of their own there, what is
// FATAL is logged as an error.
func (l Log) Level() slog.Level {
	switch l.Priority {
	case "pDEBUG":
		return slog.LevelDebug
	case "WARNING":
		return slog.LevelWarn
	case "ERROR", "CRITICAL", "FATAL":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Path is File with the host name filled in.
func (l Log) Path(host string) string {
	return strings.NewReplacer("%h", host, "%H", host).Replace(l.File)
}

// The access control policies.
const (
	policyPermit = "PERMIT"
	policyDeny   = "DENY"
)

// Auth says how clients are admitted and what they may do. LoadAccess makes of it what a daemon uses.
type Auth struct {
	// Required methods (NULL, IP, PWORD) are checked for every client; Allowed are those a client may choose. Both nil: NULL
	// is allowed.
	Required, Allowed []string
	// NetworksFile and PasswordsFile are the files of IP and PWORD. Empty: spread.access_ip and spread.access_pword, in the
	// working directory or else in /etc.
	NetworksFile, PasswordsFile string
	// Policy says what holds for what no rule decides: PERMIT or DENY. Empty: PERMIT.
	Policy string
	// Rules are those written in the configuration file; RulesFile is a file of rules that takes their place.
	Rules     []access.Rule
	RulesFile string
}
