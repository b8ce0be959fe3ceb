// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"evensong/internal/proto/frame"
)

// TestHandshakeVectors plays each captured handshake: the client must write the same bytes and understand the answers.
func TestHandshakeVectors(t *testing.T) {
	played := 0
	for _, v := range loadVectors(t) {
		// Old clients are not ours; what the captures of other clients look like is up to them.
		if strings.HasPrefix(v.Name, "06-") {
			continue
		}
		for _, name := range connections(v) {
			var steps []record
			for _, r := range v.Records {
				if r.Connection == name && r.Kind != "message" {
					steps = append(steps, r)
				}
			}
			if len(steps) == 0 || steps[0].Kind != "connect" {
				continue
			}
			t.Run(v.Name+"/"+name, func(t *testing.T) { playHandshake(t, steps) })
			played++
		}
	}
	if played < 8 {
		t.Errorf("only %d handshakes in the vectors", played)
	}
}

func connections(v vector) (names []string) {
	for _, r := range v.Records {
		if !slices.Contains(names, r.Connection) {
			names = append(names, r.Connection)
		}
	}
	return names
}

func playHandshake(t *testing.T, steps []record) {
	connect, _, _ := frame.ParseConnect(steps[0].bytes(t))
	name := connect.User
	if !frame.LegalUser(name) && name == "" && steps[0].bytes(t)[4] > 0 {
		name = string(steps[0].bytes(t)[5:]) // the name that is refused
	}
	legal := name == "" || frame.LegalUser(name)
	var want Code
	private := ""
	opt := serve(t, func(p *peer) {
		if !legal {
			return
		}
		for _, s := range steps {
			switch s.Dir {
			case "client->daemon":
				if !p.expect(s.bytes(t), s.Kind) {
					return
				}
			case "daemon->client":
				p.send(s.bytes(t))
			}
		}
		p.drain()
	})
	for _, s := range steps {
		switch s.Kind {
		case "reject":
			b := s.bytes(t)
			want = Code(b[len(b)-1])
		case "accept":
			b := s.bytes(t)
			private = string(b[5:])
		}
	}
	c, err := Dial(testContext(t), "4803@test", opt, WithName(name), WithMembership(connect.Membership()),
		WithPriority(int(connect.Priority())))
	if want != 0 {
		if !errors.Is(err, want) {
			t.Fatalf("Dial: %v, want %v", err, want)
		}
		if got, ok := errors.AsType[Code](err); !ok || got != want {
			t.Errorf("code of %v is %d, want %d", err, got, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.PrivateGroup() != private || c.DaemonVersion() != (Version{4, 4, 0}) {
		t.Errorf("session is %q at %v, want %q at 4.4.0", c.PrivateGroup(), c.DaemonVersion(), private)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestDeliveryVectors gives each session of the captures what the daemon sent to it, once in large and once in the
// smallest pieces, and compares the events with the decoded form in the file.
func TestDeliveryVectors(t *testing.T) {
	for _, v := range loadVectors(t) {
		for _, name := range connections(v) {
			var sent []record
			for _, r := range v.Records {
				if r.Connection == name && r.Dir == "daemon->client" && r.Kind == "message" {
					sent = append(sent, r)
				}
			}
			if len(sent) == 0 {
				continue
			}
			for _, piece := range []int{1 << 20, 1, 50} {
				t.Run(v.Name+"/"+name+"/"+strconv.Itoa(piece), func(t *testing.T) { playDeliveries(t, sent, piece) })
			}
		}
	}
}

func playDeliveries(t *testing.T, sent []record, piece int) {
	var stream []byte
	for _, r := range sent {
		stream = append(stream, r.bytes(t)...)
	}
	c := dial(t, serve(t, func(p *peer) {
		p.accept("#me#here")
		for part := range slices.Chunk(stream, piece) {
			if !p.send(part) {
				return
			}
		}
		p.drain()
	}))
	for _, r := range sent {
		ev, err := c.Next(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		compareEvent(t, ev, &r)
	}
}

func compareEvent(t *testing.T, ev Event, r *record) {
	t.Helper()
	d := &r.Decoded
	switch ev := ev.(type) {
	case *Message:
		data, _ := hex.DecodeString(d.DataHex)
		typ, _ := strconv.ParseUint(strings.TrimPrefix(d.Type, "0x"), 16, 32)
		if ev.Sender != d.Sender || !slices.Equal(ev.Groups, d.Groups) || ev.Type != d.MessType ||
			ev.Service != Service(typ) || ev.EndianMismatch != (d.HintByteOrder != nativeOrder.String()[:len(d.HintByteOrder)]) {
			t.Errorf("message %+v, want %+v", ev, d)
		}
		if d.DataHex != "" && string(ev.Data) != string(data) {
			t.Errorf("data %x, want %x", ev.Data, data)
		}
	case *View:
		if d.Membership == nil {
			t.Fatalf("view for %v", d.TypeBits)
		}
		if ev.Group != d.Sender || ev.ID != d.Membership.GID || !slices.Equal(ev.Members, d.Groups) || ev.Mine != d.Membership.LocalVSIndex {
			t.Errorf("view %+v, want %+v", ev, d)
		}
		if !slices.EqualFunc(ev.VSSets, d.Membership.VSSets, func(a, b []string) bool { return slices.Equal(a, b) }) {
			t.Errorf("vs sets %v, want %v", ev.VSSets, d.Membership.VSSets)
		}
		if bit := "CAUSED_BY_" + strings.ToUpper(ev.Cause.String()); !slices.Contains(d.TypeBits, bit) {
			t.Errorf("cause %v, want one of %v", ev.Cause, d.TypeBits)
		}
		changed := ev.Joined + ev.Left + ev.Disconnected
		if (ev.Cause == CausedByNetwork) != (changed == "") || changed != "" && changed != d.Membership.VSSets[0][0] {
			t.Errorf("changed member %q with cause %v", changed, ev.Cause)
		}
	case *Transition:
		if d.Transition == nil || ev.Group != d.Sender || ev.ID != d.Transition.GID {
			t.Errorf("transition %+v, want %+v", ev, d)
		}
	case *SelfLeave:
		if ev.Group != d.Sender || !slices.Equal(d.TypeBits, []string{"CAUSED_BY_LEAVE"}) {
			t.Errorf("self-leave %+v, want %+v", ev, d)
		}
	default:
		t.Errorf("unexpected %T for %v", ev, d.TypeBits)
	}
}

// TestRequestVectors makes the requests of the captured C clients again: the frames must be the same bytes.
func TestRequestVectors(t *testing.T) {
	n := 0
	for _, v := range loadVectors(t) {
		for _, r := range v.Records {
			if r.Dir != "client->daemon" || r.Kind != "message" || r.Decoded.ByteOrder != "little" || r.Decoded.HintByteOrder != "little" {
				continue
			}
			want := r.bytes(t)
			m, size, _ := frame.ParseReceived(want)
			if size != len(want) {
				t.Fatalf("%s: a record is not one frame", v.Name)
			}
			if m.Type&frame.TypeKill != 0 {
				want = m.Append(nil) // without what the C library leaves behind the name's NUL
			}
			got := request(t, &m)
			if string(got) != string(want) {
				t.Errorf("%s %v:\n got %x\nwant %x", v.Name, m.Type, got, want)
			}
			n++
		}
	}
	if n < 40 {
		t.Errorf("only %d requests in the vectors", n)
	}
}

// request lets a client make the request m and returns the bytes that the daemon got.
func request(t *testing.T, m *frame.Message) (got []byte) {
	done := make(chan struct{})
	private := string(m.Name)
	c := dial(t, serve(t, func(p *peer) {
		defer close(done)
		p.accept(private)
		if r := p.receive(); r != nil {
			got = r.Append(nil)
		}
		p.nc.Close()
	}))
	ctx := context.Background()
	groups := m.Groups.Strings()
	var err error
	switch {
	case m.Type&frame.TypeJoin != 0:
		err = c.Join(ctx, groups[0])
	case m.Type&frame.TypeLeave != 0:
		err = c.Leave(ctx, groups[0])
	case m.Type&frame.TypeKill != 0:
		c.Close()
	default:
		half := len(m.Data) / 2
		err = c.MulticastParts(ctx, Service(m.Type), m.Hint.MessType(), [][]byte{m.Data[:half], m.Data[half:]}, groups...)
	}
	if err != nil {
		t.Fatal(err)
	}
	<-done
	return got
}
