// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"evensong/internal/proto/evs"
)

// record is one unit of a capture; see appendix A of client-protocol.
type record struct {
	Seq        int
	Connection string
	Dir, Kind  string
	Hex        string
	Decoded    struct {
		ByteOrder     string `json:"byte_order"`
		Type          string
		Sender        string
		Groups        []string
		HintByteOrder string `json:"hint_byte_order"`
		MessType      int16  `json:"mess_type"`
		DataLen       int32  `json:"data_len"`
		DataHex       string `json:"data_hex"`
		Membership    *struct {
			GID   [3]int64   `json:"gid"`
			Sets  [][]string `json:"vs_sets"`
			Local *int       `json:"local_vs_index"`
		}
		Version      []uint8
		Flags        byte
		Name         string
		List         string
		Methods      []string
		PrivateGroup string `json:"private_group"`
		Code         int
	}
}

func eachRecord(t *testing.T, do func(t *testing.T, file string, r *record, raw []byte)) {
	t.Helper()
	files, err := filepath.Glob("../../../testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ Records []record }
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for i := range v.Records {
			r := &v.Records[i]
			raw, err := hex.DecodeString(r.Hex)
			if err != nil {
				t.Fatalf("%s record %d: %v", f, r.Seq, err)
			}
			do(t, filepath.Base(f), r, raw)
		}
	}
}

// cleaned is a frame without the bytes behind the NULs of its names.
func cleaned(raw []byte, groups int) []byte {
	out := bytes.Clone(raw)
	clean := func(f []byte) { clear(f[len(Name(f)):]) }
	clean(out[4:36])
	for i := range groups {
		clean(out[HeaderSize+i*NameSize:][:NameSize])
	}
	return out
}

func TestVectorMessages(t *testing.T) {
	count := 0
	eachRecord(t, func(t *testing.T, file string, r *record, raw []byte) {
		if r.Kind != "message" {
			return
		}
		count++
		at := fmt.Sprintf("%s record %d", file, r.Seq)
		m, n, fault := ParseReceived(raw)
		if fault != FaultNone || n != len(raw) {
			t.Fatalf("%s: parsed %d of %d bytes, %v", at, n, len(raw), fault)
		}
		d := &r.Decoded
		if got := fmt.Sprintf("0x%08x", uint32(m.Type)); got != d.Type {
			t.Errorf("%s: type %s, want %s", at, got, d.Type)
		}
		if m.Order.String() != d.ByteOrder+"-endian" || m.Hint.Order().String() != d.HintByteOrder+"-endian" {
			t.Errorf("%s: orders %v and %v", at, m.Order, m.Hint.Order())
		}
		if string(m.Name) != d.Sender || m.Hint.MessType() != d.MessType || m.DataLen != d.DataLen {
			t.Errorf("%s: %q %d %d", at, m.Name, m.Hint.MessType(), m.DataLen)
		}
		if got := m.Groups.Strings(); len(got) != len(d.Groups) || len(got) > 0 && !reflect.DeepEqual(got, d.Groups) {
			t.Errorf("%s: groups %q, want %q", at, got, d.Groups)
		}
		want := cleaned(raw, m.Groups.Len())
		if got := m.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: Append gives\n%x, want\n%x", at, got, want)
		}
		if r.Dir == "client->daemon" {
			private := string(m.Name)
			if fault := m.CheckClient(private); fault != FaultNone {
				t.Errorf("%s: CheckClient: %v", at, fault)
			}
			if m.Order == LittleEndian {
				if got := appendAsClient(t, &m); !bytes.Equal(got, want) {
					t.Errorf("%s: the client's Append gives\n%x, want\n%x", at, got, want)
				}
			}
			return
		}
		if got := appendAsDaemon(t, at, &m, d.Membership != nil); !bytes.Equal(got, want) {
			t.Errorf("%s: the daemon's Append gives\n%x, want\n%x", at, got, want)
		}
		if d.Membership == nil || m.Type.Kind() != KindView {
			return
		}
		v, own, err := ParseView(&m)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		for i, w := range d.Membership.GID {
			if v.ID[i] != uint32(w) {
				t.Errorf("%s: view id %v, want %v", at, v.ID, d.Membership.GID)
			}
		}
		if !reflect.DeepEqual(v.Sets, d.Membership.Sets) || own != *d.Membership.Local {
			t.Errorf("%s: sets %q own %d", at, v.Sets, own)
		}
	})
	if count != 211 {
		t.Errorf("%d messages in the vectors, want 211", count)
	}
}

// appendAsClient writes the message with the function that a client uses for it.
func appendAsClient(t *testing.T, m *Message) []byte {
	private := string(m.Name)
	switch {
	case m.Type&TypeJoin != 0:
		return AppendJoin(nil, private, string(m.Groups.At(0)))
	case m.Type&TypeLeave != 0:
		return AppendLeave(nil, private, string(m.Groups.At(0)))
	case m.Type&TypeKill != 0:
		return AppendKill(nil, private)
	}
	if err := CheckMulticast(m.Type, m.Groups.Strings(), len(m.Data)); err != nil {
		t.Error(err)
	}
	b := AppendMulticast(nil, private, m.Type, m.Hint.MessType(), m.Groups.Strings(), m.Data)
	if len(b) != MulticastSize(m.Groups.Len(), len(m.Data)) {
		t.Errorf("MulticastSize does not fit %d", len(b))
	}
	return b
}

// appendAsDaemon writes the message with the function that a daemon uses for it.
func appendAsDaemon(t *testing.T, at string, m *Message, membership bool) []byte {
	group := string(m.Name)
	switch m.Type.Kind() {
	case KindRegular:
		half := len(m.Data) / 2
		b := AppendRegular(nil, m.Type, m.Name, m.Hint, m.Groups, m.Data[:half], m.Data[half:])
		if len(b) != RegularSize(m.Groups, len(m.Data)) {
			t.Errorf("%s: RegularSize does not fit %d", at, len(b))
		}
		return b
	case KindView:
		v, own, err := ParseView(m)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		b := AppendView(nil, &v, 0)
		v.PatchOwn(b, own)
		if len(b) != v.Size() {
			t.Errorf("%s: Size %d, wrote %d", at, v.Size(), len(b))
		}
		return b
	case KindTransition:
		id, ok := ParseTransition(m)
		if !ok {
			t.Errorf("%s: no view id", at)
		}
		return AppendTransition(nil, group, id)
	case KindSelfLeave:
		return AppendSelfLeave(nil, group)
	case KindReject, KindUnknown:
	}
	t.Fatalf("%s: unexpected %v", at, m.Type)
	return nil
}

func TestVectorHandshakes(t *testing.T) {
	seen := map[string]int{}
	client := map[string]Version{} // by file and connection
	eachRecord(t, func(t *testing.T, file string, r *record, raw []byte) {
		at, who, d := fmt.Sprintf("%s record %d", file, r.Seq), file+r.Connection, &r.Decoded
		switch r.Kind {
		case "connect":
			c, n, code := ParseConnect(raw)
			client[who] = c.Version
			switch {
			case code == ErrRejectVersion && c.Version.TooOld():
			case code == ErrRejectIllegalName && d.Name == "a#b":
			case code != 0 || n != len(raw):
				t.Errorf("%s: %d of %d, %v", at, n, len(raw), code)
			default:
				if c.Flags != d.Flags || c.User != d.Name {
					t.Errorf("%s: %+v", at, c)
				}
				if got := c.Append(nil); !bytes.Equal(got, raw) {
					t.Errorf("%s: %x, want %x", at, got, raw)
				}
			}
		case "auth_list":
			methods, n, code := ParseAuthList(raw)
			if n != len(raw) || code != 0 || !bytes.Equal(AppendAuthList(nil, methods), raw) {
				t.Errorf("%s: %q %d %v", at, methods, n, code)
			}
		case "auth_choice":
			methods := ParseAuthChoice(raw)
			got, err := AppendAuthChoice(nil, methods...)
			if err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%s: %q %v", at, methods, err)
			}
		case "accept":
			v, private, n, code := ParseAccept(raw, client[who])
			if code != 0 || n != len(raw) || private != d.PrivateGroup || v != Ours {
				t.Errorf("%s: %v %q %d %v", at, v, private, n, code)
			}
			if got := AppendAccept(nil, client[who], private); !bytes.Equal(got, raw) {
				t.Errorf("%s: %x, want %x", at, got, raw)
			}
		case "reject":
			if code := Code(raw[0]); int(code) != d.Code || !code.Known() {
				t.Errorf("%s: %v", at, code)
			}
		default:
			return
		}
		seen[r.Kind]++
	})
	if want := map[string]int{"connect": 13, "auth_list": 8, "auth_choice": 8, "accept": 9, "reject": 4}; !reflect.DeepEqual(seen, want) {
		t.Errorf("records %v, want %v", seen, want)
	}
}

// TestBigEndianView is the view that client-protocol 5.3 constructs for a big-endian daemon.
func TestBigEndianView(t *testing.T) {
	alice := "#alice#localhost"
	v := View{Group: "g1", Cause: evs.CausedByJoin, ID: evs.ViewID{0x7f000001, 0x6b02b78c, 1}, Members: []string{alice}, Sets: [][]string{{alice}}, Order: BigEndian}
	var want []byte
	want = append(want, 0, 0, 0x11, 0)
	want = AppendName(want, "g1")
	want = append(want, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x38)
	want = AppendName(want, alice)
	want = append(want, 0x7f, 0, 0, 1, 0x6b, 2, 0xb7, 0x8c, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1)
	want = AppendName(want, alice)
	got := AppendView(nil, &v, 0)
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %x\nwant %x", got, want)
	}
	m, n, fault := ParseReceived(got)
	if n != len(got) || fault != FaultNone {
		t.Fatal(n, fault)
	}
	back, own, err := ParseView(&m)
	if err != nil || own != 0 || !reflect.DeepEqual(back, v) {
		t.Fatalf("%+v %d %v", back, own, err)
	}
	if who, ok := back.Changed(); !ok || who != alice {
		t.Error(who, ok)
	}
}
