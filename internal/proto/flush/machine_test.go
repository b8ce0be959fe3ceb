// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"fmt"
	"strings"
	"testing"
)

func machine(t testing.TB, cfg Config) *Machine {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// describe is one line for an event; ids by their last word.
func describe(e Event) string {
	switch e.Kind {
	case EventView:
		cause := e.View.Cause.String()
		if e.View.Changed != "" {
			cause += " of " + e.View.Changed
		}
		return fmt.Sprintf("view %s %d by %s: %s; came %s", e.Group, e.ID[2], cause, strings.Join(e.View.Members, " "), strings.Join(e.View.Came, " "))
	case EventMessage:
		return fmt.Sprintf("message %s type %d from %s to %s: %q", e.Group, e.Message.Type, e.Message.Sender, strings.Join(e.Message.Groups, " "), e.Message.Data)
	case EventSelfLeave:
		return fmt.Sprintf("self-leave %s, asked %v", e.Group, e.Asked)
	case EventStuck:
		return fmt.Sprintf("stuck %s: %s; silent %s", e.Group, strings.Join(e.Members, " "), strings.Join(e.Silent, " "))
	case EventGaveUp:
		return fmt.Sprintf("gave up %s: %v", e.Group, e.Reason)
	case EventSignal:
		if len(e.Members) > 0 {
			return fmt.Sprintf("signal %s, gone are %s", e.Group, strings.Join(e.Members, " "))
		}
	case EventRequest:
	}
	return e.Kind.String() + " " + e.Group
}
