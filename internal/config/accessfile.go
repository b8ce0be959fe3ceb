// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"evensong/internal/descrypt"
	"evensong/internal/proto/access"
)

const (
	// maxAccessEntries bounds the entries of a file of networks and of one of passwords. More is an error: each is compared
	// with each client that connects.
	maxAccessEntries = 10_000
	// maxPasswordUser is the field for the user in what a client sends (client-protocol 2.3).
	maxPasswordUser = 32
)

// accessReader reads a file of one entry a line: what the files of networks and of passwords have in common. "#" begins a
// comment, at the start of a line or after a blank; blank lines mean nothing. It never stops at a mistake.
type accessReader struct {
	file     string
	problems Problems
	line     int
	entries  int
}

func (r *accessReader) report(s Severity, col int, hint, format string, args ...any) {
	if len(r.problems) == maxErrors {
		r.problems = append(r.problems, Problem{File: r.file, Severity: Error, Text: "too many problems; the rest of the file was not read", Hint: "repair these first"})
	}
	if len(r.problems) > maxErrors {
		return
	}
	r.problems = append(r.problems, Problem{
		File: r.file, Line: r.line, Col: col, Severity: s, Text: printable(fmt.Sprintf(format, args...)), Hint: printable(hint),
	})
}

// each calls entry with what every line holds besides blanks and comments, and the column where that begins.
func (r *accessReader) each(data []byte, entry func(text string, col int)) {
	r.line = 1
	switch {
	case len(data) > MaxFileSize:
		r.report(Error, 1, "is this the right file?", "the file is larger than %d bytes", MaxFileSize)
		return
	case bytes.IndexByte(data, 0) >= 0:
		r.report(Error, 1, "is this the right file?", "the file holds zero bytes and is no text")
		return
	}
	r.line = 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		r.line++
		s := strings.TrimRight(string(line), " \t\r\n")
		for i := range len(s) {
			if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
				s = strings.TrimRight(s[:i], " \t")
				break
			}
		}
		start := len(s) - len(strings.TrimLeft(s, " \t"))
		if start == len(s) {
			continue
		}
		if r.entries++; r.entries > maxAccessEntries {
			r.report(Error, start+1, "join neighboring networks, or split the users over several daemons", "more than %d entries", maxAccessEntries)
			return
		}
		entry(s[start:], utf8.RuneCountInString(s[:start])+1)
	}
}

// parseNetworks reads a file for the method IP (client-protocol 2.7): a network, an address, or the words unix and local on
// each line. In the original an odd line ends the list, silently; here it is an error.
func parseNetworks(file string, data []byte) (access.Networks, Problems) {
	r := &accessReader{file: file}
	var out access.Networks
	const hint = "write an address, a network such as 10.0.0.0/8 or fd00::/8, local, or unix, one on a line"
	r.each(data, func(text string, col int) {
		switch text {
		case "unix":
			out = append(out, access.UnixNetwork)
			return
		case "local":
			out = append(out, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
			return
		}
		p, masked, err := parseNetwork(text)
		if err != nil {
			what := hint
			if !strings.ContainsAny(text, ".:/") {
				what = didYouMean(text, []string{"unix", "local"}, hint)
			}
			r.report(Error, col, what, "%v", err)
			return
		}
		if masked {
			r.report(Warning, col, "write "+p.String(), "%s is read as the network %s", shown(text), p)
		}
		out = append(out, p)
	})
	if len(out) == 0 && r.problems.Errors() == 0 {
		r.line = max(r.line, 1)
		r.report(Warning, 1, hint, "the file lists nobody, so the method IP refuses every client")
	}
	return out, r.problems
}

// parseNetwork reads an address or a network; masked says that bits outside of the network were set.
func parseNetwork(text string) (p netip.Prefix, masked bool, err error) {
	if addr, bits, isNet := strings.Cut(text, "/"); isNet {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil && bits == "":
			return p, false, fmt.Errorf("network %s has no number of bits behind the /", shown(text))
		case err != nil:
			if a, aerr := netip.ParseAddr(addr); aerr == nil {
				return p, false, fmt.Errorf("network %s: the number of bits is 0 to %d", shown(text), a.BitLen())
			}
			return p, false, fmt.Errorf("%s is no network", shown(text))
		case p.Addr().Is4In6():
			return p, false, fmt.Errorf("network %s: write it in IPv4 form", shown(text))
		}
		return p.Masked(), p.Masked() != p, nil
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return p, false, fmt.Errorf("%s is no address, no network and none of the words unix and local", shown(text))
	case a.Zone() != "":
		return p, false, fmt.Errorf("address %s: a zone has no meaning here", shown(text))
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), false, nil
}

// passwords are the users of the method PWORD and their hashes.
type passwords map[string]string

// noSuchUser is compared with what an unknown user sends, so that it costs the same as a wrong password.
const noSuchUser = "..no.such.user"

// check reports whether credentials (32 bytes user, 8 bytes password, both filled with zero bytes) are right.
func (p passwords) check(credentials []byte) bool {
	if len(credentials) != maxPasswordUser+8 {
		return false
	}
	hash, known := p[passwordUser(credentials)]
	if !known {
		hash = noSuchUser[:descrypt.HashSize]
	}
	return descrypt.Match(hash, credentials[maxPasswordUser:]) && known
}

// passwordUser is the user in credentials.
func passwordUser(credentials []byte) string {
	user, _, _ := bytes.Cut(credentials[:maxPasswordUser], []byte{0})
	return string(user)
}

// parsePasswords reads a file for the method PWORD: user:hash on each line.
func parsePasswords(file string, data []byte) (passwords, Problems) {
	r := &accessReader{file: file}
	out, lines := passwords{}, map[string]int{}
	const hint = "write user:hash, with a hash of the traditional crypt(3), 13 characters"
	r.each(data, func(text string, col int) {
		user, hash, ok := strings.Cut(text, ":")
		switch {
		case !ok:
			r.report(Error, col, hint, "the line has no colon")
			return
		case user == "" || len(user) > maxPasswordUser:
			r.report(Error, col, "a client has room for that many", "the user name has %d bytes, want 1 to %d", len(user), maxPasswordUser)
			return
		case lines[user] > 0:
			r.report(Error, col, "remove one of them", "user %s is in line %d already", shown(user), lines[user])
			return
		}
		lines[user] = r.line
		if err := descrypt.Check(hash); err != nil {
			what := hint
			switch {
			case strings.HasPrefix(hash, "$"):
				what = "the method carries passwords of 8 characters and knows the traditional crypt(3) only; make such a hash"
			case hash == "" || strings.Trim(hash, "*!x") == "":
				what = "remove the line: who is not in the file cannot log in"
			}
			r.report(Error, col+utf8.RuneCountInString(user)+1, what, "user %s: %v", shown(user), err)
			return
		}
		out[user] = hash
	})
	if len(out) == 0 && r.problems.Errors() == 0 {
		r.line = max(r.line, 1)
		r.report(Warning, 1, hint, "the file lists nobody, so the method PWORD refuses every client")
	}
	return out, r.problems
}
