// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
)

// Bounds of liveness in units of the token timeout. guarantees.md, 7, gives B for a cluster that is left alone; what
// precedes the tail here may have made daemons wait for each other for up to the longest back-off, 16, first.
const (
	boundConverge = 40
	boundDeliver  = 12
	boundAsym     = 120 // how long the last asymmetric cut stays
	boundReceive  = 60  // until a daemon that cannot receive is left out
	boundReach    = 60  // until daemons know whether a group address reaches everybody: the longest time between two questions, and some
	boundEcho     = 5   // a cut that is over may still be acted upon: the reach timeout of 4, and a probe interval
	quiet         = 2   // how long nothing may change at the end
)

// lastingCut counts the cuts of the asym profile among the faults.
const lastingCut = "lasting cut"

// dataLost counts daemons that receive everything but data.
const dataLost = "daemon without data"

// final is a message of the tail: who must get it, and who has.
type final struct {
	from    string
	text    string
	want    int
	got     int
	service evs.Service
}

// finals are the messages of the tail; the first has number base.
type finals struct {
	base uint64
	list []final
	open int
}

// arrived counts the receivers of the tail's messages.
func (w *World) arrived(body []byte) {
	f := &w.final
	if f.base == 0 || len(body) < 8 {
		return
	}
	id := binary.LittleEndian.Uint64(body)
	if id < f.base || id-f.base >= uint64(len(f.list)) {
		return
	}
	m := &f.list[id-f.base]
	if m.got++; m.got == m.want {
		f.open--
	}
}

// complain notes a broken promise of liveness.
func (w *World) complain(rule, format string, args ...any) {
	w.live = append(w.live, check.Violation{Rule: rule, Text: fmt.Sprintf("at %v: ", w.now) + fmt.Sprintf(format, args...)})
}

// asymmetric leaves a random cut in place and demands that the daemons settle. LIVE-5.
func (w *World) asymmetric() {
	w.over = true
	n := len(w.hosts)
	w.net.heal(w.now)
	for _, h := range w.hosts {
		w.repair(h)
	}
	p := 0.1 + 0.4*w.rnd.Float64()
	both := w.chance(0.5)
	for i := range n {
		for j := range n {
			if i != j && w.chance(p) {
				w.net.setCut(i, j, true)
				if both {
					w.net.setCut(j, i, true)
				}
			}
		}
	}
	w.stats.Faults[lastingCut]++
	before := make([]int, n)
	for i, h := range w.hosts {
		before[i] = h.count
	}
	limit := w.now + boundAsym*w.ring.TokenTimeout
	w.runUntil(limit - boundAsym/3*w.ring.TokenTimeout)
	late := make([]int, n)
	for i, h := range w.hosts {
		late[i] = h.count
	}
	w.runUntil(limit)
	if w.failure != nil {
		return
	}
	for i, h := range w.hosts {
		if k := h.count - before[i]; k > 2*n {
			w.complain("LIVE-5", "%s installed %d configurations behind a cut that did not change; at most %d are allowed", h.name, k, 2*n)
		}
		if k := h.count - late[i]; k > 0 {
			w.complain("LIVE-5", "%s does not settle behind a cut that does not change: %d configurations in the last third", h.name, k)
		}
		for _, m := range h.conf {
			for _, o := range h.conf {
				a, b := w.hostOf(m), w.hostOf(o)
				if !w.net.up(a, b) {
					w.complain("LIVE-5", "%s ends in configuration %v, in which %s does not reach %s", h.name, h.conf, m.Name, o.Name)
					return
				}
			}
		}
	}
}

// hostOf is the host of a daemon.
func (w *World) hostOf(p evs.ProcID) int {
	return slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == p.Name })
}

// repair ends all faults of a host and sees to it that its daemon runs.
func (w *World) repair(h *host) {
	h.diskFails, h.diskDelay = false, 200*time.Microsecond
	if h.paused {
		h.resume()
	}
	if h.file.edited {
		h.edit(file{})
	}
	if h.node == nil {
		h.start()
	}
}

// parts are the components of the network, as a number for each host; false if reachability is not an equivalence.
func (w *World) parts() ([]int, bool) {
	n := len(w.hosts)
	part := make([]int, n)
	for i := range n {
		part[i] = i
		for j := range i {
			if w.net.up(i, j) && w.net.up(j, i) {
				part[i] = part[j]
				break
			}
		}
	}
	for i := range n {
		for j := range n {
			if w.net.up(i, j) != (part[i] == part[j]) {
				return nil, false
			}
		}
	}
	return part, true
}

// rest ends all faults but a clean partition, and demands that each part comes to rest: what is wrong with it must not
// hide behind the merge that follows. LIVE-1.
func (w *World) rest() {
	part, clean := w.parts()
	if !clean {
		w.over = false // one cut more
		w.split(2)
		part, _ = w.parts()
	}
	w.converge("LIVE-3", part)
}

// deafen lets one daemon receive everything but data, while others send: the ring must not stall (LIVE-6).
func (w *World) deafen() {
	w.net.heal(w.now)
	all := make([]int, len(w.hosts))
	if len(w.hosts) < 3 || !w.converge("LIVE-1", all) {
		return
	}
	victim := w.hosts[w.rnd.IntN(len(w.hosts))]
	var sender *client
	for _, c := range w.clients {
		if c.host != victim.i {
			sender = c
		}
	}
	if sender == nil {
		return
	}
	w.stats.Faults[dataLost]++
	w.net.dropIf = func(_, to int, k packet.Kind, _ []byte) bool { return to == victim.i && k == packet.KindData }
	defer func() { w.net.dropIf = nil }()
	for limit := w.now + boundReceive*w.ring.TokenTimeout; ; {
		sender.multicast([]string{sender.sess.Name}, evs.Safe, 100, false)
		before := sender.received
		w.runUntil(w.now + w.ring.TokenTimeout/5)
		if w.failure != nil || sender.received > before && !slices.Contains(w.hosts[sender.host].conf, victim.me) {
			return
		}
		if w.now > limit {
			w.complain("LIVE-6", "%s cannot receive data, and still nothing becomes safe without it: %s is in %v", victim.name, w.hosts[sender.host].name, w.hosts[sender.host].conf)
			return
		}
	}
}

// converge ends all faults except cuts, and waits until every part of the network has what LIVE-1 promises.
// rule is the promise that is broken if they do not.
func (w *World) converge(rule string, part []int) bool {
	w.over, w.traps = true, nil
	w.net.now = w.net.base
	for _, c := range w.clients {
		c.hasten()
	}
	from := w.now
	w.stats.Settled++
	if rule == "LIVE-3" {
		w.stats.Rested++
	}
	var since time.Duration // converged since then; zero: not
	for limit := from + boundConverge*w.ring.TokenTimeout; ; {
		// A leave or a restart that was under way may take a daemon down once more.
		for _, h := range w.hosts {
			w.repair(h)
		}
		w.runUntil(w.now + w.ring.TokenTimeout/5)
		if w.failure != nil {
			return false
		}
		why := w.unconverged(part)
		switch {
		case why != "":
			since = 0
		case since == 0:
			since = w.now
		}
		if since != 0 && (w.net.mended == 0 || w.now-w.net.mended >= boundEcho*w.ring.TokenTimeout) {
			w.stats.Converged = max(w.stats.Converged, since-from)
			return true
		}
		if w.now > limit {
			w.complain(rule, "not converged %v after the last fault: %s", w.now-from, why)
			for _, h := range w.hosts {
				if h.node != nil && h.node.Order().Membership().State() == membership.StateRecover {
					w.complain("LIVE-7", "%s is still in recovery", h.name)
				}
			}
			return false
		}
	}
}

// settle ends all faults and demands what LIVE-1, 2 and 4 promise.
func (w *World) settle() {
	w.net.heal(w.now)
	all := make([]int, len(w.hosts))
	tick := w.ring.TokenTimeout / 5
	if !w.converge("LIVE-1", all) {
		return
	}
	w.burst(all)
	sent := w.now
	for limit := sent + boundDeliver*w.ring.TokenTimeout; w.final.open > 0; {
		w.runUntil(w.now + tick)
		if w.failure != nil {
			return
		}
		if w.now > limit {
			for i := range w.final.list {
				if m := &w.final.list[i]; m.got != m.want {
					w.complain("LIVE-2", "%v message of %s to %s sent at %v reached %d of %d receivers", m.service, m.from, m.text, sent, m.got, m.want)
					break
				}
			}
			return
		}
	}
	count := make([]int, len(w.hosts))
	for i, h := range w.hosts {
		count[i] = h.count
	}
	w.runUntil(w.now + quiet*w.ring.TokenTimeout)
	if w.failure != nil {
		return
	}
	for i, h := range w.hosts {
		if h.count != count[i] {
			w.complain("LIVE-1", "%s does not keep its configuration although nothing happens", h.name)
			return
		}
	}
	if why := w.unconverged(all); why != "" {
		w.complain("LIVE-1", "did not stay converged: %s", why)
	}
	for _, h := range w.hosts {
		if conf := h.node.Configuration(); w.voting && conf.Primary != evs.PrimaryYes {
			w.complain("PC-7", "%s is with all others in %v, and primary is %v", h.name, conf.ID, conf.Primary)
		}
	}
	for i := range w.final.list {
		if m := &w.final.list[i]; m.got > m.want {
			w.complain("LIVE-2", "%v message of %s to %s was received %d times, %d sessions should", m.service, m.from, m.text, m.got, m.want)
			break
		}
	}
}

// finds demands that each daemon that sends uses the group address if what it sends there reaches all, and else not. LIVE-10.
func (w *World) finds() {
	if len(w.hosts) < 3 {
		return
	}
	matched, count := make([]bool, len(w.hosts)), make([]int, len(w.hosts))
	for i, h := range w.hosts {
		count[i] = h.count
	}
	for limit := w.now + boundReach*w.ring.TokenTimeout; ; {
		open, why := 0, ""
		for _, c := range w.clients {
			if c.state == clientOpen && !matched[c.host] {
				c.multicast([]string{w.groups[0]}, evs.Agreed, 100, false)
			}
		}
		for i, h := range w.hosts {
			if !slices.ContainsFunc(w.clients, func(c *client) bool { return c.state == clientOpen && c.host == i }) {
				continue
			}
			want := !slices.Contains(w.net.unheard[i*w.net.n:(i+1)*w.net.n], true)
			g := h.node.Status(h.clock()).Ring.Group
			switch {
			case h.count != count[i]:
				w.complain("LIVE-10", "%s does not keep its configuration although nothing but the group address fails", h.name)
				return
			case matched[i]:
			case (g.Reach == ring.ReachAll) != want:
				open, why = open+1, fmt.Sprintf("at %s the group address %v; does it reach everybody: %v", h.name, g.Reach, want)
			default:
				matched[i] = true
				w.stats.Steps[fmt.Sprintf("group address known: %v", want)]++
			}
		}
		if open == 0 || w.failure != nil {
			return
		}
		if w.now > limit {
			w.complain("LIVE-10", "%s", why)
			return
		}
		w.runUntil(w.now + w.ring.TokenTimeout/5)
	}
}

// unconverged says what is missing in one of the parts: one configuration of all its daemons, all clients connected, all
// views equal to the truth (GRP-12), nothing on its way. Empty: nothing.
func (w *World) unconverged(part []int) string {
	for i, h := range w.hosts {
		first := w.hosts[slices.Index(part, part[i])]
		size := 0
		for _, k := range part {
			if k == part[i] {
				size++
			}
		}
		switch {
		case h.node == nil:
			return h.name + " does not run"
		case len(h.conf) != size || slices.ContainsFunc(h.conf, func(p evs.ProcID) bool { return part[w.hostOf(p)] != part[i] }):
			return fmt.Sprintf("%s (%s) is in configuration %v, %d daemons are within reach", h.name, h.doing(), h.conf, size)
		case h.confID != first.confID:
			return fmt.Sprintf("%s is in configuration %v, %s in %v", h.name, h.confID, first.name, first.confID)
		case h.node.Groups().Exchanging():
			return h.name + " is still exchanging group state"
		}
	}
	for _, c := range w.clients {
		if c.state != clientOpen && !c.retired {
			return fmt.Sprintf("client %s of %s is not connected", c.user, w.hosts[c.home].name)
		}
	}
	for _, c := range w.clients {
		if owed := c.owed(); c.state == clientOpen && owed != "" {
			return fmt.Sprintf("%s waits for %s", c.sess.Name, owed)
		}
	}
	for g, name := range w.groups {
		for _, c := range w.clients {
			if c.state != clientOpen || c.noViews {
				continue
			}
			if c.left[g] > 0 {
				return fmt.Sprintf("%s waits for its self-leave of %s", c.sess.Name, name)
			}
			if !c.member[g] {
				continue
			}
			if c.views[g] == nil {
				return fmt.Sprintf("%s joined %s and has no view", c.sess.Name, name)
			}
			got := slices.Clone(c.views[g].Members)
			slices.Sort(got)
			if truth := w.truth(g, part, part[c.host]); !slices.Equal(got, truth) {
				return fmt.Sprintf("%s sees %s as %v, the truth is %v", c.sess.Name, name, got, truth)
			}
		}
	}
	return ""
}

// truth lists who is a member of a group in part k, sorted.
func (w *World) truth(g int, part []int, k int) []string {
	var names []string
	for _, c := range w.clients {
		if c.state == clientOpen && c.member[g] && part[c.host] == k {
			names = append(names, c.sess.Name)
		}
	}
	slices.Sort(names)
	return names
}

// burst sends messages of all services in the settled cluster.
func (w *World) burst(all []int) {
	w.final.base = w.ids + 1
	if len(w.clients) == 0 {
		return
	}
	for k := range 2 * len(w.hosts) {
		c := w.clients[w.rnd.IntN(len(w.clients))]
		if c.state != clientOpen {
			continue
		}
		g := w.rnd.IntN(len(w.groups))
		service := evs.Service(1 + k%6)
		size := 8 + w.rnd.IntN(3000)
		m := final{from: c.sess.Name, service: service}
		if to := w.clients[w.rnd.IntN(len(w.clients))]; k%5 == 4 && to.state == clientOpen {
			m.text, m.want = frame.PrivateName(to.user, w.hosts[to.host].name), 1
		} else {
			m.text, m.want = w.groups[g], len(w.truth(g, all, 0))
		}
		if c.multicast(strings.Fields(m.text), service, size, false) == 0 {
			continue
		}
		if m.want > 0 {
			w.final.open++
		}
		w.final.list = append(w.final.list, m)
	}
}
