// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"slices"
	"time"
)

// missingAfter is how long a configuration without all daemons has been in force, or a list of daemons known, before
// somebody counts as missing: daemons that are started together, or restarted, have come by then.
const missingAfter = 5 * time.Second

// missing are the daemons of my configuration, by name, that are not in the configuration installed.
func (m *Machine) missing() (names []string) {
	for _, name := range m.cfg.Daemons {
		if !slices.ContainsFunc(m.order, func(s int) bool { return m.confSet.has(s) && m.rows[s].id.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// noteMissing notes once for each configuration which daemons are missing, if they are others than those noted last, and
// that nobody is any more.
func (m *Machine) noteMissing(now time.Duration, fx *Effects) {
	if m.missedIn == m.ring || now-max(m.since, m.listedAt) < missingAfter {
		return
	}
	m.missedIn = m.ring
	names := m.missing()
	if slices.Equal(names, m.missed) {
		return
	}
	m.missed = names
	fx.Notes = append(fx.Notes, Note{Kind: NoteMissing, Missing: names})
}

// Peer is what is known of another daemon that speaks.
type Peer struct {
	Name    string
	KeptOut bool   // no configuration that counts lists it
	Facts   []byte // what it says about its configuration, if that is not what mine says; must not be changed
}

// Peers are the other daemons that have spoken lately, in ring order.
func (m *Machine) Peers(now time.Duration) []Peer {
	var out []Peer
	for _, s := range m.order {
		if r := m.rows[s]; s != 0 && r.usable() && now-r.spokeAt <= m.windowOf(r) {
			out = append(out, Peer{Name: r.id.Name, KeptOut: r.kept, Facts: r.toldFacts})
		}
	}
	return out
}
