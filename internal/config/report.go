// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is a configuration as commands show it: the JSON form is an interface for scripts.
type Report struct {
	File     string          `json:"file,omitempty"`
	Valid    bool            `json:"valid"`
	Problems []Problem       `json:"problems"`
	Daemons  []ReportDaemon  `json:"daemons"`
	Segments []ReportSegment `json:"segments"`
	Values   []ReportValue   `json:"values"`
	Rules    []ReportRule    `json:"access_rules,omitempty"`
}

// ReportDaemon is one row of the table of daemons.
type ReportDaemon struct {
	Rank       int               `json:"rank"` // place in the ring, from 1; 0 where the ring is ordered by name
	Name       string            `json:"name"`
	Address    string            `json:"address"` // host:port while the host is not resolved, or has several; empty if not known
	Host       string            `json:"host,omitempty"`
	Segment    int               `json:"segment"` // from 1
	Interfaces []ReportInterface `json:"interfaces,omitempty"`
}

// ReportInterface is one address of a stanza.
type ReportInterface struct {
	Address       string `json:"address"`
	Client        bool   `json:"client"`
	DaemonTraffic bool   `json:"daemon_traffic"`
	Monitor       bool   `json:"monitor"`
}

// ReportSegment is one row of the table of segments.
type ReportSegment struct {
	Number  int         `json:"number"` // from 1
	Kind    SegmentKind `json:"kind"`
	Address string      `json:"address,omitempty"`
	Port    uint16      `json:"port"`
	Daemons []string    `json:"daemons"`
}

// ReportValue is a value in force and where it came from.
type ReportValue struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // empty: the default
	Origin Origin `json:"origin"`
}

// ReportRule is one access rule and its place.
type ReportRule struct {
	Rule  string `json:"rule"`
	Where string `json:"origin"`
}

// NewReport describes c and the error that Parse, Assemble or Resolve returned with it. An error that is not Problems is
// reported as a problem without a place.
func NewReport(c *Config, err error) Report {
	r := Report{File: c.Source, Valid: err == nil, Problems: []Problem{}, Daemons: []ReportDaemon{}, Segments: []ReportSegment{}, Values: []ReportValue{}}
	problems, isProblems := errors.AsType[Problems](err)
	switch {
	case isProblems:
		r.Problems = append(r.Problems, problems...)
	case err != nil:
		r.Problems = append(r.Problems, Problem{Severity: Error, Text: err.Error()})
	default:
		r.Problems = append(r.Problems, c.Warnings...)
	}
	for i, d := range c.Daemons {
		row := ReportDaemon{Name: d.Name, Host: d.Host, Segment: d.Segment + 1, Address: d.Addr.String()}
		if c.Ranked {
			row.Rank = i + 1
		}
		switch {
		case d.Addr.Addr().IsValid():
		case len(PreferIPv4(d.Addrs)) == 1:
			row.Address = netip.AddrPortFrom(PreferIPv4(d.Addrs)[0], d.Addr.Port()).String()
		case d.Host == "":
			row.Address = "" // this daemon without a file, or one whose address could not be read
		default:
			row.Address = fmt.Sprintf("%s:%d", d.Host, d.Addr.Port())
		}
		for _, in := range d.Interfaces {
			a := in.Host
			if in.Addr.IsValid() {
				a = in.Addr.String()
			}
			row.Interfaces = append(row.Interfaces, ReportInterface{a, in.Client, in.DaemonTraffic, in.Monitor})
		}
		r.Daemons = append(r.Daemons, row)
	}
	for i, s := range c.Segments {
		row := ReportSegment{Number: i + 1, Kind: s.Kind, Port: s.Addr.Port(), Daemons: []string{}}
		if a := s.Addr.Addr(); a.IsValid() && s.Kind != Unicast {
			row.Address = a.String()
		}
		for _, n := range s.Daemons {
			row.Daemons = append(row.Daemons, c.label(n))
		}
		r.Segments = append(r.Segments, row)
	}
	r.Values = c.values()
	rules := c.Auth.Rules
	if c.Access != nil && c.Access.Rules != nil {
		rules = c.Access.Rules.List
	}
	for i := range rules {
		r.Rules = append(r.Rules, ReportRule{rules[i].Text, rules[i].Where})
	}
	return r
}

// values lists everything that has a value of its own, in the order of the documentation.
func (c *Config) values() []ReportValue {
	var out []ReportValue
	add := func(key, value string) {
		out = append(out, ReportValue{key, value, c.origins[key]})
	}
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	span := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	truth := func(key string, b bool) string {
		if c.origins[key].Kind == FromDefault && !b {
			return ""
		}
		return fmt.Sprint(b)
	}
	list := func(l []string) string { return strings.Join(l, " ") }

	add("name", c.Local.Name)
	add("cluster", c.Cluster)
	var bind []string
	for _, b := range c.Local.Bind {
		bind = append(bind, b.String())
	}
	add("bind", list(bind))
	add("listen", list(c.Local.Listen))
	sockets := list(c.Local.UnixSockets)
	if c.Local.UnixSockets != nil && sockets == "" {
		sockets = "none"
	}
	add("unix-socket", sockets)
	mode := ""
	if c.Local.UnixMode != 0 {
		mode = fmt.Sprintf("%04o", c.Local.UnixMode)
	}
	add("UnixSocketMode", mode)
	add("UnixSocketGroup", c.Local.UnixGroup)
	add("DatagramPath", c.Local.DatagramPath)
	add("ClusterKeyFile", c.Local.KeyFile)
	add("state-dir", c.Local.StateDir)
	add("RuntimeDir", c.Local.RuntimeDir)
	add("DaemonUser", c.Local.User)
	add("DaemonGroup", c.Local.Group)
	reuse := ""
	if c.origins["SocketPortReuse"].Kind != FromDefault {
		reuse = c.Local.SocketPortReuse.String()
	}
	add("SocketPortReuse", reuse)
	profile := ""
	if c.origins["TimerProfile"].Kind != FromDefault {
		profile = c.Timers.Profile.String()
	}
	add("TimerProfile", profile)
	for _, f := range c.Timers.fields() {
		add(f.key, span(*f.value))
	}
	add("Window", number(int64(c.Ring.Global)))
	add("PersonalWindow", number(int64(c.Ring.Personal)))
	add("PacketBytes", number(int64(c.Ring.PacketBytes)))
	accelerated := truth("AcceleratedRing", c.Ring.Accelerated)
	if c.origins["AcceleratedRing"].Where == derivedFromNetwork && (!c.Resolved() || len(c.Daemons) == 0) {
		accelerated = "" // not known before host names are looked up
	}
	add("AcceleratedRing", accelerated)
	add("AcceleratedWindow", number(int64(c.Ring.AcceleratedWindow)))
	add("PrimaryRule", c.Primary)
	add("max-clients", number(int64(c.Sessions.Limit)))
	add("client-bytes", number(c.Sessions.ByteBudget))
	add("client-hard-bytes", number(c.Sessions.HardBytes))
	add("all-client-bytes", number(c.Sessions.TotalBytes))
	add("slow-client", c.Sessions.SlowPolicy)
	add("slow-client-stall", span(c.Sessions.Stall))
	add("slow-client-wait", span(c.Sessions.Wait))
	add("max-message", number(c.Sessions.MessageBytes))
	limit := number(int64(c.Sessions.MaxMessages))
	if limit == "" && c.origins["MaxSessionMessages"].Kind != FromDefault {
		limit = "no limit"
	}
	add("MaxSessionMessages", limit)
	flags := list(c.Log.Flags)
	if c.Log.Flags != nil && flags == "" {
		flags = "NONE"
	}
	add("DebugFlags", flags)
	add("EventPriority", c.Log.Priority)
	add("EventLogFile", c.Log.File)
	stamp := ""
	if c.Log.TimeStamp {
		stamp = c.Log.TimeFormat
		if stamp == "" {
			stamp = "yes"
		}
	}
	add("EventTimeStamp", stamp)
	add("EventPreciseTimeStamp", truth("EventPreciseTimeStamp", c.Log.Precise))
	add("RequiredAuthMethods", list(c.Auth.Required))
	add("AllowedAuthMethods", list(c.Auth.Allowed))
	add("AccessIPFile", c.Auth.NetworksFile)
	add("AccessPasswordFile", c.Auth.PasswordsFile)
	add("AccessRulesFile", c.Auth.RulesFile)
	add("AccessControlPolicy", c.Auth.Policy)
	add("TLSCertificate", c.TLS.CertFile)
	add("TLSKey", c.TLS.KeyFile)
	add("TLSClientCA", c.TLS.ClientCAFile)
	add("TLSClientAuth", c.TLS.ClientAuth)
	add("TLSRequired", truth("TLSRequired", c.TLS.Required))
	add("DangerousMonitor", truth("DangerousMonitor", c.DangerousMonitor))
	add("admin-socket", c.Admin.Socket)
	add("admin-listen", list(c.Admin.Listen))
	add("admin-token-file", c.Admin.TokenFile)
	add("admin-cert", c.Admin.CertFile)
	add("admin-key", c.Admin.KeyFile)
	var peers []string
	for _, name := range slices.Sorted(maps.Keys(c.Admin.Peers)) {
		peers = append(peers, name+"="+c.Admin.Peers[name])
	}
	add("admin-peer", list(peers))
	return out
}

// WriteJSON writes the report as one indented JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// TextOptions choose what WriteText shows.
type TextOptions struct {
	Origin bool // a column with the origin of each value
	All    bool // also values that nobody gave, and that have no default here
}

// WriteText writes the report for people: problems first, then the tables, then one line of summary.
func (r Report) WriteText(w io.Writer, opts TextOptions) error {
	var b strings.Builder
	for _, p := range r.Problems {
		hint := p.Hint
		p.Hint = ""
		fmt.Fprintln(&b, p)
		if hint != "" {
			fmt.Fprintf(&b, "    %s\n", hint)
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(&b)
	}
	table := func(title string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
		fmt.Fprintln(tw, title)
		for _, row := range rows {
			for i := range row {
				row[i] = printable(row[i])
			}
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		tw.Flush()
		fmt.Fprintln(&b)
	}
	var rows [][]string
	for _, d := range r.Daemons {
		rank := "-"
		if d.Rank > 0 {
			rank = fmt.Sprint(d.Rank)
		}
		rows = append(rows, []string{rank, orDash(d.Name), orDash(d.Address), fmt.Sprint(d.Segment), d.interfaces()})
	}
	table("RANK\tDAEMON\tADDRESS\tSEGMENT\tINTERFACES", rows)
	rows = nil
	for _, s := range r.Segments {
		rows = append(rows, []string{fmt.Sprint(s.Number), s.Kind.String(), orDash(s.Address), fmt.Sprint(s.Port), strings.Join(s.Daemons, " ")})
	}
	table("SEGMENT\tKIND\tADDRESS\tPORT\tDAEMONS", rows)
	rows = nil
	for _, v := range r.Values {
		if v.Value == "" && !opts.All {
			continue
		}
		row := []string{v.Key}
		if opts.Origin {
			row = append(row, v.Origin.String())
		}
		rows = append(rows, append(row, orDash(v.Value)))
	}
	title := "SETTING\tVALUE"
	if opts.Origin {
		title = "SETTING\tORIGIN\tVALUE"
	}
	table(title, rows)
	rows = nil
	for i, rule := range r.Rules {
		row := []string{fmt.Sprint(i + 1)}
		if opts.Origin {
			row = append(row, rule.Where)
		}
		rows = append(rows, append(row, rule.Rule))
	}
	title = "RULE\tACCESS"
	if opts.Origin {
		title = "RULE\tORIGIN\tACCESS"
	}
	table(title, rows)
	fmt.Fprintln(&b, r.Summary())
	out := trimLines(b.String())
	_, err := io.WriteString(w, out)
	return err
}

// Summary is one line: "spread.conf: 3 daemons, 1 segment: no errors, 2 warnings, 1 notice". Where there is no notice it says nothing
// of them: they are no faults.
func (r Report) Summary() string {
	var errs, warnings, notices int
	for _, p := range r.Problems {
		switch p.Severity {
		case Error:
			errs++
		case Warning:
			warnings++
		case Notice:
			notices++
		}
	}
	file := r.File
	if file == "" {
		file = "configuration"
	}
	text := fmt.Sprintf("%s: %s, %s: %s, %s", file, count(len(r.Daemons), "daemon"), count(len(r.Segments), "segment"),
		count(errs, "error"), count(warnings, "warning"))
	if notices > 0 {
		text += ", " + count(notices, "notice")
	}
	return text
}

func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (d ReportDaemon) interfaces() string {
	if len(d.Interfaces) == 0 {
		return "all"
	}
	var out []string
	for _, in := range d.Interfaces {
		letters := ""
		for _, l := range []struct {
			on     bool
			letter string
		}{{in.Client, "C"}, {in.DaemonTraffic, "D"}, {in.Monitor, "M"}} {
			if l.on {
				letters += l.letter
			}
		}
		out = append(out, letters+" "+in.Address)
	}
	return strings.Join(out, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// trimLines removes the spaces that the last column of a table leaves at the ends of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
