// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"time"

	"evensong/internal/proto/packet"
)

// questions are those of one kind that this member asks, and who has not answered: about the group address (reach), or about larger
// packets (size).
type questions struct {
	wanted  []bool // by member: is asked, and has not answered
	lacking int    // how many of those there are

	number uint32 // of the last question
	before uint32 // answers to questions up to this one do not count
	askAt  time.Duration
	every  time.Duration // from the next question to the one after it

	question []byte
}

// HandleQuestion handles a question of kind KindReach or KindSize, or an answer to one of mine. Whoever asks is answered, whether this member
// has a group address or larger packets itself or not: the question has come.
func (m *Machine) HandleQuestion(k packet.Kind, p packet.Question, fx *Effects) {
	q := &m.reach.questions
	if k == packet.KindSize {
		q = &m.size.questions
	}
	from, asker := int(p.Sender), int(p.Asker)
	switch {
	case m.phase == Lost || from >= m.n || asker >= m.n || from == m.me:
	case from == asker:
		if m.answerBuf == nil {
			m.answerBuf = make([]byte, packet.HeaderSize, packet.HeaderSize+packet.QuestionSize)
		}
		p.Sender = uint16(m.me)
		m.answerBuf = packet.AppendQuestion(m.answerBuf[:packet.HeaderSize], p)
		m.sealer.Seal(m.answerBuf, k)
		fx.Sends = append(fx.Sends, packet.Send{To: m.addrs[asker : asker+1], Bytes: m.answerBuf, Kind: k})
	case asker == m.me && q.wanted != nil && p.Number > q.before && p.Number <= q.number && q.wanted[from]:
		q.wanted[from] = false
		q.lacking--
	}
}
