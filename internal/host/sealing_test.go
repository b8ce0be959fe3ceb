// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/client"
	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/proto/node"
	"evensong/internal/seal"
)

// Some secrets of clusters.
var secretA, secretB = strings.Repeat("a1", 31) + "00", strings.Repeat("b2", 31) + "00"

// keyID is the ID of a secret's key.
func keyID(t *testing.T, secret string) string {
	t.Helper()
	s, err := seal.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.NewKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k.ID().String()
}

// keyLine is the directive for a file with these secrets.
func keyLine(t *testing.T, secrets ...string) string {
	return "ClusterKeyFile = \"" + file(t, strings.Join(secrets, "\n")+"\n") + "\"\n"
}

// exchange has a client at each daemon send messages to a group and checks that all get all of them in one order.
func exchange(t *testing.T, cs []*client.Conn, round string) {
	t.Helper()
	const each = 30
	for i := range each {
		for k, c := range cs {
			text := fmt.Sprintf("%s %d of %d ", round, i, k)
			if i%10 == 9 {
				text += strings.Repeat("long ", 4000)
			}
			if err := c.Multicast(t.Context(), client.Agreed, int16(i), []byte(text), "g"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var first []string
	for k, c := range cs {
		var got []string
		for len(got) < each*len(cs) {
			ev, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			switch ev := ev.(type) {
			case *client.Message:
				got = append(got, string(ev.Data))
			case *client.View:
				if ev.Cause == client.CausedByNetwork {
					t.Errorf("%s: the configuration changed", round)
				}
			}
		}
		if k == 0 {
			first = got
		} else if !slices.Equal(got, first) {
			t.Errorf("%s: clients got different orders", round)
		}
	}
}

// Three daemons with a key serve their clients, and take another key in three steps while they do, without anybody noticing. A
// file that is no good changes nothing.
func TestSealedCluster(t *testing.T) {
	addrs := []netip.AddrPort{freeAddr(t), freeAddr(t), freeAddr(t)}
	text := "TokenTimeout = 3000\n" // a test machine may be busy
	names := []string{"a", "b", "c"}
	for i, n := range names {
		text = segment(n, addrs[i]) + text
	}
	keys := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# the cluster's key\n" + secretA + "\n")
	text += "ClusterKeyFile = \"" + keys + "\"\n"
	var ds []*filed
	for _, n := range names {
		ds = append(ds, startFiled(t, n, text))
	}
	var cs []*client.Conn
	for i := range ds {
		ds[i].until("c b a")
	}
	for i, d := range ds {
		c, err := dial(t, d.host.ListenAddrs()[0].String(), client.WithName(fmt.Sprintf("c%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Join(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	for _, c := range cs {
		for {
			ev, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := ev.(*client.View); ok && len(v.Members) == len(cs) {
				break
			}
		}
	}
	installs := func() (n uint64) {
		for _, d := range ds {
			d.look(func(m *node.Machine) { n += m.Stats().Order.Installs })
		}
		return n
	}
	before := installs()
	exchange(t, cs, "at first")
	for _, step := range []struct{ file, says string }{
		{secretA + "\n" + secretB + "\n", "seals with " + keyID(t, secretA) + ", opens " + keyID(t, secretB) + ", too"},
		{secretB + "\n" + secretA + "\n", "seals with " + keyID(t, secretB) + ", opens " + keyID(t, secretA) + ", too"},
		{secretB + "\n", "seals with " + keyID(t, secretB) + ";"},
	} {
		write(step.file)
		for _, d := range ds {
			r, err := d.host.Reload(t.Context())
			if err != nil || len(r.Changed) != 1 || len(r.Restart) != 0 || !strings.Contains(r.Changed[0], "cluster key: "+step.says) {
				t.Fatalf("%s: %+v, %v", step.says, r, err)
			}
			exchange(t, cs, step.says)
		}
	}
	for what, bad := range map[string]string{"nothing": "# nothing\n", "no key": "secret\n", "a key twice": secretB + "\n" + secretB + "\n"} {
		write(bad)
		for _, d := range ds {
			if r, err := d.host.Reload(t.Context()); !errors.Is(err, host.ErrReload) || !strings.Contains(err.Error(), keys) || strings.Contains(err.Error(), secretB) {
				t.Errorf("%s: %+v, %v", what, r, err)
			}
		}
	}
	write(secretB + "\n")
	if runtime.GOOS != "windows" {
		os.Chmod(keys, 0o640)
		if _, err := ds[0].host.Reload(t.Context()); !errors.Is(err, host.ErrReload) || !strings.Contains(err.Error(), "others can read") {
			t.Errorf("a file that others can read: %v", err)
		}
		os.Chmod(keys, 0o600)
	}
	exchange(t, cs, "after what was refused")
	if n := installs() - before; n != 0 {
		t.Errorf("%d configurations were installed meanwhile", n)
	}
	for _, d := range ds {
		if ignored := d.host.Stats().Sealing.Ignored(); ignored["forged"]+ignored["key"]+ignored["unsealed"]+ignored["silent"] > 0 {
			t.Errorf("ignored: %v", ignored)
		}
		if s := d.log.String(); strings.Contains(s, secretA) || strings.Contains(s, secretB) {
			t.Error("a secret is in the log")
		}
	}
	operator := admin.NewClient(ds[0].socket(), admin.DialOptions{})
	defer operator.Close()
	if st, err := operator.Status(t.Context()); err != nil || !slices.Equal(st.Host.ClusterKeys, []string{keyID(t, secretB)}) {
		t.Errorf("the status has keys %v, %v", st.Host.ClusterKeys, err)
	}
	// Without a key at all, and with one where there was none, takes a restart.
	ds[0].write(strings.ReplaceAll(text, "ClusterKeyFile", "# "))
	if r, err := ds[0].host.Reload(t.Context()); err != nil || len(r.Changed) != 0 || len(r.Restart) != 1 || !strings.Contains(r.Restart[0], "ClusterKeyFile") {
		t.Errorf("no key any more: %+v, %v", r, err)
	}
	exchange(t, cs, "at last")
}

// Daemons with different keys, or of which only one has a key, are never one ring, and each says why and what to do.
func TestKeysThatDiffer(t *testing.T) {
	for _, x := range []struct{ name, a, b, saysA, saysB string }{
		{"two keys", keyLine(t, secretA), keyLine(t, secretB), "datagrams sealed with another cluster key are ignored", "datagrams sealed with another cluster key are ignored"},
		{"one key", keyLine(t, secretA), "", "unsealed datagrams are ignored", "sealed datagrams are ignored, because this daemon has no cluster key"},
	} {
		t.Run(x.name, func(t *testing.T) {
			addrA, addrB := freeAddr(t), freeAddr(t)
			text := segment("a", addrA) + segment("b", addrB) + "TokenTimeout = 50\n"
			a, b := startFiled(t, "a", text+x.a), startFiled(t, "b", text+x.b)
			said := func(f *filed, what, peer string) bool {
				return slices.ContainsFunc(strings.Split(f.log.String(), "\n"), func(line string) bool {
					return strings.Contains(line, `msg="`+what) && strings.Contains(line, "peer="+peer)
				})
			}
			for end := time.Now().Add(20 * time.Second); !said(a, x.saysA, addrB.String()) || !said(b, x.saysB, addrA.String()); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("nothing is said\n%s\n%s", a.log, b.log)
				}
			}
			a.until("a")
			b.until("b")
			time.Sleep(300 * time.Millisecond) // several times what it takes to form a ring
			if m, n := a.members(), b.members(); m != "a" || n != "b" {
				t.Errorf("a has %q, b has %q", m, n)
			}
			if n := strings.Count(a.log.String(), x.saysA); n != 1 {
				t.Errorf("it is said %d times\n%s", n, a.log)
			}
		})
	}
}

// An outsider who sees and sends what he likes learns nothing, and changes nothing: he gets a hello for what he has recorded, and
// a daemon that was not asked by its own answers to nothing he makes up.
func TestOutsider(t *testing.T) {
	outside, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(freeAddr(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	here := outside.LocalAddr().(*net.UDPAddr).AddrPort()
	addrA, addrB := freeAddr(t), freeAddr(t)
	// The third daemon of the file is where the outsider listens.
	text := segment("alpha-bravo", addrA) + segment("b", addrB) + segment("c", here) + "TokenTimeout = 100\n" + keyLine(t, secretA)
	a := startFiled(t, "alpha-bravo", text)
	a.until("alpha-bravo")
	buf := make([]byte, 1<<16)
	var heard [][]byte
	outside.SetReadDeadline(time.Now().Add(20 * time.Second))
	for len(heard) < 5 {
		n, err := outside.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		d := slices.Clone(buf[:n])
		if !seal.IsSealed(d) || bytes.Contains(d, []byte("alpha")) {
			t.Fatalf("a readable datagram: %q", d)
		}
		heard = append(heard, d)
	}
	b := startFiled(t, "b", text) // starts after that was sent
	a.until("alpha-bravo b")
	b.until("alpha-bravo b")
	installs := func() (n uint64) {
		for _, f := range []*filed{a, b} {
			f.look(func(m *node.Machine) { n += m.Stats().Order.Installs })
		}
		return n
	}
	before := installs()
	for range 20 {
		for _, d := range heard {
			for _, to := range []netip.AddrPort{addrA, addrB} {
				changed := slices.Clone(d)
				changed[25]++ // the counter: to one that was not taken yet
				for _, x := range [][]byte{d, changed, d[:10], []byte("EV\x01\x01 nonsense")} {
					if _, err := outside.WriteToUDPAddrPort(x, to); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m := b.host.Stats().Sealing.Ignored()
		if m["forged"] >= 10 && m["format"] >= 10 && m["unsealed"] >= 10 && m["replayed"] >= 10 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("ignored: %v", m)
		}
	}
	if m, n := a.members(), b.members(); m != "alpha-bravo b" || n != m || installs() != before {
		t.Errorf("%q and %q are left, and %d configurations were installed", m, n, installs()-before)
	}
	for _, want := range []string{"datagrams that do not open with the cluster key are ignored", "unsealed datagrams are ignored"} {
		if s := b.log.String(); strings.Count(s, want) != 1 || !strings.Contains(s, "peer="+here.String()) {
			t.Errorf("%q stands in the log %d times\n%s", want, strings.Count(s, want), s)
		}
	}
}

// What sealing adds is taken off the packets, so that no datagram is longer than without it.
func TestSealedPacketBytes(t *testing.T) {
	for directive, want := range map[string]int{"": 1472, "PacketBytes = 8972\n": 8972} {
		c, err := config.Parse("test.conf", []byte("Spread_Segment 10.1.0.255 { a 10.1.0.1 }\n"+directive+keyLine(t, secretA)))
		if err != nil {
			t.Fatal(err)
		}
		if n := host.RingConfig(&c).PacketBytes + seal.Overhead; n != want {
			t.Errorf("%q: datagrams of %d bytes, want %d", directive, n, want)
		}
	}
	c, err := config.Parse("test.conf", []byte("Spread_Segment unicast { a 127.0.0.1 }\nPacketBytes = 520\n"+keyLine(t, secretA)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := host.Assemble(&c, 0, slog.New(slog.DiscardHandler)); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), "test.conf:2") {
		t.Errorf("no room: %v", err)
	}
}
