// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// endpoint is an address or a host name, with a port where one was written.
type endpoint struct {
	addr netip.Addr // invalid if host is set
	host string
	port uint16 // zero: none written
}

// parseEndpoint reads 10.0.0.1, 10.0.0.1:4803, [fe80::1], [fe80::1]:4803, fe80::1, host and host:4803.
func parseEndpoint(s string) (endpoint, error) {
	var e endpoint
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return e, errors.New("the ] of the address is missing")
		}
		host, port = s[1:end], s[end+1:]
		if port != "" && port[0] != ':' {
			return e, errors.New("after ] only :port may stand")
		}
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return e, fmt.Errorf("%q in brackets is not an IPv6 address", host)
		}
	case strings.Count(s, ":") == 1:
		i := strings.IndexByte(s, ':')
		host, port = s[:i], s[i:]
	}
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 || port[1] == '+' {
			return e, fmt.Errorf("port %q is not a number from 1 to 65535", port[1:])
		}
		e.port = uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		e.addr = a.Unmap()
		return e, nil
	}
	if strings.Contains(host, ":") {
		return e, fmt.Errorf("%q is not an IPv6 address; with a port it stands in brackets", host)
	}
	if err := checkHostName(host); err != nil {
		return e, err
	}
	e.host = host
	return e, nil
}

// checkHostName refuses what no resolver could find, so that the mistake is reported where it was made.
func checkHostName(h string) error {
	switch {
	case h == "":
		return errors.New("the host name is empty")
	case len(h) > 253:
		return fmt.Errorf("the host name is too long (%d > 253 bytes)", len(h))
	case strings.Trim(h, "0123456789./") == "":
		return fmt.Errorf("%q is not an IPv4 address, which has four numbers from 0 to 255 without leading zeros", h)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(h, "."), ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is not a host name: its parts have 1 to 63 characters", h)
		}
		for _, c := range []byte(label) {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' {
				return fmt.Errorf("%q is not a host name: it may hold letters, digits, - and _", h)
			}
		}
	}
	return nil
}

// checkDaemonName says why s cannot be the name of a daemon. The bounds are those of names in the client protocol of the
// original (private groups are "#user#daemon", 31 characters with user names of 10).
func checkDaemonName(s string) error {
	if s == "" {
		return errors.New("the daemon name is empty")
	}
	if len(s) > MaxNameLength {
		return fmt.Errorf("daemon name too long (%d > %d bytes)", len(s), MaxNameLength)
	}
	for _, c := range s {
		if c < '$' || c > '~' {
			return fmt.Errorf("a daemon name holds characters from $ to ~ only, not %q", c)
		}
	}
	return nil
}

// loopbackBroadcast is the one broadcast address of the loopback network, which is one subnet.
var loopbackBroadcast = netip.AddrFrom4([4]byte{127, 255, 255, 255})

// broadcastShape reports whether a looks like the broadcast address of a subnet of 8 or more host bits.
func broadcastShape(a netip.Addr) bool { return a.Is4() && a.As4()[3] == 255 }

// network is the part of an address by which the original tells wide-area from local: /16. For IPv6 it is the site, /48.
// Loopback is one network.
func network(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 16
	}
	if a.IsLoopback() {
		bits = 1
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}
