// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"strings"
	"testing"
)

// TestReferenceIsComplete: the page that operators read names every directive, option and event type.
func TestReferenceIsComplete(t *testing.T) {
	data, err := os.ReadFile("../../docs/operations/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, k := range keywords {
		if !strings.Contains(page, "`"+k+"`") {
			t.Errorf("directive %s is not in the reference", k)
		}
	}
	for _, o := range options {
		if !strings.Contains(page, "`--"+o.Name+"`") {
			t.Errorf("flag --%s is not in the reference", o.Name)
		}
	}
	if !strings.Contains(strings.ReplaceAll(page, "\n", " "), strings.Join(eventTypes, " ")) {
		t.Error("the event types in the reference are not those of the parser")
	}
	// The example of the page is a configuration without problems.
	_, rest, _ := strings.Cut(page, "    # Two machines")
	example, _, _ := strings.Cut(rest, "\n\n")
	if c, err := Parse("example", []byte("# "+example)); err != nil || len(c.Daemons) != 3 || len(c.Warnings) != 0 {
		t.Errorf("example of the reference: %d daemons, %v, %v", len(c.Daemons), c.Warnings, err)
	}
}
