// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"strings"
	"testing"

	"evensong/internal/proto/order"
	"evensong/internal/proto/session"
)

// TestReasonsAreDocumented: what a status and the metrics call by a short word, the pages for operators explain.
func TestReasonsAreDocumented(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page := read("../../docs/operations/monitor.md")
	for r := session.Running + 1; !strings.HasPrefix(r.String(), "Reason("); r++ {
		if want := "| `" + r.String() + "` | " + r.Sentence() + " |\n"; !strings.Contains(page, want) {
			t.Errorf("docs/operations/monitor.md lacks %q", want)
		}
	}
	page = read("../../docs/operations/metrics.md")
	for d := order.Drop(1); !strings.HasPrefix(d.String(), "Drop("); d++ {
		if !strings.Contains(page, "| `"+d.String()+"` | ") {
			t.Errorf("docs/operations/metrics.md lacks the reason %q of ignored packets", d)
		}
	}
}
