// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// Admin says where operators reach a daemon. It concerns this daemon only, except Peers.
type Admin struct {
	// Socket is the path of the Unix socket for operators. Empty: NAME-PORT.admin in the runtime directory; NoSocket: none.
	Socket string
	// Listen are HOST:PORT pairs for operators over TCP. Empty: none. They need TokenFile.
	Listen []string
	// TokenFile has the tokens that operators show over TCP.
	TokenFile string
	// CertFile and KeyFile are a certificate and its key in PEM: TCP is TLS then.
	CertFile, KeyFile string
	// Peers are the admin addresses of other daemons by name, HOST:PORT: what this daemon tells operators who ask for all.
	Peers map[string]string
}

// NoSocket stands for no socket where a path is expected.
const NoSocket = "none"

// adminOptions are the flags of the admin plane.
var adminOptions = []Option{
	{Name: "admin-socket", Usage: "`PATH` of the socket for operators on this host; none for no socket", Default: "NAME-PORT.admin in the runtime directory",
		set: one(setAdminSocket)},
	{Name: "admin-listen", List: true, Usage: "`HOST:PORT` for operators over TCP; needs --admin-token-file", Default: "none",
		set: setAdminListen},
	{Name: "admin-token-file", Usage: "`FILE` with the tokens of operators who come over TCP, readable by its owner only", Default: "none",
		set: one(func(c *Config, v string) error { c.Admin.TokenFile = v; return checkPath(v) })},
	{Name: "admin-cert", Usage: "`FILE` with the certificate for operators over TCP (PEM), which is TLS then", Default: "none: plain TCP",
		set: one(func(c *Config, v string) error { c.Admin.CertFile = v; return checkPath(v) })},
	{Name: "admin-key", Usage: "`FILE` with the key of that certificate", Default: "none",
		set: one(func(c *Config, v string) error { c.Admin.KeyFile = v; return checkPath(v) })},
	{Name: "admin-peer", List: true, Usage: "where operators reach another daemon, `NAME=HOST:PORT`", Default: "none",
		set: setAdminPeers},
}

func setAdminSocket(c *Config, v string) error {
	c.Admin.Socket = v
	if v == NoSocket {
		return nil
	}
	if len(v) > maxUnixPath {
		return fmt.Errorf("socket path %q is too long (%d > %d bytes)", v, len(v), maxUnixPath)
	}
	if strings.HasSuffix(v, "/") {
		return fmt.Errorf("%q is a directory, not the path of a socket", v)
	}
	return checkPath(v)
}

func setAdminListen(c *Config, list []string) error {
	for _, s := range list {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("%q is not HOST:PORT", s)
		}
	}
	c.Admin.Listen = slices.Clone(list)
	return nil
}

func setAdminPeers(c *Config, list []string) error {
	c.Admin.Peers = map[string]string{}
	for _, s := range list {
		name, addr, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=HOST:PORT", s)
		}
		if err := checkDaemonName(name); err != nil {
			return err
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%q is not HOST:PORT", addr)
		}
		c.Admin.Peers[name] = addr
	}
	return nil
}

// adminProblems are relations between the values of the admin plane.
func (c *Config) adminProblems() []Problem {
	var out []Problem
	if len(c.Admin.Listen) > 0 && c.Admin.TokenFile == "" {
		out = append(out, Problem{File: c.lastOrigin([]string{"admin-listen"}), Severity: Error, Text: "operators over TCP need a token: there is no control without proof of who asks", Hint: "write one with \"openssl rand -hex 32\" to a file of mode 600, and give it with --admin-token-file"})
	}
	if (c.Admin.CertFile == "") != (c.Admin.KeyFile == "") {
		out = append(out, Problem{File: c.lastOrigin([]string{"admin-cert", "admin-key"}), Severity: Error, Text: "a certificate needs its key, and a key its certificate", Hint: "give both --admin-cert and --admin-key"})
	}
	return out
}
