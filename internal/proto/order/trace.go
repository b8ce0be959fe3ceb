// SPDX-License-Identifier: Apache-2.0

package order

import (
	"hash/crc32"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/seq"
)

// originated notes the end of a message of mine in the packet at position at.
func (m *Machine) originated(at seq.Num, index uint32, _ *lane, service evs.Service, payload []byte) {
	m.lastMine = at
	if !m.cfg.Trace {
		return
	}
	m.sent++
	m.originations = append(m.originations, evs.Trace{
		Kind: evs.TraceSend, Proc: m.cfg.Me, Conf: m.conf.ID, Seq: uint64(at), Index: index, Number: m.sent,
		Service: service, Digest: digest(payload), Length: len(payload),
	})
}

func (m *Machine) traceDeliver(msg *Message, fx *Effects) {
	m.trace(fx, evs.Trace{
		Kind: evs.TraceDeliver, Conf: m.at, Origin: m.conf.Members[msg.Sender], Seq: uint64(msg.Seq), Index: msg.Index,
		Service: msg.Service, Digest: digest(msg.Payload), Length: len(msg.Payload),
	})
}

func (m *Machine) trace(fx *Effects, t evs.Trace) {
	t.Proc = m.cfg.Me
	fx.Trace = append(fx.Trace, t)
}

// digest identifies a payload in a trace. Two checksums make 64 bits that cost little.
func digest(b []byte) uint64 {
	return uint64(crc32.ChecksumIEEE(b))<<32 | uint64(crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
