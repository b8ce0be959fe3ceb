// SPDX-License-Identifier: Apache-2.0

package config

import "testing"

func TestMisspeltVariables(t *testing.T) {
	for _, x := range []struct{ variable, meant string }{
		{"EVENSONG_CLUSTER_KEY_FILE=/key", ""},
		{"EVENSONG_CLUSTERKEYFILE=/key", "did you mean EVENSONG_CLUSTER_KEY_FILE?"},
		{"EVENSONG_CLUSTERKEYFILE=", ""}, // as if it were not set
		{"EVENSONG_TLS_REQUIRE=yes", "did you mean EVENSONG_TLS_REQUIRED?"},
		{"EVENSONG_CLIENT_BYTE=1", "did you mean EVENSONG_CLIENT_BYTES?"},
		{"EVENSONG_WINDOV=80", "did you mean EVENSONG_WINDOW?"},
		{"EVENSONG_LISTN=:4803", "did you mean EVENSONG_LISTEN?"},
		{"EVENSONG_UNIX_SOCKTE=none", "did you mean EVENSONG_UNIX_SOCKET?"},
		{"EVENSONG_PORT_4803_TCP=tcp://10.0.0.1:4803", ""},
		{"EVENSONG_SERVICE_PORT=4803", ""},
		{"EVENSONG_ENV_NAME=x", ""}, // as links between containers do
		{"EVENSONG_PASSWORD=x", ""},
		{"EVENSONG_ADMIN=a", ""},
		{"EVENSONG_PORT=tcp://10.0.0.1:4803", ""},
		{"EVENSONG_SERVICE_HOST=10.0.0.1", ""},
		{"EVENSONG_SERVER=4803", ""},
		{"EVENSONGNAME=a", ""},
		{"HOME=/root", ""},
	} {
		got := MisspeltVariables([]string{x.variable})
		switch {
		case x.meant == "" && len(got) > 0:
			t.Errorf("%s: %v", x.variable, got)
		case x.meant != "" && (len(got) != 1 || got[0].Hint != x.meant || got[0].Severity != Warning):
			t.Errorf("%s: %v, want %q", x.variable, got, x.meant)
		}
	}
}
