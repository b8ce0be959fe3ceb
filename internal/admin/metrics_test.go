// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// scrape is what /metrics says.
func scrape(t *testing.T, f *fake) string {
	t.Helper()
	w := httptest.NewRecorder()
	NewServer(Config{}, f).handler().ServeHTTP(w, fromSocket(httptest.NewRequest("GET", "/metrics", nil)))
	if w.Code != 200 {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	f := &fake{status: Status{
		Version: "v1", Ready: true, Daemons: 3, Windows: Windows{160, 40, 20, "as configured", 1472, "as configured"}, Order: Order{MyARU: 5, Highest: 7, Stable: 4},
		Packets: Packets{RetransmittedToAll: 9, Ignored: map[string]uint64{"duplicate": 2}}, Clients: Clients{Closed: map[string]uint64{"kill": 1}, RefusedRequests: map[string]uint64{"join": 3}},
	}}
	text := scrape(t, f)
	for _, want := range []string{
		`evensong_info{version="v1"} 1`, "evensong_ready 1", "evensong_draining 0", "evensong_configuration_members 3", `evensong_window_packets{window="personal"} 40`,
		"evensong_ring_behind_packets 2", "evensong_ring_unstable_packets 3", `evensong_packets_retransmitted_total{to="all"} 9`,
		`evensong_packets_ignored_total{reason="duplicate"} 2`, `evensong_sessions_closed_total{reason="kill"} 1`, `evensong_requests_refused_total{request="join"} 3`, "go_goroutines ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "evensong_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if strings.Contains(text, "\nevensong_tls_certificate_expiry_seconds") {
		t.Error("a daemon without a certificate tells when it ends")
	}
	f.status.TLS = &TLSState{}
	if strings.Contains(scrape(t, f), "\nevensong_tls_certificate_expiry_seconds") {
		t.Error("a daemon with certificates of a program tells when one ends")
	}
	f.status.TLS.Expires = time.Unix(1893553445, 0)
	if text := scrape(t, f); !strings.Contains(text, "\nevensong_tls_certificate_expiry_seconds 1.893553445e+09\n") {
		t.Errorf("the end of the certificate is not in\n%s", text)
	}
	f.err = context.DeadlineExceeded
	w := httptest.NewRecorder()
	NewServer(Config{}, f).handler().ServeHTTP(w, fromSocket(httptest.NewRequest("GET", "/metrics", nil)))
	if w.Code != 500 {
		t.Errorf("a daemon that does not answer: %d %s; want no old values", w.Code, w.Body)
	}
}

// TestMetricsPage: the page for operators has each metric with its type and meaning, and no other.
func TestMetricsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	known := map[string]bool{}
	for _, m := range metrics {
		known[m.name] = true
		if !strings.Contains(page, "\n"+row(&m)+"\n") {
			t.Errorf("docs/operations/metrics.md lacks the line\n%s", row(&m))
		}
	}
	for _, name := range regexp.MustCompile("`(evensong_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !known[name[1]] {
			t.Errorf("docs/operations/metrics.md has %s, which does not exist", name[1])
		}
	}
}

// row is the line of a metric in the page.
func row(m *metric) string {
	kind := "gauge"
	if m.kind == counter {
		kind = "counter"
	}
	unit := "-"
	for _, u := range []string{"seconds", "bytes", "packets"} {
		if strings.Contains(m.name, "_"+u) {
			unit = u
		}
	}
	label := "-"
	if m.label != "" {
		label = "`" + m.label + "`"
	}
	return "| `" + m.name + "` | " + kind + " | " + unit + " | " + label + " | " + m.help + " |"
}
