// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"evensong/internal/proto/frame"
)

// TestVectors drives every client of every capture through a machine: the handshake answers must be the captured bytes,
// and each message must become the request that the capture names. Connections whose handshake was not captured get one.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("../../../testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	handshakes, messages := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Records []struct {
				Seq                        int
				Connection, Dir, Kind, Hex string
				Decoded                    struct {
					Sender       string
					PrivateGroup string `json:"private_group"`
				}
			}
		}
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		base := filepath.Base(file)
		conns := map[string]*driver{}
		taken := map[string]bool{}
		connection := func(cfg *Config) *driver {
			d := newDriver(t, cfg)
			d.decide = func(wanted string) (string, frame.Code) {
				if wanted == "" {
					wanted = "r8575-9" // what the captured daemon invented
				}
				if taken[wanted] {
					return "", frame.ErrRejectNotUnique
				}
				taken[wanted] = true
				return wanted, 0
			}
			return d
		}
		for _, r := range v.Records {
			at := fmt.Sprintf("%s record %d", base, r.Seq)
			raw, err := hex.DecodeString(r.Hex)
			if err != nil {
				t.Fatal(at, err)
			}
			d := conns[r.Connection]
			if d == nil {
				cfg := &Config{Daemon: "localhost", Methods: []AuthMethod{Null()}, Buffers: &Pool{}}
				if base == "05-handshake-reject-auth.json" {
					cfg.Methods = []AuthMethod{Null(), {Name: frame.AuthIP, Required: true, Check: func(netip.Addr, []byte) bool { return false }}}
				}
				if r.Kind == "message" && r.Dir == "client->daemon" {
					user, daemon, ok := frame.SplitPrivate(r.Decoded.Sender)
					if !ok {
						t.Fatalf("%s: sender %q", at, r.Decoded.Sender)
					}
					cfg.Daemon = daemon
					d = connection(cfg)
					d.feed([]byte(connect(user)+choice("NULL")), unlimited)
					d.out, d.ops = nil, nil
				} else if r.Kind == "connect" {
					d = connection(cfg)
				} else {
					continue // a delivery to a connection that says nothing in this file
				}
				conns[r.Connection] = d
			}
			switch {
			case r.Dir == "client->daemon" && r.Kind == "eof":
				d.end()
				if d.close != ReasonGone && d.close != ReasonKill {
					t.Errorf("%s: %v", at, d.close)
				}
			case r.Dir == "client->daemon":
				d.ops = nil
				d.feed(raw, unlimited)
				if r.Kind != "message" {
					continue
				}
				messages++
				m, _, _ := frame.ParseReceived(raw)
				want := Op{Type: m.Type, Hint: m.Hint, Groups: m.Groups, Data: m.Data}
				switch {
				case m.Type&frame.TypeJoin != 0:
					want.Kind, want.Group = OpJoin, m.Groups.At(0)
				case m.Type&frame.TypeLeave != 0:
					want.Kind, want.Group = OpLeave, m.Groups.At(0)
				case m.Type&frame.TypeKill != 0:
					want.Kind = OpKill
				default:
					want.Kind = OpMulticast
					want.Service, _ = m.Type.Service()
				}
				if len(d.ops) != 1 || d.ops[0] != opString(&want) || (d.close == ReasonKill) != (want.Kind == OpKill) {
					t.Errorf("%s: got %q %v, want %q", at, d.ops, d.close, opString(&want))
				}
			case r.Kind == "auth_list" || r.Kind == "accept" || r.Kind == "reject":
				handshakes++
				if len(d.out) < len(raw) || string(d.out[:len(raw)]) != string(raw) {
					t.Errorf("%s: answered %x, captured %x", at, d.out, raw)
					continue
				}
				d.out = d.out[len(raw):]
				if r.Kind == "reject" && d.close == Running {
					t.Errorf("%s: not closed", at)
				}
				if r.Kind == "accept" && d.m.Info().Private != r.Decoded.PrivateGroup {
					t.Errorf("%s: %q", at, d.m.Info().Private)
				}
			}
		}
		for name, d := range conns {
			if len(d.out) > 0 {
				t.Errorf("%s: %s got %x more than captured", base, name, d.out)
			}
		}
	}
	if handshakes != 21 || messages != 62 {
		t.Errorf("%d handshake answers and %d messages, want 21 and 62", handshakes, messages)
	}
}
