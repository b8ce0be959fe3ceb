// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultAddress is the address that an empty one stands for: the Unix socket of a daemon with the usual port.
const DefaultAddress = "4803"

// socketFolder is where daemons put the Unix socket named after their port (client-protocol 1.2). Clients of the
// original have it built in, so it is part of the protocol and not a matter of configuration.
const socketFolder = "/tmp/"

// endpoint is a parsed daemon address, ready for a net.Dialer.
type endpoint struct {
	network string // "unix" or "tcp"
	address string
}

// parseAddress understands the names of client-protocol 1.3 and two conveniences. It is stricter than the C library in
// one point: a port above 65535 is an error instead of wrapping to some other port. prefix is the scheme that was in front
// of addr, or empty: what the errors say to write has it, too.
func parseAddress(prefix, addr, goos string) (endpoint, error) {
	s := strings.TrimRight(addr, " \t")
	if s == "" {
		s = DefaultAddress
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return endpoint{}, fmt.Errorf("unix: needs the path of a socket, for example %sunix:/tmp/4803", insecure(prefix))
		}
		return endpoint{"unix", path}, nil
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return endpoint{}, fmt.Errorf("unknown scheme %s://; use evensong:// or evensongs://, or port, port@host, host:port or unix:/path", scheme)
	}
	if port, host, ok := strings.Cut(s, "@"); ok {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if host == "" {
			return endpoint{}, fmt.Errorf("no host behind the @; for the daemon on this machine write %s", here(prefix, port))
		}
		n, err := parsePort(port)
		if err != nil {
			return endpoint{}, err
		}
		return endpoint{"tcp", net.JoinHostPort(host, n)}, nil
	}
	if n, err := parsePort(s); err == nil {
		if goos == "windows" {
			return endpoint{"tcp", net.JoinHostPort("localhost", n)}, nil
		}
		return endpoint{"unix", socketFolder + n}, nil
	} else if isDigits(s) {
		return endpoint{}, err
	}
	if strings.HasPrefix(s, "/") {
		return endpoint{}, fmt.Errorf("for a socket file write %sunix:%s", insecure(prefix), s)
	}
	host, port, err := net.SplitHostPort(s)
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return endpoint{}, fmt.Errorf("a port is missing, or the brackets around an IPv6 address: write it as in %s[::1]:%s, or as in %s%s@::1", prefix, DefaultAddress, prefix, DefaultAddress)
	}
	switch {
	case err == nil && host == "":
		return endpoint{}, fmt.Errorf("no host in front of the colon; for the daemon on this machine write %s", here(prefix, port))
	case (err != nil || port == "") && prefix != "":
		return endpoint{}, fmt.Errorf("a port is missing; for a daemon on that host write %s%s:%s", prefix, strings.TrimRight(s, ":/"), DefaultAddress)
	case err != nil || port == "":
		return endpoint{}, fmt.Errorf("a port is missing; for a daemon on that host write %s@%s", DefaultAddress, strings.TrimSuffix(s, ":"))
	}
	n, err := parsePort(port)
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{"tcp", net.JoinHostPort(host, n)}, nil
}

// here is the address of the daemon with this port on this machine. TLS is for TCP, so it is no Unix socket then.
func here(prefix, port string) string {
	if _, err := parsePort(port); err != nil {
		port = DefaultAddress
	}
	if prefix == secureScheme {
		port = "localhost:" + port
	}
	return prefix + port
}

// insecure is the scheme in the same dialect for what is no TCP.
func insecure(prefix string) string {
	if prefix == secureScheme {
		return scheme
	}
	return prefix
}

// parsePort returns the port in its shortest decimal form, so that "04803" finds the same socket file.
func parsePort(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return strconv.FormatUint(n, 10), nil
}

func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }
