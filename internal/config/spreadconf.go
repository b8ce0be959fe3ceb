// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"
)

// SearchPath lists where Load looks when no file is named. A file that is named is never replaced by one of these: a
// misspelled name would start a daemon with a configuration that nobody meant.
var SearchPath = []string{"spread.conf", "/etc/evensong/spread.conf", "/etc/spread.conf"}

// Load reads and parses the file at path, or the first that exists of SearchPath if path is empty; "-" is standard input.
// The error is Problems where the content is at fault, otherwise that of the file system (errors.Is fs.ErrNotExist).
func Load(path string) (Config, error) {
	if path == "-" {
		return loadFrom(stdinName, os.Stdin)
	}
	candidates := []string{path}
	if path == "" {
		candidates = SearchPath
	}
	for _, name := range candidates {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && path == "" {
			continue
		}
		if err != nil {
			return Config{}, fmt.Errorf("configuration: %w", err)
		}
		defer f.Close()
		return loadFrom(name, f)
	}
	return Config{}, fmt.Errorf("configuration: none of %s exists: %w", strings.Join(candidates, ", "), fs.ErrNotExist)
}

// stdinName stands for a file that came through standard input.
const stdinName = "standard input"

// FromFile reports whether Source is the path of a file, which it is not if nothing, or standard input, was read.
func (c *Config) FromFile() bool { return c.Source != "" && c.Source != stdinName }

func loadFrom(name string, in io.Reader) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(in, MaxFileSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return Parse(name, data)
}

// Read is what a daemon and the config commands do first: Load, Assemble, then LoadAccess and LoadKeys. With an empty path, and none in
// EVENSONG_CONFIG, a file of SearchPath is used if there is one, and none otherwise. Mistakes in the file, in flags and in
// the environment are reported together. The other arguments are those of Assemble.
func Read(path string, v *Values, getenv func(string) (string, bool), hostName func() (string, error)) (Config, error) {
	c, err := readWithout(path, v, getenv, hostName)
	return c.withFiles(err)
}

// readWithout is Read without access files.
func readWithout(path string, v *Values, getenv func(string) (string, bool), hostName func() (string, error)) (Config, error) {
	explicit, chosen := path != "", "-c names it"
	if env, ok := getenv(EnvPrefix + "CONFIG"); !explicit && ok && env != "" {
		path, explicit, chosen = env, true, EnvPrefix+"CONFIG names it"
	}
	c, err := Load(path)
	if !explicit && errors.Is(err, fs.ErrNotExist) {
		c, err := Assemble(nil, v, getenv, hostName)
		c.Chosen = "none is named, and there is none of " + strings.Join(SearchPath, ", ")
		return c, err
	}
	if c.Chosen = chosen; !explicit {
		c.Chosen = "none is named, and this is the first that exists of " + strings.Join(SearchPath, ", ")
	}
	inFile, isProblems := errors.AsType[Problems](err)
	if err != nil && !isProblems {
		if errors.Is(err, fs.ErrNotExist) {
			if strings.HasPrefix(chosen, EnvPrefix) {
				err = fmt.Errorf("%w; %s", err, chosen)
			}
			err = fmt.Errorf("%w%s", err, fromHere(path))
		}
		return Config{Source: path}, err
	}
	if err == nil {
		return Assemble(&c, v, getenv, hostName)
	}
	// The file is not usable. What flags and environment add is only looked at for its own mistakes.
	c.Warnings = nil
	_, flagErr := Assemble(nil, v, getenv, hostName)
	if more, ok := errors.AsType[Problems](flagErr); ok {
		for _, p := range more {
			if p.Line == 0 && strings.HasPrefix(p.File, "--") || strings.HasPrefix(p.File, EnvPrefix) {
				inFile = append(inFile, p)
			}
		}
	}
	return c, inFile
}

// Parse reads a file in the format of spread.conf. It does not look up names, see Resolve.
//
// With an error of type Problems the Config holds what could be read, to be shown but not used.
func Parse(name string, data []byte) (Config, error) {
	r := &reader{file: name, seen: make(map[string]lexer.Position)}
	r.cfg = Config{Source: name, Ranked: true, origins: make(map[string]Origin), where: places{file: name}}
	if text, hint := wrongFormat(data); text != "" {
		r.errorf(lexer.Position{Line: 1, Column: 1}, hint, "%s", text)
		return r.cfg, r.problems
	}
	segments := 0
	r.readAll(data, func(st *statement) {
		switch {
		case st.Segment != nil:
			segments++
			if segments == OriginalSegments+1 {
				r.report(Warning, st.Segment.Keyword.Pos, "", "more than %d segments; the original would refuse this file", OriginalSegments)
			}
			r.segment(st.Segment)
		case st.Matrix != nil:
			r.dormant = append(r.dormant, dormantUse{matrixKeyword, st.Matrix.Keyword.Pos})
		case st.Rules != nil:
			r.accessRules(st.Rules)
		case st.Setting != nil:
			r.setting(st.Setting)
		}
	})
	if segments == 0 && r.problems.Errors() == 0 {
		r.errorf(lexer.Position{Line: r.end.Line, Column: r.end.Column},
			"write Spread_Segment 10.0.0.255 { name 10.0.0.1 }, or use flags without a file", "the file has no segment and so no daemon")
	}
	if r.tooMany() {
		r.problems = r.problems[:maxErrors]
		r.errorf(lexer.Position{}, "repair these first", "too many problems; the rest of the file was not read")
	}
	r.finish()
	var err error
	r.cfg.Warnings, err = r.problems.split()
	return r.cfg, err
}

var (
	tomlTable = regexp.MustCompile(`^\[{1,2}[A-Za-z0-9_."' -]+\]{1,2}\s*(#.*)?$`)
	tomlKey   = regexp.MustCompile(`^([a-z][a-z0-9_-]*)(\s*\.\s*[a-z0-9_-]+)*\s*=\s*("|'|\[|\{|[0-9]|true|false)`)
)

// wrongFormat recognizes content that is no spread.conf at all, for which a list of syntax errors would hide the point.
func wrongFormat(data []byte) (text, hint string) {
	switch {
	case len(data) > MaxFileSize:
		return fmt.Sprintf("the file is larger than %d bytes", MaxFileSize), "is this the right file?"
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return "the file is in UTF-16", "save it as UTF-8"
	case bytes.IndexByte(data, 0) >= 0:
		return "the file holds zero bytes and is no text", "is this the right file?"
	}
	if bytes.Contains(data, []byte(segmentKeyword)) {
		return "", ""
	}
	const toml = "this looks like an evensong.toml, a format that this version does not read"
	const tomlHint = "use the format of spread.conf, or flags and EVENSONG_* variables"
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		// Only the first line that says something decides: further down a mistake is a mistake.
		if tomlTable.Match(line) {
			return toml, tomlHint
		}
		if m := tomlKey.FindSubmatch(line); m != nil && notMeantAsDirective(string(m[1])) {
			return toml, tomlHint
		}
		return "", ""
	}
	return "", ""
}

// notMeantAsDirective reports whether a key in lower case is more probably one of a TOML file than a misspelled directive.
func notMeantAsDirective(key string) bool {
	return strings.Contains(key, "-") || Suggest(key, keywords) == "" && foreignKeys[key] == ""
}

// places remembers where in the file things stand, for problems that are found after parsing.
type places struct {
	file     string
	daemons  []lexer.Position
	segments []lexer.Position
}

// segment reads Spread_Segment address { daemons }.
func (r *reader) segment(s *segmentNode) {
	port := uint16(DefaultPort)
	seg := Segment{Addr: netip.AddrPortFrom(netip.Addr{}, port)}
	pos := s.Keyword.Pos
	if s.Addr == nil {
		r.errorf(pos, "write Spread_Segment 10.0.0.255:4803 { ... }, or unicast:4803 for a network without multicast", "the segment has no address")
	} else {
		pos = s.Addr.Token.Pos
		e, err := parseEndpoint(text(s.Addr.Token))
		switch {
		case err != nil:
			r.errorf(pos, "write a multicast or broadcast address, or the word unicast, and :port if it is not 4803", "segment address: %v", err)
		case e.host == "unicast":
			// No address: segmentKind takes it as Unicast.
		case e.host != "":
			r.errorf(pos, "write a multicast or broadcast address, or the word unicast", "the address of a segment is a number, not the name %s", shown(e.host))
		}
		if e.port != 0 {
			port = e.port
		}
		seg.Addr = netip.AddrPortFrom(e.addr, port)
	}
	index := len(r.cfg.Segments)
	before := r.problems.Errors()
	r.members(s.Members, index, port, &seg)
	switch n := len(seg.Daemons); {
	case n == 0:
		if before == r.problems.Errors() { // otherwise its daemons were there, but wrong
			hint := "write the daemons of the segment between the braces, or remove it"
			if !s.Braced {
				hint = "write { daemons } after the address"
			}
			r.errorf(s.Keyword.Pos, hint, "the segment has no daemons")
		}
		return
	case n > MaxDaemons:
		r.errorf(s.Keyword.Pos, "", "the segment has %d daemons; the most is %d", n, MaxDaemons)
	}
	seg.Kind = segmentKind(r.cfg.Daemons, seg)
	r.cfg.Segments = append(r.cfg.Segments, seg)
	r.cfg.where.segments = append(r.cfg.where.segments, pos)
	switch a := seg.Addr.Addr(); {
	case seg.Kind != Broadcast:
	case a.IsLoopback() && a != loopbackBroadcast:
		r.report(Notice, pos, "this is as good as unicast, and the log and status say whom the address does not reach; write unicast, or 127.255.255.255, and they do not",
			"%s is no broadcast address of the loopback network, so each daemon gets a copy of its own", a)
	case !broadcastShape(a):
		r.report(Notice, pos, "write unicast instead of the address to send to each daemon by itself",
			"%s is used as the broadcast address of this segment", seg.Addr.Addr())
	}
}

// segmentKind decides how the daemons of a segment are reached together. A lone daemon needs nothing; an address that is
// no group address is the broadcast address of its subnet, whatever its bits, unless one daemon has it for its own.
func segmentKind(daemons []Daemon, seg Segment) SegmentKind {
	a := seg.Addr.Addr()
	switch {
	case len(seg.Daemons) == 1, !a.IsValid(), a.IsUnspecified():
		return Unicast
	case a.IsMulticast():
		return Multicast
	case a.Is6():
		return Unicast // there is no broadcast
	}
	for _, i := range seg.Daemons {
		if daemons[i].Addr.Addr() == a {
			return Unicast
		}
	}
	return Broadcast
}

// members reads the daemons of a segment. Where a line holds two words, the second is the address of the first if it
// can only be a host name (it has a dot, the first has none); otherwise it is another daemon, as in the original.
func (r *reader) members(nodes []*memberNode, segment int, port uint16, seg *Segment) {
	for i := 0; i < len(nodes) && !r.tooMany(); i++ {
		if stray := nodes[i].Stray; stray != nil {
			r.strayMember(stray)
			continue
		}
		d := nodes[i].Daemon
		if i+1 < len(nodes) && nodes[i+1].Daemon != nil && d.Host == nil && len(d.Addr) == 0 && d.Stanza == nil {
			next := nodes[i+1].Daemon
			first, second := text(d.Name), text(next.Name)
			sameLine := next.Name.Pos.Line == d.Name.Pos.Line
			switch {
			case sameLine && !strings.Contains(first, ".") && strings.Contains(second, ".") && next.Host == nil && len(next.Addr) == 0:
				d.Host, d.Stanza = &atom{Token: next.Name}, next.Stanza
				i++
			case sameLine && next.Host == nil && len(next.Addr) == 0 && !strings.Contains(first, "."):
				r.report(Warning, next.Name.Pos, fmt.Sprintf("write each daemon on its own line; if %s is the host of %s, write %s = %s", second, first, first, second),
					"%s is read as another daemon, not as the host of %s", shown(second), shown(first))
			}
		}
		r.daemon(d, segment, port, seg)
	}
}

func (r *reader) strayMember(s *strayNode) {
	switch {
	case s.Stanza != nil:
		r.errorf(s.Stanza.Open.Pos, "write name address { ... }", "these interfaces belong to no daemon")
	case s.Token.Type == typeAddress:
		r.errorf(s.Token.Pos, "write a name before it: alpha "+s.Token.Value, "the daemon at %s has no name", s.Token.Value)
	default:
		r.errorf(s.Token.Pos, "write name address, one daemon per line", "%s is not expected here", shown(s.Token.Value))
	}
}

// daemon reads one daemon. It is kept with what can be read even if something is wrong, so that one mistake is not
// reported again as a missing daemon.
func (r *reader) daemon(n *daemonNode, segment int, port uint16, seg *Segment) {
	name, pos := text(n.Name), n.Name.Pos
	d := Daemon{Name: name, Segment: segment, Addr: netip.AddrPortFrom(netip.Addr{}, port)}
	var where *lexer.Token
	switch {
	case n.Host != nil:
		where = &n.Host.Token
	case len(n.Addr) > 0:
		where = &n.Addr[0]
	}
	if err := checkDaemonName(name); err != nil {
		hint := "clients of the original know daemons by this name"
		switch {
		case len(name) > MaxNameLength && where == nil:
			hint = fmt.Sprintf("choose a short name and give the host: short = %s", name)
		case len(name) > MaxNameLength:
			hint = fmt.Sprintf("choose a name of at most %d characters: it is part of the names that clients of the original see, which have no room for more", MaxNameLength)
		}
		r.errorf(pos, hint, "%v", err)
	}
	if old := r.cfg.Index(name); old >= 0 && name != "" {
		at := r.cfg.where.daemons[old]
		r.errorf(pos, "daemon names are unique over the whole file", "daemon %s is already defined at %s:%d:%d", shown(name), r.file, at.Line, at.Column)
	}
	r.daemonAddress(&d, name, where, pos, port)
	if n.Stanza != nil {
		r.interfaces(&d, n.Stanza, port)
	}
	if len(r.cfg.Daemons) == MaxDaemons {
		r.errorf(pos, "", "more than %d daemons", MaxDaemons)
	}
	if len(r.cfg.Daemons) > MaxDaemons {
		return
	}
	seg.Daemons = append(seg.Daemons, len(r.cfg.Daemons))
	r.cfg.Daemons = append(r.cfg.Daemons, d)
	r.cfg.where.daemons = append(r.cfg.where.daemons, pos)
}

func (r *reader) daemonAddress(d *Daemon, name string, where *lexer.Token, pos lexer.Position, port uint16) {
	if where == nil {
		// The name is the host, too.
		if err := checkHostName(name); err == nil {
			d.Host = name
		} else if checkDaemonName(name) == nil {
			r.errorf(pos, "write name address", "daemon %s has no address, and as a host name: %v", shown(name), err)
		}
		return
	}
	e, err := parseEndpoint(text(*where))
	switch {
	case err != nil:
		r.errorf(where.Pos, "write an address such as 10.0.0.1 or [fd00::1], or a host name", "address of daemon %s: %v", shown(name), err)
		return
	case e.addr.IsMulticast(), e.addr.Is4() && e.addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		r.errorf(where.Pos, "write the address of the host; the group address belongs to the segment", "daemon %s cannot have the multicast or broadcast address %s", shown(name), e.addr)
		return
	case e.addr.IsValid() && e.addr.IsUnspecified():
		r.errorf(where.Pos, "write the address by which other daemons reach it", "daemon %s cannot have the address %s", shown(name), e.addr)
		return
	}
	if e.port != 0 && e.port != port {
		r.report(Warning, where.Pos, "remove it, or give the daemon a segment of its own with that port",
			"port %d of daemon %s is not used; all daemons of a segment share its port %d", e.port, shown(name), port)
	}
	d.Host, d.Addr = e.host, netip.AddrPortFrom(e.addr, port)
}

// interfaces reads { C D address M address address }.
func (r *reader) interfaces(d *Daemon, s *stanzaNode, port uint16) {
	var letters []lexer.Token
	for _, t := range s.Items {
		word := text(t)
		if t.Type == typeWord && strings.Trim(word, "CDM") == "" {
			letters = append(letters, t)
			continue
		}
		if t.Type == typeWord && len(word) == 1 {
			hint := "the letters are C for clients, D for daemons, M for the monitor"
			if strings.Contains("cdm", word) {
				hint = "did you mean " + strings.ToUpper(word) + "? Upper and lower case matter"
			}
			r.errorf(t.Pos, hint, "there is no interface letter %s", word)
			t.Value = "CDM" // for all we know; it must not be reported again as an address without purpose
			letters = append(letters, t)
			continue
		}
		in := Interface{}
		if e, err := parseEndpoint(word); err != nil {
			r.errorf(t.Pos, "write { C D 10.0.0.1 M 10.1.0.1 }", "interface of daemon %s: %v", shown(d.Name), err)
		} else if e.addr.IsMulticast() {
			r.errorf(t.Pos, "write a local address of the host", "an interface cannot have the multicast address %s", e.addr)
		} else {
			in.Addr, in.Host = e.addr, e.host
			if e.port != 0 && e.port != port {
				r.report(Warning, t.Pos, "remove it", "port %d of the interface is not used; the port of the segment is %d", e.port, port)
			}
		}
		for _, l := range letters {
			in.Client = in.Client || strings.Contains(l.Value, "C")
			in.DaemonTraffic = in.DaemonTraffic || strings.Contains(l.Value, "D")
			in.Monitor = in.Monitor || strings.Contains(l.Value, "M")
		}
		if len(letters) == 0 {
			in.Client, in.DaemonTraffic, in.Monitor = true, true, true
		}
		letters = nil
		d.Interfaces = append(d.Interfaces, in)
	}
	switch {
	case len(letters) > 0:
		r.errorf(letters[0].Pos, "write the address behind its letters: { C 10.0.0.1 }", "interface letters without an address")
	case len(d.Interfaces) == 0:
		r.errorf(s.Open.Pos, "write { C D 10.0.0.1 }, or remove the braces to use all addresses", "the interfaces of daemon %s are empty", shown(d.Name))
	case len(d.Interfaces) > MaxInterfaces:
		r.errorf(s.Open.Pos, "", "daemon %s has %d interfaces; the most is %d", shown(d.Name), len(d.Interfaces), MaxInterfaces)
	}
}
