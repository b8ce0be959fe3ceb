// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"evensong/internal/host"
	"evensong/internal/proto/node"
	"evensong/internal/proto/session"
)

// A capture is what real clients and a real daemon of the original said to each other (client-protocol appendix A).
type capture struct {
	Name    string
	Records []record
}

type record struct {
	Connection, Dir, Kind, Hex string
}

func (r *record) sent() bool { return r.Dir == "client->daemon" }

// ordered puts messages that several clients sent at the same time into the order in which they were delivered.
func (c *capture) ordered() {
	for i := 0; i < len(c.Records); {
		run := 0
		for i+run < len(c.Records) && c.Records[i+run].sent() && c.Records[i+run].Kind == "message" {
			run++
		}
		if run < 2 {
			i++
			continue
		}
		place := func(sent record) int {
			return slices.IndexFunc(c.Records[i+run:], func(got record) bool { return !got.sent() && got.Hex == sent.Hex })
		}
		slices.SortStableFunc(c.Records[i:i+run], func(a, b record) int { return cmp.Compare(place(a), place(b)) })
		i += run
	}
}

// A replay speaks for the clients of captures and compares what the daemon says: each byte, except the words of group ids,
// which compare up to renaming, and one of ours never stands for two of theirs (client-protocol 5.2).
type replay struct {
	*conversation
	peers map[string]*peer
	ahead map[*peer][]byte // read before its time
	ended map[*peer]bool   // we have said all
	ids   map[gid]gid      // ours to theirs
}

// TestCaptures replays captures of one daemon: of the C and the Java client, of one that requires an address that the
// client does not have, and of the flush layer. Those of three daemons are replayed in internal/proto/node.
func TestCaptures(t *testing.T) {
	nobody := session.AuthMethod{Name: "IP", Required: true, Check: func(netip.Addr, []byte) bool { return false }}
	for _, of := range []struct {
		what    string
		files   string
		methods []session.AuthMethod
	}{
		{"clients", "01 02 03 04 06 07 08 09 10 11 12 13 14 15 16 17 18", nil},
		{"address", "05", []session.AuthMethod{session.Null(), nobody}},
		{"flush", "23 24 25 26", nil},
	} {
		for _, w := range ways(1) {
			if w.socket == "portable" {
				continue // the daemon is one for this test
			}
			t.Run(of.what+"/"+w.String(), func(t *testing.T) {
				s := start(t, "localhost", func(_ *host.Config, nc *node.Config) { nc.Session.Methods = of.methods })
				r := &replay{conversation: &conversation{T: t, way: w, server: s}, peers: map[string]*peer{}, ahead: map[*peer][]byte{}, ended: map[*peer]bool{}, ids: map[gid]gid{}}
				for _, n := range strings.Fields(of.files) {
					r.file(n)
				}
			})
		}
	}
}

func (r *replay) file(number string) {
	found, _ := filepath.Glob(filepath.Join("..", "..", "testdata", "vectors", number+"-*.json"))
	if len(found) != 1 {
		r.Fatalf("captures %s: %v", number, found)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		r.Fatal(err)
	}
	var c capture
	if err := json.Unmarshal(b, &c); err != nil {
		r.Fatal(err)
	}
	c.ordered()
	for i, rec := range c.Records {
		b, err := hex.DecodeString(rec.Hex)
		if err != nil {
			r.Fatal(err)
		}
		p := r.peers[rec.Connection]
		if p == nil || r.ended[p] && rec.Kind != "eof" {
			if rec.Kind == "connect" {
				p = r.dial(rec.Connection)
			} else {
				p = r.member(rec.Connection)
			}
			r.peers[rec.Connection] = p
		}
		p.what = c.Name + ": " + rec.Connection
		switch {
		case rec.sent() && rec.Kind == "eof":
			p.halfClose()
			r.ended[p] = true
		case rec.sent():
			p.send(b)
			if i+1 < len(c.Records) && c.Records[i+1].sent() && rec.Kind == "message" && c.Records[i+1].Kind == "message" {
				r.settle(p)
			}
		case rec.Kind == "eof":
			p.wantEnd()
			delete(r.peers, rec.Connection)
		case rec.Kind == "message":
			r.message(p, b)
		case rec.Kind == "accept" && number == "02":
			// The daemon invents the name.
			p.want("acceptance", b[:4])
			n, err := p.read(1)
			if err != nil {
				r.Fatal(err)
			}
			if name, err := p.read(int(n[0])); err != nil || !strings.HasPrefix(string(name), "#r") || !strings.HasSuffix(string(name), "#localhost") {
				r.Fatalf("an invented name: %q, %v", name, err)
			}
		default:
			p.want(rec.Kind, b)
			if rec.Kind == "accept" {
				_, name, _ := strings.Cut(string(b), "#")
				p.me = "#" + name
			}
		}
	}
}

// member is a session of a client whose handshake the capture does not have.
func (r *replay) member(label string) *peer {
	r.Helper()
	user, _, _ := strings.Cut(label, "(")
	user = strings.TrimSpace(user)
	for {
		p := r.dial(label)
		flags := byte(1)
		if strings.Contains(label, "no memb") {
			flags = 0
		}
		p.send(connect(user, flags))
		b, err := p.read(1)
		if err != nil {
			r.Fatal(err)
		}
		if b[0] == byte(0x100+rejectNotUnique) {
			p.conn.Close() // its former life has not quite ended
			continue
		}
		p.want("the list", list("NULL")[1:])
		p.send(choice("NULL"))
		p.me = "#" + user + "#localhost"
		p.want("acceptance", accept(p.me))
		return p
	}
}

// settle waits until the daemon has done what p has asked for, so that it comes before what others ask for now.
func (r *replay) settle(p *peer) {
	r.Helper()
	m := p.message(agreed, "", p.me)
	p.send(m.bytes())
	for {
		f := p.next()
		if string(f) == string(m.delivered()) {
			return
		}
		r.ahead[p] = append(r.ahead[p], f...)
	}
}

// message reads what the capture has.
func (r *replay) message(p *peer, want []byte) {
	r.Helper()
	n := min(len(want), len(r.ahead[p]))
	got, err := p.read(len(want) - n)
	got = slicesJoin(r.ahead[p][:n], got)
	r.ahead[p] = r.ahead[p][n:]
	if err != nil {
		r.Fatalf("%s: %v\n%s", p.what, err, differ(got, want))
	}
	typ := uint32(want[0])&0x7f | uint32(want[1])<<8
	if typ&(regMemb|transition) != 0 {
		at := headerSize
		if typ&regMemb != 0 {
			at += nameSize * (int(want[36]) | int(want[37])<<8)
		}
		ours, theirs := gid(got[at:at+12]), gid(want[at:at+12])
		if was, ok := r.ids[ours]; ok && was != theirs {
			r.Errorf("%s: our id % x stands for % x and % x", p.what, ours, was, theirs)
		}
		r.ids[ours] = theirs
		copy(got[at:], theirs[:])
	}
	if string(got) != string(want) {
		r.Fatalf("%s\n%s", p.what, differ(got, want))
	}
}
