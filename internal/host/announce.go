// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net/netip"
	"runtime/debug"
	"time"
)

// Announced are the addresses by which clients of other daemons may come here when theirs fails. A listener on all
// addresses is known by the daemon's own one, if there is one that others can use.
func Announced(listen []netip.AddrPort, self netip.Addr) (list []string) {
	for _, a := range listen {
		if a.Addr().IsUnspecified() {
			if !self.IsValid() || self.IsUnspecified() {
				continue
			}
			a = netip.AddrPortFrom(self, a.Port())
		}
		list = append(list, a.String())
	}
	return list
}

// program is what clients are told that they talk to.
func program() string { return "evensong " + version() }

// version is that of this build.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "development"
}

// unannounce tells the clients of other daemons that they must not come here any more.
func (c *core) unannounce() {
	if m, ok := c.m.(interface {
		SetListeners(now time.Duration, addrs []string, fx *Effects)
	}); ok {
		m.SetListeners(c.now, nil, &c.fx)
		c.perform()
	}
}
