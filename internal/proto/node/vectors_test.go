// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// The captures in testdata/vectors replay against nodes: what the clients sent goes in, and what they received must come
// out, byte for byte. Only the words of group ids differ: they compare up to renaming, and one of ours never stands for
// two of theirs (client-protocol 5.2). Files that share sessions and groups are replayed on one cluster, in order.
//
// Not here: 23 to 26 belong to the flush layer.
var replays = []struct {
	daemons []string
	files   []string
}{
	{[]string{"localhost"}, []string{"01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17", "18"}},
	{[]string{"d1", "d2", "d3"}, []string{"19", "20", "21", "22"}},
}

type vector struct {
	Name    string
	Records []record
}

type record struct {
	Seq        int
	Connection string
	Dir        string
	Kind       string
	Hex        string
}

func loadVector(t *testing.T, prefix string) vector {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "testdata", "vectors", prefix+"-*.json"))
	if len(files) != 1 {
		t.Fatalf("vector %s: found %v", prefix, files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// replay is one run of vectors against one cluster.
type replay struct {
	*cluster
	conns map[string]*testConn
	ids   map[[12]byte][12]byte // ours -> theirs
}

func TestVectors(t *testing.T) {
	for _, r := range replays {
		t.Run(strings.Join(r.daemons, ","), func(t *testing.T) {
			p := &replay{cluster: newCluster(t, r.daemons...), conns: map[string]*testConn{}, ids: map[[12]byte][12]byte{}}
			for _, f := range r.files {
				p.file(loadVector(t, f))
			}
		})
	}
}

func (p *replay) file(v vector) {
	want := map[string][]record{}
	p.before(v.Name)
	var order []string
	for _, r := range v.Records {
		k := p.connection(v, r)
		if r.Dir == "daemon->client" {
			if want[r.Connection] == nil {
				order = append(order, r.Connection)
			}
			want[r.Connection] = append(want[r.Connection], r)
			continue
		}
		switch r.Kind {
		case "eof":
			if !k.closed {
				p.hangUp(k)
				k.closed = true
			}
		default:
			b, err := hex.DecodeString(r.Hex)
			if err != nil {
				p.t.Fatal(err)
			}
			p.send(k, b)
		}
		switch {
		case v.Name != "22-network-daemon-crash":
			p.pass(30 * time.Millisecond)
		case r.Seq >= 3:
			p.pass(time.Second) // the first two messages were sent in the gap, the last one behind the new view
		}
	}
	p.pass(2 * time.Second)
	for _, label := range order {
		p.compare(v.Name, label, want[label])
	}
	for label, k := range p.conns {
		if len(k.got) > 0 {
			p.t.Errorf("%s: %s got %d bytes that the capture does not have: % x", v.Name, label, len(k.got), k.got)
			k.got = nil
		}
	}
}

// before does what happened to the network before a capture.
func (p *replay) before(name string) {
	switch name {
	case "05-handshake-reject-auth":
		ip := session.AuthMethod{Name: frame.AuthIP, Required: true, Check: func(peer netip.Addr, _ []byte) bool {
			return access.Networks{netip.MustParsePrefix("10.0.0.0/8")}.Contains(peer)
		}}
		p.setAccess(0, nil, session.Null(), ip)
	case "06-handshake-old-versions":
		p.setAccess(0, nil, session.Null())
	case "20-network-partition":
		p.side = []int{0, 1, 1}
		p.pass(2 * time.Second)
	case "21-network-merge-vs-sets":
		p.side = []int{0, 0, 0}
		p.pass(2 * time.Second)
	case "22-network-daemon-crash":
		p.nodes[2].dead = true
		for _, k := range p.conns {
			k.closed = k.closed || k.node == 2
		}
		p.pass(100 * time.Millisecond)
	}
}

// connection finds a record's connection, or makes it: with a handshake of its own if the capture begins behind it.
func (p *replay) connection(v vector, r record) *testConn {
	if k := p.conns[r.Connection]; k != nil && !(k.closed && r.Kind == "connect") {
		return k
	}
	node := 0
	if _, d, ok := strings.Cut(r.Connection, "@d"); ok {
		fmt.Sscanf(d, "%d", &node)
		node--
	}
	var k *testConn
	if r.Kind == "connect" {
		k = p.dial(node)
	} else {
		user, _, _ := strings.Cut(r.Connection, "@")
		k = p.connect(node, user, true)
	}
	p.conns[r.Connection] = k
	return k
}

func (p *replay) compare(name, label string, want []record) {
	k := p.conns[label]
	for _, r := range want {
		if r.Kind == "eof" {
			if !k.closed {
				p.t.Errorf("%s record %d: %s is still connected", name, r.Seq, label)
			}
			continue
		}
		w, err := hex.DecodeString(r.Hex)
		if err != nil {
			p.t.Fatal(err)
		}
		if r.Kind == "accept" && name == "02-handshake-empty-name" {
			// The daemon invents the name: r<number>-<number>, at most ten characters.
			n := 5 + int(k.got[4])
			if got := string(k.got[5:n]); !strings.HasPrefix(got, "#r") || !strings.HasSuffix(got, "#localhost") || len(got) > 21 {
				p.t.Errorf("%s: invented name %q", name, got)
			}
			k.got = k.got[n:]
			continue
		}
		if len(k.got) < len(w) {
			p.t.Errorf("%s record %d: %s got % x, want % x", name, r.Seq, label, k.got, w)
			k.got = nil
			return
		}
		got := append([]byte(nil), k.got[:len(w)]...)
		k.got = k.got[len(w):]
		if r.Kind == "message" {
			p.rename(name, r.Seq, got, w)
		}
		if !bytes.Equal(got, w) {
			p.t.Errorf("%s record %d to %s:\n got % x\nwant % x", name, r.Seq, label, got, w)
		}
	}
}

// rename replaces the words of a group id in got by those that they stand for in the capture.
func (p *replay) rename(name string, seq int, got, want []byte) {
	h := frame.ParseHeader(want)
	at := frame.HeaderSize
	switch h.Type.Kind() {
	case frame.KindView:
		at += frame.NameSize * int(h.NumGroups)
	case frame.KindTransition:
	default:
		return
	}
	ours, theirs := [12]byte(got[at:at+12]), [12]byte(want[at:at+12])
	if was, ok := p.ids[ours]; ok && was != theirs {
		p.t.Errorf("%s record %d: our group id % x stands for % x and for % x", name, seq, ours, was, theirs)
	}
	p.ids[ours] = theirs
	copy(got[at:], theirs[:])
}
