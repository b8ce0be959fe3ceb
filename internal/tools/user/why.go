// SPDX-License-Identifier: Apache-2.0

package user

import (
	"fmt"
	"slices"
	"strings"

	"evensong/client"
	"evensong/internal/tools/amount"
)

// whyView says why there is a new view.
func whyView(v *client.View, me string, before *client.View) string {
	// A session in Evensong's own dialect learns more than that somebody has gone.
	detail := ""
	if s := v.Detail.String(); s != "" && v.Detail != client.DetailAsked {
		detail = " (" + s + ")"
	}
	switch v.Cause {
	case client.CausedByJoin:
		return whoIs(v.Joined, me) + " joined"
	case client.CausedByLeave:
		return whoIs(v.Left, me) + " left" + detail
	case client.CausedByDisconnect:
		return whoIs(v.Disconnected, me) + " disconnected" + detail
	case client.CausedByNetwork:
		return whyNetwork(v, me, before)
	}
	return v.Cause.String() // a cause that a later protocol may add
}

// whyNetwork says what a change between daemons did to a group, as far as a member can see it: which daemons are out of
// reach now, which are new, and whether those that stayed together are the smaller part of the view before. Without a
// view to compare with it says that there was such a change.
func whyNetwork(v *client.View, me string, before *client.View) string {
	if before == nil {
		if s := networkDetail(v.Detail); s != "" {
			return s
		}
		return "daemons were lost or met again"
	}
	gone, kept := split(before.Members, v.Members)
	fresh, _ := split(v.Members, before.Members)
	var parts []string
	if daemons := without(daemonsOf(gone), daemonsOf(v.Members)); len(daemons) > 0 {
		parts = append(parts, lostText(daemons, v.Detail))
	}
	if daemons := without(daemonsOf(fresh), daemonsOf(before.Members)); len(daemons) > 0 {
		parts = append(parts, daemonList(daemons, "is", "are")+" in reach now")
	}
	if len(parts) == 0 {
		parts = append(parts, "daemons changed their configuration")
	}
	if len(gone) > 0 && v.Rank(me) >= 0 {
		came := len(kept)
		if set := v.Came(me); len(set) > 0 {
			came = len(set)
		}
		switch total := len(before.Members); {
		case 2*came < total:
			parts = append(parts, fmt.Sprintf("you are in the minority, %d of the %s before", came, amount.Of(total, "member")))
		case 2*came == total:
			parts = append(parts, fmt.Sprintf("you are in one half of the %s before", amount.Of(total, "member")))
		}
	}
	return strings.Join(parts, "; ")
}

// networkDetail is a detail that tells apart what may have happened between daemons; empty for others.
func networkDetail(d client.Detail) string {
	switch d {
	case client.DetailGoodbye, client.DetailVanished, client.DetailLeftOut, client.DetailMet:
		return d.String()
	}
	return ""
}

// lostText says how daemons went, as well as the session's daemon knows.
func lostText(daemons []string, d client.Detail) string {
	switch d {
	case client.DetailGoodbye:
		return daemonList(daemons, "has", "have") + " said good-bye"
	case client.DetailVanished:
		return daemonList(daemons, "has", "have") + " vanished without a word (crashed, or cut off by the network)"
	case client.DetailLeftOut:
		return daemonList(daemons, "was", "were") + " left out (did not receive, or not all daemons hear each other)"
	}
	return daemonList(daemons, "was", "were") + " lost (crashed, stopped, or cut off by the network)"
}

// split divides members into those that are not in the other list and those that are.
func split(members, other []string) (missing, common []string) {
	for _, m := range members {
		if slices.Contains(other, m) {
			common = append(common, m)
		} else {
			missing = append(missing, m)
		}
	}
	return missing, common
}

// daemonsOf are the daemons of private groups ("#name#daemon"), each once, sorted.
func daemonsOf(members []string) []string {
	var daemons []string
	for _, m := range members {
		_, daemon, ok := strings.Cut(strings.TrimPrefix(m, "#"), "#")
		if ok {
			daemons = append(daemons, daemon)
		}
	}
	slices.Sort(daemons)
	return slices.Compact(daemons)
}

// without is a without what is in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// daemonList is "daemon c was" or "daemons b and c were", with the verb that fits the number.
func daemonList(daemons []string, one, several string) string {
	shown := make([]string, len(daemons))
	for i, d := range daemons {
		shown[i] = printable(d)
	}
	if n := len(shown); n > maxShownMembers {
		shown = append(shown[:maxShownMembers], fmt.Sprintf("%d more", n-maxShownMembers))
	}
	if len(shown) == 1 {
		return "daemon " + shown[0] + " " + one
	}
	return "daemons " + strings.Join(shown[:len(shown)-1], ", ") + " and " + shown[len(shown)-1] + " " + several
}
