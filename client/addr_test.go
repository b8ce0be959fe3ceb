// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	tests := []struct {
		prefix, in, goos string
		want             endpoint
		wantErr          string // a part of the message; empty means no error
	}{
		{in: "", want: endpoint{"unix", "/tmp/4803"}},
		{in: "4803", want: endpoint{"unix", "/tmp/4803"}},
		{in: "4803  ", want: endpoint{"unix", "/tmp/4803"}},
		{in: "5000", want: endpoint{"unix", "/tmp/5000"}},
		{in: "", goos: "windows", want: endpoint{"tcp", "localhost:4803"}},
		{in: "5000", goos: "windows", want: endpoint{"tcp", "localhost:5000"}},
		{in: "4803@localhost", want: endpoint{"tcp", "localhost:4803"}},
		{in: "4803@10.0.0.7", want: endpoint{"tcp", "10.0.0.7:4803"}},
		{in: "4803@::1", want: endpoint{"tcp", "[::1]:4803"}},
		{in: "4803@[fe80::1%eth0]", want: endpoint{"tcp", "[fe80::1%eth0]:4803"}},
		{in: "host.example:4803", want: endpoint{"tcp", "host.example:4803"}},
		{in: "[::1]:4803", want: endpoint{"tcp", "[::1]:4803"}},
		{in: "unix:/run/evensong/client.sock", want: endpoint{"unix", "/run/evensong/client.sock"}},
		{in: "unix:", wantErr: "path of a socket"},
		{in: "/tmp/4803", wantErr: "unix:/tmp/4803"},
		{in: "fe80::1:4803", wantErr: "or the brackets around an IPv6 address: write it as in [::1]:4803, or as in 4803@::1"},
		{in: "host", wantErr: "write 4803@host"},
		{in: "@host", wantErr: `port ""`},
		{in: "host:", wantErr: "write 4803@host"},
		{in: "4803@", wantErr: "no host behind the @; for the daemon on this machine write 4803"},
		{in: ":4803", wantErr: "no host in front of the colon; for the daemon on this machine write 4803"},
		// What is to be written has the scheme that was there, and no Unix socket inside of TLS.
		{prefix: "evensongs://", in: "host", wantErr: "a port is missing; for a daemon on that host write evensongs://host:4803"},
		{prefix: "evensongs://", in: "host/", wantErr: "write evensongs://host:4803"},
		{prefix: "evensongs://", in: "host:", wantErr: "write evensongs://host:4803"},
		{prefix: "evensongs://", in: "[::1]", wantErr: "write evensongs://[::1]:4803"},
		{prefix: "evensong://", in: "host", wantErr: "write evensong://host:4803"},
		{prefix: "evensongs://", in: "::1", wantErr: "write it as in evensongs://[::1]:4803, or as in evensongs://4803@::1"},
		{prefix: "evensongs://", in: "5000@", wantErr: "write evensongs://localhost:5000"},
		{prefix: "evensong://", in: "5000@", wantErr: "write evensong://5000"},
		{prefix: "evensongs://", in: ":", wantErr: "write evensongs://localhost:4803"},
		{prefix: "evensong://", in: "/tmp/4803", wantErr: "write evensong://unix:/tmp/4803"},
		{prefix: "evensongs://", in: "/tmp/4803", wantErr: "write evensong://unix:/tmp/4803"},
		{prefix: "evensongs://", in: "unix:", wantErr: "for example evensong://unix:/tmp/4803"},
		{in: "0@host", wantErr: "1 to 65535"},
		{in: "70000", wantErr: "1 to 65535"},
		{in: "70000@host", wantErr: "1 to 65535"},
		{in: "host:http", wantErr: "1 to 65535"},
		{in: "::1", wantErr: "port is missing"},
		{in: "evensong://host:4803", wantErr: "unknown scheme"}, // Dial takes it off
		{in: "tcp://host:4803", wantErr: "unknown scheme"},
	}
	for _, tt := range tests {
		goos := tt.goos
		if goos == "" {
			goos = "linux"
		}
		got, err := parseAddress(tt.prefix, tt.in, goos)
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("parseAddress(%q, %q) = %v, %v; want an error with %q", tt.prefix, tt.in, got, err, tt.wantErr)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("parseAddress(%q, %q) = %v, %v; want %v", tt.prefix, tt.in, got, err, tt.want)
		}
	}
}
