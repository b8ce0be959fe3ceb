// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden shows each file of testdata/files as "config show --all --origin" would; the golden file is what operators
// read, so review its changes like a text.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/files/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("sample files: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(file), data)
			var got bytes.Buffer
			if err := NewReport(&c, err).WriteText(&got, TextOptions{Origin: true}); err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".conf") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))), got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// mustParse parses a file that has no errors.
func mustParse(t *testing.T, content string) Config {
	t.Helper()
	c, err := Parse("test.conf", []byte(content))
	if err != nil {
		t.Fatalf("Parse(%q):\n%v", content, err)
	}
	return c
}

func TestSegmentsAndDaemons(t *testing.T) {
	c := mustParse(t, `
Spread_Segment 10.0.0.255:4900 {
  a 10.0.0.1
  b 10.0.0.2 { C D 10.0.0.2 10.5.0.2 }
}
Spread_Segment [ff02::7] { c [fd00::3]:4803
 d e.example.com }
Spread_Segment 10.1.0.1:5000 { f }`)
	addr := netip.MustParseAddr
	want := []Daemon{
		{Name: "a", Addr: netip.AddrPortFrom(addr("10.0.0.1"), 4900)},
		{Name: "b", Addr: netip.AddrPortFrom(addr("10.0.0.2"), 4900), Interfaces: []Interface{
			{Addr: addr("10.0.0.2"), Client: true, DaemonTraffic: true},
			{Addr: addr("10.5.0.2"), Client: true, DaemonTraffic: true, Monitor: true},
		}},
		{Name: "c", Addr: netip.AddrPortFrom(addr("fd00::3"), 4803), Segment: 1},
		{Name: "d", Host: "e.example.com", Addr: netip.AddrPortFrom(netip.Addr{}, 4803), Segment: 1},
		{Name: "f", Host: "f", Addr: netip.AddrPortFrom(netip.Addr{}, 5000), Segment: 2},
	}
	equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	equalPort := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, c.Daemons, equal, equalPort); diff != "" {
		t.Errorf("daemons (-want +got):\n%s", diff)
	}
	wantSegments := []Segment{
		{netip.AddrPortFrom(addr("10.0.0.255"), 4900), Broadcast, []int{0, 1}},
		{netip.AddrPortFrom(addr("ff02::7"), 4803), Multicast, []int{2, 3}},
		{netip.AddrPortFrom(addr("10.1.0.1"), 5000), Unicast, []int{4}},
	}
	if diff := cmp.Diff(wantSegments, c.Segments, equal, equalPort); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	if c.Resolved() || !c.Ranked || c.Rank(2) != 2 || c.Index("f") != 4 {
		t.Errorf("resolved %v, ranked %v, rank of c %d, index of f %d", c.Resolved(), c.Ranked, c.Rank(2), c.Index("f"))
	}
}

func TestSegmentKinds(t *testing.T) {
	two := " { a 10.0.0.1\n b 10.0.0.2 }"
	for _, row := range []struct {
		file string
		want SegmentKind
	}{
		{"224.0.0.9" + two, Multicast},
		{"239.255.255.255:7000" + two, Multicast},
		{"10.0.0.255" + two, Broadcast},
		{"255.255.255.255" + two, Broadcast},
		{"10.0.0.63" + two, Broadcast}, // of a smaller subnet
		{"10.0.0.1" + two, Unicast},    // the address of a daemon cannot be one of a subnet
		{"0.0.0.0:4803" + two, Unicast},
		{"unicast" + two, Unicast},
		{"unicast:4810" + two, Unicast},
		{"224.0.0.9 { a 10.0.0.1 }", Unicast}, // nobody else to reach
		{"[ff02::1]:4803 { a fd00::1\nb fd00::2 }", Multicast},
		{"fd00::ffff { a fd00::1\nb fd00::2 }", Unicast},
		{"127.0.0.255 { a 127.0.0.1\nb 127.0.0.2 }", Broadcast},
	} {
		c, err := Parse("f", []byte("Spread_Segment "+row.file))
		if err != nil || len(c.Segments) != 1 || c.Segments[0].Kind != row.want {
			t.Errorf("%s: got %v, %v; want kind %v", row.file, c.Segments, err, row.want)
		}
	}
}

// TestOneMistake checks that each mistake is one error at the right place that says the right thing.
func TestOneMistake(t *testing.T) {
	const seg = "Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.2 }\n" // lines 1 and 2
	for _, row := range []struct{ file, place, text string }{
		{seg + "window = 5", "3:1", "did you mean Window?"},
		{seg + "Widnow = 5", "3:1", "did you mean Window?"},
		{seg + "  EventLogfile = /x", "3:3", "did you mean EventLogFile?"},
		{seg + "Segment 10.0.0.255 { c 10.0.0.9 }", "3:1", "Spread_Segment"},
		{seg + "Xyzzy = { a b }", "3:1", "docs/operations/configuration.md"},
		{seg + "Window = 1234567", "3:10", "out of range"},
		{seg + "Window = 0", "3:10", "1 to 999999"},
		{seg + "Window = 0x10", "3:10", "not a number"},
		{seg + "Window = +7", "3:10", "not a number"},
		{seg + `Window = ""`, "3:10", "not a number"},
		{seg + "Window = { 5 }", "3:10", "takes one value"},
		{seg + "Window = !", "3:10", "takes one value"},
		{seg + "Window =\nPersonalWindow = 3", "3:1", "has no value"},
		{seg + "Window\nPersonalWindow = 3", "3:1", "has no value"},
		{seg + "Window 5\nPersonalWindow = 3", "3:8", "= is missing"},
		{seg + "Window = 5 6\nPersonalWindow = 3", "3:12", `"6" is not expected behind the value of Window; Window takes one value: write Window = 5`},
		{seg + "AllowedAuthMethods = NULL PWORD", "3:27", `a value of several words stands in quotes: write AllowedAuthMethods = "NULL PWORD"`},
		{seg + "AllowedAuthMethods = NULL, PWORD", "3:28", `write AllowedAuthMethods = "NULL PWORD"`},
		{seg + "AllowedAuthMethods = PWORD\nRequiredAuthMethods = IP NULL", "4:26", `write RequiredAuthMethods = "IP NULL"`},
		{seg + `AllowedAuthMethods = "NULL,PWORD"`, "3:22", `separate methods with spaces: "NULL PWORD"`},
		{seg + "DebugFlags = PRINT EXIT", "3:20", "write DebugFlags = { PRINT EXIT }"},
		{seg + "Window = 5 PersnalWindow = 3", "3:12", "did you mean PersonalWindow?"},
		{"Spread_Segment 10.0.0.255 4803 { a 10.0.0.1 }", "1:27", "write 10.0.0.255:4803, without a space"},
		{"Spread_Segment unicast :4803 { a 10.0.0.1 }", "1:24", "write unicast:4803, without a space"},
		{seg + "DangerousMonitor = on", "3:20", "write true"},
		{seg + "TLSCertificate = a.crt", "3:1", "add TLSKey"},
		{seg + "TLSKey = a.key", "3:1", "a key needs its certificate"},
		{seg + "TLSRequired = yes", "3:1", "no client could connect over TCP"},
		{seg + "TLSRequired = 1", "3:15", "write true"},
		{seg + "TLSClientCA = ca.crt", "3:1", "no client could show its certificate"},
		{seg + "TLSCertificate = a.crt\nTLSKey = a.key\nTLSClientAuth = required", "5:1", "add TLSClientCA"},
		{seg + "TLSCertificate = a.crt\nTLSKey = a.key\nTLSClientCA = ca.crt\nTLSClientAuth = request", "6:17", "write one of required, optional"},
		{seg + "TLSCert = a.crt", "3:1", "did you mean TLSCertificate?"},
		{seg + "Primary = majority", "3:1", "did you mean PrimaryRule?"},
		{seg + "TokenTimeout = 1.5s", "3:16", "TokenTimeout = 1500"},
		{seg + "TokenTimeout = 3600001", "3:16", "out of range"},
		{seg + "Window = 5\nPersonalWindow = 6", "4:1", "greater than Window"},
		{seg + "PersonalWindow = 6\nAcceleratedWindow = 7", "4:1", "greater than PersonalWindow"},
		{seg + "Window = 6\nAcceleratedWindow = 7", "4:1", "greater than Window"},
		{seg + `AllowedAuthMethods = "ip"`, "3:22", "did you mean IP?"},
		{seg + `AllowedAuthMethods = "NULL PAM"`, "3:22", "the methods are NULL, IP, PWORD"},
		{seg + `AllowedAuthMethods = " "`, "3:22", "names no method"},
		{seg + `RequiredAuthMethods = "NULL"`, "3:1", "no client could connect"},
		{seg + "RequiredAuthMethods = PWORD\nAllowedAuthMethods = NULL", "4:1", "required but not allowed"},
		{seg + "AccessControlPolicy = ALLOW", "3:23", "PERMIT, DENY"},
		{seg + "UnixSocketMode = 0999", "3:18", "octal digits"},
		{seg + "UnixSocketMode = 0444", "3:18", "lets nobody connect"},
		{seg + "UnixSocketMode = 1777", "3:18", "out of range"},
		{seg + "DebugFlags = { EXIT, PRINT }", "3:16", "did you mean EXIT"},
		{"Spread_Segment 10.0.0.255 {}", "1:1", "no daemons"},
		{"Spread_Segment 10.0.0.255", "1:1", "write { daemons }"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1\n a 10.0.0.2 }", "2:2", "already defined at f:1:29"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.1 }", "2:2", "same address"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1 { C 10.0.0.1 }\n b 10.0.0.2 }", "1:29", "daemon traffic"},
		{"Spread_Segment 10.0.0.255 { aaaaaaaaaaaaaaaaaaaa 10.0.0.1 }", "1:29", "20 > 19"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1 { A 10.0.0.1 } }", "1:42", "no interface letter A"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 127.0.0.1 }", "2:2", "cannot reach each other"},
		{"Spread_Segment 127.0.0.255 { a 10.0.0.1\n b 10.0.0.2 }", "1:16", "cannot reach daemon"},
		{"Spread_Segment 10.0.0.255:0 { a 10.0.0.1 }", "1:16", "1 to 65535"},
		{"Spread_Segment [10.0.0.255]:1 { a 10.0.0.1 }", "1:16", "not an IPv6 address"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1", "1:27", "never closed"},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1 }}", "1:41", "closes nothing"},
		{"", "1:1", "no segment"},
		{"a: yaml\n", "1:1", "unknown directive"},
		{"[ring]\nname = 1", "1:1", "evensong.toml"},
		{"token-timeout = \"5s\"", "1:1", "evensong.toml"},
		{"\xff\xfeS\x00", "1:1", "UTF-16"},
	} {
		_, err := Parse("f", []byte(row.file))
		problems, ok := errors.AsType[Problems](err)
		if !ok || problems.Errors() != 1 {
			t.Errorf("%q: got %d errors, want 1:\n%v", row.file, problems.Errors(), err)
			continue
		}
		for _, p := range problems {
			if p.Severity != Error {
				continue
			}
			if place := fmt.Sprintf("%d:%d", p.Line, p.Col); place != row.place || !strings.Contains(p.String(), row.text) {
				t.Errorf("%q:\ngot  %s\nwant %s ...%s...", row.file, p, row.place, row.text)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	const seg = "Spread_Segment 10.0.0.255 { a 10.0.0.1\n b 10.0.0.2 }\n"
	for _, row := range []struct {
		file string
		want []string
	}{
		{seg, nil},
		{seg + "Window = 5\nWindow = 6", []string{"replaced"}},
		{seg + "DebugInitialSequence\nRouteMatrix { 1 2 }\nLinkProtocol = Hop",
			[]string{"accepted without effect: DebugInitialSequence (line 3), RouteMatrix (line 4), LinkProtocol (line 5)"}},
		{seg + "TokenTimeout = 1250", []string{"noticed after 1.25s"}},
		{seg + "TokenTimeout = 300", nil},
		{seg + "LookupTimeout = 60000", []string{"as far as they are given"}},
		{seg + "TokenTimeout = 300\nHurryTimeout = 200", []string{"at least twice HurryTimeout"}},
		// The two sets of values that operators of the original have in their files.
		{seg + "TokenTimeout=1250 HurryTimeout=500 AliveTimeout=250 SegTimeout=500 JoinTimeout=250 RepTimeout=625 GatherTimeout=1250 FormTimeout=1250 LookupTimeout=30000", []string{"1.25s"}},
		{seg + "TokenTimeout=5000 HurryTimeout=1500 AliveTimeout=250 SegTimeout=500 JoinTimeout=250 RepTimeout=1250 GatherTimeout=2500 FormTimeout=2500 LookupTimeout=45000", []string{"5s"}},
		{seg + "MaxSessionMessages = 0", []string{"no limit by count"}},
		{"Spread_Segment 10.0.0.255 { a b }", []string{"another daemon"}},
		{"Spread_Segment 10.0.0.255 { a.x b.x }", nil},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1:9 }", []string{"port 9 of daemon"}},
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1 { D 10.0.0.9 } }", []string{"not among the interfaces", "Unix sockets only"}},
		{"Spread_Segment 10.0.0.63 { a 10.0.0.1\nb 10.0.0.2 }", []string{"used as the broadcast address"}},
	} {
		c, err := Parse("f", []byte(row.file))
		if err != nil || len(c.Warnings) != len(row.want) {
			t.Errorf("%q: got %v, %v; want %q", row.file, c.Warnings, err, row.want)
			continue
		}
		for i, w := range c.Warnings {
			if !strings.Contains(w.String(), row.want[i]) {
				t.Errorf("%q: got %q; want ...%s...", row.file, w, row.want[i])
			}
		}
	}
}

func TestLimits(t *testing.T) {
	var b strings.Builder
	for i := range MaxDaemons {
		fmt.Fprintf(&b, "Spread_Segment unicast { d%d 10.0.%d.1 }\n", i, i)
	}
	c := mustParse(t, b.String())
	if len(c.Daemons) != MaxDaemons || len(c.Segments) != MaxDaemons || len(c.Warnings) != 1 || c.Warnings[0].Line != OriginalSegments+1 {
		t.Errorf("%d daemons, %d segments, warnings %v", len(c.Daemons), len(c.Segments), c.Warnings)
	}
	fmt.Fprintf(&b, "Spread_Segment unicast { one-more 10.1.0.1 and-more 10.1.0.2 }\n")
	if _, err := Parse("f", []byte(b.String())); err == nil || strings.Count(err.Error(), "more than 128 daemons") != 1 {
		t.Errorf("%d daemons and two more: %v", MaxDaemons, err)
	}
	if _, err := Parse("f", bytes.Repeat([]byte("#"), MaxFileSize+1)); err == nil {
		t.Error("a file of more than MaxFileSize was read")
	}
	// Many mistakes cost no more than reading them: the number of problems is bounded. A quadratic step would be felt here.
	for _, hostile := range []string{"= ", "{", "}", "a\n", "Spread_Segment {", "x x x\n", "! ", "\"\n", "Window = 1\n", "a 1.1.1.1 {} "} {
		_, err := Parse("f", []byte("Spread_Segment 10.0.0.255 { "+strings.Repeat(hostile, 8_000/len(hostile))))
		if problems, _ := errors.AsType[Problems](err); len(problems) == 0 || len(problems) > 2*maxErrors {
			t.Errorf("many %q: %d problems", hostile, len(problems))
		}
	}
}

func TestDebugFlags(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{"{ PRINT EXIT }", "EXIT PRINT"},
		{"{ NONE }", ""},
		{"{ }", ""},
		{"{ ALL !ALL STATUS }", "STATUS"},
		{"{ STATUS !NONE !STATUS ! ACM }", strings.Join(eventTypes[1:len(eventTypes)-1], " ")},
	} {
		c := mustParse(t, "Spread_Segment unicast { a 10.0.0.1 }\nDebugFlags = "+row.in)
		if got := strings.Join(c.Log.Flags, " "); got != row.want || c.Log.Flags == nil {
			t.Errorf("%s: got %q, want %q", row.in, got, row.want)
		}
	}
}

func TestNetworkDecisions(t *testing.T) {
	for _, row := range []struct {
		file              string
		wide, accelerated bool
	}{
		{"Spread_Segment 10.0.0.255 { a 10.0.0.1\nb 10.1.0.1 }", false, true}, // only first daemons count
		{"Spread_Segment 10.0.0.1 { a 10.0.0.1 }\nSpread_Segment 10.0.9.1 { b 10.0.9.1 }", false, true},
		{"Spread_Segment 10.0.0.1 { a 10.0.0.1 }\nSpread_Segment 10.1.0.1 { b 10.1.0.1 }", true, false},
		{"Spread_Segment 10.0.0.1 { a 10.0.0.1 }\nSpread_Segment unicast { b fd00::1 }", true, false},
		{"Spread_Segment unicast { a fd00::1:1 }\nSpread_Segment unicast { b fd00::2:1 }", false, true},
		{"Spread_Segment unicast:1 { a 127.0.0.1 }\nSpread_Segment unicast:2 { b 127.9.0.1 }", false, true},
		{"AcceleratedRing = true\nSpread_Segment 10.0.0.1 { a 10.0.0.1 }\nSpread_Segment 10.1.0.1 { b 10.1.0.1 }", true, true},
		{"AcceleratedRing = no\nSpread_Segment 10.0.0.1 { a 10.0.0.1 }", false, false},
		{"AcceleratedWindow = 0\nSpread_Segment 10.0.0.1 { a 10.0.0.1 }", false, false},
	} {
		if c := mustParse(t, row.file); c.Wide != row.wide || c.Ring.Accelerated != row.accelerated {
			t.Errorf("%q: wide %v, accelerated %v", row.file, c.Wide, c.Ring.Accelerated)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	defaults := Ring{Global: 160, Personal: 20, AcceleratedWindow: 15}
	for _, row := range []struct{ given, want Ring }{
		{Ring{}, defaults},
		{Ring{Global: 10}, Ring{Global: 10, Personal: 10, AcceleratedWindow: 10}},
		{Ring{Personal: 500}, Ring{Global: 500, Personal: 500, AcceleratedWindow: 15}},
		{Ring{AcceleratedWindow: 30}, Ring{Global: 160, Personal: 30, AcceleratedWindow: 30}},
	} {
		if got := row.given.WithDefaults(defaults); got != row.want {
			t.Errorf("%+v: got %+v, want %+v", row.given, got, row.want)
		}
	}
	timers := Timers{TokenTimeout: 500 * time.Millisecond, Form: time.Second}.WithDefaults(
		Timers{TokenTimeout: time.Second, Hurry: 400 * time.Millisecond, Form: 3 * time.Second, Lookup: 10 * time.Second})
	want := Timers{TokenTimeout: 500 * time.Millisecond, Hurry: 200 * time.Millisecond, Form: time.Second, Lookup: 10 * time.Second}
	if timers != want {
		t.Errorf("timers: got %+v, want %+v", timers, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	old := SearchPath
	SearchPath = []string{"spread.conf", filepath.Join(dir, "etc", "spread.conf")}
	t.Cleanup(func() { SearchPath = old })
	if _, err := Load(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/spread.conf", "Spread_Segment unicast { a 10.0.0.1 }")
	if c, err := Load(""); err != nil || c.Source != SearchPath[1] {
		t.Errorf("search: %q, %v", c.Source, err)
	}
	if _, err := Load("mistyped.conf"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is missing must not be replaced by another: %v", err)
	}
	write("spread.conf", "Window = x")
	_, err := Load("")
	if problems, ok := errors.AsType[Problems](err); !ok || problems.ExitCode() != 3 || problems[0].File != "spread.conf" {
		t.Errorf("bad file: %v", err)
	}
}

// TestLoopbackBroadcast: an address of the loopback network that is no broadcast address there is told before the daemons say so.
func TestLoopbackBroadcast(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.255": true, "127.255.255.255": false, "unicast": false} {
		c, err := Parse("f", []byte("Spread_Segment "+addr+" {\n a 127.0.0.1\n b 127.0.0.2\n}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(fmt.Sprint(c.Warnings), "no broadcast address of the loopback network"); got != want {
			t.Errorf("%s: %v", addr, c.Warnings)
		}
	}
}
