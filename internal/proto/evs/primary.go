// SPDX-License-Identifier: Apache-2.0

package evs

import "fmt"

// Primary says whether a configuration is primary (guarantees PC-7): whether it has the majority of the configured daemons, so
// that no other can have it. The numbers are those of docs/wire/own-dialect.md and never change their meaning.
type Primary uint8

const (
	// PrimaryUnclaimed: nothing is claimed, because no rule is configured.
	PrimaryUnclaimed Primary = iota
	// PrimaryNo: a rule is configured, and this is not primary. Transitional configurations never are.
	PrimaryNo
	// PrimaryYes: all members say that the majority which their files ask for is here.
	PrimaryYes
)

// String is "unclaimed", "no" or "yes".
func (p Primary) String() string {
	switch p {
	case PrimaryUnclaimed:
		return "unclaimed"
	case PrimaryNo:
		return "no"
	case PrimaryYes:
		return "yes"
	}
	return fmt.Sprintf("Primary(%d)", uint8(p))
}

// Outside is what p means for what is delivered outside of regular configurations: a claim is taken back there.
func (p Primary) Outside() Primary {
	if p == PrimaryUnclaimed {
		return PrimaryUnclaimed
	}
	return PrimaryNo
}
