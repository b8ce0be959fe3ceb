// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/participle/v2/lexer"

	"evensong/internal/proto/packet"
)

const (
	segmentKeyword = "Spread_Segment"
	matrixKeyword  = "RouteMatrix"

	// maxWindow is the largest number the original can read. The ring reduces what its own buffers cannot hold.
	maxWindow = 999_999
	// minPacket is the smallest limit for datagrams that a ring accepts.
	minPacket = 512
	// maxTimer bounds timers: above an hour a number is a slip of the pen.
	maxTimer = time.Hour
	// maxUserName is the length of user and group names in the original.
	maxUserName = 32
	// maxPath bounds file names; the longest path of the systems we run on.
	maxPath = 4096
)

// valueKind says what may stand behind the = of a directive.
type valueKind uint8

const (
	kindFlag   valueKind = iota // nothing
	kindNumber                  // decimal digits
	kindMillis                  // decimal digits, milliseconds
	kindBool                    // true yes false no, in any case
	kindTri                     // auto on off, in any case
	kindText                    // a word or a string
	kindWord                    // one of a list of words
	kindSet                     // words in braces
)

// directive is one row of the table of everything that may stand in a file besides segments and RouteMatrix.
type directive struct {
	kind          valueKind
	optionalValue bool     // the directive may also stand alone
	low, high     int64    // kindNumber
	words         []string // kindWord, kindSet
	dormant       bool     // accepted, but nothing comes of it
	later         bool     // checked and kept, but the daemon does not act on it yet
	set           func(*reader, given)
}

// given is a directive with its value, read and within its range. Only the field of the directive's kind is set.
type given struct {
	key   string
	pos   lexer.Position // of the value, or of the key if there is none
	num   int64
	span  time.Duration
	yes   bool
	tri   Tristate
	str   string
	none  bool // no value was given
	items []lexer.Token
}

var (
	eventTypes = []string{"ACM", "CONFIGURATION", "DATA_LINK", "DEBUG", "EVENTS", "EXIT", "FLOW_CONTROL", "GROUPS", "MEMBERSHIP",
		"MEMORY", "NETWORK", "PRINT", "PROTOCOL", "SECURITY", "SESSION", "SKIPLIST", "STATUS"}
	datagramPaths = []string{"auto", "segment", "batch", "single"}
	primaryRules  = []string{PrimaryMajority, PrimaryNone}
	priorities    = []string{"CRITICAL", "ERROR", "FATAL", "INFO", "WARNING", "pDEBUG"}
)

var (
	directives map[string]*directive
	keywords   []string // of everything that can begin a statement, sorted
)

func init() { // not an initializer: the setters report by way of keywords
	directives = map[string]*directive{
		"Window":         {kind: kindNumber, low: 1, high: maxWindow, set: func(r *reader, g given) { r.cfg.Ring.Global = int(g.num) }},
		"PersonalWindow": {kind: kindNumber, low: 1, high: maxWindow, set: func(r *reader, g given) { r.cfg.Ring.Personal = int(g.num) }},
		"AcceleratedWindow": {kind: kindNumber, low: 0, high: maxWindow, set: func(r *reader, g given) {
			r.cfg.Ring.AcceleratedWindow = int(g.num)
		}},
		"PacketBytes":     {kind: kindNumber, low: minPacket, high: packet.MaxDatagram, set: func(r *reader, g given) { r.cfg.Ring.PacketBytes = int(g.num) }},
		"AcceleratedRing": {kind: kindBool, set: func(r *reader, g given) { r.cfg.Ring.Accelerated = g.yes }},

		"PrimaryRule": {kind: kindWord, words: primaryRules, set: func(r *reader, g given) { r.cfg.Primary = g.str }},

		"MaxSessionMessages": {kind: kindNumber, low: 0, high: math.MaxInt32, set: (*reader).setMaxSessionMessages},
		"SocketPortReuse":    {kind: kindTri, set: func(r *reader, g given) { r.cfg.Local.SocketPortReuse = g.tri }},
		"DangerousMonitor":   {kind: kindBool, set: func(r *reader, g given) { r.cfg.DangerousMonitor = g.yes }},

		"DatagramPath": {kind: kindWord, words: datagramPaths, set: func(r *reader, g given) { r.cfg.Local.DatagramPath = g.str }},

		"ClusterKeyFile": {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Local.KeyFile = g.str }},

		"RuntimeDir":  {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Local.RuntimeDir = g.str }},
		"DaemonUser":  {kind: kindText, high: maxUserName, set: func(r *reader, g given) { r.cfg.Local.User = g.str }},
		"DaemonGroup": {kind: kindText, high: maxUserName, set: func(r *reader, g given) { r.cfg.Local.Group = g.str }},

		"DebugFlags":            {kind: kindSet, words: append([]string{"ALL", "NONE"}, eventTypes...), set: (*reader).setDebugFlags},
		"EventPriority":         {kind: kindWord, words: priorities, set: func(r *reader, g given) { r.cfg.Log.Priority = g.str }},
		"EventLogFile":          {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Log.File = g.str }},
		"EventTimeStamp":        {kind: kindText, high: maxPath, optionalValue: true, set: (*reader).setTimeStamp},
		"EventPreciseTimeStamp": {kind: kindFlag, set: func(r *reader, g given) { r.cfg.Log.TimeStamp, r.cfg.Log.Precise = true, true }},

		"RequiredAuthMethods": {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Auth.Required = r.methods(g) }},
		"AllowedAuthMethods":  {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Auth.Allowed = r.methods(g) }},
		"AccessIPFile":        {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Auth.NetworksFile = g.str }},
		"AccessPasswordFile":  {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Auth.PasswordsFile = g.str }},
		"AccessRulesFile":     {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.Auth.RulesFile = g.str }},
		"UnixSocketMode":      {kind: kindText, high: maxUserName, set: (*reader).setUnixMode},
		"UnixSocketGroup":     {kind: kindText, high: maxUserName, set: func(r *reader, g given) { r.cfg.Local.UnixGroup = g.str }},
		"AccessControlPolicy": {kind: kindWord, words: []string{policyPermit, policyDeny}, set: func(r *reader, g given) { r.cfg.Auth.Policy = g.str }},

		"TLSCertificate": {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.TLS.CertFile = g.str }},
		"TLSKey":         {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.TLS.KeyFile = g.str }},
		"TLSClientCA":    {kind: kindText, high: maxPath, set: func(r *reader, g given) { r.cfg.TLS.ClientCAFile = g.str }},
		"TLSClientAuth":  {kind: kindWord, words: []string{clientAuthRequired, clientAuthOptional}, set: func(r *reader, g given) { r.cfg.TLS.ClientAuth = g.str }},
		"TLSRequired":    {kind: kindBool, set: func(r *reader, g given) { r.cfg.TLS.Required = g.yes }},

		"DebugInitialSequence": {kind: kindFlag, dormant: true},
		"LinkProtocol":         {kind: kindWord, words: []string{"Hop", "TcpHop"}, dormant: true},
	}
	directives["TimerProfile"] = &directive{kind: kindWord, words: []string{"auto", "LAN", "WAN"}, set: func(r *reader, g given) {
		r.cfg.Timers.Profile, _ = profileOf(g.str)
	}}
	for i, f := range new(Timers).fields() {
		directives[f.key] = &directive{kind: kindMillis, set: func(r *reader, g given) {
			*r.cfg.Timers.fields()[i].value = g.span
		}}
	}
	keywords = []string{segmentKeyword, matrixKeyword, rulesKeyword}
	for k := range directives {
		keywords = append(keywords, k)
	}
	slices.Sort(keywords)
}

func isKeyword(word string) bool {
	_, ok := slices.BinarySearch(keywords, word)
	return ok
}

// foreignKeys are words that people write for a directive although they are far from it in spelling.
var foreignKeys = map[string]string{
	"segment":     segmentKeyword,
	"port":        "the port stands behind the address of a segment: Spread_Segment 10.0.0.255:4803 { ... }",
	"logfile":     "EventLogFile",
	"loglevel":    "EventPriority",
	"user":        "DaemonUser",
	"group":       "DaemonGroup",
	"include":     "there are no include files",
	"maxsession":  "MaxSessionMessages",
	"tlscert":     "TLSCertificate",
	"certificate": "TLSCertificate",
}

// setting reads one Key = value statement.
func (r *reader) setting(s *settingNode) {
	key := s.Key.Value
	if key == "" {
		return // reported by valueWithoutEqual
	}
	d := directives[key]
	if d == nil {
		r.unknownKey(s)
		return
	}
	g := given{key: key, pos: s.Key.Pos, none: true}
	switch {
	case d.kind == kindFlag:
		if len(s.Equal) > 0 {
			r.errorf(s.Equal[0].Pos, "write "+key+" alone", "%s takes no value", key)
			return
		}
	case len(s.Equal) == 0 && d.optionalValue:
	case len(s.Equal) == 0 || s.Value == nil:
		r.errorf(s.Key.Pos, fmt.Sprintf("write %s = %s", key, d.example()), "%s has no value", key)
		return
	default:
		g.none = false
		if !r.value(d, &g, s.Value) {
			return
		}
	}
	if old, again := r.seen[key]; again {
		r.report(Warning, s.Key.Pos, "remove one of them", "%s is given again; the value of line %d is replaced", key, old.Line)
	}
	r.seen[key] = s.Key.Pos
	if d.dormant || d.later {
		r.dormant = append(r.dormant, dormantUse{key, s.Key.Pos})
	}
	if d.set != nil {
		d.set(r, g)
	}
}

func (r *reader) unknownKey(s *settingNode) {
	key := s.Key.Value
	hint := didYouMean(key, keywords, "the list of directives is in docs/operations/configuration.md")
	if h, ok := foreignKeys[strings.ToLower(key)]; ok {
		hint = h
		if isKeyword(h) {
			hint = "did you mean " + h + "?"
		}
	}
	r.errorf(s.Key.Pos, hint, "unknown directive %s", shown(key))
}

// example is a value that the directive would take, for hints.
func (d *directive) example() string {
	switch d.kind {
	case kindNumber:
		return "<number>"
	case kindMillis:
		return "<milliseconds>"
	case kindBool:
		return "true"
	case kindTri:
		return "auto"
	case kindText:
		return `"..."`
	case kindWord:
		return d.words[0]
	case kindSet:
		return "{ " + d.words[2] + " }"
	}
	return ""
}

// value reads v as what d wants into g and reports whether it could.
func (r *reader) value(d *directive, g *given, v *valueNode) bool {
	if d.kind == kindSet {
		if v.Set == nil {
			r.errorf(valuePos(v), fmt.Sprintf("write %s = %s", g.key, d.example()), "the value of %s stands in braces", g.key)
			return false
		}
		g.pos, g.items = v.Set.Open.Pos, v.Set.Items
		return true
	}
	if v.Atom == nil {
		r.errorf(valuePos(v), fmt.Sprintf("write %s = %s", g.key, d.example()), "%s takes one value", g.key)
		return false
	}
	word := text(v.Atom.Token)
	g.pos, g.str = v.Atom.Token.Pos, word
	switch d.kind {
	case kindNumber:
		return r.number(d, g, word)
	case kindMillis:
		return r.millis(g, word)
	case kindBool:
		switch strings.ToLower(word) {
		case "true", "yes":
			g.yes = true
			return true
		case "false", "no":
			return true
		}
		hint := "write true, yes, false or no"
		switch strings.ToLower(word) {
		case "1", "on":
			hint = "write true"
		case "0", "off":
			hint = "write false"
		}
		r.errorf(g.pos, hint, "%s is not a value for %s", shown(word), g.key)
		return false
	case kindTri:
		for _, t := range []Tristate{Auto, On, Off} {
			if strings.EqualFold(word, t.String()) {
				g.tri = t
				return true
			}
		}
		r.errorf(g.pos, "write auto, on or off", "%s is not a value for %s", shown(word), g.key)
		return false
	case kindWord:
		if slices.Contains(d.words, word) {
			return true
		}
		r.errorf(g.pos, didYouMean(word, d.words, "write one of "+strings.Join(d.words, ", ")), "%s is not a value for %s", shown(word), g.key)
		return false
	case kindText:
		switch {
		case word == "" || strings.ContainsRune(word, 0):
			r.errorf(g.pos, "write a value or remove the directive", "the value of %s is empty or holds a zero byte", g.key)
			return false
		case int64(len(word)) > d.high:
			r.errorf(g.pos, "shorten it", "the value of %s is too long (%d > %d bytes)", g.key, len(word), d.high)
			return false
		}
	}
	return true
}

func valuePos(v *valueNode) lexer.Position {
	switch {
	case v.Atom != nil:
		return v.Atom.Token.Pos
	case v.Set != nil:
		return v.Set.Open.Pos
	}
	return v.Bang.Pos
}

func (r *reader) number(d *directive, g *given, word string) bool {
	n, err := strconv.ParseInt(word, 10, 64)
	isRange := err != nil && strings.Trim(strings.TrimPrefix(word, "-"), "0123456789") == "" && len(word) > 1
	switch {
	case err != nil && !isRange || word[0] == '+':
		r.errorf(g.pos, fmt.Sprintf("write digits only, %d to %d", d.low, d.high), "%s is not a number", shown(word))
		return false
	case isRange || n < d.low || n > d.high:
		r.errorf(g.pos, fmt.Sprintf("choose %d to %d", d.low, d.high), "%s of %s is out of range", g.key, shown(word))
		return false
	}
	g.num = n
	return true
}

func (r *reader) millis(g *given, word string) bool {
	if span, err := time.ParseDuration(word); err == nil && strings.Trim(word, "0123456789") != "" && span >= time.Millisecond {
		r.errorf(g.pos, fmt.Sprintf("write %s = %d", g.key, span.Milliseconds()), "timers of this file are in milliseconds, without a unit")
		return false
	}
	if !r.number(&directive{low: 1, high: maxTimer.Milliseconds()}, g, word) {
		return false
	}
	g.span = time.Duration(g.num) * time.Millisecond
	return true
}

func (r *reader) setMaxSessionMessages(g given) {
	if g.num == 0 {
		r.report(Warning, g.pos, "remove it, or give the number of messages that may wait for a slow client",
			"MaxSessionMessages = 0 would close every session at its first message; it is read as no limit by count")
	}
	r.cfg.Sessions.MaxMessages = int(g.num)
}

func (r *reader) setTimeStamp(g given) {
	r.cfg.Log.TimeStamp, r.cfg.Log.TimeFormat = true, ""
	if !g.none {
		r.cfg.Log.TimeFormat = g.str
	}
}

// setDebugFlags applies the words from left to right to an empty set: the directive replaces earlier ones.
func (r *reader) setDebugFlags(g given) {
	on := make(map[string]bool)
	remove := false
	for i, t := range g.items {
		word := text(t)
		if t.Value == "!" {
			if i+1 == len(g.items) || g.items[i+1].Value == "!" {
				r.errorf(t.Pos, "write !EXIT, for example", "! stands before an event type")
			} else {
				remove = true
			}
			continue
		}
		switch {
		case word == "ALL", word == "NONE":
			for _, e := range eventTypes {
				on[e] = (word == "ALL") != remove
			}
		case slices.Contains(eventTypes, word):
			on[word] = !remove
		default:
			r.errorf(t.Pos, didYouMean(word, directives["DebugFlags"].words, "write event types such as "+strings.Join(eventTypes[:3], ", ")+", or ALL, NONE"),
				"unknown event type %s", shown(word))
		}
		remove = false
	}
	r.cfg.Log.Flags = []string{}
	for _, e := range eventTypes {
		if on[e] {
			r.cfg.Log.Flags = append(r.cfg.Log.Flags, e)
		}
	}
}
