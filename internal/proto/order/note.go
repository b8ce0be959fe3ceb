// SPDX-License-Identifier: Apache-2.0

package order

import (
	"strings"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
)

// FactsKey is the attribute of the note about a peer whose configuration differs: the peer's facts, for the shell to
// compare with its own.
const FactsKey = "facts"

// note turns a note of the membership into one for operators: what, why, who.
func (m *Machine) note(n *membership.Note, fx *Effects) {
	out := evs.Note{Level: evs.Info}
	add := func(key string, value any) { out.Attrs = append(out.Attrs, evs.Attr{Key: key, Value: value}) }
	peer := func() {
		if !n.Peer.IsZero() {
			add("peer", n.Peer.String())
		}
	}
	switch n.Kind {
	case membership.NoteState:
		out.Text, out.Level = "membership changes state", evs.Debug
		add("from", n.From.String())
		add("to", n.To.String())
		add("reason", n.Reason.String())
		peer()
	case membership.NoteInstalled:
		out.Text = "configuration installed"
		add("ring", n.Ring.String())
		add("members", names(n.Members))
		if len(n.Gone) > 0 {
			add("gone", names(n.Gone))
		}
		add("reason", membership.CausesText(n.Causes))
	case membership.NoteDrop:
		out.Text, out.Level = "membership packet ignored", evs.Debug
		add("reason", n.Reason.String())
		peer()
	case membership.NoteSuspect:
		out.Text, out.Level = "a daemon is not counted on for a while", evs.Warn
		add("reason", n.Reason.String())
		peer()
	case membership.NoteTimeoutDiffers:
		out.Text, out.Level = "a daemon runs with another token timeout; set the same everywhere", evs.Warn
		peer()
	case membership.NoteVariantDiffers:
		out.Text, out.Level = "a daemon prefers the other ring variant; the representative of each ring decides", evs.Warn
		peer()
	case membership.NoteFactsDiffer:
		out.Text, out.Level = "a daemon has another configuration; compare the files (evensong config check, config diff), and reload the daemon that has an old one", evs.Warn
		peer()
		add(FactsKey, n.Facts)
	case membership.NoteFactsAgree:
		out.Text = "a daemon has the same configuration again"
		peer()
	case membership.NoteStillListed:
		out.Text, out.Level = "a daemon takes part that this configuration does not list, because another daemon's does; reload that one, or list it here", evs.Warn
		peer()
	case membership.NoteKeptOut:
		out.Text, out.Level = "a daemon is kept out because no configuration here lists it; stop it, or list it and reload", evs.Warn
		peer()
	case membership.NoteNotListed:
		out.Text, out.Level = "a daemon's configuration does not list this daemon; stop this one, or list it there and reload", evs.Warn
		peer()
	case membership.NoteSameName:
		out.Text, out.Level = "another daemon uses this daemon's name; the two are never in one configuration. Give one of them another name", evs.Error
		peer()
	case membership.NoteMissing:
		if len(n.Missing) == 0 {
			out.Text = "all daemons of the configuration are here"
			break
		}
		out.Text, out.Level = "daemons of the configuration are missing; start them, or see in their logs and with evensong config check why they do not come", evs.Warn
		add("missing", strings.Join(n.Missing, " "))
	case membership.NoteStoreFailed:
		out.Text, out.Level = "the ring number could not be stored; this daemon refuses new configurations until it can", evs.Error
		add("ring", n.Ring.String())
		if n.Err != nil {
			add("reason", n.Err.Error())
		}
	}
	fx.Notes = append(fx.Notes, out)
}

// names lists daemons for people.
func names(ps []evs.ProcID) string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(p.Name)
	}
	return b.String()
}
