// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"strings"
	"testing"
	"time"

	"evensong/internal/admin"
)

// TestStatusTLS: a row says what clients find and until when, where there is a certificate; the table of several daemons warns only.
func TestStatusTLS(t *testing.T) {
	end := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	state := func(required bool, clients string) *admin.TLSState {
		return &admin.TLSState{Required: required, ClientCertificates: clients, Certificate: "db1, 10.0.0.1", Expires: end}
	}
	const counts, until = "; connections 3, handshakes 9, failed 2", "; certificate for db1, 10.0.0.1 until 2030-05-06 07:08 UTC"
	for _, x := range []struct {
		tls    *admin.TLSState
		left   time.Duration
		row    string
		remark string
	}{
		{nil, 0, "", ""},
		{state(false, "none"), 15 * 24 * time.Hour, "on for clients over TCP, who show no certificates" + counts + until, ""},
		{state(true, "required"), 15 * 24 * time.Hour, "required of clients over TCP, their certificates required" + counts + until, ""},
		{state(false, "optional"), 13*24*time.Hour + time.Hour, "on for clients over TCP, their certificates optional" + counts + until + "; it ends in 13 days: renew it, then reload",
			"TLS certificate ends in 13 days: renew it, then reload"},
		{state(false, "none"), 90 * time.Minute, "on for clients over TCP, who show no certificates" + counts + until + "; it ends in 1h30m0s: renew it, then reload",
			"TLS certificate ends in 1h30m0s: renew it, then reload"},
		{state(false, "none"), -time.Second, "on for clients over TCP, who show no certificates" + counts + until + "; it has ended, and clients refuse it: renew it, then reload",
			"TLS certificate has ended, and clients refuse it: renew it, then reload"},
		{&admin.TLSState{ClientCertificates: "none"}, 0, "on for clients over TCP, who show no certificates" + counts, ""},
	} {
		s := &admin.Status{TLS: x.tls, Clients: admin.Clients{TLSConnections: 3, TLSHandshakes: 9, TLSFailures: 2}}
		now := end.Add(-x.left)
		var b strings.Builder
		if err := writeStatus(&b, &Report{Status: s, when: now}); err != nil {
			t.Fatal(err)
		}
		got := ""
		for line := range strings.Lines(b.String()) {
			if f := strings.Fields(line); len(f) > 0 && f[0] == "TLS" {
				got = strings.Join(f[1:], " ")
			}
		}
		if got != x.row {
			t.Errorf("%+v, %v left:\n got  %q\n want %q", x.tls, x.left, got, x.row)
		}
		if got := remark(s, now); got != x.remark {
			t.Errorf("%+v, %v left: remark %q, want %q", x.tls, x.left, got, x.remark)
		}
	}
}
