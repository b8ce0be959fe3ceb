// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// here is where datagrams come from unless a test is about that.
var here = netip.MustParseAddrPort("10.0.0.1:4803")

func someKey(t testing.TB, n byte) Key {
	t.Helper()
	secret := [KeySize]byte{1, 2, 3, n}
	k, err := NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keysOf(t testing.TB, ns ...byte) *Keys {
	t.Helper()
	var list []Key
	for _, n := range ns {
		list = append(list, someKey(t, n))
	}
	keys, err := NewKeys(list...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// meet has b know a: what a says is asked about, and the answers go back and forth until nobody wants one.
func meet(t testing.TB, now time.Duration, a, b *Box) {
	t.Helper()
	_, hello, v := b.Open(now, here, a.Seal(nil, []byte("here I am")))
	if v != Unproven || hello == nil {
		t.Fatalf("the first datagram: %v with a hello of %d bytes; want %v, and to be asked", v, len(hello), Unproven)
	}
	for _, x := range []*Box{a, b, a, b} {
		if hello == nil {
			break
		}
		if _, hello, v = x.Open(now, here, slices.Clone(hello)); v != Hello {
			t.Fatalf("a hello: %v", v)
		}
	}
}

func mustOpen(t testing.TB, now time.Duration, x *Box, b []byte, want string) {
	t.Helper()
	p, hello, v := x.Open(now, here, slices.Clone(b))
	if v != Opened || string(p) != want || hello != nil {
		t.Fatalf("opened as %v, %q, with a hello of %d bytes; want %q", v, p, len(hello), want)
	}
}

func wantVerdict(t testing.TB, now time.Duration, x *Box, b []byte, want Verdict) {
	t.Helper()
	if p, _, v := x.Open(now, here, slices.Clone(b)); v != want || p != nil {
		t.Fatalf("%v with %q, want %v and nothing", v, p, want)
	}
}

func TestSealAndOpen(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	meet(t, 0, a, b)
	for n := range 100 {
		text := strings.Repeat("x", n*7)
		sealed := a.Seal([]byte("before"), []byte(text))[len("before"):]
		if len(sealed) != len(text)+Overhead {
			t.Fatalf("%d bytes are %d sealed, want %d more", len(text), len(sealed), Overhead)
		}
		if n > 3 && bytes.Contains(sealed, []byte("xxxx")) {
			t.Fatal("the text is readable")
		}
		mustOpen(t, 0, b, sealed, text)
	}
	mustOpen(t, 0, a, b.Seal(nil, []byte("and back")), "and back") // who was asked has asked, too
	wantVerdict(t, 0, a, a.Seal(nil, []byte("to all")), Own)
}

// The format is what the documents say: another implementation, of nothing but their words, opens it.
func TestFormat(t *testing.T) {
	secret := [KeySize]byte{1, 2, 3, 1}
	x := New(keysOf(t, 1))
	x.Seal(nil, nil)
	b := x.Seal(nil, []byte("text"))
	if got := fmt.Sprintf("%s %d %d", b[:2], b[2], b[3]); got != "ES 1 0" {
		t.Errorf("begins with %s", got)
	}
	id, err := hkdf.Key(sha256.New, secret[:], nil, "evensong cluster key id 1", 4)
	if err != nil || !bytes.Equal(b[4:8], id) {
		t.Errorf("key %x, want %x (%v)", b[4:8], id, err)
	}
	if n := binary.LittleEndian.Uint64(b[20:]); n != 2 {
		t.Errorf("counter %d, want 2", n)
	}
	key, err := hkdf.Key(sha256.New, secret[:], nil, "evensong datagrams 1"+string(b[8:20]), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	p, err := gcm.Open(nil, append(make([]byte, 4), b[20:28]...), b[28:], b[:28])
	if err != nil || string(p) != "text" {
		t.Errorf("opened as %q, %v", p, err)
	}
}

// No byte of a datagram can be changed, none be cut off and none added.
func TestTampering(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	meet(t, 0, a, b)
	sealed := a.Seal(nil, []byte("a message that matters"))
	for i := range sealed {
		for _, bit := range []byte{1, 0x80} {
			bad := slices.Clone(sealed)
			bad[i] ^= bit
			if p, _, v := b.Open(0, here, bad); v == Opened || v == Hello || p != nil {
				t.Fatalf("byte %d changed: %v", i, v)
			}
		}
		wantBad := sealed[:i]
		if p, _, v := b.Open(0, here, slices.Clone(wantBad)); v == Opened || v == Hello || p != nil {
			t.Fatalf("cut to %d bytes: %v", i, v)
		}
	}
	wantVerdict(t, 0, b, append(slices.Clone(sealed), 0), Forged)
	mustOpen(t, 0, b, sealed, "a message that matters") // none of these was taken for it
}

func TestVerdicts(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	meet(t, 0, a, b)
	sealed := a.Seal(nil, []byte("text"))
	change := func(f func(b []byte)) []byte {
		c := slices.Clone(sealed)
		f(c)
		return c
	}
	for _, r := range []struct {
		what string
		b    []byte
		want Verdict
	}{
		{"nothing", nil, Plain},
		{"an unsealed packet", append([]byte("EV\x01\x01"), make([]byte, 60)...), Plain},
		{"a short one", sealed[:Overhead-1], Malformed},
		{"of another version", change(func(b []byte) { b[2] = 2 }), Malformed},
		{"of another kind", change(func(b []byte) { b[3] = kindEnd }), Malformed},
		{"a hello made of a packet", change(func(b []byte) { b[3] = kindHello }), Forged},
		{"with another key", New(keysOf(t, 2)).Seal(nil, []byte("text")), OtherKey},
		{"with another salt", change(func(b []byte) { b[9]++ }), Forged},
		{"with another counter", change(func(b []byte) { b[20]++ }), Forged},
	} {
		if p, hello, v := b.Open(0, here, slices.Clone(r.b)); v != r.want || p != nil || hello != nil {
			t.Errorf("%s: %v, want %v", r.what, v, r.want)
		}
	}
	var s Stats
	s.Count(Opened)
	s.Count(Own)
	s.Count(Forged)
	s.Count(Forged)
	if m := s.Ignored(); len(m) != 1 || m["forged"] != 2 {
		t.Errorf("ignored: %v", m)
	}
}

// Each datagram is taken once, in whatever order they come, as long as none is too far behind.
func TestReplayAndOrder(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	meet(t, 0, a, b)
	rnd := rand.New(rand.NewPCG(1, 1))
	var all [][]byte
	for i := range 3 * windowSize {
		all = append(all, a.Seal(nil, fmt.Append(nil, i)))
	}
	const step = windowSize / 2
	for from := 0; from < len(all); from += step {
		for _, i := range rnd.Perm(min(step, len(all)-from)) {
			mustOpen(t, 0, b, all[from+i], fmt.Sprint(from+i))
			if rnd.IntN(8) == 0 {
				wantVerdict(t, 0, b, all[from+i], Replayed)
			}
		}
	}
	for _, i := range rnd.Perm(len(all)) {
		wantVerdict(t, 0, b, all[i], Replayed)
	}
	late := a.Seal(nil, []byte("late"))
	for range windowSize {
		a.Seal(nil, nil) // lost
	}
	mustOpen(t, 0, b, a.Seal(nil, []byte("far ahead")), "far ahead")
	wantVerdict(t, 0, b, late, Replayed)
}

// The window against one that remembers everything.
func TestWindow(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := window{high: 100, floor: 100}
		taken := map[uint64]bool{}
		high := w.high
		for range 20000 {
			n := high - min(high, 3*windowSize/2) + rnd.Uint64N(3*windowSize/2+3)
			if rnd.IntN(1000) == 0 {
				n = high + rnd.Uint64N(3*windowSize)
			}
			want := n > 100 && !taken[n] && (n > high || high-n < windowSize)
			if got := w.isNew(n); got != want {
				t.Fatalf("seed %d: counter %d is new: %v, want %v (highest %d)", seed, n, got, want, high)
			}
			if want {
				w.take(n)
				taken[n] = true
				high = max(high, n)
			}
		}
	}
}

// What a daemon has sent that has ended opens nothing, whoever sends it again, and to whom: to one who knew it, to one who
// starts, and to one that is asked with its hellos. And however much of it comes, who lives stays known.
func TestReplayOfTheDead(t *testing.T) {
	keys := keysOf(t, 1)
	b := New(keys)
	alive := New(keys)
	meet(t, 0, alive, b)
	var recorded [][]byte
	for range 2 * maxSenders {
		dead := New(keys)
		first := dead.Seal(nil, []byte("first"))
		_, ask, _ := b.Open(0, here, slices.Clone(first))
		_, answer, _ := dead.Open(0, here, slices.Clone(ask))
		recorded = append(recorded, first, slices.Clone(answer), dead.Seal(nil, []byte("join")))
		alive.Seal(nil, nil)
		mustOpen(t, 1, b, alive.Seal(nil, []byte("still here")), "still here")
	}
	again := New(keys) // b after a restart
	meet(t, time.Second, alive, again)
	for round := range 3 {
		now := time.Duration(round+1) * time.Second
		for _, d := range recorded {
			for _, x := range []*Box{b, again} {
				if p, _, v := x.Open(now, here, slices.Clone(d)); x == again && (v == Opened || p != nil) {
					t.Fatalf("a datagram of a dead daemon: %v, %q", v, p)
				}
			}
		}
		mustOpen(t, now, b, alive.Seal(nil, []byte("alive")), "alive")
		mustOpen(t, now, again, alive.Seal(nil, []byte("alive")), "alive")
	}
	if len(again.senders) != 1 {
		t.Errorf("%d senders are known, want the one that lives", len(again.senders))
	}
}

// An answer counts while its cookie does, for whom it was asked, and only with a cookie.
func TestHello(t *testing.T) {
	keys := keysOf(t, 1)
	a, b, c := New(keys), New(keys), New(keys)
	first := a.Seal(nil, []byte("first"))
	_, ask, _ := b.Open(0, here, slices.Clone(first))
	ask = slices.Clone(ask)
	if len(ask) != helloBytes {
		t.Errorf("a hello of %d bytes, want %d", len(ask), helloBytes)
	}
	_, answer, _ := a.Open(0, here, slices.Clone(ask))
	answer = slices.Clone(answer)
	if _, hello, v := c.Open(0, here, slices.Clone(answer)); v != Hello || hello != nil || len(c.senders) != 0 {
		t.Errorf("a hello for somebody else: %v, answered with %d bytes", v, len(hello))
	}
	b.Open(3*cookiePeriod, here, slices.Clone(answer))
	if len(b.senders) != 0 {
		t.Error("an answer that comes much too late counts")
	}
	guess := cookie{1}
	b.Open(0, here, slices.Clone(a.hello(&b.salt, &guess, nil)))
	b.Open(0, here, slices.Clone(a.hello(&b.salt, nil, nil)))
	if len(b.senders) != 0 {
		t.Error("a hello without the right cookie counts")
	}
	b.Open(cookiePeriod, here, slices.Clone(answer))
	if len(b.senders) != 1 {
		t.Error("an answer does not count")
	}
	wantVerdict(t, cookiePeriod, b, answer, Replayed)
	wantVerdict(t, cookiePeriod, b, first, Replayed) // it was sent before the proof
}

// Who is not known is asked, not for each datagram, and again if the answer was lost; after a while it counts as silent.
func TestAsking(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	asked, silent := 0, time.Duration(-1)
	for now := time.Duration(0); now < 3*time.Second; now += time.Millisecond {
		_, hello, v := b.Open(now, here, a.Seal(nil, []byte("again")))
		if hello != nil {
			asked++
		}
		if v == Silent && silent < 0 {
			silent = now
		}
	}
	if asked != 150 || silent != silentAfter {
		t.Errorf("asked %d times, silent after %v; want 150 times and %v", asked, silent, silentAfter)
	}
	if _, _, v := b.Open(time.Hour, here, a.Seal(nil, []byte("back"))); v != Unproven {
		t.Errorf("after a long rest: %v", v)
	}
	// Another one that shares its slot keeps nobody from being asked.
	other := New(keysOf(t, 1))
	for askSlot(&other.salt, here) != askSlot(&a.salt, here) {
		other = New(keysOf(t, 1))
	}
	for range 10 {
		if _, hello, _ := b.Open(2*time.Hour, here, other.Seal(nil, nil)); hello == nil {
			t.Fatal("the other one is not asked")
		}
		if _, hello, _ := b.Open(2*time.Hour, here, a.Seal(nil, nil)); hello == nil {
			t.Fatal("this one is not asked")
		}
	}
}

// A newcomer is asked, and comes in, however often others send again what it has sent, and from wherever: the questions that this
// brings about go to them, and are none of those that the newcomer gets.
func TestReplayOfANewcomer(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	recorded := a.Seal(nil, []byte("here I am"))
	now := time.Duration(0)
	var asked []byte
	for range 1000 {
		now += time.Millisecond
		for port := range uint16(3) {
			b.Open(now, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.66"), 4803+port), slices.Clone(recorded))
		}
		if now%(200*time.Millisecond) == 0 { // as a daemon that looks for others
			_, hello, v := b.Open(now, here, a.Seal(nil, []byte("here I am")))
			if v != Unproven || hello == nil {
				t.Fatalf("after %v: %v with a hello of %d bytes; want to be asked", now, v, len(hello))
			}
			asked = slices.Clone(hello)
		}
	}
	_, answer, _ := a.Open(now, here, asked)
	b.Open(now, here, slices.Clone(answer))
	mustOpen(t, now, b, a.Seal(nil, []byte("known")), "known")
	// A window of packets from one address is one question, as ever.
	c, questions := New(keysOf(t, 1)), 0
	for range 100 {
		if _, hello, _ := b.Open(now, here, c.Seal(nil, nil)); hello != nil {
			questions++
		}
	}
	if questions != 1 {
		t.Errorf("%d questions for a burst, want 1", questions)
	}
}

func TestSendersAreBounded(t *testing.T) {
	keys := keysOf(t, 1)
	b, alive, idle := New(keys), New(keys), New(keys)
	meet(t, 0, idle, b)
	meet(t, 1, alive, b)
	for len(b.senders) < maxSenders {
		meet(t, 1, New(keys), b)
	}
	speaks := func(now time.Duration) { mustOpen(t, now, b, alive.Seal(nil, []byte("here")), "here") }
	late := New(keys)
	for _, now := range []time.Duration{time.Second, forgetAfter - time.Second} {
		meet(t, now, late, b) // proves it, and finds no room
		wantVerdict(t, now, b, late.Seal(nil, nil), Unproven)
		speaks(now)
	}
	meet(t, forgetAfter, late, b)
	mustOpen(t, forgetAfter, b, late.Seal(nil, []byte("there is room")), "there is room")
	speaks(forgetAfter)
	if len(b.senders) != maxSenders {
		t.Errorf("%d senders, want %d", len(b.senders), maxSenders)
	}
	wantVerdict(t, forgetAfter, b, idle.Seal(nil, []byte("here")), Unproven) // it was forgotten, and may come again
}

// A cluster goes from one key to the next in three steps, one daemon after the other, and each datagram opens everywhere at
// all times.
func TestKeyChange(t *testing.T) {
	boxes := []*Box{New(keysOf(t, 1)), New(keysOf(t, 1)), New(keysOf(t, 1))}
	for i, x := range boxes {
		for _, y := range boxes[:i] {
			meet(t, 0, x, y)
		}
	}
	check := func() {
		t.Helper()
		for _, x := range boxes {
			sealed := x.Seal(nil, []byte("text"))
			for _, y := range boxes {
				if x != y {
					mustOpen(t, 0, y, sealed, "text")
				}
			}
		}
	}
	check()
	for _, step := range []*Keys{keysOf(t, 1, 2), keysOf(t, 2, 1), keysOf(t, 2)} {
		for _, x := range boxes {
			x.SetKeys(step)
			check()
		}
	}
	// The key that is gone opens nothing any more, and the way back is one to other counters.
	old := boxes[0]
	old.SetKeys(keysOf(t, 1))
	wantVerdict(t, 0, boxes[1], old.Seal(nil, []byte("text")), OtherKey)
	counter := old.counter
	old.SetKeys(keysOf(t, 2))
	old.SetKeys(keysOf(t, 1))
	if old.Seal(nil, nil); old.counter != counter+1 {
		t.Errorf("the counter went from %d to %d", counter, old.counter)
	}
}

func TestKeys(t *testing.T) {
	secret := Draw()
	for _, text := range []string{Format(secret), strings.ToUpper(Format(secret)), base64.StdEncoding.EncodeToString(secret[:]), base64.RawStdEncoding.EncodeToString(secret[:])} {
		if got, err := ParseSecret(text); err != nil || got != secret {
			t.Errorf("%d characters: read as another one, error %v", len(text), err)
		}
	}
	for _, bad := range []string{"", "secret", Format(secret)[:62], Format(secret) + "00", Format(secret)[:63] + "x"} {
		if _, err := ParseSecret(bad); err == nil {
			t.Errorf("%q is read as a key", bad)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the text: %v", err)
		}
	}
	if _, err := NewKey([KeySize]byte{}); err == nil {
		t.Error("zero is a key")
	}
	if _, err := NewKeys(someKey(t, 1), someKey(t, 2), someKey(t, 1)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a key twice: %v", err)
	}
	if _, err := NewKeys(); err == nil {
		t.Error("no key is enough")
	}
	k := keysOf(t, 1, 2, 3)
	want := fmt.Sprintf("seals with %v, opens %v and %v, too", someKey(t, 1), someKey(t, 2), someKey(t, 3))
	if k.String() != want || len(k.IDs()) != 3 {
		t.Errorf("%v, want %v", k, want)
	}
	if fmt.Sprintf("%v %+v %#v", k, someKey(t, 1), someKey(t, 1)) != fmt.Sprintf("%s %s seal.Key(%s)", want, someKey(t, 1).id, someKey(t, 1).id) {
		t.Error("a key prints more than its ID")
	}
	if !k.Equal(keysOf(t, 1, 2, 3)) || k.Equal(keysOf(t, 1, 3, 2)) || k.Equal(keysOf(t, 1, 2)) {
		t.Error("keys compare wrongly")
	}
}

// Neither sealing nor opening takes memory, for any length.
func TestAllocations(t *testing.T) {
	a, b := New(keysOf(t, 1)), New(keysOf(t, 1))
	meet(t, 0, a, b)
	buf := make([]byte, 0, 66000)
	p := make([]byte, 65000)
	for _, n := range []int{0, 100, 1428, 65000} {
		if got := testing.AllocsPerRun(100, func() {
			sealed := a.Seal(buf[:0], p[:n])
			if _, _, v := b.Open(0, here, sealed); v != Opened {
				t.Fatalf("%d bytes: %v", n, v)
			}
		}); got != 0 {
			t.Errorf("%d bytes: %v allocations, want none", n, got)
		}
	}
	forged := a.Seal(nil, p[:1428])
	forged[100]++
	if got := testing.AllocsPerRun(100, func() { b.Open(0, here, forged) }); got != 0 {
		t.Errorf("a forged datagram of somebody known: %v allocations, want none", got)
	}
}

// FuzzOpen gives an outsider's bytes to a box that knows somebody: as they are, and behind the header of a real datagram.
func FuzzOpen(f *testing.F) {
	keys := keysOf(f, 1, 2)
	a := New(keys)
	f.Add([]byte{}, uint8(0))
	f.Add(a.Seal(nil, []byte("text")), uint8(0))
	f.Add(a.Seal(nil, bytes.Repeat([]byte("x"), 1400)), uint8(headerSize))
	f.Add(slices.Clone(a.hello(&a.salt, nil, &cookie{1})), uint8(8))
	f.Add(New(keysOf(f, 2)).Seal(nil, []byte("the older key")), uint8(20))
	f.Add([]byte("EV\x01\x01 not sealed at all"), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, keep uint8) {
		a, b := New(keys), New(keys)
		meet(t, 0, a, b)
		real := a.Seal(nil, []byte("a real one"))
		mixed := append(slices.Clone(real[:min(int(keep), len(real))]), in...)
		for _, d := range [][]byte{in, mixed} {
			if bytes.Equal(d, real) {
				continue
			}
			// The seeds are sealed with the key, as what was recorded would be: some get a hello.
			if p, _, v := b.Open(0, here, slices.Clone(d)); v == Opened || p != nil {
				t.Fatalf("%x: %v", d, v)
			}
		}
		if len(b.senders) != 1 {
			t.Fatalf("%d senders", len(b.senders))
		}
		mustOpen(t, 0, b, real, "a real one")
	})
}

func BenchmarkSeal(b *testing.B) {
	x := New(keysOf(b, 1))
	for _, n := range []int{100, 1428, 8928, 65000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, buf := make([]byte, n), make([]byte, 0, n+Overhead)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				x.Seal(buf, p)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	x, y := New(keysOf(b, 1)), New(keysOf(b, 1))
	meet(b, 0, x, y)
	s := y.senders[x.salt]
	for _, n := range []int{100, 1428, 8928, 65000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sealed := x.Seal(nil, make([]byte, n))
			buf := make([]byte, len(sealed))
			seen := s.seen
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, sealed) // it is opened in place; the copy is part of the figure
				s.seen.high = seen.high
				s.seen.bits[0] = 0
				s.seen.bits = seen.bits
				if _, _, v := y.Open(0, here, buf); v != Opened {
					b.Fatal(v)
				}
			}
		})
	}
}

// What an outsider costs with each datagram: one that names our key and a salt of nobody, one that names somebody known, one
// of a dead daemon.
func BenchmarkRefuse(b *testing.B) {
	x, y := New(keysOf(b, 1)), New(keysOf(b, 1))
	meet(b, 0, x, y)
	sealed := x.Seal(nil, make([]byte, 1428))
	forged := slices.Clone(sealed)
	forged[500]++
	stranger := slices.Clone(sealed)
	stranger[9]++
	for _, r := range []struct {
		name string
		b    []byte
		want Verdict
	}{
		{"plain", []byte("EV\x01\x01"), Plain},
		{"other-key", New(keysOf(b, 2)).Seal(nil, make([]byte, 1428)), OtherKey},
		{"unknown-salt", stranger, Forged},
		{"known-salt", forged, Forged},
	} {
		b.Run(r.name, func(b *testing.B) {
			buf := make([]byte, len(r.b))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, r.b)
				if _, _, v := y.Open(0, here, buf); v != r.want {
					b.Fatal(v)
				}
			}
		})
	}
	b.Run("dead-daemon", func(b *testing.B) {
		d := New(keysOf(b, 1)).Seal(nil, make([]byte, 1428))
		buf := make([]byte, len(d))
		b.ReportAllocs()
		for b.Loop() {
			copy(buf, d)
			if _, _, v := y.Open(0, here, buf); v != Unproven {
				b.Fatal(v)
			}
		}
	})
}
