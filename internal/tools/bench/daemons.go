// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"evensong/internal/admin"
	"evensong/internal/tools/monitor"
)

// sampler asks the daemons that carry the load for their own figures.
type sampler struct {
	targets []monitor.Target
	hosts   []string // of each target: where its process is
	names   []string
	version string
}

// sampleTime is how long the daemons of one sample may take to answer.
const sampleTime = 5 * time.Second

// findDaemons looks for the admin planes of the configuration that the sessions are in. Without them there is a warning, and
// a benchmark without the daemons' part.
func (b *bench) findDaemons(ctx context.Context) {
	warn := func(format string, a ...any) {
		b.warnings = append(b.warnings, "no figures of the daemons: "+fmt.Sprintf(format, a...))
	}
	ours := map[string]bool{}
	for _, s := range b.sessions {
		private := s.conn.PrivateGroup()
		ours[private[strings.LastIndexByte(private, '#')+1:]] = true
	}
	reach := b.Reach
	reach.All = true
	targets, err := reach.Targets(ctx)
	if err != nil {
		warn("%v", err)
		return
	}
	s := &sampler{targets: targets}
	all := s.ask(ctx)
	// Daemons of other clusters may have the same names, so those count that have our sessions.
	ring, daemons := "", 0
	for i, st := range all {
		if st == nil || !ours[st.Name] || !b.serves(ctx, targets[i].Client, st.Name) {
			continue
		}
		if ring != "" && ring != st.Ring {
			warn("the sessions are in different configurations")
			return
		}
		ring, daemons, s.version = st.Ring, st.Daemons, st.Version
	}
	if ring == "" {
		warn("of the admin planes in reach none is of a daemon that these sessions are connected to; --admin names others")
		return
	}
	s.targets = nil
	for i, st := range all {
		if st != nil && st.Ring == ring && !slices.Contains(s.names, st.Name) {
			s.targets, s.names = append(s.targets, targets[i]), append(s.names, st.Name)
			host := ""
			if at := targets[i].At; !strings.ContainsAny(at, `/\`) {
				host, _, _ = strings.Cut(at, ":")
			}
			s.hosts = append(s.hosts, host)
		}
	}
	if len(s.targets) < daemons {
		b.warnings = append(b.warnings, fmt.Sprintf("the daemons' figures are those of %s, %d of %d: the admin planes of the others are out of reach", strings.Join(s.names, ", "), len(s.targets), daemons))
	}
	b.daemons = s
}

// serves reports whether one of our sessions is a daemon's.
func (b *bench) serves(ctx context.Context, c *admin.Client, daemon string) bool {
	ours := map[string]bool{}
	for _, s := range b.sessions {
		ours[s.conn.PrivateGroup()] = true
	}
	for after := uint64(0); ; {
		page, err := c.Sessions(ctx, after, admin.MaxPage)
		if err != nil {
			return false
		}
		for _, s := range page.Sessions {
			if ours[s.Name] || ours["#"+s.Name+"#"+daemon] {
				return true
			}
		}
		if after = page.Next; after == 0 {
			return false
		}
	}
}

// ask returns the status of each target, nil where there is no answer.
func (s *sampler) ask(ctx context.Context) []*admin.Status {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	out := make([]*admin.Status, len(s.targets))
	var wg sync.WaitGroup
	for i, t := range s.targets {
		wg.Go(func() {
			if st, err := t.Client.Status(ctx); err == nil {
				out[i] = &st
			}
		})
	}
	wg.Wait()
	return out
}

// counted is what one daemon has counted since its start.
type counted struct {
	id string
	Daemons
}

// sample is what all have counted, and the CPU time of their processes; nothing if one does not answer.
func (s *sampler) sample(ctx context.Context) (list []counted, cpu time.Duration) {
	processes := map[string]bool{}
	for i, st := range s.ask(ctx) {
		if st == nil {
			return nil, 0
		}
		p := &st.Packets
		list = append(list, counted{st.ID, Daemons{
			Wakeups: float64(st.Host.Wakeups), Reads: float64(st.Clients.ReadCalls), Writes: float64(st.Clients.WriteCalls),
			DatagramReceives: float64(p.ReceiveCalls), DatagramSends: float64(p.SendCalls),
			DatagramsIn: float64(p.DatagramsReceived), DatagramsOut: float64(p.DatagramsSent),
			Packets: p.Sent, Retransmitted: p.Retransmitted, Rotations: float64(st.Order.Rounds), TokenRepeats: st.Order.TokenRepeats,
			ConfigurationChanges: st.Order.MembershipChanges, Stalls: uint64(st.Host.Stalls), InputStalls: st.Clients.InputStalls, SlowTimes: st.Clients.SlowTimes,
		}})
		// Several daemons may be in one process.
		if key := fmt.Sprintf("%s %d", s.hosts[i], st.Host.PID); !processes[key] {
			processes[key] = true
			cpu += time.Duration(st.Host.CPU)
		}
	}
	return list, cpu
}

// difference adds up what the daemons have counted between two samples; nil if one of them is missing or another one.
// Rotations are those of the daemon that saw most.
func difference(a, b []counted) *Daemons {
	if len(a) == 0 || len(a) != len(b) {
		return nil
	}
	d := &Daemons{Count: len(a)}
	for i := range a {
		x, y := &a[i].Daemons, &b[i].Daemons
		if a[i].id != b[i].id {
			return nil
		}
		d.Wakeups += y.Wakeups - x.Wakeups
		d.Reads += y.Reads - x.Reads
		d.Writes += y.Writes - x.Writes
		d.DatagramReceives += y.DatagramReceives - x.DatagramReceives
		d.DatagramSends += y.DatagramSends - x.DatagramSends
		d.DatagramsIn += y.DatagramsIn - x.DatagramsIn
		d.DatagramsOut += y.DatagramsOut - x.DatagramsOut
		d.Packets += y.Packets - x.Packets
		d.Retransmitted += y.Retransmitted - x.Retransmitted
		d.Rotations = max(d.Rotations, y.Rotations-x.Rotations)
		d.TokenRepeats += y.TokenRepeats - x.TokenRepeats
		d.ConfigurationChanges = max(d.ConfigurationChanges, y.ConfigurationChanges-x.ConfigurationChanges)
		d.Stalls += y.Stalls - x.Stalls
		d.InputStalls += y.InputStalls - x.InputStalls
		d.SlowTimes += y.SlowTimes - x.SlowTimes
	}
	return d
}

// perDelivery turns counts into counts per delivery, and rotations into those per second.
func (d *Daemons) perDelivery(deliveries, seconds float64) {
	for _, n := range []*float64{&d.Wakeups, &d.Reads, &d.Writes, &d.DatagramReceives, &d.DatagramSends, &d.DatagramsIn, &d.DatagramsOut} {
		*n /= deliveries
	}
	if seconds > 0 {
		d.Rotations /= seconds
	}
}
