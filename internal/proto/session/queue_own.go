// SPDX-License-Identifier: Apache-2.0

package session

import "evensong/internal/proto/frame"

// In the own dialect the last thing that a client reads is why the connection ends. It can follow any whole frame, so a
// queue must know where frames end, and be able to end behind the present one.

// PushFrames is Push for a message in the own dialect, whose frames but the last have the largest size.
func (q *Queue) PushFrames(e Extent) Verdict {
	const step = frame.OwnHeaderSize + frame.OwnFragment
	n := e.Len()
	v := q.Push(e)
	if v != Queued || n <= step {
		return v
	}
	q.msgs = q.msgs[:len(q.msgs)-1]
	q.msgs = append(q.msgs, step)
	for n -= step; n > 0; n -= step {
		q.msgs = append(q.msgs, uint32(min(n, step))|uncounted) // the message counts once, with its first frame
	}
	return v
}

// DropTail drops what waits, except for the rest of a message, or frame, that is partly written or with a writer.
func (q *Queue) DropTail() {
	need := q.inFlight
	if need == 0 && q.partial {
		need = 1
	}
	keep, last := 0, q.firstMsg
	for ; keep < need; last++ {
		keep += int(q.msgs[last] &^ uncounted)
	}
	for _, msg := range q.msgs[last:] {
		if msg&uncounted == 0 {
			q.counted--
		}
	}
	q.msgs = q.msgs[:last]
	q.bytes = keep
	i := q.first
	for ; i < len(q.segs) && keep > 0; i++ {
		s := &q.segs[i]
		s.end = min(s.end, s.off+keep)
		keep -= s.end - s.off
	}
	for k := i; k < len(q.segs); k++ {
		q.pinned -= q.segs[k].pin
		q.segs[k].c.unref()
	}
	clear(q.segs[i:])
	q.segs = q.segs[:i]
	q.compacted = 0
	q.maybeCompact()
}
