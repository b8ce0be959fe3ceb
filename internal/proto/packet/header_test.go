// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"errors"
	"testing"

	"evensong/internal/proto/evs"
)

// Each way in which a datagram is no packet for this daemon has an error of its own, and leaves the bytes as they were.
func TestOpenRefuses(t *testing.T) {
	for want, spoil := range map[error]func(b []byte) []byte{
		ErrShort:    func(b []byte) []byte { return b[:HeaderSize-1] },
		ErrMagic:    func(b []byte) []byte { b[1]++; return b },
		ErrVersion:  func(b []byte) []byte { b[2] = Version + 1; return b },
		ErrKind:     func(b []byte) []byte { b[3] = byte(kindEnd); return b },
		ErrCluster:  func(b []byte) []byte { b[8]++; return b },
		ErrSealed:   func(b []byte) []byte { b[32] = 1; return b },
		ErrChecksum: func(b []byte) []byte { b[len(b)-1]++; return b },
	} {
		b := append(make([]byte, HeaderSize), "body"...)
		NewSealer("c", evs.ProcID{Name: "a", Inc: 5}).Seal(b, KindProbe)
		if h, body, err := Open(ClusterID("c"), b); err != nil || h.Kind != KindProbe || h.Sender != 5 || string(body) != "body" {
			t.Fatalf("as it was sealed: %+v, %q, %v", h, body, err)
		}
		b = spoil(b)
		before := bytes.Clone(b)
		if h, body, err := Open(ClusterID("c"), b); !errors.Is(err, want) || h != (Header{}) || body != nil {
			t.Errorf("%v, want %v", err, want)
		}
		if !bytes.Equal(b, before) {
			t.Errorf("%v: the datagram was changed", want)
		}
	}
}
