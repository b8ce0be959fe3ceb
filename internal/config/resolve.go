// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Resolver finds the addresses of a host name. *net.Resolver is one; tests pass a table.
type Resolver interface {
	// LookupNetIP is called with network "ip".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Resolve returns c with an address in place of every host name, and makes the decisions and checks that need addresses.
// Of several addresses the first IPv4 one is taken, else the first IPv6 one, so that daemons which ask different
// resolvers agree; a host with both must be given by address to be reached by IPv6. Peers by name (Config.ByName) get all
// addresses of theirs.
//
// The error is Problems with every name that was not found, or that of ctx. Names are looked up one after the other. Without a
// file a name that is not found is a warning, also if ctx was over by then: it may be there later.
func Resolve(ctx context.Context, c Config, resolver Resolver) (Config, error) {
	c.Daemons = slices.Clone(c.Daemons)
	c.Segments = slices.Clone(c.Segments)
	origins := make(map[string]Origin, len(c.origins))
	for k, v := range c.origins {
		origins[k] = v
	}
	c.origins = origins

	var problems Problems
	known := make(map[string]netip.Addr)
	problem := func(daemon int, host string, err error) {
		p := Problem{Severity: Error, Text: fmt.Sprintf("host %q of daemon %q: %v", host, c.label(daemon), err),
			Hint: "write the address instead, or add the name to DNS or /etc/hosts of every host"}
		switch {
		case c.ByName(daemon):
			p.Severity, p.Hint = Warning, "the daemon starts without it, and looks it up again while it runs"
		case !c.Ranked:
			p.Severity, p.Hint = Warning, "the daemon does not know its own address, and uses all of IPv4; --bind names one"
		}
		if pos := c.daemonPlace(daemon); pos.Line > 0 {
			p.File, p.Line, p.Col = c.where.file, pos.Line, pos.Column
		}
		problems = append(problems, p)
	}
	lookup := func(daemon int, host string) netip.Addr {
		if a, ok := known[host]; ok {
			return a
		}
		addrs, err := resolver.LookupNetIP(ctx, "ip", host)
		a := preferred(addrs)
		if err == nil && !a.IsValid() {
			err = errNoAddress
		}
		if err != nil {
			problem(daemon, host, err)
		}
		known[host] = a
		return a
	}
	for i := range c.Daemons {
		d := &c.Daemons[i]
		if c.ByName(i) {
			addrs, err := resolver.LookupNetIP(ctx, "ip", d.Host)
			d.Addrs = Usable(addrs)
			if err == nil && len(d.Addrs) == 0 {
				err = errNoAddress
			}
			if err != nil {
				problem(i, d.Host, err)
			}
			if err := ctx.Err(); errors.Is(err, context.Canceled) {
				return c, fmt.Errorf("look up host names: %w", err)
			}
			continue
		}
		if !d.Addr.Addr().IsValid() && d.Host != "" {
			d.Addr = netip.AddrPortFrom(lookup(i, d.Host), d.Addr.Port())
		}
		d.Interfaces = slices.Clone(d.Interfaces)
		for j := range d.Interfaces {
			if in := &d.Interfaces[j]; !in.Addr.IsValid() && in.Host != "" {
				in.Addr = lookup(i, in.Host)
			}
		}
		if err := ctx.Err(); err != nil && (c.Ranked || errors.Is(err, context.Canceled)) {
			return c, fmt.Errorf("look up host names: %w", err)
		}
	}
	for i, s := range c.Segments {
		c.Segments[i].Kind = segmentKind(c.Daemons, s)
	}
	// What Parse has already said about addresses is said again with more of them known; keep one of each.
	for _, p := range append(slices.Clone(c.Warnings), c.addressProblems()...) {
		if !slices.Contains(problems, p) {
			problems = append(problems, p)
		}
	}
	c.decide()
	var err error
	c.Warnings, err = problems.split()
	return c, err
}

var errNoAddress = errors.New("no usable address")

// Usable are the addresses of a host that a daemon can have, in the order of addrs.
func Usable(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func preferred(addrs []netip.Addr) netip.Addr {
	if list := PreferIPv4(Usable(addrs)); len(list) > 0 {
		return list[0]
	}
	return netip.Addr{}
}

// PreferIPv4 are those of addrs that are IPv4, if there are any, else all: the addresses of a host with both kinds mean one
// daemon twice.
func PreferIPv4(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() {
			out = append(out, a)
		}
	}
	if out == nil {
		return addrs
	}
	return out
}

// Host is what Identify wants to know about the machine it runs on.
type Host struct {
	Name  string       // as the system reports it, short or with its domain
	Addrs []netip.Addr // of its interfaces, loopback included
}

// ThisHost is what Identify wants to know about the machine that runs it: its host name and interface addresses.
func ThisHost() (Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return Host{}, err
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return Host{}, err
	}
	h := Host{Name: name}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.Addrs = append(h.Addrs, p.Addr().Unmap())
		}
	}
	return h, nil
}

// Identity is the answer of Identify.
type Identity struct {
	Index int    // into Config.Daemons
	By    string // how it was found, for the log: `name "a"`, `host name "a.example.com"`, `address 10.0.0.1`
	// Others are further daemons that this machine could have been by the same kind of evidence. The first one in the
	// order of the file wins; a machine with several daemons should name each.
	Others []string
}

// Identify says which daemon of a resolved configuration this process is: the one called name; or if name is empty, the
// first whose name or host is the host name; or the first with an address of this machine. host is called only if name
// is empty.
func Identify(c *Config, name string, host func() (Host, error)) (Identity, error) {
	if name != "" {
		if i := c.Index(name); i >= 0 {
			return Identity{Index: i, By: fmt.Sprintf("name %q", name)}, nil
		}
		names := c.Names()
		return Identity{Index: -1}, identityProblem(c, fmt.Sprintf("there is no daemon %q", name),
			didYouMean(name, names, "the daemons are "+strings.Join(names, ", ")))
	}
	here, err := host()
	if err != nil {
		return Identity{Index: -1}, fmt.Errorf("find out which daemon this is: %w", err)
	}
	tests := []func(Daemon) string{
		func(d Daemon) string {
			if sameHost(here.Name, d.Name) || d.Host != "" && sameHost(here.Name, d.Host) {
				return fmt.Sprintf("host name %q", here.Name)
			}
			return ""
		},
		func(d Daemon) string {
			return matchAddress(d, func(a netip.Addr) bool {
				return slices.ContainsFunc(here.Addrs, func(b netip.Addr) bool { return b.Unmap() == a || a.Zone() == "" && b.WithZone("") == a })
			})
		},
		// Systems list only 127.0.0.1 although all of 127/8 is local.
		func(d Daemon) string { return matchAddress(d, func(a netip.Addr) bool { return a.IsLoopback() }) },
	}
	for n, test := range tests {
		id := Identity{Index: -1}
		for i, d := range c.Daemons {
			if by := test(d); by != "" {
				id.Index, id.By = i, by
				break
			}
		}
		if id.Index < 0 {
			continue
		}
		for i, d := range c.Daemons {
			// An address of this machine is as good as another one, also where only the first is listed.
			if i != id.Index && (test(d) != "" || n > 0 && slices.ContainsFunc(tests[1:], func(t func(Daemon) string) bool { return t(d) != "" })) {
				id.Others = append(id.Others, c.label(i))
			}
		}
		return id, nil
	}
	var addrs []string
	for _, a := range here.Addrs {
		addrs = append(addrs, a.String())
	}
	return Identity{Index: -1}, identityProblem(c,
		fmt.Sprintf("this machine is none of the daemons: it is called %q and has the addresses %s", here.Name, strings.Join(addrs, ", ")),
		"say which one with -n: "+strings.Join(c.Names(), ", "))
}

func identityProblem(c *Config, text, hint string) Problems {
	return Problems{{File: c.Source, Severity: Error, Text: text, Hint: hint}}
}

func matchAddress(d Daemon, match func(netip.Addr) bool) string {
	if a := d.Addr.Addr(); a.IsValid() && match(a) {
		return "address " + a.String()
	}
	for _, in := range d.Interfaces {
		if in.Addr.IsValid() && !in.Addr.IsUnspecified() && match(in.Addr) {
			return "interface address " + in.Addr.String()
		}
	}
	return ""
}

// sameHost compares host names without regard to case; where one has no domain, the other's is ignored.
func sameHost(a, b string) bool {
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	if a == "" || b == "" {
		return false
	}
	shortA, domainA, _ := strings.Cut(a, ".")
	shortB, domainB, _ := strings.Cut(b, ".")
	return strings.EqualFold(shortA, shortB) && (domainA == "" || domainB == "" || strings.EqualFold(domainA, domainB))
}
