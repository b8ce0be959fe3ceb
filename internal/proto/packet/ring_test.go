// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/seq"
)

func someToken() Token {
	return Token{
		Ring: evs.RingID{Seq: 1 << 40, Rep: 9}, TokenSeq: 77, Seq: 1000, ARU: 900, Install: 12, ARUID: 3, Sender: 2, FCC: 55,
		Backlog: 6, HasInstall: true, RTR: []Range{{901, 1}, {903, 40}, {1000, 1}},
	}
}

func TestTokenRoundTrip(t *testing.T) {
	for _, ranges := range []int{0, 1, 3, MaxRanges} {
		want := someToken()
		want.RTR = want.RTR[:0]
		want.Seq = 10 * MaxRanges
		for i := range ranges {
			want.RTR = append(want.RTR, Range{First: want.Seq - 10*MaxRanges + 1 + 2*seq.Num(i), Count: 1})
		}
		b := AppendToken(nil, &want)
		var got Token
		if err := ParseToken(b, &got); err != nil {
			t.Fatalf("%d ranges: %v", ranges, err)
		}
		if len(got.RTR) == 0 {
			got.RTR = want.RTR
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d ranges: got %+v, want %+v", ranges, got, want)
		}
		for n := range b {
			if ParseToken(b[:n], &got) == nil {
				t.Fatalf("%d ranges: accepted %d of %d bytes", ranges, n, len(b))
			}
		}
	}
}

func TestTokenRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Token){
		"aru above seq":         func(k *Token) { k.ARU = k.Seq + 1 },
		"request of nothing":    func(k *Token) { k.RTR[1].Count = 0 },
		"request above seq":     func(k *Token) { k.RTR[2].Count = 2 },
		"requests overlap":      func(k *Token) { k.RTR[0].Count = 3 },
		"requests descend":      func(k *Token) { k.RTR[0], k.RTR[1] = k.RTR[1], k.RTR[0] },
		"request wraps":         func(k *Token) { k.Seq, k.RTR[2] = ^seq.Num(0), Range{^seq.Num(0) - 1, 3} },
		"request of position 0": func(k *Token) { k.RTR[0] = Range{0, 1} },
	} {
		k := someToken()
		spoil(&k)
		if err := ParseToken(AppendToken(nil, &k), &Token{}); !errors.Is(err, ErrBody) {
			t.Errorf("%s: %v, want %v", name, err, ErrBody)
		}
	}
}

// whole is a sealed data packet with the given pieces.
func whole(d *Data, pieces []byte) []byte {
	b := AppendFiller(append(make([]byte, DataOffset), pieces...), int(d.Filler))
	PutDataHeader(b, d)
	NewSealer("c", evs.ProcID{Name: "a", Inc: 5}).Seal(b, KindData)
	return b
}

func somePieces() []byte {
	b := append(AppendPieceHeader(nil, Piece{Service: evs.Safe, First: true, Last: true}, 3), "abc"...)
	b = AppendPieceHeader(b, Piece{Service: evs.Reliable, Last: true, Stream: 9}, 0)
	return append(AppendPieceHeader(b, Piece{Service: evs.FIFO, First: true, Recovery: true, Stream: 255}, 4), 0, 1, 0, 0)
}

func TestDataRoundTrip(t *testing.T) {
	want := Data{Ring: evs.RingID{Seq: 4, Rep: 5}, Seq: 6, Visit: 7, Count: 8, Sender: 9, Flags: FlagPostToken, Pieces: somePieces()}
	b := whole(&want, want.Pieces)
	h, body, err := Open(ClusterID("c"), b)
	if err != nil || h.Kind != KindData || h.Sender != 5 || h.Counter != 1 {
		t.Fatalf("header %+v, %v", h, err)
	}
	var got Data
	if err := ParseData(body, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for n := range b {
		if _, _, err := Open(ClusterID("c"), b[:n]); err == nil {
			t.Fatalf("accepted %d of %d bytes", n, len(b))
		}
	}
	for i := range b { // M-3: corruption counts as loss
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, _, err := Open(ClusterID("c"), b); err == nil {
				t.Fatalf("accepted with bit %d of byte %d wrong", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
	if _, _, err := Open(ClusterID("d"), b); !errors.Is(err, ErrCluster) {
		t.Errorf("in another cluster: %v, want %v", err, ErrCluster)
	}
}

func TestFiller(t *testing.T) {
	parse := func(b []byte) (Data, error) {
		_, body, err := Open(ClusterID("c"), b)
		if err != nil {
			t.Fatal(err)
		}
		var d Data
		err = ParseData(body, &d)
		return d, err
	}
	for _, pieces := range [][]byte{nil, somePieces()} {
		for n := range MaxFiller + 1 {
			want := Data{Seq: 6, Count: 8, Filler: uint8(n), Pieces: pieces}
			b := whole(&want, pieces)
			if got, err := parse(b); err != nil || got.Filler != want.Filler || !bytes.Equal(got.Pieces, pieces) {
				t.Errorf("%d bytes behind pieces of %d: got %+v, %v", n, len(pieces), got, err)
			}
			if len(b) != DataOffset+len(pieces)+n {
				t.Errorf("%d bytes behind pieces of %d: packet of %d", n, len(pieces), len(b))
			}
		}
	}
	for name, spoil := range map[string]func(body []byte) []byte{
		"not zero":        func(b []byte) []byte { b[len(b)-1] = 1; return b },
		"not zero, first": func(b []byte) []byte { b[len(b)-10] = 1; return b },
		"among pieces":    func(b []byte) []byte { b[dataFillerAt]--; return b },
		"in a piece":      func(b []byte) []byte { b[dataFillerAt]++; return b },
		"too long":        func(b []byte) []byte { b[dataFillerAt] = MaxFiller + 1; return append(b, make([]byte, MaxFiller)...) },
		"in the header":   func(b []byte) []byte { return b[:DataHeaderSize+9] },
	} {
		d := Data{Seq: 6, Count: 8, Filler: 10}
		if err := ParseData(spoil(whole(&d, somePieces())[HeaderSize:]), &d); !errors.Is(err, ErrBody) {
			t.Errorf("%s: %v, want %v", name, err, ErrBody)
		}
	}
}

func TestPiecesRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"short header":            {1, 0, 0},
		"longer than the packet":  {1 | pieceFirst | pieceLast, 0, 2, 0, 7},
		"service 0":               {0 | pieceFirst | pieceLast, 0, 0, 0},
		"service 7":               {7 | pieceFirst | pieceLast, 0, 0, 0},
		"reserved bit":            {1 | 0x40, 0, 0, 0},
		"beginning without total": {1 | pieceFirst, 1, 3, 0, 1, 2, 3},
	} {
		if CheckPieces(b) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzRing: bodies of the packets of a ring never make a parser panic, and a token that is accepted encodes to itself.
func FuzzRing(f *testing.F) {
	k := someToken()
	f.Add(AppendToken(nil, &k))
	f.Add(whole(&Data{Seq: 1, Count: 1}, somePieces())[HeaderSize:])
	f.Add(whole(&Data{Seq: 1, Count: 1, Filler: MaxFiller}, somePieces())[HeaderSize:])
	f.Add(AppendHurry(nil, Hurry{Ring: evs.RingID{Seq: 1, Rep: 2}}))
	f.Add(AppendQuestion(nil, Question{Ring: evs.RingID{Seq: 1, Rep: 2}, Sender: 1, Asker: 2, Number: 3}))
	f.Add(append(AppendQuestion(nil, Question{Ring: evs.RingID{Seq: 1, Rep: 2}, Sender: 2, Asker: 2, Number: 3}), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		var k Token
		if ParseToken(b, &k) == nil {
			if again := AppendToken(nil, &k); !bytes.Equal(again, b) {
				t.Fatalf("another encoding of %+v", k)
			}
		}
		var d Data
		if ParseData(b, &d) == nil {
			n := 0
			for rest := d.Pieces; len(rest) > 0; {
				var p Piece
				rest = p.Take(rest)
				n += PieceHeaderSize + len(p.Bytes)
			}
			if n != len(d.Pieces) {
				t.Fatalf("pieces of %d bytes in %d", n, len(d.Pieces))
			}
			if again := whole(&d, d.Pieces)[HeaderSize:]; !bytes.Equal(again, b) {
				t.Fatalf("another encoding of %+v", d)
			}
		}
		if h, err := ParseHurry(b); err == nil && !bytes.Equal(AppendHurry(nil, h), b) {
			t.Fatal("another encoding of the same hurry")
		}
		if r, err := ParseQuestion(KindReach, b); err == nil && !bytes.Equal(AppendQuestion(nil, r), b) {
			t.Fatal("another encoding of the same question")
		}
		if s, err := ParseQuestion(KindSize, b); err == nil && (!bytes.HasPrefix(b, AppendQuestion(nil, s)) || s.Sender != s.Asker && len(b) != QuestionSize) {
			t.Fatal("another encoding of the same question about a length")
		}
	})
}
