// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strconv"
	"strings"
)

// Policy is what a daemon does about a session that has more waiting than its budget and still reads, only too slowly.
// Under every policy a session ends that takes nothing for a while (ReasonStalled), or has more waiting than the
// hard bounds (ReasonSlowBytes, ReasonCrowded): a client that has stopped must not take the others with it.
type Policy uint8

const (
	// PolicyClose waits for the session as long as it makes progress, up to the hard bounds.
	PolicyClose Policy = iota
	// PolicyBlock makes everybody else wait for it: the daemon takes no input from its own clients, and the ring gives
	// nobody room for new messages, until it has caught up. For at most a time; then the session ends (ReasonWaited).
	PolicyBlock
	// PolicyDrop leaves out Unreliable messages for it, and counts them, until it has caught up. All others, views among
	// them, stay complete.
	PolicyDrop

	policyEnd
)

var policyNames = [...]string{PolicyClose: "close", PolicyBlock: "block", PolicyDrop: "drop"}

// String is the word of the configuration.
func (p Policy) String() string {
	if p < policyEnd {
		return policyNames[p]
	}
	return "Policy(" + strconv.Itoa(int(p)) + ")"
}

// Known reports whether p is one of the policies.
func (p Policy) Known() bool { return p < policyEnd }

// Policies are the words of all policies.
func Policies() []string { return policyNames[:] }

// ParsePolicy is the policy with a name, in any case.
func ParsePolicy(name string) (p Policy, ok bool) {
	for i, s := range policyNames {
		if strings.EqualFold(s, name) {
			return Policy(i), true
		}
	}
	return 0, false
}
