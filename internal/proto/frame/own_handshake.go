// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"unicode/utf8"
)

// OwnMagic is what a client of the own dialect begins with.
const OwnMagic = "EVS"

// Sizes of the hello.
const (
	OwnHelloHeader = 8 // magic 3, version 1, length of the body 4
	MaxOwnHello    = 8192
)

// OwnHello is the first message of a client (own-dialect 2.1). Texts are copies.
//
//	 0     3         4        8
//	+-----+---------+--------+----------------------------------------------+
//	| EVS | version | length | body                                         |
//	+-----+---------+--------+----------------------------------------------+
//
//	body: flags 1 · number of capabilities 1 · zero 2 · ping interval 4
//	      user (length 1, bytes) · program (length 1, bytes) · capabilities (length 1, bytes each)
type OwnHello struct {
	Membership   bool     // wants views, signals and self-leaves
	PingMillis   uint32   // wish for the interval of pings in milliseconds; zero: none
	User         string   // user part of the private name; empty: the daemon invents one
	Program      string   // who asks, for logs
	Capabilities []string // what the client needs
}

const ownMembership = 1

// ParseOwnHello reads a hello from the start of b, which may still grow. n is its size, zero while it is not complete.
// A fault is reported as soon as the bytes show it.
func ParseOwnHello(b []byte) (h OwnHello, n int, fault OwnFault) {
	if k := min(len(b), len(OwnMagic)); string(b[:k]) != OwnMagic[:k] {
		return h, 0, OwnFaultMagic
	}
	if len(b) > len(OwnMagic) && b[len(OwnMagic)] != OwnVersion {
		return h, 0, OwnFaultVersion
	}
	if len(b) < OwnHelloHeader {
		return h, 0, OwnFine
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if length > MaxOwnHello-OwnHelloHeader {
		return h, 0, OwnFaultLength
	}
	n = OwnHelloHeader + int(length)
	if len(b) < n {
		return h, 0, OwnFine
	}
	r := reader{b: b[OwnHelloHeader:n]}
	flags, count := r.u8(), r.u8()
	r.zero(2)
	ping := r.u32()
	user, program := r.text(), r.text()
	caps := r.names(int(count))
	if flags&^ownMembership != 0 {
		r.bad(OwnFaultFlags)
	}
	if fault = r.end(); fault != OwnFine {
		return h, 0, fault
	}
	for c := range caps.All() {
		if len(c) == 0 || !utf8.Valid(c) {
			return h, 0, OwnFaultText
		}
	}
	return OwnHello{flags&ownMembership != 0, ping, string(user), string(program), caps.Strings()}, n, OwnFine
}

// Append writes the hello. Texts have at most 255 bytes, capabilities are at most 30.
func (h *OwnHello) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, OwnMagic...)
	dst = append(dst, OwnVersion, 0, 0, 0, 0)
	flags := byte(0)
	if h.Membership {
		flags = ownMembership
	}
	dst = append(dst, flags, byte(len(h.Capabilities)), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.PingMillis)
	dst = appendText(appendText(dst, h.User), h.Program)
	for _, c := range h.Capabilities {
		dst = appendText(dst, c)
	}
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(len(dst)-at-OwnHelloHeader))
	return dst
}

// OwnMethod is an authentication method that a daemon offers.
type OwnMethod struct {
	Name        string
	Credentials bool // who chooses it must send credentials
	Required    bool // runs also for who does not choose it
}

// AppendOwnMethods writes the METHODS frame.
//
//	count 1 · per method: flags 1 (1 credentials, 2 required) · name (length 1, bytes)
func AppendOwnMethods(dst []byte, methods []OwnMethod) []byte {
	at := len(dst)
	dst = append(beginOwn(dst, OwnMethods), byte(len(methods)))
	for _, m := range methods {
		flags := byte(0)
		if m.Credentials {
			flags |= 1
		}
		if m.Required {
			flags |= 2
		}
		dst = appendText(append(dst, flags), m.Name)
	}
	return endOwn(dst, at, 0)
}

// ParseOwnMethods reads the body of a METHODS frame.
func ParseOwnMethods(body []byte) (methods []OwnMethod, fault OwnFault) {
	r := reader{b: body}
	for range r.u8() {
		flags, name := r.u8(), r.name()
		if r.fault != OwnFine {
			break
		}
		if flags&^3 != 0 {
			r.bad(OwnFaultFlags)
		}
		methods = append(methods, OwnMethod{string(name), flags&1 != 0, flags&2 != 0})
	}
	if fault = r.end(); fault != OwnFine {
		return nil, fault
	}
	return methods, OwnFine
}

// AppendOwnChoice writes the CHOICE frame: the methods to run, in order.
//
//	count 1 · names (length 1, bytes each)
func AppendOwnChoice(dst []byte, methods ...string) []byte {
	at := len(dst)
	dst = append(beginOwn(dst, OwnChoice), byte(len(methods)))
	for _, m := range methods {
		dst = appendText(dst, m)
	}
	return endOwn(dst, at, 0)
}

// ParseOwnChoice reads the body of a CHOICE frame. The names alias it.
func ParseOwnChoice(body []byte) (methods OwnNames, fault OwnFault) {
	r := reader{b: body}
	methods = r.names(int(r.u8()))
	return methods, r.end()
}

// AppendOwnCredentials writes the CREDENTIALS frame of the method whose turn it is: its name, then what it wants to see,
// up to MaxCredentials bytes.
//
//	method (length 1, bytes) · credentials, to the end
func AppendOwnCredentials(dst []byte, method string, credentials []byte) []byte {
	at := len(dst)
	dst = append(appendText(beginOwn(dst, OwnCredentials), method), credentials...)
	return endOwn(dst, at, 0)
}

// ParseOwnCredentials reads the body of a CREDENTIALS frame, aliasing it.
func ParseOwnCredentials(body []byte) (method, credentials []byte, fault OwnFault) {
	r := reader{b: body}
	method, credentials = r.name(), r.rest()
	if len(credentials) > MaxCredentials {
		r.bad(OwnFaultTooLong)
	}
	return method, credentials, r.end()
}

// OwnDaemon says where the clients of another daemon may connect, for fail-over.
type OwnDaemon struct {
	Name      string
	Addresses []string // "host:port"
}

func appendDaemons(dst []byte, daemons []OwnDaemon) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(daemons)))
	for _, d := range daemons {
		dst = append(appendText(dst, d.Name), byte(len(d.Addresses)))
		for _, a := range d.Addresses {
			dst = appendText(dst, a)
		}
	}
	return dst
}

func (r *reader) daemons() (list []OwnDaemon) {
	for range r.u16() {
		name := r.name()
		addrs := r.names(int(r.u8()))
		if r.fault != OwnFine {
			return nil
		}
		list = append(list, OwnDaemon{string(name), addrs.Strings()})
	}
	return list
}

// OwnWelcomeInfo is what an accepted client learns (own-dialect 2.4). Texts are copies.
//
//	version 1 · number of capabilities 1 · zero 2
//	ping interval 4 · message limit 4 · groups limit 4 · session 8
//	private name · short name · daemon · program · cluster · capabilities  (length 1, bytes each)
//	number of daemons 2 · per daemon: name · number of addresses 1 · addresses  (length 1, bytes each)
type OwnWelcomeInfo struct {
	Version      uint8
	PingMillis   uint32 // interval of pings in force, milliseconds; zero: none
	MessageLimit uint32 // data of one message, bytes
	GroupsLimit  uint32 // destinations of one message
	Session      uint64 // number of the session at this daemon
	Private      string // private name
	Short        string // what clients of the original see of it; the same if it fits
	Daemon       string
	Program      string // the daemon's program and version
	Cluster      string
	Capabilities []string
	Daemons      []OwnDaemon // other daemons with listeners; not the own one
}

// AppendOwnWelcome writes the WELCOME frame.
func AppendOwnWelcome(dst []byte, w *OwnWelcomeInfo) []byte {
	at := len(dst)
	dst = append(beginOwn(dst, OwnWelcome), w.Version, byte(len(w.Capabilities)), 0, 0)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, w.PingMillis)
	dst = le.AppendUint32(dst, w.MessageLimit)
	dst = le.AppendUint32(dst, w.GroupsLimit)
	dst = le.AppendUint64(dst, w.Session)
	for _, s := range [...]string{w.Private, w.Short, w.Daemon, w.Program, w.Cluster} {
		dst = appendText(dst, s)
	}
	for _, c := range w.Capabilities {
		dst = appendText(dst, c)
	}
	return endOwn(appendDaemons(dst, w.Daemons), at, 1)
}

// ParseOwnWelcome reads the body of a WELCOME frame.
func ParseOwnWelcome(body []byte) (w OwnWelcomeInfo, fault OwnFault) {
	r := reader{b: body}
	version, count := r.u8(), r.u8()
	r.zero(2)
	w = OwnWelcomeInfo{
		Version: version, PingMillis: r.u32(), MessageLimit: r.u32(), GroupsLimit: r.u32(), Session: r.u64(),
		Private: string(r.name()), Short: string(r.name()), Daemon: string(r.name()), Program: string(r.bytes()), Cluster: string(r.bytes()),
	}
	w.Capabilities = r.names(int(count)).Strings()
	w.Daemons = r.daemons()
	if fault = r.end(); fault != OwnFine {
		return OwnWelcomeInfo{}, fault
	}
	return w, OwnFine
}

// AppendOwnDaemons writes the DAEMONS frame, which replaces the list of the welcome.
func AppendOwnDaemons(dst []byte, daemons []OwnDaemon) []byte {
	at := len(dst)
	return endOwn(appendDaemons(beginOwn(dst, OwnDaemons), daemons), at, 1)
}

// ParseOwnDaemons reads the body of a DAEMONS frame.
func ParseOwnDaemons(body []byte) (list []OwnDaemon, fault OwnFault) {
	r := reader{b: body}
	list = r.daemons()
	if fault = r.end(); fault != OwnFine {
		return nil, fault
	}
	return list, OwnFine
}

// OwnCloseInfo says why a connection ends (own-dialect 2.5). Texts are copies.
//
//	code 1 (signed) · zero 1 · reason (length 1, bytes) · sentence, to the end
type OwnCloseInfo struct {
	Code     Code   // the nearest code of the original's protocol
	Reason   string // a short name that programs can compare, such as "slow-bytes"
	Sentence string // for people
}

// AppendOwnClose writes the CLOSE frame. A sentence is cut at 2000 bytes.
func AppendOwnClose(dst []byte, c *OwnCloseInfo) []byte {
	at := len(dst)
	dst = appendText(append(beginOwn(dst, OwnClose), c.Code.Byte(), 0), c.Reason)
	return endOwn(append(dst, cutText(c.Sentence)...), at, 0)
}

// maxSentence bounds sentences for people, in bytes.
const maxSentence = 2000

// cutText cuts a sentence between characters.
func cutText(s string) string {
	if len(s) <= maxSentence {
		return s
	}
	n := maxSentence
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ParseOwnClose reads the body of a CLOSE frame.
func ParseOwnClose(body []byte) (c OwnCloseInfo, fault OwnFault) {
	r := reader{b: body}
	code := Code(r.u8())
	r.zero(1)
	reason, sentence := r.name(), r.rest()
	if !utf8.Valid(sentence) || !utf8.Valid(reason) {
		r.bad(OwnFaultText)
	}
	if fault = r.end(); fault != OwnFine {
		return c, fault
	}
	return OwnCloseInfo{code, string(reason), string(sentence)}, OwnFine
}
