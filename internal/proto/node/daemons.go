// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/order"
)

// Clients of the own dialect learn where the other daemons of the configuration listen, so that they can go there when
// theirs fails. Each daemon tells that in an ordered message of its own, as soon as a configuration's group state is
// complete, and again when it changes: docs/decisions/0008-listeners-announced.md.
//
//	+0 64 · number of addresses 1 · per address: length 1, bytes
//
// It is no message of the group layer, whose first bytes are all below 64.
const announceOp = 64

// MaxListeners bounds the addresses that a daemon announces. More are not told.
const MaxListeners = 16

// listeners is where the clients of another daemon connect.
type listeners struct {
	proc  evs.ProcID
	addrs []string
}

// SetListeners says where clients can connect from here on, as "host:port"; none: nobody new shall come, because the daemon
// drains. The others' clients learn it in order.
func (m *Machine) SetListeners(now time.Duration, addrs []string, fx *Effects) {
	m.begin(now, fx)
	m.announced = cutListeners(addrs)
	if m.conf != nil && !m.groups.Exchanging() {
		m.announce(true)
	}
	m.finish(now, forSends, fx)
}

func cutListeners(addrs []string) (list []string) {
	for _, a := range addrs {
		if a != "" && len(a) <= frame.MaxOwnName && len(list) < MaxListeners {
			list = append(list, a)
		}
	}
	return list
}

// announce submits the own addresses; none only if that is news.
func (m *Machine) announce(news bool) {
	if len(m.announced) == 0 && !news {
		return
	}
	p, buf := m.order.Begin(order.ControlLane, evs.Agreed)
	buf = append(buf, announceOp, byte(len(m.announced)))
	for _, a := range m.announced {
		buf = append(append(buf, byte(len(a))), a...)
	}
	m.order.End(p, buf)
	m.wake = true
}

// handleAnnounce takes what a daemon announced. It is false for payloads that are something else.
func (m *Machine) handleAnnounce(from evs.ProcID, p []byte) bool {
	if len(p) == 0 || p[0] != announceOp {
		return false
	}
	addrs, ok := parseAnnounce(p)
	if !ok {
		m.stats.GroupDrops++
		return true
	}
	if from == m.cfg.Me {
		return true
	}
	i, found := m.listenersOf(from)
	switch {
	case found && slices.Equal(m.daemons[i].addrs, addrs), !found && len(addrs) == 0:
		return true
	case found && len(addrs) == 0:
		m.daemons = slices.Delete(m.daemons, i, i+1)
	case found:
		m.daemons[i].addrs = addrs
	default:
		m.daemons = slices.Insert(m.daemons, i, listeners{from, addrs})
	}
	m.daemonsNews = true
	return true
}

func parseAnnounce(p []byte) (addrs []string, ok bool) {
	if len(p) < 2 || int(p[1]) > MaxListeners {
		return nil, false
	}
	rest := p[2:]
	for range p[1] {
		if len(rest) == 0 || rest[0] == 0 || len(rest) < 1+int(rest[0]) {
			return nil, false
		}
		end := 1 + int(rest[0])
		addrs = append(addrs, string(rest[1:end]))
		rest = rest[end:]
	}
	return addrs, len(rest) == 0
}

func (m *Machine) listenersOf(p evs.ProcID) (int, bool) {
	return slices.BinarySearchFunc(m.daemons, p, func(l listeners, p evs.ProcID) int { return l.proc.Compare(p) })
}

// forgetDaemons drops those that are not in a new configuration.
func (m *Machine) forgetDaemons(conf *evs.Configuration) {
	n := len(m.daemons)
	m.daemons = slices.DeleteFunc(m.daemons, func(l listeners) bool { return conf.Index(l.proc) < 0 })
	m.daemonsNews = m.daemonsNews || len(m.daemons) < n
}

// others is the list for clients.
func (m *Machine) others() (list []frame.OwnDaemon) {
	for _, l := range m.daemons {
		list = append(list, frame.OwnDaemon{Name: l.proc.Name, Addresses: l.addrs})
	}
	return list
}

// tellDaemons tells the clients what is new about the other daemons.
func (m *Machine) tellDaemons(now time.Duration, fx *Effects) {
	if !m.daemonsNews {
		return
	}
	m.daemonsNews = false
	list := m.ownSessions()
	if len(list) == 0 {
		return
	}
	b := frame.AppendOwnDaemons(nil, m.others())
	e := m.arena.End(append(m.arena.Begin(len(b)), b...))
	for _, c := range list {
		m.push(now, c, e, fx)
	}
	m.endSlow(now, fx)
}

// ownSessions are the open sessions of the own dialect, by number.
func (m *Machine) ownSessions() (list []*conn) {
	if m.owns == 0 {
		return nil
	}
	for _, c := range m.conns {
		if c.open && !c.closing && c.session.Own() {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	return list
}
