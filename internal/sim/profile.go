// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/session"
)

// Profile is a sort of schedule.
type Profile struct {
	Name, Text string

	hosts, clients, messages, faults [2]int        // least and most
	length                           time.Duration // of the time with faults
	least                            time.Duration // of all, with the quiet end
	weights                          [faultEnd]int // how often each kind of fault is drawn
	kinds                            int           // least number of kinds of faults
	together                         bool          // all daemons start at once
	asym                             float64       // how often an asymmetric cut stays for long at the end (LIVE-5)
	calm                             bool          // no varied configuration
	wide                             bool          // daemons on several continents, with the timers for that
	edits                            float64       // how often files change besides the other faults
	primary                          float64       // how often files have a rule for primary configurations
	group                            bool          // a group address, which may not reach everybody
	pressure                         bool          // small budgets for readers, a policy for slow ones, and much to read
}

var everything = [faultEnd]int{
	faultPartition: 6, faultCascade: 3, faultOneWay: 2, faultNoTransit: 2, faultDeaf: 2, faultHeal: 5, faultCrashQuick: 5, faultCrashSlow: 4,
	faultCrashAll: 1, faultLeave: 2, faultPause: 4, faultWeather: 4, faultDiskSlow: 1, faultDiskFails: 1, faultClientGone: 4, faultClientSlow: 1, faultTrap: 8, faultLastWords: 4,
}

// Profiles lists the profiles; the first is the default.
func Profiles() []Profile {
	return []Profile{
		{Name: "mixed", Text: "everything, at random", hosts: [2]int{3, 7}, clients: [2]int{6, 30}, messages: [2]int{200, 210}, faults: [2]int{6, 8},
			length: 8500 * time.Millisecond, least: 10 * time.Second, weights: everything, kinds: 3, asym: 0.01, edits: 0.25, primary: 0.25},
		{Name: "calm", Text: "no faults but clients coming and going", hosts: [2]int{1, 7}, clients: [2]int{6, 30}, messages: [2]int{200, 400}, faults: [2]int{2, 4},
			length: 4 * time.Second, weights: [faultEnd]int{faultClientGone: 4, faultClientSlow: 1}, calm: true},
		{Name: "partition", Text: "partitions and merges, many shortly after one another", hosts: [2]int{3, 7}, clients: [2]int{6, 20}, messages: [2]int{200, 240}, faults: [2]int{8, 12},
			length: 10 * time.Second, weights: [faultEnd]int{faultPartition: 6, faultCascade: 6, faultHeal: 6, faultTrap: 6, faultWeather: 2, faultLastWords: 6}, kinds: 3},
		{Name: "restart", Text: "crashes and restarts, most of them quick", hosts: [2]int{3, 6}, clients: [2]int{6, 20}, messages: [2]int{200, 240}, faults: [2]int{8, 12},
			length: 10 * time.Second, kinds: 3,
			weights: [faultEnd]int{faultCrashQuick: 8, faultCrashSlow: 3, faultCrashAll: 2, faultLeave: 2, faultPause: 3, faultDiskSlow: 2, faultDiskFails: 2, faultTrap: 3, faultPartition: 2, faultHeal: 3}},
		{Name: "asym", Text: "one-way and non-transitive cuts; the last stays for long", hosts: [2]int{3, 6}, clients: [2]int{6, 12}, messages: [2]int{100, 150}, faults: [2]int{4, 6},
			length: 6 * time.Second, kinds: 2, asym: 1,
			weights: [faultEnd]int{faultOneWay: 5, faultNoTransit: 5, faultDeaf: 4, faultHeal: 3, faultWeather: 1}},
		{Name: "churn", Text: "clients join, leave, come and go during changes", hosts: [2]int{3, 5}, clients: [2]int{15, 30}, messages: [2]int{200, 240}, faults: [2]int{12, 20},
			length: 10 * time.Second, kinds: 3,
			weights: [faultEnd]int{faultClientGone: 12, faultClientSlow: 3, faultPartition: 4, faultHeal: 4, faultCrashQuick: 2, faultTrap: 3, faultPause: 1}},
		{Name: "reload", Text: "files change while daemons run, among partitions and restarts", hosts: [2]int{3, 6}, clients: [2]int{6, 20}, messages: [2]int{200, 240}, faults: [2]int{3, 6},
			length: 10 * time.Second, kinds: 2, edits: 1,
			weights: [faultEnd]int{faultPartition: 3, faultHeal: 4, faultCrashQuick: 3, faultCrashSlow: 2, faultLeave: 1, faultPause: 2, faultWeather: 3, faultTrap: 3, faultClientGone: 2}},
		{Name: "primary", Text: "primary configurations by majority, and the list of daemons changes by one", hosts: [2]int{2, 6}, clients: [2]int{6, 15}, messages: [2]int{100, 140}, faults: [2]int{6, 10},
			length: 8 * time.Second, kinds: 2, primary: 1,
			weights: [faultEnd]int{faultPartition: 8, faultCascade: 4, faultOneWay: 1, faultHeal: 6, faultCrashQuick: 4, faultCrashSlow: 3, faultCrashAll: 1, faultLeave: 2, faultPause: 3, faultTrap: 4, faultLastWords: 2}},
		{Name: "pressure", Text: "clients that read too slowly, with small budgets and each policy", hosts: [2]int{2, 4}, clients: [2]int{6, 12}, messages: [2]int{900, 1200}, faults: [2]int{10, 16},
			length: 5 * time.Second, kinds: 1, pressure: true,
			weights: [faultEnd]int{faultClientSlow: 20, faultClientGone: 2, faultPartition: 1, faultHeal: 2, faultPause: 1}},
		{Name: "big", Text: "24 to 32 daemons start together", hosts: [2]int{24, 32}, clients: [2]int{24, 32}, messages: [2]int{60, 80}, faults: [2]int{2, 3},
			length: 8 * time.Second, weights: [faultEnd]int{faultPartition: 2, faultHeal: 2, faultCrashQuick: 1, faultPause: 1, faultWeather: 1}, kinds: 1, together: true},
		{Name: "group", Text: "a group address for all, which does not reach some daemons, from the start or later", hosts: [2]int{3, 7}, clients: [2]int{6, 20}, messages: [2]int{200, 300}, faults: [2]int{5, 9},
			length: 8 * time.Second, kinds: 2, group: true,
			weights: [faultEnd]int{faultUnheard: 12, faultPartition: 2, faultHeal: 3, faultCrashQuick: 2, faultPause: 1, faultWeather: 3, faultTrap: 2, faultClientGone: 1}},
		{Name: "wide", Text: "up to 80 ms from daemon to daemon, some loss, and the timers of a wide-area network", hosts: [2]int{3, 6}, clients: [2]int{6, 12}, messages: [2]int{100, 150}, faults: [2]int{2, 4},
			length: 60 * time.Second, least: 60 * time.Second, weights: everything, kinds: 2, wide: true},
	}
}

// profileByName finds a profile.
func profileByName(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("no profile %q; there are %v", name, names)
}

// build sets the world up and puts the whole schedule into its queue. It returns when the faults end.
func (w *World) build(p *Profile) time.Duration {
	r := w.rnd
	count := func(lim [2]int) int { return lim[0] + r.IntN(lim[1]-lim[0]+1) }
	timeout := 250 * time.Millisecond
	if p.wide {
		timeout = 2 * time.Second
	}
	n := count(p.hosts)
	w.ring = ringDefaults(timeout)
	q := Quality{Delay: w.between(20*time.Microsecond, 200*time.Microsecond), Jitter: w.between(time.Microsecond, 100*time.Microsecond)}
	if p.wide {
		q = Quality{Delay: w.between(5*time.Millisecond, 80*time.Millisecond), Jitter: w.between(time.Millisecond, 10*time.Millisecond), Loss: 0.01 * w.rnd.Float64()}
	}
	allStable := w.chance(0.6)
	accelerated := w.chance(0.8)
	if !p.calm && !p.wide { // a window of one packet carries hardly anything over such distances
		w.vary(&q)
	}
	w.net = newNetwork(n, q)
	if p.group {
		w.shareAddress(n)
		if w.chance(0.5) {
			w.unhear(r.IntN(n))
		}
	}
	w.groups = []string{"red", "green", "blue", "a-group-name-of-31-bytes-" + "abcdef"}[:2+r.IntN(3)]
	smallBudget, smallInput, noneAhead := w.chance(0.1), w.chance(0.2), w.chance(0.5)
	var slow slowLimits
	if p.pressure {
		slow = slowLimits{policy: session.Policy(r.IntN(len(session.Policies()))), stall: w.between(300*time.Millisecond, time.Second), wait: w.between(500*time.Millisecond, 2*time.Second)}
		slow.budget = 16<<10 + r.IntN(48<<10)
		slow.hard = slow.budget * (2 + r.IntN(30))
		slow.memory = 256<<10 + r.IntN(512<<10)
		w.pressure = true
	}
	for i := range n {
		h := w.addHost("d"+strconv.Itoa(i), allStable || w.chance(0.5))
		h.accelerated, h.slow = accelerated, slow
		if noneAhead {
			h.storeAhead = -1 // every configuration waits for its number to be written
		}
		if smallBudget {
			h.sessionBytes = 512 << 10
		}
		if smallInput {
			h.inputBytes = 160 << 10
		}
		spread := 400 * time.Millisecond
		if p.together {
			spread = 5 * time.Millisecond
		}
		w.at(w.between(0, spread), h.start)
	}
	if w.votes.Float64() < p.primary {
		w.vote(time.Second, p.length)
	}
	for i := range count(p.clients) {
		c := w.addClient("c"+strconv.Itoa(i), r.IntN(n))
		c.noViews, c.stray = w.chance(0.1), w.chance(0.3)
		for range 1 + r.IntN(3) {
			c.wanted[r.IntN(len(c.wanted))] = true
		}
		c.dialLater(w.between(0, 700*time.Millisecond))
	}
	begin := w.now + time.Second
	end := begin + p.length
	times := w.faults(p, begin, end, count(p.faults))
	if w.edits.Float64() < p.edits {
		for range 2 + w.edits.IntN(5) {
			at := begin + time.Duration(w.edits.Int64N(int64(p.length-time.Second/2)))
			if w.edits.IntN(2) == 0 {
				at = times[w.edits.IntN(len(times))] + time.Duration(w.edits.Int64N(int64(w.ring.TokenTimeout))) // into what is under way
			}
			w.at(at, func() { w.inject(faultReconfigure, w.hosts[w.edits.IntN(len(w.hosts))]) })
		}
	}
	w.ownClients(begin, end)
	w.load(begin, end, times, count(p.messages))
	return end
}

// vote gives the daemons a rule for primary configurations. In some schedules its list gets a daemon more, or loses one, while
// faults happen: every file at a moment of its own. A second change would want to know that the first has been read by all.
func (w *World) vote(begin, length time.Duration) {
	w.voting = true
	r := w.votes
	names := make([]string, len(w.hosts))
	for i, h := range w.hosts {
		names[i] = h.name
	}
	first, then := names, names
	if len(names) > 2 {
		switch fewer := slices.Delete(slices.Clone(names), 1, 2); r.IntN(3) {
		case 0:
			first = fewer
		case 1:
			then = fewer
		}
	}
	for _, h := range w.hosts {
		h.voters = first
		w.at(begin+time.Duration(r.Int64N(int64(length-time.Second/2))), func() { h.vote(then) })
	}
}

// vary draws an unusual configuration now and then.
func (w *World) vary(q *Quality) {
	r := &w.ring
	if w.chance(0.3) {
		r.PersonalWindow, r.GlobalWindow = 1+w.rnd.IntN(20), 20+w.rnd.IntN(40)
		r.AcceleratedWindow = w.rnd.IntN(r.PersonalWindow + 1)
		if r.GlobalWindow%2 == 0 {
			r.Tune, r.TuneLong = 4*r.PersonalWindow, 8*r.PersonalWindow
		}
	}
	if w.chance(0.3) {
		r.WholeVisit = 65535
	}
	if w.chance(0.3) {
		r.PacketBytes = 512 + w.rnd.IntN(8500)
	}
	if w.chance(0.3) {
		r.Larger, r.LargerCut = r.PacketBytes+300+w.rnd.IntN(4000), w.chance(0.3)
		if w.chance(0.5) {
			q.Whole = r.PacketBytes
		}
	}
	if w.chance(0.2) {
		q.Loss = 0.02 * w.rnd.Float64()
	}
	if w.chance(0.2) {
		q.Reorder = 0.1 * w.rnd.Float64()
	}
	if w.chance(0.2) {
		q.Straggle, q.Late = 0.02*w.rnd.Float64(), 2*r.TokenTimeout
	}
}

// faults draws the faults of a schedule and when they happen; some follow others closely, so that they hit a change
// that is under way.
func (w *World) faults(p *Profile, begin, end time.Duration, n int) []time.Duration {
	total := 0
	for _, x := range p.weights {
		total += x
	}
	draw := func() faultKind {
		x := w.rnd.IntN(total)
		for k, weight := range p.weights {
			if x -= weight; x < 0 {
				return faultKind(k)
			}
		}
		panic("sim: weights of a profile")
	}
	kinds := make([]faultKind, n)
	for {
		var seen [faultEnd]bool
		different := 0
		for i := range kinds {
			kinds[i] = draw()
			if !seen[kinds[i]] {
				seen[kinds[i]] = true
				different++
			}
		}
		if different >= min(p.kinds, n) {
			break
		}
	}
	times := make([]time.Duration, n)
	for i := range times {
		times[i] = w.between(begin, end-time.Second/2)
	}
	slices.Sort(times)
	for i := 1; i < n; i++ {
		if w.chance(0.35) {
			times[i] = times[i-1] + w.between(0, 2*w.ring.TokenTimeout)
		}
	}
	for i, k := range kinds {
		w.at(times[i], func() { w.inject(k, nil) })
	}
	return times
}

// load schedules messages, most of them around faults, and joins and leaves.
func (w *World) load(begin, end time.Duration, faults []time.Duration, messages int) {
	moment := func() time.Duration {
		if len(faults) > 0 && w.chance(0.65) {
			t := faults[w.rnd.IntN(len(faults))]
			if w.chance(0.7) {
				return max(begin, t-w.between(0, 3*time.Millisecond))
			}
			return max(begin, t+w.between(-50*time.Millisecond, 300*time.Millisecond))
		}
		return w.between(begin, end)
	}
	for messages > 0 {
		// Messages come in small bursts of one client.
		k := min(messages, 1+w.rnd.IntN(8))
		messages -= k
		c, t := w.clients[w.rnd.IntN(len(w.clients))], moment()
		for range k {
			t += w.between(0, 200*time.Microsecond)
			w.at(t, func() { w.say(c) })
		}
	}
	for range 2 * len(w.clients) {
		c, t := w.clients[w.rnd.IntN(len(w.clients))], moment()
		g := w.rnd.IntN(len(w.groups))
		w.at(t, func() {
			c.wanted[g] = !c.member[g]
			if c.member[g] {
				c.leave(g)
			} else {
				c.join(g)
			}
		})
	}
}

// someClient draws a client that is connected, or nil.
func (w *World) someClient() *client {
	for range 4 {
		if c := w.clients[w.rnd.IntN(len(w.clients))]; c.state == clientOpen {
			return c
		}
	}
	return nil
}

// say lets c, or somebody else if c is not connected, send one random message.
func (w *World) say(c *client) {
	if c.state != clientOpen {
		if c = w.someClient(); c == nil {
			return
		}
	}
	r := w.rnd
	var groups []string
	add := func(g string) {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	add(w.groups[r.IntN(len(w.groups))])
	switch x := r.IntN(100); {
	case x < 15:
		for range 1 + r.IntN(2) {
			add(w.groups[r.IntN(len(w.groups))])
		}
	case x < 30:
		if x < 25 {
			groups = groups[:0]
		}
		to := w.clients[r.IntN(len(w.clients))]
		add(frame.PrivateName(to.user, w.hosts[to.host].name))
	}
	c.multicast(groups, evs.Service(1+r.IntN(6)), w.size(), w.chance(0.1))
}

// size draws a length: mostly small, sometimes many packets.
func (w *World) size() int {
	r := w.rnd
	switch x := r.IntN(1000); {
	case x < 50:
		return 0
	case x < 600:
		return r.IntN(200)
	case x < 880:
		return r.IntN(2000)
	case x < 990:
		return r.IntN(12000)
	}
	return r.IntN(100000)
}
