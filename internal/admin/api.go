// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Bounds of the API.
const (
	// MaxPage is the most entries of one page of a list; DefaultPage applies when a request does not say.
	MaxPage     = 1000
	DefaultPage = 100
	// MaxGroupMembers of a group are listed; its size is always whole.
	MaxGroupMembers = 10_000
	// MaxComponents bounds the daemons that a partition names.
	MaxComponents = 1024
	// DefaultLease is how long a partition lasts that is not renewed, MaxLease how long it may.
	DefaultLease = time.Minute
	MaxLease     = time.Hour
	// DefaultDrain is how long a drain waits for clients to go, MaxDrain how long it may.
	DefaultDrain = 30 * time.Second
	MaxDrain     = 24 * time.Hour
)

// Duration is a time.Duration that is a number of seconds in JSON. It also reads text such as "1m30s".
type Duration time.Duration

// String is that of time.Duration, without digits that nobody reads.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t >= time.Minute:
		t = t.Round(time.Second)
	case t >= time.Second:
		t = t.Round(10 * time.Millisecond)
	case t >= time.Millisecond:
		t = t.Round(time.Millisecond)
	}
	return t.String()
}

// MarshalJSON writes seconds, to the microsecond.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Round(time.Microsecond).Seconds())
}

// UnmarshalJSON reads seconds or the text of a duration.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		t, err := time.ParseDuration(text)
		*d = Duration(t)
		return err
	}
	var s float64
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s < -1e9 || s > 1e9 {
		return fmt.Errorf("%v seconds are out of range", s)
	}
	*d = Duration(s * float64(time.Second))
	return nil
}

// Status is one picture of a daemon. Counters count since the daemon's start and only grow.
type Status struct {
	Name    string   `json:"name"`
	ID      string   `json:"id"` // name/incarnation: another one after every start
	Cluster string   `json:"cluster"`
	Version string   `json:"version"`
	Uptime  Duration `json:"uptime_seconds"`
	Ready   bool     `json:"ready"`
	// NotReady says why it is not.
	NotReady string `json:"not_ready,omitempty"`

	// State is the daemon's part in agreeing on a membership: starting, gather, commit, recover, operational, leaving,
	// left. GroupState is what the group layer does: fresh, stable, transitional, exchange, aborted.
	State      string `json:"state"`
	GroupState string `json:"group_state"`

	Daemons  int    `json:"daemons"`  // of the configuration installed
	Segments int    `json:"segments"` // in which they are
	Leader   string `json:"leader"`
	Ring     string `json:"ring"`     // its identity
	Protocol string `json:"protocol"` // accelerated or regular
	Primary  string `json:"primary"`  // what clients are told: yes, no, or unclaimed where there is no rule
	// PrimaryReason says for people why it is primary or not; empty where there is no rule.
	PrimaryReason string   `json:"primary_reason,omitempty"`
	Members       []Member `json:"members"`
	Missing       []Member `json:"missing"` // configured, and not in the configuration installed
	Others        []Member `json:"others"`  // heard of, and neither: kept out, most often
	Changes       []Change `json:"changes"` // the last configurations and their reasons, newest first
	Order         Order    `json:"order"`
	Packets       Packets  `json:"packets"`
	Windows       Windows  `json:"windows"`
	// GroupAddress is the multicast or broadcast address of the daemon's segment; nil where none is of use.
	GroupAddress *GroupAddress `json:"group_address,omitempty"`

	// TLS is that of clients over TCP; nil: this daemon has no certificate, and clients that begin with TLS are refused.
	TLS      *TLSState `json:"tls,omitempty"`
	Clients  Clients   `json:"clients"`
	Slow     Slow      `json:"slow"`
	Host     HostState `json:"host"`
	LogLevel string    `json:"log_level,omitempty"`

	DangerousMonitor bool            `json:"dangerous_monitor"`
	Partition        *PartitionState `json:"partition,omitempty"`
	Draining         *DrainState     `json:"draining,omitempty"`
}

// Member is a daemon of the configuration.
type Member struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Me      bool   `json:"me,omitempty"`
	Leader  bool   `json:"leader,omitempty"`
	Address string `json:"address,omitempty"` // where it receives datagrams, if the configuration says
	Segment int    `json:"segment,omitempty"` // number of its segment in the configuration, from 1; 0 if unknown
	// Foreign: it is this daemon, and Address is not one of this machine.
	Foreign bool `json:"foreign_address,omitempty"`
	// Differs says how its configuration differs from that of the daemon asked. KeptOut: no configuration but its own lists it.
	Differs []string `json:"differs,omitempty"`
	KeptOut bool     `json:"kept_out,omitempty"`
	Admin   string   `json:"admin,omitempty"` // where its admin plane is, if this daemon was told
}

// Members is the configuration, and the daemons of the file that are not in it.
type Members struct {
	Ring    string `json:"ring"`
	Leader  string `json:"leader"`
	Primary string `json:"primary"` // yes, no, or unclaimed
	// PrimaryReason is that of Status.
	PrimaryReason string   `json:"primary_reason,omitempty"`
	Members       []Member `json:"members"`
	Missing       []Member `json:"missing"` // configured, and not here
	Others        []Member `json:"others"`  // heard of, and neither
}

// Change is one configuration that was installed, and why the one before it was left.
type Change struct {
	Age     Duration `json:"age_seconds"`
	Ring    string   `json:"ring"`
	Members []string `json:"members"`
	Joined  []string `json:"joined"`
	Gone    []string `json:"gone"`
	Reason  string   `json:"reason"` // for people: all of Causes
	Causes  []Cause  `json:"causes"`
}

// Cause is a reason why a configuration was left, and the daemons that are gone or came for this reason.
type Cause struct {
	Reason  string   `json:"reason"`
	Daemons []string `json:"daemons"`
}

// Order is where the ring's order stands. Positions count packets of the present ring.
type Order struct {
	MyARU             uint64 `json:"my_aru"`  // received here without a gap up to
	ARU               uint64 `json:"aru"`     // the ring's: what the token says that all have
	Highest           uint64 `json:"highest"` // highest position known
	Stable            uint64 `json:"stable"`  // known here to be received by everybody
	Rounds            uint64 `json:"rounds"`  // of the token
	TokenRepeats      uint64 `json:"token_repeats"`
	MembershipChanges uint64 `json:"membership_changes"` // configurations installed
	Attempts          uint64 `json:"attempts"`           // recoveries begun, those that another change cut short as well
	Recovered         uint64 `json:"recovered_packets"`  // packets of an old ring that only its recovery brought
	Withheld          uint64 `json:"withheld_messages"`  // left out behind a hole that no survivor could fill
	DeliveredMessages uint64 `json:"delivered_messages"`
	DeliveredPackets  uint64 `json:"delivered_packets"`
}

// Packets counts data packets between daemons, and datagrams of all kinds. A retransmission goes to one daemon, to all of
// a segment with one datagram, or to all; the three add up to Retransmitted. InRuns are the datagrams of the runs.
type Packets struct {
	Sent                   uint64 `json:"sent"`     // originated here, each counted once
	Received               uint64 `json:"received"` // of others, new here
	Retransmitted          uint64 `json:"retransmitted"`
	RetransmittedToOne     uint64 `json:"retransmitted_to_one"`
	RetransmittedToSegment uint64 `json:"retransmitted_to_segment"`
	RetransmittedToAll     uint64 `json:"retransmitted_to_all"`

	DatagramsSent     uint64            `json:"datagrams_sent"`
	DatagramsReceived uint64            `json:"datagrams_received"`
	BytesSent         uint64            `json:"bytes_sent"`
	BytesReceived     uint64            `json:"bytes_received"`
	SendCalls         uint64            `json:"send_calls"` // system calls that datagrams took
	ReceiveCalls      uint64            `json:"receive_calls"`
	RunsSent          uint64            `json:"runs_sent"` // several datagrams that passed the system as one
	InRunsSent        uint64            `json:"in_runs_sent"`
	RunsReceived      uint64            `json:"runs_received"`
	InRunsReceived    uint64            `json:"in_runs_received"`
	RunsRefused       uint64            `json:"runs_refused"`       // by the system; their datagrams went one by one
	DatagramsToGroup  uint64            `json:"datagrams_to_group"` // of those sent: to a group address, in place of several
	LossInjected      uint64            `json:"loss_injected"`      // datagrams received and thrown away, as a test wants it
	Ignored           map[string]uint64 `json:"ignored"`            // by reason
}

// Windows are flow control: most packets per token round, in packets of the usual length.
type Windows struct {
	Global      int `json:"global"`      // of all daemons together
	Personal    int `json:"personal"`    // of one daemon
	Accelerated int `json:"accelerated"` // of one daemon, behind the token
	// Reason is why: as configured, or what moved them last.
	Reason string `json:"reason"`
	// PacketBytes is how long a packet of this daemon may be, PacketReason why. Longer ones than
	// usual take as much of the windows as they hold.
	PacketBytes  int    `json:"packet_bytes"`
	PacketReason string `json:"packet_reason"`
}

// GroupAddress says what has become of one.
type GroupAddress struct {
	Address string   `json:"address"`
	Used    bool     `json:"used"`    // packets of this daemon go there, once for all; else to each daemon by itself
	Missing []string `json:"missing"` // daemons that it is not known to reach
	Reason  string   `json:"reason"`  // for people: why it is used or not
}

// TLSState is what clients over TCP find that begin with TLS, and those that do not.
type TLSState struct {
	Required bool `json:"required"` // those that do not are refused
	// ClientCertificates says whether they need a certificate: required, optional or none.
	ClientCertificates string `json:"client_certificates"`
	// Certificate is whom the daemon's certificate is for, Expires its end. Empty and zero: a program chooses one for each client.
	Certificate string    `json:"certificate,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
}

// Clients counts those of this daemon.
type Clients struct {
	Sessions        int               `json:"sessions"` // connected now
	Groups          int               `json:"groups"`   // of the whole configuration
	Accepted        uint64            `json:"accepted"`
	Closed          map[string]uint64 `json:"closed"`          // by reason
	Deliveries      uint64            `json:"deliveries"`      // messages and views given to clients, one for each
	WaitingBytes    int               `json:"waiting_bytes"`   // of clients, waiting for the token
	WaitingClients  int               `json:"waiting_clients"` // not read now because of that
	BlockedClients  int64             `json:"blocked_clients"` // that do not read now
	InputStalls     uint64            `json:"input_stalls"`    // how often a client had to wait for the token
	QueuedBytes     int               `json:"queued_bytes"`    // waiting for clients to read, each byte once however many it is for
	SlowClients     int               `json:"slow_clients"`    // over their budgets now
	SlowTimes       uint64            `json:"slow_times"`      // how often one went over its budget
	Dropped         uint64            `json:"dropped"`         // Unreliable messages left out for slow clients
	Blocked         bool              `json:"blocked"`         // everybody waits for a slow client now
	Blocks          uint64            `json:"blocks"`          // how often everybody had to
	BlockedTime     Duration          `json:"blocked_seconds"` // how long in all, of the waits that have ended
	BytesReceived   uint64            `json:"bytes_received"`
	BytesSent       uint64            `json:"bytes_sent"`
	ReadCalls       uint64            `json:"read_calls"` // system calls that took what clients sent
	WriteCalls      uint64            `json:"write_calls"`
	RefusedSessions uint64            `json:"refused_sessions"` // too many, or no descriptor left
	TLSConnections  int64             `json:"tls_connections"`  // now
	TLSHandshakes   uint64            `json:"tls_handshakes"`   // begun
	TLSFailures     uint64            `json:"tls_failures"`     // handshakes that came to nothing
	RefusedRequests map[string]uint64 `json:"refused_requests"` // by the access rules: open, join, leave, send, multicast, see
}

// Slow names who holds others up at the moment.
type Slow struct {
	// Daemon is the member whose receipt the ring waits for, for Rounds rounds of the token; empty if none does.
	Daemon string `json:"daemon,omitempty"`
	Rounds int    `json:"rounds,omitempty"`
	// Sessions are the clients that most bytes wait for, the slowest first; empty if nothing waits.
	Sessions []Session `json:"sessions"`
}

// HostState is what the process and its system do to the daemon.
type HostState struct {
	Stalls        int64    `json:"stalls"` // the process was not scheduled for longer than half a token timeout
	LongestStall  Duration `json:"longest_stall_seconds"`
	SendErrors    uint64   `json:"send_errors"`    // datagrams that the system refused; not questions for longer packets that are too long
	SendsDropped  uint64   `json:"sends_dropped"`  // datagrams for which there was no room
	LogLines      uint64   `json:"log_lines_lost"` // left out by the rate limit or because the log was too slow
	StoreErrors   uint64   `json:"store_errors"`   // of stable storage
	MaxSessions   int      `json:"max_sessions"`   // more are refused
	ReceiveBuffer int64    `json:"receive_buffer"` // bytes that the system granted; 0 if unknown
	SendBuffer    int64    `json:"send_buffer"`    // likewise
	Wakeups       uint64   `json:"wakeups"`        // how often the daemon had slept and was woken
	PID           int      `json:"pid"`            // of the process, which other daemons may share
	CPU           Duration `json:"cpu_seconds"`    // user and system time of the process
	Goroutines    int      `json:"goroutines"`     // of the process
	HeapBytes     uint64   `json:"heap_bytes"`     // in use
	Listen        []string `json:"listen"`         // where clients connect
	DatagramPath  string   `json:"datagram_path"`  // segment, batch or single
	Datagrams     string   `json:"datagrams"`      // where other daemons' packets are received
	// ClusterKeys are the IDs of the keys that open datagrams between daemons, that of the one which seals first; none: they
	// are not sealed.
	ClusterKeys  []string `json:"cluster_keys,omitempty"`
	AdminSockets []string `json:"admin_endpoints"` // where this API is
}

// GroupPage is a page of the groups, in the order of their names.
type GroupPage struct {
	Total  int            `json:"total"`
	Groups []GroupSummary `json:"groups"`
	// Next is the value of after for the next page; empty if this is the last.
	Next string `json:"next,omitempty"`
}

// GroupSummary is a group in a list.
type GroupSummary struct {
	Name    string `json:"name"`
	Members int    `json:"members"`
	Here    int    `json:"here"` // connected to this daemon
}

// Group is one group.
type Group struct {
	Name  string   `json:"name"`
	View  string   `json:"view"`  // identity of the present view
	Size  int      `json:"size"`  // members
	Here  int      `json:"here"`  // of them connected to this daemon
	Names []string `json:"names"` // private names in the order of views, at most MaxGroupMembers
}

// SessionPage is a page of the sessions, in the order of their numbers.
type SessionPage struct {
	Total    int       `json:"total"`
	Sessions []Session `json:"sessions"`
	// Next is the value of after for the next page; zero if this is the last.
	Next uint64 `json:"next,omitempty"`
}

// Session is one client connection.
type Session struct {
	ID    uint64 `json:"id"`
	Name  string `json:"name,omitempty"` // private name; none before it is accepted
	State string `json:"state"`          // connect, name, auth, credentials, open
	Peer  string `json:"peer,omitempty"` // address; none for a Unix socket
	// Dialect is what the client speaks, with its version: the original's protocol ("original 4.4.0") or Evensong's own ("own
	// 1"). None before it has said so.
	Dialect     string   `json:"dialect,omitempty"`
	TLS         bool     `json:"tls,omitempty"`         // what it says comes through TLS
	Certificate string   `json:"certificate,omitempty"` // the name in its certificate, which an authority of TLSClientCA has signed
	Age         Duration `json:"age_seconds"`

	// What waits for the client to read, and for how long it has taken nothing of it. Slow: it is over its budget.
	QueuedBytes  int      `json:"queued_bytes"`
	Queued       int      `json:"queued_messages"`
	HighBytes    int      `json:"high_bytes"` // the most that has waited
	Stalled      Duration `json:"stalled_seconds"`
	Slow         bool     `json:"slow,omitempty"`
	Dropped      uint64   `json:"dropped_messages"` // Unreliable ones left out for it
	BytesWritten uint64   `json:"bytes_written"`

	// What it has sent.
	WaitingBytes int  `json:"waiting_bytes"`   // wait for the token
	Waits        bool `json:"waits,omitempty"` // it is not read until the token came

	Groups   []string `json:"groups"` // the first of them
	InGroups int      `json:"in_groups"`
}

// Settings are values that can be changed while the daemon runs. In a request nil and empty mean: leave it. They are not
// stored: after a restart the configuration counts. The answer has all values in force.
type Settings struct {
	Window            *int   `json:"window,omitempty"`
	PersonalWindow    *int   `json:"personal_window,omitempty"`
	AcceleratedWindow *int   `json:"accelerated_window,omitempty"`
	LogLevel          string `json:"log_level,omitempty"` // debug, info, warn, error
}

// Windows reports whether a window is to be changed.
func (s *Settings) Windows() bool {
	return s.Window != nil || s.PersonalWindow != nil || s.AcceleratedWindow != nil
}

// Partition is the request to ignore what daemons of other components send. All daemons concerned must be told the same.
type Partition struct {
	// Components has the component of each daemon by name. Who is not named is in component 0.
	Components map[string]int `json:"components"`
	// Lease is how long it lasts unless it is renewed by the same request. Zero means DefaultLease.
	Lease Duration `json:"lease_seconds,omitempty"`
}

// PartitionState is a partition in force.
type PartitionState struct {
	Component  int            `json:"component"` // this daemon's
	Components map[string]int `json:"components"`
	Remaining  Duration       `json:"remaining_seconds"` // of the lease
}

// Drain is the request to take no new clients, to wait until those that are there have gone, and then to leave in good
// order.
type Drain struct {
	// Deadline is how long to wait for clients. Those that are there afterwards lose their sessions. Zero means
	// DefaultDrain, and less than zero not to wait.
	Deadline Duration `json:"deadline_seconds,omitempty"`
}

// DrainState is a drain under way.
type DrainState struct {
	Elapsed   Duration `json:"elapsed_seconds"`
	Remaining Duration `json:"remaining_seconds"`
	Sessions  int      `json:"sessions"` // still connected
}

// DrainEnd is how a drain ended.
type DrainEnd struct {
	Over   bool     `json:"over"`    // false: it goes on, and nothing else is said
	CutOff int      `json:"cut_off"` // sessions that were there when the time was over
	Names  []string `json:"names"`   // the first of them: private names, or addresses of clients that had none yet
}

// Text is the end in words.
func (d *DrainEnd) Text() string {
	switch {
	case !d.Over:
		return "under way"
	case d.CutOff == 0:
		return "all clients have gone"
	}
	names := strings.Join(d.Names, " ")
	if n := d.CutOff - len(d.Names); n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the time was over; clients cut off: %d (%s)", d.CutOff, strings.TrimSpace(names))
}

// Reloaded is what a reload has changed.
type Reloaded struct {
	Changed []string `json:"changed"` // in sentences; empty if nothing changed
	Ignored []string `json:"ignored"` // what needs a restart
}

// Done says what a command has done.
type Done struct {
	Text string `json:"text"`
}

// Codes of errors.
const (
	CodeInvalid     = "invalid"     // the request is wrong; status 400
	CodeAuth        = "auth"        // no token, or not one of ours; status 401
	CodeRefused     = "refused"     // not permitted here; status 403
	CodeNotFound    = "not-found"   // no such group, session or path; status 404
	CodeMethod      = "method"      // the path wants another method; status 405
	CodeTooLarge    = "too-large"   // the request is too large; status 413
	CodeUnavailable = "unavailable" // the daemon is stopping, or too busy to answer in time; status 503
	CodeFailed      = "failed"      // it was tried and did not work; status 500
)

// Error is the answer to a request that was not done.
type Error struct {
	Code string `json:"code"`           // one of the constants, for programs
	Text string `json:"error"`          // a sentence for people
	Next string `json:"next,omitempty"` // what to do about it
}

// Error is the sentence and what to do.
func (e *Error) Error() string {
	if e.Next == "" {
		return e.Text
	}
	return e.Text + "; " + e.Next
}

// Refused reports whether the daemon would not do it, rather than could not.
func (e *Error) Refused() bool { return e.Code == CodeRefused || e.Code == CodeAuth }

// status is the HTTP status that belongs to the code.
func (e *Error) status() int {
	switch e.Code {
	case CodeInvalid:
		return 400
	case CodeAuth:
		return 401
	case CodeRefused:
		return 403
	case CodeNotFound:
		return 404
	case CodeMethod:
		return 405
	case CodeTooLarge:
		return 413
	case CodeUnavailable:
		return 503
	}
	return 500
}

// Invalid is an error about a request.
func Invalid(next, format string, a ...any) *Error {
	return &Error{Code: CodeInvalid, Text: fmt.Sprintf(format, a...), Next: next}
}
