// SPDX-License-Identifier: Apache-2.0

package descrypt

import (
	"errors"
	"strings"
	"testing"
)

// Hashes that the C library's crypt made.
var known = []struct{ password, hash string }{
	{"", "abmF1QH4PEr.E"},
	{"a", "..4/MD05HLWjI"},
	{"password", "abJnggxhB/yWI"},
	{"password", "zZDDIZ0NOlPzw"},
	{"secret", "x/cjcjzF3wSII"},
	{"rasmuslerdorf", "rl.3StKT.4T8M"},
	{"12345678", "994HhcYExPuNU"},
	{"123456789", "994HhcYExPuNU"}, // the ninth character does not count
	{"\xe4\xf6\xfc", "aapYPhfhYoBKI"},
	{"dv|", "aapYPhfhYoBKI"}, // nor does the eighth bit
	{"test", "0.sAWxKGal/lA"},
	{"test\x00more", "0.sAWxKGal/lA"}, // a zero byte ends it
	{"Evensong", "EvkysGJMGjzJY"},
	{"~!@#", "//p367jIjenFI"},
	{"letmein", "Q9L.qojgi.XBU"},
}

func TestKnownHashes(t *testing.T) {
	for _, k := range known {
		if got := Hash([]byte(k.password), k.hash[:2]); got != k.hash {
			t.Errorf("Hash(%q, %q) = %q, want %q", k.password, k.hash[:2], got, k.hash)
		}
		if !Match(k.hash, []byte(k.password)) {
			t.Errorf("%q does not match %q", k.password, k.hash)
		}
		if Match(k.hash, []byte("other")) {
			t.Errorf("other matches %q", k.hash)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, k := range known {
		if err := Check(k.hash); err != nil {
			t.Errorf("%q: %v", k.hash, err)
		}
	}
	for _, bad := range []string{"", "*", "abJnggxhB/yW", "abJnggxhB/yWIx", "a:Jnggxhb/yWI", "abJnggxh -yWI", "$1$abJnggxhyW", strings.Repeat("\x00", 13), "[bJnggxhB/yWI", "`bJnggxhB/yWI"} {
		if err := Check(bad); !errors.Is(err, ErrHash) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Match("abJnggxhB/yWI", []byte("password"))
	}
}
