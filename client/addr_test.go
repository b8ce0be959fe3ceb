// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	tests := []struct {
		in, goos string
		want     endpoint
		wantErr  string // a part of the message; empty means no error
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
		{in: "4803@", wantErr: "no host"},
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
		got, err := parseAddress(tt.in, goos)
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("parseAddress(%q) = %v, %v; want an error with %q", tt.in, got, err, tt.wantErr)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("parseAddress(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}
