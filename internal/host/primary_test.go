// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/node"
)

// Operators read which case it is, not which it could be.
func TestPrimaryReason(t *testing.T) {
	const no, yes = evs.PrimaryNo, evs.PrimaryYes
	all := func(more ...membership.Vote) membership.Ballot {
		return membership.Ballot{Voters: 3, Here: 2, Votes: append([]membership.Vote{{Name: "a", Rule: true, SameList: true, Vouches: true}}, more...)}
	}
	past := all()
	past.Past = []string{"a", "b", "c", "d"}
	for _, x := range []struct {
		told, conf evs.Primary
		ballot     membership.Ballot
		want       string
	}{
		{evs.PrimaryUnclaimed, evs.PrimaryUnclaimed, membership.Ballot{}, ""},
		{yes, yes, all(), "the majority of the configured daemons is here"},
		{no, yes, all(), "a change of the configuration is under way"},
		{no, no, membership.Ballot{Changed: true, Voters: 3, Here: 3}, "this daemon has read its configuration again, and what it says now counts from the next configuration on, which comes soon"},
		{no, no, membership.Ballot{Voters: 3, Here: 1}, "of 3 configured daemons 1 is here, and the majority is 2"},
		{no, no, membership.Ballot{Voters: 4, Here: 2}, "of 4 configured daemons 2 are here, and the majority is 3"},
		{no, no, past, "the list that this daemon had before a reload counts as well, and the majority of it is not here: a b c d"},
		{no, no, membership.Ballot{Votes: []membership.Vote{{Name: "b", Rule: true, Vouches: true}, {Name: "c"}, {Name: "d", Rule: true}}},
			"the file of this daemon has no PrimaryRule, and there is one in that of b and d"},
		{no, no, all(membership.Vote{Name: "b"}), "there is no PrimaryRule in the file of b"},
		{no, no, all(membership.Vote{Name: "b", Rule: true}), "another list of daemons, whose majority is not here, is that of b"},
		{no, no, all(membership.Vote{Name: "b", Rule: true, SameList: true}, membership.Vote{Name: "c", Rule: true, SameList: true}, membership.Vote{Name: "d", Rule: true, SameList: true}),
			"an older list of daemons, whose majority is not here, counts as well for b, c and d"},
	} {
		st := node.Status{Conf: &evs.Configuration{Primary: x.conf}, Primary: x.told, Ballot: x.ballot}
		if got := primaryReason(&st); got != x.want {
			t.Errorf("%+v:\n got  %q\n want %q", x.ballot, got, x.want)
		}
	}
	if got := primaryReason(&node.Status{Primary: no}); got != "a change of the configuration is under way" {
		t.Errorf("no configuration: %q", got)
	}
}
