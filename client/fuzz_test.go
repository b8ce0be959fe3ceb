// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzReader gives the reader any stream, in pieces of any size: it must end with an error that has a code, keep to its
// bounds, and find the same events in one piece as in many.
func FuzzReader(f *testing.F) {
	for _, v := range loadVectors(f) {
		var stream []byte
		for _, r := range v.Records {
			if r.Dir == "daemon->client" && r.Kind == "message" {
				stream = append(stream, r.bytes(f)...)
			}
		}
		f.Add(stream, byte(7))
		f.Add(append(stream, make([]byte, 48)...), byte(0))
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece byte) {
		whole := readAll(t, stream, len(stream)+1)
		parts := readAll(t, stream, int(piece)+1)
		if whole != parts {
			t.Errorf("%d events in one piece, %d in pieces of %d bytes", whole, parts, piece+1)
		}
	})
}

func readAll(t *testing.T, stream []byte, piece int) (events int) {
	c := &Conn{nc: &streamConn{r: bytes.NewReader(stream), piece: piece}, opts: options{readBuffer: minReadBuffer}}
	r := reader{conn: c, read: c.nc.Read, buf: make([]byte, minReadBuffer)}
	for {
		err := r.fill()
		for {
			ev, n, decodeErr := r.next()
			if decodeErr != nil {
				err = decodeErr
			}
			if ev == nil || decodeErr != nil {
				break
			}
			if n < 48 {
				t.Fatalf("an event counts for %d bytes", n)
			}
			ev.GroupName()
			events++
		}
		if limit := 2*len(stream) + 2*minReadBuffer; len(r.buf) > limit {
			t.Fatalf("a buffer of %d bytes for a stream of %d", len(r.buf), len(stream))
		}
		if err != nil {
			if _, ok := errors.AsType[Code](r.explain(err)); !ok {
				t.Fatalf("error without a code: %v", err)
			}
			return events
		}
	}
}

// streamConn is a connection that has only a reading side.
type streamConn struct {
	net.Conn
	r     io.Reader
	piece int
}

func (s *streamConn) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.piece)]) }

func (s *streamConn) SetDeadline(time.Time) error { return nil }
