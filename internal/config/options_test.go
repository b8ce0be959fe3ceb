// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func env(table map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) {
		v, ok := table[k]
		return v, ok
	}
}

func hostAlpha() (string, error) { return "alpha.example.com", nil }

// flags parses a command line.
func flags(t *testing.T, args ...string) *Values {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	v := BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPrecedence(t *testing.T) {
	const with = "Spread_Segment unicast { a 10.0.0.1 }\nTokenTimeout = 2000\n"
	const without = "Spread_Segment unicast { a 10.0.0.1 }\n"
	variable := map[string]string{"EVENSONG_TOKEN_TIMEOUT": "300ms"}
	for _, row := range []struct {
		name   string
		file   string
		env    map[string]string
		args   []string
		want   time.Duration
		origin string
		notes  int
	}{
		{"default", without, nil, nil, 0, "default", 0},
		{"file", with, nil, nil, 2 * time.Second, "test.conf:2", 1},
		{"environment over file", with, variable, nil, 300 * time.Millisecond, "EVENSONG_TOKEN_TIMEOUT", 0},
		{"flag over environment", with, variable, []string{"--token-timeout=200ms"}, 200 * time.Millisecond, "--token-timeout", 0},
		{"an empty variable is none", with, map[string]string{"EVENSONG_TOKEN_TIMEOUT": ""}, nil, 2 * time.Second, "test.conf:2", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := mustParse(t, row.file)
			c, err := Assemble(&file, flags(t, row.args...), env(row.env), hostAlpha)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Origin("token-timeout"); c.Timers.TokenTimeout != row.want || got.String() != row.origin || len(c.Warnings) != row.notes {
				t.Errorf("got %v from %v, warnings %v", c.Timers.TokenTimeout, got, c.Warnings)
			}
			if !c.Ranked || len(c.Daemons) != 1 {
				t.Errorf("daemons of the file are gone: %v", c.Daemons)
			}
			if file.origins["TokenTimeout"].Kind > FromFile {
				t.Error("Assemble changed its argument")
			}
		})
	}
}

func TestWithoutFile(t *testing.T) {
	for _, row := range []struct {
		name    string
		args    string
		env     map[string]string
		daemons string
	}{
		{"alone", "", nil, "alpha=127.0.0.1:4803"},
		{"named", "--name me --peer b=10.0.0.2 --peer c=host.c:4900,10.0.0.4", nil, "me=- b=10.0.0.2:4803 c=host.c:4900 =10.0.0.4:4803"},
		{"one list for all, by name", "--peer alpha=10.0.0.1,b=10.0.0.2", nil, "alpha=10.0.0.1:4803 b=10.0.0.2:4803"},
		{"one list for all, by address", "--bind 10.0.0.1 --peer 10.0.0.1,10.0.0.2", nil, "alpha=10.0.0.1:4803 =10.0.0.2:4803"},
		{"bound to everything", "--bind [::]:4900 --peer b=10.0.0.2:4900", nil, "alpha=- b=10.0.0.2:4900"},
		{"by environment", "", map[string]string{"EVENSONG_PEER": "b=[fd00::2]:1, c=10.0.0.3", "EVENSONG_NAME": "x"}, "x=- b=[fd00::2]:1 c=10.0.0.3:4803"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := Assemble(nil, flags(t, strings.Fields(row.args)...), env(row.env), hostAlpha)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range NewReport(&c, nil).Daemons {
				got = append(got, d.Name+"="+orDash(d.Address))
			}
			if s := strings.Join(got, " "); s != row.daemons {
				t.Errorf("got  %s\nwant %s", s, row.daemons)
			}
			if c.Ranked || len(c.Segments) != len(c.Daemons) || c.Rank(1) != 0 {
				t.Errorf("ranked %v, %d segments", c.Ranked, len(c.Segments))
			}
			if id, err := Identify(&c, c.Local.Name, nil); err != nil || id.Index != 0 {
				t.Errorf("identify: %v, %v", id, err)
			}
		})
	}
	file := mustParse(t, "Spread_Segment unicast { a 10.0.0.1\n b 10.0.0.2 }")
	c, err := Assemble(&file, flags(t, "--peer=x=10.0.0.9"), env(nil), hostAlpha)
	if err != nil || c.Ranked || strings.Join(c.Names(), " ") != "alpha x" {
		t.Errorf("peers must replace the daemons of a file: %q, %v", c.Names(), err)
	}
}

// A majority wants names to count, wherever the rule and the peers come from.
func TestPrimaryRuleWantsNames(t *testing.T) {
	for _, x := range []struct {
		args string
		want string // of the daemons that count; empty: refused
	}{
		{"--name=a --primary-rule=majority --peer=b=10.0.0.2 --peer=c=10.0.0.3", "a b c"},
		{"--name=a --primary-rule=MAJORITY --peer=b=10.0.0.2 --peer=10.0.0.3", ""},
		{"--name=a --primary-rule=none --peer=10.0.0.3", "none"},
		{"--name=a --primary-rule=majority", "a"},
	} {
		c, err := Assemble(nil, flags(t, strings.Fields(x.args)...), env(nil), hostAlpha)
		got := strings.Join(c.Voters(), " ")
		if c.Voters() == nil {
			got = "none"
		}
		switch {
		case x.want == "":
			if err == nil || !strings.Contains(err.Error(), "--peer: error: PrimaryRule = majority wants the names of all daemons") && !strings.Contains(err.Error(), "--primary-rule: error: PrimaryRule") {
				t.Errorf("%s: %v", x.args, err)
			}
		case err != nil || got != x.want:
			t.Errorf("%s: %s, %v; want %s", x.args, got, err, x.want)
		}
	}
}

// Two daemons with a majority have less than one has: a notice says so, wherever the two come from, and of no other number.
func TestMajorityOfTwo(t *testing.T) {
	const want = "of two daemons both are needed for a majority"
	for _, x := range []struct {
		file, args string
		told       bool
	}{
		{"Spread_Segment unicast { alpha 10.0.0.1\n b 10.0.0.2 }\nPrimaryRule = majority", "", true},
		{"Spread_Segment unicast { alpha 10.0.0.1\n b 10.0.0.2 }", "--primary-rule=majority", true},
		{"", "--name=a --primary-rule=majority --peer=b=10.0.0.2", true},
		{"", "--name=a --primary-rule=majority --peer=b=10.0.0.2,c=10.0.0.3", false},
		{"", "--name=a --primary-rule=majority", false},
		{"Spread_Segment unicast { alpha 10.0.0.1\n b 10.0.0.2 }", "", false},
	} {
		var file *Config
		if x.file != "" {
			c := mustParse(t, x.file)
			file = &c
		}
		c, err := Assemble(file, flags(t, strings.Fields(x.args)...), env(nil), hostAlpha)
		n := 0
		for _, p := range c.Warnings {
			if strings.Contains(p.Text, want) && p.Severity == Notice {
				n++
			}
		}
		if err != nil || n > 1 || (n == 1) != x.told {
			t.Errorf("%q %s: %v, told %d times", x.file, x.args, err, n)
		}
	}
}

func TestOptionMistakes(t *testing.T) {
	bad := map[string]string{
		"name": "this-name-is-too-long-for-it", "cluster": strings.Repeat("x", 64), "peer": "b=10.0.0.2,b=10.0.0.3,c=10.0.0.999,=1",
		"bind": "somehost", "listen": "4803", "unix-socket": "/tmp/", "unix-mode": "0444", "unix-group": "", "required-auth": "ip", "allowed-auth": "NULL,PAM",
		"access-ip": "", "access-pword": "a\x00b", "access-policy": "ALLOW", "access-rules": "", "datagram-path": "fast", "packet-bytes": "9001B",
		"state-dir":        strings.Repeat("x", 5000),
		"cluster-key-file": "",
		"runtime-dir":      "a\x00b", "user": "a b", "group": "", "token-timeout": "5", "timer-profile": "far", "lookup-timeout": "2h", "window": "0", "personal-window": "99999999999999999999",
		"accelerated-window": "some", "accelerated-ring": "maybe", "primary-rule": "half", "max-clients": "-1", "client-bytes": "9XB",
		"client-hard-bytes": "1", "all-client-bytes": "lots", "slow-client": "wait", "slow-client-stall": "5", "slow-client-wait": "0s", "max-message": "65MiB",
		"max-session-messages": "1e3", "log-file": "\x00", "log-level": "loud", "dangerous-monitor": "2",
		"tls-certificate": "", "tls-key": "a\x00", "tls-client-ca": "", "tls-client-auth": "maybe", "tls-required": "2",
		"admin-socket": "/run/", "admin-listen": "9000", "admin-token-file": "", "admin-cert": "a\x00", "admin-key": "", "admin-peer": "b",
	}
	var args []string
	for name, value := range bad {
		args = append(args, "--"+name+"="+value)
	}
	_, err := Assemble(nil, flags(t, args...), env(nil), hostAlpha)
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != len(options) || len(bad) != len(options) {
		t.Fatalf("%d problems for %d options:\n%v", len(problems), len(options), err)
	}
	for i, p := range problems {
		if p.File != "--"+options[i].Name || p.Line != 0 {
			t.Errorf("problem %d is of %s, want %s: %v", i, p.File, options[i].Name, p)
		}
	}
	for _, row := range []struct{ args, want string }{
		{"--window 5 --personal-window 6", "--personal-window: error: PersonalWindow (6) is greater than Window (5)"},
		{"--client-bytes 2MiB --client-hard-bytes 1MiB", "--client-hard-bytes: error: client-hard-bytes (1048576) is less than client-bytes (2097152)"},
		{"--client-hard-bytes 1MiB", "client-hard-bytes (1048576) is less than client-bytes (8388608)"},
		{"--peer b=10.0.0.2 --peer c=10.0.0.2", "same address"},
		{"--peer b=0.0.0.0", "not the address of a host"},
		{"--admin-listen 127.0.0.1:0", "--admin-listen: error: operators over TCP need a token"},
		{"--admin-key key.pem", "--admin-key: error: a certificate needs its key"},
		{"--name a --bind 127.0.0.1 --peer b=10.0.0.2", "cannot reach each other"},
	} {
		_, err := Assemble(nil, flags(t, strings.Fields(row.args)...), env(nil), hostAlpha)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v", row.args, err)
		}
	}
	file := mustParse(t, "Spread_Segment unicast { alpha 10.0.0.1 }")
	if _, err := Assemble(&file, flags(t, "-n", "alhpa"), env(nil), nil); err == nil || !strings.Contains(err.Error(), "did you mean alpha?") {
		t.Errorf("a name that is not in the file: %v", err)
	}
	_, err = Assemble(nil, nil, env(nil), func() (string, error) { return "a-host-name-of-too-many-letters", nil })
	if err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("long host name: %v", err)
	}
}

func TestOptionValues(t *testing.T) {
	c, err := Assemble(nil, flags(t, "--unix-socket=none", "--client-bytes=2 MiB", "--log-level=debug", "--listen=:0,[::1]:4803", "--cluster=tēst",
		"--accelerated-ring=off", "--max-clients=7", "-n", "z", "--client-hard-bytes=3MiB", "--all-client-bytes=1GiB", "--slow-client=Block",
		"--slow-client-stall=2s", "--slow-client-wait=1m", "--max-message=1MiB"), env(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Local.UnixSockets == nil || len(c.Local.UnixSockets) != 0 || c.Sessions.ByteBudget != 2<<20 || c.Log.Level() >= 0 ||
		len(c.Local.Listen) != 2 || c.Cluster != "tēst" || c.Ring.Accelerated || c.Sessions.Limit != 7 || c.Local.Name != "z" {
		t.Errorf("got %+v", c)
	}
	want := Sessions{ByteBudget: 2 << 20, HardBytes: 3 << 20, TotalBytes: 1 << 30, SlowPolicy: "block", Stall: 2 * time.Second, Wait: time.Minute, Limit: 7, MessageBytes: 1 << 20}
	if c.Sessions != want {
		t.Errorf("got %+v, want %+v", c.Sessions, want)
	}
}

// TestOptionTable: names are unique, each key that names a directive exists, and the usage shows a value.
func TestOptionTable(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Options() {
		if seen[o.Name] || o.Key != "" && directives[o.Key] == nil || strings.Count(o.Usage, "`") != 2 || o.Default == "" {
			t.Errorf("option %+v", o)
		}
		seen[o.Name] = true
		if !strings.HasPrefix(o.Env(), EnvPrefix) || strings.ContainsAny(o.Env(), "-") {
			t.Errorf("variable %s", o.Env())
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	old := SearchPath
	SearchPath = []string{"spread.conf"}
	t.Cleanup(func() { SearchPath = old })

	c, err := Read("", flags(t), env(nil), hostAlpha)
	if err != nil || c.Source != "" || len(c.Daemons) != 1 || c.Chosen != "none is named, and there is none of spread.conf" {
		t.Errorf("no file: %+v, %v", c, err)
	}
	if _, err := Read("", nil, env(map[string]string{"EVENSONG_CONFIG": "gone.conf"}), hostAlpha); err == nil {
		t.Error("a missing file that the environment names was ignored")
	}
	name := filepath.Join(dir, "other.conf")
	if err := os.WriteFile(name, []byte("Spread_Segment unicast { a 10.0.0.1 }\nWindw = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Read("", flags(t, "--token-timeout=x", "--window=5"), env(map[string]string{"EVENSONG_CONFIG": name, "EVENSONG_LOG_LEVEL": "x"}), hostAlpha)
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != 3 || problems[0].Line != 2 {
		t.Errorf("mistakes of file, flags and environment together: %v", err)
	}
	// A file that is not there is named with who named it, and with where its path begins.
	_, err = Read("", flags(t), env(map[string]string{"EVENSONG_CONFIG": "gone.conf"}), hostAlpha)
	if err == nil || !strings.Contains(err.Error(), "open gone.conf: no such file or directory; EVENSONG_CONFIG names it; a path without / in front begins at the working directory, here /") && runtime.GOOS != "windows" {
		t.Errorf("a variable with a file that is not there: %v", err)
	}
	// Why a file was read.
	for _, path := range []string{name, "spread.conf"} {
		if err := os.WriteFile(path, []byte("Spread_Segment unicast { a 10.0.0.1 }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []struct{ flag, env, source, chosen string }{
		{name, "gone.conf", name, "-c names it"},
		{"", name, name, "EVENSONG_CONFIG names it"},
		{"", "", "spread.conf", "none is named, and this is the first that exists of spread.conf"},
	} {
		c, err := Read(r.flag, flags(t), env(map[string]string{"EVENSONG_CONFIG": r.env}), hostAlpha)
		if err != nil || c.Source != r.source || c.Chosen != r.chosen || !c.FromFile() {
			t.Errorf("-c %q, variable %q: %q because %q, %v", r.flag, r.env, c.Source, c.Chosen, err)
		}
	}
}

func TestReportJSON(t *testing.T) {
	c := mustParse(t, "Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.2 { C D 10.0.0.2 } }\nTokenTimeout = 900\n")
	var b bytes.Buffer
	if err := NewReport(&c, nil).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Valid    bool
		Problems []struct {
			Severity string
			Line     int
		}
		Daemons  []struct{ Name, Address string }
		Segments []struct{ Kind, Address string }
		Values   []struct{ Key, Value, Origin string }
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Valid || len(got.Problems) != 1 || got.Problems[0].Severity != "notice" || got.Daemons[1].Address != "10.0.0.2:4803" ||
		got.Segments[0].Kind != "broadcast" || len(got.Values) < 30 {
		t.Errorf("got %+v", got)
	}
	failed := NewReport(&Config{}, os.ErrPermission)
	if failed.Valid || len(failed.Problems) != 1 || failed.Summary() != "configuration: no daemons, no segments: 1 error, no warnings" {
		t.Errorf("got %+v, %s", failed, failed.Summary())
	}
}
