// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

// FuzzMachine lets daemon, members and user do anything in any order: nothing may panic, and the invariants hold after
// every input.
func FuzzMachine(f *testing.F) {
	f.Add([]byte("\x00\x31\x03\x05\x10\x05\x11\x06\x10\x00\x62\x07\x0b\x00"), false)
	f.Add([]byte("\x00\x17\x03\x07\x21\x07\x00\x33\x0f\x05\x00\x02\x01\x09\x08\x0a\x0c"), true)
	f.Add([]byte(strings.Repeat("\x05\x31", 300)+"\x00\x33\x07"), true)
	f.Fuzz(func(t *testing.T, program []byte, auto bool) {
		m := machine(t, Config{Private: full("a"), AutoFlush: auto, FlushTimeout: time.Second})
		var fx Effects
		names := fulls(strings.Split("abcd", ""))
		var now time.Duration
		next := func() byte {
			if len(program) == 0 {
				return 0
			}
			b := program[0]
			program = program[1:]
			return b
		}
		subset := func(b byte) (out []string) {
			for i, n := range names {
				if b&(1<<i) != 0 {
					out = append(out, n)
				}
			}
			return out
		}
		message := func(typ int16) {
			b := next()
			service := Service(1) << (b >> 5 & 3)
			data := []byte("data")[:b&1*4]
			if typ != 0 {
				data = nil
			}
			id := appendID(nil, evs.ViewID{0, 0, uint32(b >> 4)})
			if typ == TypeVulnerable {
				data = append(data, 1, 0)
			}
			if typ != 0 && b != 0xff {
				data = append(data, id...)
			}
			msg := &Message{Sender: names[b&3], Groups: []string{"g"}, Service: service, Type: typ, Data: data}
			if b&4 != 0 && typ == 0 {
				msg.Service |= SubgroupCast
				if b&8 != 0 {
					msg.Data = appendGroup(msg.Data, "g")
				}
			}
			m.HandleMessage(now, msg, &fx)
		}
		for len(program) > 0 {
			now += 100 * time.Millisecond
			fx.Reset()
			switch next() & 15 {
			case 0, 1:
				b := next()
				v := &DaemonView{Group: "g", ID: evs.ViewID{0, 0, uint32(b >> 4)}, Cause: evs.Cause(b&3) + 1, Members: subset(next())}
				if v.Cause != evs.CausedByNetwork {
					v.Changed = names[b>>2&3]
				} else {
					v.Mine = subset(b >> 2)
				}
				m.HandleView(now, v, &fx)
			case 2:
				m.HandleSignal("g", &fx)
			case 3:
				if next()&7 == 0 {
					m.HandleSelfLeave("g", &fx)
				}
			case 4:
				m.HandleLeaveRefused(now, "g", &fx)
			case 5:
				message(TypeFlushOK)
			case 6:
				message(TypeFlushRecv)
			case 7:
				message(TypeVulnerable)
			case 8:
				message(0)
			case 9:
				m.Leave("g", &fx)
			case 10:
				m.Flush(now, "g", &fx)
			case 11:
				m.Multicast("g", Service(next()), 1, nil, &fx)
			case 12:
				m.Subgroupcast("g", subset(next()), FIFO, 1, nil, &fx)
			case 13:
				now += time.Second
				m.Advance(now, &fx)
			case 14:
				// Both own answers come back, as they do from a daemon.
				for _, s := range slices.Clone(fx.Sends) {
					if s.Kind == SendMulticast {
						m.HandleMessage(now, &Message{Sender: full("a"), Groups: s.Groups, Service: s.Service, Type: s.Type, Data: s.Tail}, &fx)
					}
				}
			case 15:
				if r := m.records["g"]; r != nil && r.head() != nil {
					for _, n := range r.head().members {
						m.HandleMessage(now, &Message{Sender: n, Groups: []string{"g"}, Service: FIFO, Type: TypeFlushOK, Data: appendID(nil, r.head().id)}, &fx)
						if r.head() == nil {
							break
						}
					}
				}
			}
			if err := m.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
			m.Deadline()
		}
	})
}
