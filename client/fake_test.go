// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/internal/proto/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout ends a test that hangs; nothing waits for it when all is well.
const testTimeout = 10 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// peer is the daemon's end of a session in a test: a script calls its methods. It fails the test with Errorf, because
// scripts run in goroutines of their own.
type peer struct {
	t  testing.TB
	nc net.Conn
}

// serve runs script for one session over an in-memory connection and returns the option that makes Dial use it.
func serve(t testing.TB, script func(p *peer)) Option {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer theirs.Close()
		theirs.SetDeadline(time.Now().Add(testTimeout))
		script(&peer{t, theirs})
	})
	t.Cleanup(func() {
		ours.Close()
		wg.Wait()
	})
	return WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return ours, nil })
}

// listen is serve on a real listener; network is "tcp" or "unix". It returns the address for Dial.
func listen(t testing.TB, network string, script func(p *peer)) string {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(testTimeout))
		script(&peer{t, nc})
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	if network == "unix" {
		return "unix:" + at
	}
	return ln.Addr().String()
}

func (p *peer) expect(want []byte, what string) bool {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.nc, got); err != nil {
		p.t.Errorf("%s: %v", what, err)
		return false
	}
	if string(got) != string(want) {
		p.t.Errorf("%s:\n got %x\nwant %x", what, got, want)
		return false
	}
	return true
}

// send writes and does not complain: a client may close while the daemon writes.
func (p *peer) send(b []byte) bool {
	_, err := p.nc.Write(b)
	return err == nil
}

// accept plays the usual handshake and gives the session the private group.
func (p *peer) accept(private string) bool {
	head := make([]byte, 5)
	if _, err := io.ReadFull(p.nc, head); err != nil {
		return false
	}
	io.ReadFull(p.nc, make([]byte, head[4]))
	if !p.send([]byte("\x05NULL ")) {
		return false
	}
	choice := make([]byte, frame.AuthChoiceSize)
	if _, err := io.ReadFull(p.nc, choice); err != nil {
		return false
	}
	return p.send(frame.AppendAccept(nil, frame.Ours, private))
}

// receive reads one frame; nil at the end of the stream.
func (p *peer) receive() *frame.Message {
	head := make([]byte, frame.HeaderSize)
	if _, err := io.ReadFull(p.nc, head); err != nil {
		return nil
	}
	h := frame.ParseHeader(head)
	body := make([]byte, h.BodySize())
	if _, err := io.ReadFull(p.nc, body); err != nil {
		return nil
	}
	m := frame.Message{Header: h}
	m.Split(body)
	return &m
}

// drain reads frames until the kill or the end of the stream, and returns them.
func (p *peer) drain() (all []*frame.Message) {
	for {
		m := p.receive()
		if m == nil {
			return all
		}
		all = append(all, m)
		if m.Type&frame.TypeKill != 0 {
			return all
		}
	}
}

func dial(t testing.TB, opts ...Option) *Conn {
	t.Helper()
	c, err := Dial(testContext(t), "4803@test", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func next[E Event](t testing.TB, c *Conn) E {
	t.Helper()
	ev, err := c.Next(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := ev.(E)
	if !ok {
		t.Fatalf("got %T, want %T", ev, e)
	}
	return e
}

func regular(sender, group string, messType int16, data string) []byte {
	return frame.AppendRegular(nil, frame.TypeAgreed, sender, frame.NewHint(messType, frame.LittleEndian),
		frame.AppendName(nil, group), []byte(data))
}

// vector is one file of captures between real clients and the original's daemon (docs/wire/client-protocol.md,
// appendix A).
type vector struct {
	Name    string
	Client  string
	Records []record
}

type record struct {
	Connection, Dir, Kind, Hex string
	Decoded                    struct {
		ByteOrder     string   `json:"byte_order"`
		HintByteOrder string   `json:"hint_byte_order"`
		TypeBits      []string `json:"type_bits"`
		Type          string
		Sender        string
		Groups        []string
		MessType      int16  `json:"mess_type"`
		DataHex       string `json:"data_hex"`
		Membership    *struct {
			GID          [3]uint32
			VSSets       [][]string `json:"vs_sets"`
			LocalVSIndex int        `json:"local_vs_index"`
		}
		Transition *struct{ GID [3]uint32 }
	}
}

func (r *record) bytes(t testing.TB) []byte {
	b, err := hex.DecodeString(r.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("../testdata/vectors/*.json")
	if err != nil || len(files) < 26 {
		t.Fatalf("found %d vector files, want 26 (%v)", len(files), err)
	}
	var all []vector
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, v)
	}
	return all
}

// dialTo opens a TCP connection to addr, whatever Dial was asked for.
func dialTo(addr string) DialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}
