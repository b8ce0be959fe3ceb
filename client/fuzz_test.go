// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// FuzzReader gives the reader any stream, in pieces of any size: it must end with an error that has a code, keep to its
// bounds, and find the same events in one piece as in many. In one piece no message is read straight to its data.
func FuzzReader(f *testing.F) {
	for _, v := range loadVectors(f) {
		var stream []byte
		for _, r := range v.Records {
			if r.Dir == "daemon->client" && r.Kind == "message" {
				stream = append(stream, r.bytes(f)...)
			}
		}
		f.Add(stream, uint16(7), false)
		f.Add(append(stream, make([]byte, 48)...), uint16(0), false)
	}
	for _, own := range []bool{false, true} {
		for _, piece := range []uint16{0, 255, 5000, 20000} {
			f.Add(largeStream(own, nil), piece, own)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece uint16, own bool) {
		whole := readAll(t, stream, len(stream)+1, own)
		parts := readAll(t, stream, int(piece)+1, own)
		if whole != parts {
			t.Errorf("in one piece:\n%.2000s\nin pieces of %d bytes:\n%.2000s", whole, int(piece)+1, parts)
		}
	})
}

// readAll returns all that can be seen of the events of a stream that is read in such pieces.
func readAll(t *testing.T, stream []byte, piece int, own bool) string {
	buffer := max(minReadBuffer, min(piece, len(stream)+1))
	r := testReader(streamConn{r: bytes.NewReader(stream), piece: piece}.read, buffer, own)
	var events strings.Builder
	for {
		err := r.fill()
		for {
			ev, n, decodeErr := r.event()
			if decodeErr != nil {
				err = decodeErr
			}
			if ev == nil || decodeErr != nil {
				break
			}
			if n < eventBytes {
				t.Fatalf("an event counts for %d bytes", n)
			}
			fmt.Fprintln(&events, n, describe(ev))
		}
		if limit := 2*len(stream) + 2*buffer; len(r.buf) > limit {
			t.Fatalf("a buffer of %d bytes for a stream of %d", len(r.buf), len(stream))
		}
		if l := r.large.event; l != nil && len(l.Data) > max(claimBytes, 2*len(stream)) {
			t.Fatalf("a message of %d bytes for a stream of %d", len(l.Data), len(stream))
		}
		if err != nil {
			if _, ok := errors.AsType[Code](r.explain(err)); !ok {
				t.Fatalf("error without a code: %v", err)
			}
			fmt.Fprintln(&events, r.explain(err))
			return events.String()
		}
	}
}

// streamConn is a stream that comes in pieces.
type streamConn struct {
	r     io.Reader
	piece int
}

// read fills b first, then more.
func (s streamConn) read(b, more []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), s.piece)])
	if n < len(b) || n == s.piece || err != nil {
		return n, err
	}
	m, _ := s.r.Read(more[:min(len(more), s.piece-n)])
	return n + m, nil
}
