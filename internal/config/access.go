// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/session"
)

// The authentication methods, in the order in which they are offered (client-protocol 2.2).
const (
	methodNull     = "NULL"
	methodIP       = "IP"
	methodPassword = "PWORD"
)

var authMethods = []string{methodNull, methodIP, methodPassword}

// The files of the original, looked for in the working directory and then in accessDir.
const (
	networksFile  = "spread.access_ip"
	passwordsFile = "spread.access_pword"
)

// accessDir is where access files are that are not in the working directory; a variable for tests.
var accessDir = "/etc"

// Access is who may come in and what they may do, with all files read: what a daemon hands to its sessions. It is not
// modified after LoadAccess, and a reload replaces it as a whole.
type Access struct {
	Methods []session.AuthMethod
	Rules   *access.Rules // nil: everything is permitted
	// NetworksFile, PasswordsFile and RulesFile are the files that were read; empty: none was needed.
	NetworksFile, PasswordsFile, RulesFile string
	// Warnings are the problems that are none of severity Error.
	Warnings []Problem
}

// LoadAccess reads the files that the methods of c need and checks everything. It does not change c. The error is Problems,
// all at once; the Access of an error is nil.
func LoadAccess(c *Config) (*Access, error) {
	a := &Access{}
	problems := a.loadRules(c)
	allowed := c.Auth.allowed()
	for _, name := range authMethods {
		required := slices.Contains(c.Auth.Required, name)
		if !required && !slices.Contains(allowed, name) {
			continue
		}
		m := session.AuthMethod{Name: name, Required: required, Unlisted: !slices.Contains(allowed, name)}
		switch name {
		case methodNull:
		case methodIP:
			var list access.Networks
			var more Problems
			a.NetworksFile, list, more = loadAccessFile(c, c.Auth.NetworksFile, networksFile, name, "AccessIPFile", parseNetworks)
			problems = append(problems, more...)
			m.Check = func(peer netip.Addr, _ []byte) bool { return list.Contains(peer) }
		case methodPassword:
			var users passwords
			var more Problems
			a.PasswordsFile, users, more = loadAccessFile(c, c.Auth.PasswordsFile, passwordsFile, name, "AccessPasswordFile", parsePasswords)
			problems = append(problems, more...)
			problems = append(problems, exposed(a.PasswordsFile)...)
			m.CredentialBytes, m.Answer = maxPasswordUser+8, true
			m.Check = func(_ netip.Addr, credentials []byte) bool { return users.check(credentials) }
			m.Proves = passwordUser
		}
		a.Methods = append(a.Methods, m)
	}
	if problems.Errors() > 0 {
		return nil, problems
	}
	a.Warnings = problems
	return a, nil
}

// withFiles completes a configuration with its Access, Keys and Certificate. err is what was wrong with it already.
func (c Config) withFiles(err error) (Config, error) {
	problems, isProblems := errors.AsType[Problems](err)
	if err != nil && !isProblems {
		return c, err
	}
	a, accessErr := LoadAccess(&c)
	k, keysErr := LoadKeys(&c)
	certificate, tlsErr := LoadTLS(&c, time.Now())
	for _, e := range []error{accessErr, keysErr, tlsErr} {
		if more, ok := errors.AsType[Problems](e); ok {
			problems = append(problems, more...)
		}
	}
	if err != nil || accessErr != nil || keysErr != nil || tlsErr != nil {
		return c, problems
	}
	c.Access, c.Keys, c.Certificate = a, k, certificate
	c.Warnings = append(slices.Clip(c.Warnings), a.Warnings...)
	if certificate != nil {
		c.Warnings = append(c.Warnings, certificate.Warnings...)
	}
	c.found(&c.Auth.NetworksFile, "AccessIPFile", a.NetworksFile)
	c.found(&c.Auth.PasswordsFile, "AccessPasswordFile", a.PasswordsFile)
	return c, nil
}

// Files are those that a reload reads again: the file of the configuration, of keys, certificates and access, as they were named.
func (c *Config) Files() (out []string) {
	if c.FromFile() {
		out = append(out, c.Source)
	}
	for _, path := range []string{c.Local.KeyFile, c.TLS.CertFile, c.TLS.KeyFile, c.TLS.ClientCAFile, c.Auth.NetworksFile, c.Auth.PasswordsFile, c.Auth.RulesFile} {
		if path != "" {
			out = append(out, path)
		}
	}
	return out
}

// found writes down which file was read where none was named.
func (c *Config) found(field *string, key, path string) {
	if *field == "" && path != "" {
		*field, c.origins[key] = path, Origin{Derived, "found there"}
	}
}

// loadAccessFile reads the file at path, or where it is looked for if path is empty, and returns which one it was.
func loadAccessFile[T any](c *Config, path, usual, method, directive string, parse func(string, []byte) (T, Problems)) (found string, value T, problems Problems) {
	candidates := []string{path}
	if path == "" {
		candidates = []string{usual, filepath.Join(accessDir, usual)}
	}
	for _, name := range candidates {
		data, err := readAccessFile(name)
		if errors.Is(err, fs.ErrNotExist) && path == "" {
			continue
		}
		if err != nil {
			return "", value, Problems{{File: c.origins[directive].Where, Severity: Error,
				Text: fmt.Sprintf("authentication method %s: %v", method, err), Hint: "name a file that the daemon can read, or do without the method"}}
		}
		value, problems = parse(name, data)
		return name, value, problems
	}
	return "", value, Problems{{File: c.methodOrigin(method), Severity: Error,
		Text: fmt.Sprintf("authentication method %s needs the file %s, which is neither in the working directory nor in %s", method, usual, accessDir),
		Hint: fmt.Sprintf("write one (docs/operations/access.md), name one with %s, or do without the method", directive)}}
}

func readAccessFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// fromHere says where the path of a file that is not there was looked for; empty for an absolute one, which says it by itself.
func fromHere(path string) string {
	if filepath.IsAbs(path) {
		return ""
	}
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return "; a path without / in front begins at the working directory, here " + dir
}

// exposed warns of a file of passwords that others can read.
func exposed(file string) Problems {
	if file == "" || runtime.GOOS == "windows" {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o007 == 0 {
		return nil
	}
	return Problems{{File: file, Severity: Warning, Text: fmt.Sprintf("every user of this machine can read the hashes (mode %04o)", info.Mode().Perm()),
		Hint: "chmod o-rwx the file; these hashes are easily broken"}}
}

// allowed are the methods that a client may choose: NULL if neither list was given.
func (a *Auth) allowed() []string {
	if a.Allowed == nil && a.Required == nil {
		return []string{methodNull}
	}
	return a.Allowed
}

// uses reports whether a method is required or allowed.
func (a *Auth) uses(method string) bool {
	return slices.Contains(a.Required, method) || slices.Contains(a.allowed(), method)
}

// loadRules puts together the rules of c, from the configuration file or a file of their own.
func (a *Access) loadRules(c *Config) (problems Problems) {
	rules := &access.Rules{List: c.Auth.Rules, Deny: c.Auth.Policy == policyDeny}
	if a.RulesFile = c.Auth.RulesFile; a.RulesFile != "" {
		data, err := readAccessFile(a.RulesFile)
		if err != nil {
			return Problems{{File: c.origins["AccessRulesFile"].Where, Severity: Error, Text: fmt.Sprintf("access rules: %v", err),
				Hint: "name a file that the daemon can read"}}
		}
		rules.List, problems = parseRules(a.RulesFile, data)
	}
	if rules.Deny && len(rules.List) == 0 && problems.Errors() == 0 {
		problems = append(problems, Problem{File: c.origins["AccessControlPolicy"].Where, Severity: Warning,
			Text: "AccessControlPolicy is DENY and there are no rules, so every client is refused", Hint: "write AccessRules { allow ... }"})
	}
	for i := range rules.List {
		r := &rules.List[i]
		if len(r.UID) > 0 && !knowsUsers {
			problems = append(problems, Problem{File: r.Where, Severity: Warning, Text: "on this system nobody tells the user at the other end of a socket, so uid never fits"})
		}
		if len(r.Cert) > 0 && c.TLS.ClientCAFile == "" {
			problems = append(problems, Problem{File: r.Where, Severity: Warning, Text: "no client can show a certificate, so cert never fits",
				Hint: "name the authorities that sign certificates of clients with TLSClientCA"})
		}
		for _, m := range r.Method {
			if !c.Auth.uses(m) {
				problems = append(problems, Problem{File: r.Where, Severity: Warning, Text: fmt.Sprintf("no client can pass method %s, so it never fits", m),
					Hint: fmt.Sprintf("add %s to AllowedAuthMethods", m)})
			}
		}
	}
	if !rules.Empty() {
		a.Rules = rules
	}
	return problems
}

// knowsUsers says that the daemon learns the users at the other ends of Unix sockets.
const knowsUsers = runtime.GOOS == "linux"

// methodOrigin is where a method was asked for.
func (c *Config) methodOrigin(method string) string {
	if slices.Contains(c.Auth.Required, method) {
		return c.origins["RequiredAuthMethods"].Where
	}
	return c.origins["AllowedAuthMethods"].Where
}

// parseMethods reads names of authentication methods. One that is not known is an error: to ignore it would open the
// daemon to everybody, or to nobody. bad is called with each such word.
func parseMethods(words []string, bad func(word, hint string)) []string {
	out := []string{}
	for _, word := range words {
		switch {
		case strings.Contains(word, ",") && strings.Trim(word, ",") != "":
			bad(word, "separate methods with spaces: \""+strings.Join(strings.FieldsFunc(word, func(c rune) bool { return c == ',' }), " ")+"\"")
		case !slices.Contains(authMethods, word):
			bad(word, didYouMean(word, authMethods, "the methods are "+strings.Join(authMethods, ", ")))
		case !slices.Contains(out, word):
			out = append(out, word)
		}
	}
	return out
}

// methods reads a list of authentication methods in a file.
func (r *reader) methods(g given) []string {
	words := strings.Fields(g.str)
	const hint = "write NULL, IP or PWORD, or remove the directive"
	switch {
	case len(words) > 0:
	case g.key == "RequiredAuthMethods":
		r.report(Warning, g.pos, hint, "RequiredAuthMethods names no method, so none is required")
		return nil
	default:
		r.errorf(g.pos, hint, "%s names no method", g.key)
	}
	return parseMethods(words, func(word, hint string) {
		r.errorf(g.pos, hint, "unknown authentication method %s", shown(word))
	})
}

// authProblems checks the lists of methods against each other.
func (c *Config) authProblems() []keyedProblem {
	var out []keyedProblem
	add := func(hint, format string, args ...any) {
		out = append(out, keyedProblem{Problem{Severity: Error, Text: fmt.Sprintf(format, args...), Hint: hint}, []string{"RequiredAuthMethods", "AllowedAuthMethods"}})
	}
	a := &c.Auth
	switch {
	case len(a.Required) > 0 && a.Allowed == nil:
		add("add AllowedAuthMethods = "+a.Required[0], "RequiredAuthMethods without AllowedAuthMethods allows no method, so no client could connect")
	case len(a.Allowed) > 0 && slices.Contains(a.Required, methodPassword) && !slices.Contains(a.Allowed, methodPassword):
		add("add PWORD to AllowedAuthMethods", "method PWORD is required but not allowed: no client would know that it should send a password")
	}
	for _, f := range []struct{ method, path, key string }{{methodIP, a.NetworksFile, "AccessIPFile"}, {methodPassword, a.PasswordsFile, "AccessPasswordFile"}} {
		if f.path != "" && !a.uses(f.method) {
			out = append(out, keyedProblem{Problem{Severity: Warning, Text: fmt.Sprintf("%s is given, but method %s is neither required nor allowed", f.key, f.method),
				Hint: fmt.Sprintf("add %s to RequiredAuthMethods or AllowedAuthMethods, or remove %s", f.method, f.key)}, []string{f.key}})
		}
	}
	return out
}

// setMethods is the setter of a flag with a list of methods.
func setMethods(field func(*Config) *[]string) func(*Config, []string) error {
	return func(c *Config, list []string) error {
		var errs []error
		words := strings.Fields(strings.Join(list, " "))
		if len(words) == 0 {
			return errors.New("names no method; write NULL, IP or PWORD")
		}
		*field(c) = parseMethods(words, func(word, hint string) {
			errs = append(errs, fmt.Errorf("unknown authentication method %s; %s", shown(word), hint))
		})
		return errors.Join(errs...)
	}
}

// parseMode reads the permissions of a socket, octal digits such as 0660.
func parseMode(v string) (fs.FileMode, error) {
	var mode fs.FileMode
	digits := strings.TrimPrefix(v, "0o")
	if digits == "" || len(digits) > 4 || strings.Trim(digits, "01234567") != "" {
		return 0, fmt.Errorf("%q is no mode; write octal digits such as 0660", v)
	}
	for _, d := range digits {
		mode = mode<<3 | fs.FileMode(d-'0')
	}
	switch {
	case mode > 0o777:
		return 0, fmt.Errorf("mode %s is out of range; choose 0200 to 0777", v)
	case mode&0o222 == 0:
		return 0, fmt.Errorf("mode %s lets nobody connect: that needs the right to write", v)
	}
	return mode, nil
}

func (r *reader) setUnixMode(g given) {
	mode, err := parseMode(g.str)
	if err != nil {
		r.errorf(g.pos, "0666 lets everybody on this machine connect, 0660 the owner and the group", "UnixSocketMode: %v", err)
		return
	}
	r.cfg.Local.UnixMode = mode
}
