// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/groups"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/node"
	"evensong/internal/proto/order"
	"evensong/internal/proto/ring"
)

// slowShown is how many slow sessions a status names.
const slowShown = 10

// control is a host as the admin plane sees it.
type control struct{ h *Host }

var _ admin.Daemon = (*control)(nil)

// machine is the daemon's machine, which only functions given to Do may call.
func (c *control) machine() (*node.Machine, error) {
	m, ok := c.h.core.m.(*node.Machine)
	if !ok {
		return nil, errors.New("this host runs no daemon")
	}
	return m, nil
}

// read runs f in the loop.
func (c *control) read(ctx context.Context, f func(m *node.Machine, now time.Duration)) error {
	m, err := c.machine()
	if err != nil {
		return err
	}
	return c.h.Do(ctx, func(now time.Duration) { f(m, now) })
}

// change runs an input of the machine in the loop, and performs its effects.
func (c *control) change(ctx context.Context, f func(m *node.Machine, now time.Duration, fx *Effects)) error {
	k := c.h.core
	return c.read(ctx, func(m *node.Machine, now time.Duration) {
		f(m, now, &k.fx)
		k.perform()
	})
}

// Status implements admin.Daemon.
func (c *control) Status(ctx context.Context) (admin.Status, error) {
	h := c.h
	var st node.Status
	var slow []admin.Session
	var now time.Duration
	var differences func([]byte, []string) []string
	var secure *tls.Config
	err := c.read(ctx, func(m *node.Machine, at time.Duration) {
		now, st, differences = at, m.Status(at), h.core.cfg.Differences
		secure = h.core.tls.config.Load()
		for _, s := range m.SlowSessions(slowShown) {
			slow = append(slow, sessionOf(m, &s, at))
		}
	})
	if err != nil {
		return admin.Status{}, err
	}
	a := &h.core.cfg.Admin
	x, t := &h.stats, h.stats.Transport
	out := admin.Status{
		Name: st.Me.Name, ID: st.Me.String(), Cluster: a.Cluster, Version: version(), Uptime: admin.Duration(now),
		State: st.Membership.String(), GroupState: st.GroupState.String(),
		DangerousMonitor: h.reload.live.Load().dangerous, Draining: h.draining(), Changes: []admin.Change{},
		Slow: admin.Slow{Sessions: append([]admin.Session{}, slow...)}, TLS: tlsState(secure, st.TLSRequired),
	}
	if a.Level != nil {
		out.LogLevel = levelName(a.Level.Level())
	}
	c.configuration(&st, differences, &out)
	for _, ch := range slices.Backward(st.Changes) {
		k := admin.Change{
			Age: admin.Duration(now - ch.At), Ring: ch.Ring.String(), Members: names(ch.Members), Joined: names(ch.Joined), Gone: names(ch.Gone),
			Reason: membership.CausesText(ch.Causes), Causes: []admin.Cause{},
		}
		for _, c := range ch.Causes {
			k.Causes = append(k.Causes, admin.Cause{Reason: c.Reason.String(), Daemons: names(c.Daemons)})
		}
		out.Changes = append(out.Changes, k)
	}
	o := &st.Stats.Order
	out.Order = admin.Order{
		MyARU: uint64(st.Ring.ARU), ARU: uint64(st.Ring.TokenARU), Highest: uint64(st.Ring.High), Stable: uint64(st.Ring.Stable),
		Rounds: o.Rotations, TokenRepeats: o.TokenRepeats, MembershipChanges: o.Installs,
		Attempts: o.Attempts, Recovered: o.Recovered, Withheld: o.Withheld,
		DeliveredMessages: o.Delivered, DeliveredPackets: o.Packets,
	}
	out.Packets = admin.Packets{
		Sent: o.Sent, Received: o.Received, Retransmitted: o.Retried - o.TokenRepeats, RetransmittedToAll: o.Retried - o.TokenRepeats,
		DatagramsSent: t.DatagramsOut.Load(), DatagramsReceived: t.DatagramsIn.Load(), BytesSent: t.BytesOut.Load(), BytesReceived: t.BytesIn.Load(),
		SendCalls: t.SendCalls.Load(), ReceiveCalls: t.ReceiveCalls.Load(), RunsSent: t.RunsOut.Load(), InRunsSent: t.RunDatagramsOut.Load(),
		RunsReceived: t.RunsIn.Load(), InRunsReceived: t.RunDatagramsIn.Load(), RunsRefused: t.RunsRefused.Load(),
		DatagramsToGroup: t.GroupSends.Load(), LossInjected: t.DropsInjected.Load(),
		Ignored: map[string]uint64{},
	}
	for i, n := range o.Drops {
		if i > 0 {
			out.Packets.Ignored[order.Drop(i).String()] = n
		}
	}
	maps.Copy(out.Packets.Ignored, x.Sealing.Ignored())
	if g := &st.Ring.Group; g.Reach != ring.ReachNone && st.Conf != nil {
		out.GroupAddress = &admin.GroupAddress{Address: g.Addr.String(), Used: g.Reach == ring.ReachAll, Missing: g.Names(st.Conf.Members), Reason: g.Reach.String()}
	}
	out.Windows = admin.Windows{Global: st.Ring.Global, Personal: st.Ring.Personal, Accelerated: st.Ring.AcceleratedWindow, Reason: st.Ring.Windows.String(), PacketBytes: st.Ring.PacketBytes, PacketReason: st.Ring.Packets.String()}
	out.Clients = admin.Clients{
		Sessions: st.Stats.Sessions, Groups: st.Groups, Accepted: st.Stats.Accepted, Closed: map[string]uint64{}, RefusedRequests: map[string]uint64{}, Deliveries: st.Stats.Deliveries,
		WaitingBytes: st.Waiting, WaitingClients: st.Stalled, BlockedClients: x.ClientsBlocked.Load(), InputStalls: st.Stats.InputStalls,
		BytesReceived: x.ClientBytesIn.Load(), BytesSent: x.ClientBytesOut.Load(),
		ReadCalls: x.ClientReads.Load(), WriteCalls: x.ClientWrites.Load(), RefusedSessions: x.RejectsSessions.Load() + x.RejectsFiles.Load(),
		TLSHandshakes: x.TLSHandshakes.Load(), TLSFailures: x.TLSFailures.Load(), TLSConnections: x.TLSConnections.Load(),
	}
	for i, n := range st.Stats.Refused {
		out.Clients.RefusedRequests[access.Point(i).String()] = n
	}
	p := &st.Stats.Pressure
	out.Clients.QueuedBytes, out.Clients.SlowClients, out.Clients.SlowTimes, out.Clients.Dropped = p.Memory, p.Over, p.Overs, p.Dropped
	out.Clients.Blocked, out.Clients.Blocks, out.Clients.BlockedTime = p.Blocked, p.Waits, admin.Duration(p.Waited)
	for why, n := range st.Stats.Closed {
		out.Clients.Closed[why.String()] = n
	}
	if i := st.Ring.Lagging; st.Conf != nil && i >= 0 && i < len(st.Conf.Members) {
		out.Slow.Daemon, out.Slow.Rounds = st.Conf.Members[i].Name, st.Ring.Rotations
	}
	if st.Partition != nil {
		out.Partition = &admin.PartitionState{Component: st.Partition[st.Me.Name], Components: st.Partition, Remaining: admin.Duration(st.PartitionUntil - now)}
	}
	out.Host = c.process()
	out.NotReady = notReady(&st, out.Draining)
	out.Ready = out.NotReady == ""
	return out, nil
}

// configuration fills in who is in it, and who is not.
func (c *control) configuration(st *node.Status, differences func([]byte, []string) []string, out *admin.Status) {
	out.Members, out.Missing, out.Others = []admin.Member{}, []admin.Member{}, []admin.Member{}
	out.Primary, out.PrimaryReason = st.Primary.String(), primaryReason(st)
	defer c.absent(st, differences, out)
	if st.Conf == nil {
		return
	}
	out.Daemons, out.Leader, out.Ring = len(st.Conf.Members), st.Conf.Representative().Name, st.Conf.ID.New.String()
	out.Protocol = "regular"
	if st.Ring.Accelerated {
		out.Protocol = "accelerated"
	}
	segments := map[int]bool{}
	for _, p := range st.Conf.Members {
		m := c.member(p.Name)
		m.ID, m.Me, m.Leader = p.String(), p == st.Me, p == st.Conf.Representative()
		if m.Me {
			m.Admin, m.Foreign = first(c.h.AdminAddrs()), c.h.core.cfg.foreign
		}
		if m.Segment == 0 {
			out.Segments++ // nobody told in which it is
		} else if !segments[m.Segment] {
			segments[m.Segment] = true
			out.Segments++
		}
		out.Members = append(out.Members, m)
	}
}

// absent adds who is not in the configuration, and says of everybody how its configuration differs.
func (c *control) absent(st *node.Status, differences func([]byte, []string) []string, out *admin.Status) {
	here := func(name string) bool {
		return slices.ContainsFunc(out.Members, func(m admin.Member) bool { return m.Name == name })
	}
	listed := c.h.reload.live.Load().daemons
	for _, d := range listed {
		if d.Name != "" && !here(d.Name) {
			out.Missing = append(out.Missing, d)
		}
	}
	var known []string
	for _, p := range st.Peers {
		known = append(known, p.Name)
		if !here(p.Name) && !slices.ContainsFunc(listed, func(d admin.Member) bool { return d.Name == p.Name }) {
			out.Others = append(out.Others, admin.Member{Name: p.Name})
		}
	}
	for _, p := range st.Peers {
		for _, list := range [][]admin.Member{out.Members, out.Missing, out.Others} {
			for i := range list {
				if list[i].Name != p.Name {
					continue
				}
				list[i].KeptOut = p.KeptOut
				if p.Facts != nil && differences != nil {
					list[i].Differs = differences(p.Facts, known)
				}
			}
		}
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// primaryReason says why the configuration is primary, or not; empty where no rule is configured.
func primaryReason(st *node.Status) string {
	b := &st.Ballot
	switch {
	case st.Primary == evs.PrimaryUnclaimed:
		return ""
	case st.Primary == evs.PrimaryYes:
		return "the majority of the configured daemons is here"
	case st.Conf == nil || st.Conf.Primary != st.Primary:
		return "a change of the configuration is under way"
	}
	return b.Reason()
}

// member is what the configuration says of a daemon.
func (c *control) member(name string) admin.Member {
	for _, m := range c.h.reload.live.Load().daemons {
		if m.Name == name {
			return m
		}
	}
	return admin.Member{Name: name}
}

// process is what the system does to the daemon.
func (c *control) process() admin.HostState {
	h := c.h
	x, t := &h.stats, h.stats.Transport
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap) // unlike runtime.ReadMemStats it does not stop the world, and so not the token
	s := admin.HostState{
		Stalls: x.Stalls(), LongestStall: admin.Duration(x.LongestStall()), SendErrors: t.DropsError.Load(), SendsDropped: t.DropsFull.Load(),
		LogLines: x.NotesSuppressed.Load() + x.NotesLost.Load(), StoreErrors: x.StoreErrors.Load(), MaxSessions: h.reload.live.Load().maxSessions,
		ReceiveBuffer: t.ReceiveBuffer.Load(), SendBuffer: t.SendBuffer.Load(), Wakeups: x.Wakeups.Load(), PID: os.Getpid(), CPU: admin.Duration(ProcessCPU()),
		Goroutines: runtime.NumGoroutine(), HeapBytes: heap[0].Value.Uint64(),
		Listen: []string{}, Datagrams: h.addr.String(), DatagramPath: t.Path().String(), AdminSockets: h.AdminAddrs(),
	}
	if keys := h.reload.live.Load().keys; keys != nil {
		for _, id := range keys.IDs() {
			s.ClusterKeys = append(s.ClusterKeys, id.String())
		}
	}
	for _, a := range h.tcp {
		s.Listen = append(s.Listen, a.String())
	}
	s.Listen = append(s.Listen, h.core.cfg.Unix...)
	return s
}

// tlsState is what operators see of t, which is in force; nil without TLS.
func tlsState(t *tls.Config, required bool) *admin.TLSState {
	if t == nil {
		return nil
	}
	s := &admin.TLSState{Required: required, ClientCertificates: "optional"}
	switch t.ClientAuth {
	case tls.NoClientCert:
		s.ClientCertificates = "none"
	case tls.RequireAnyClientCert, tls.RequireAndVerifyClientCert:
		s.ClientCertificates = "required"
	}
	for i := range t.Certificates { // a program may give several; the first that ends is the one to renew
		pair := &t.Certificates[i]
		leaf := pair.Leaf
		if leaf == nil && len(pair.Certificate) > 0 {
			leaf, _ = x509.ParseCertificate(pair.Certificate[0])
		}
		if leaf != nil && (s.Expires.IsZero() || leaf.NotAfter.Before(s.Expires)) {
			s.Certificate, s.Expires = config.CertificateNames(leaf), leaf.NotAfter.UTC()
		}
	}
	return s
}

// notReady says why clients cannot be served at the moment; empty if they can.
func notReady(st *node.Status, drain *admin.DrainState) string {
	switch {
	case drain != nil:
		return "draining: no new clients are taken"
	case st.Membership == membership.StateLeaving || st.Membership == membership.StateLeft:
		return "leaving"
	case st.Membership != membership.StateOperational:
		return "agreeing on a membership: " + st.Membership.String()
	case st.GroupState != groups.Stable:
		return "exchanging the state of groups: " + st.GroupState.String()
	}
	return ""
}

// Members implements admin.Daemon.
func (c *control) Members(ctx context.Context) (admin.Members, error) {
	var st node.Status
	var differences func([]byte, []string) []string
	if err := c.read(ctx, func(m *node.Machine, now time.Duration) { st, differences = m.Status(now), c.h.core.cfg.Differences }); err != nil {
		return admin.Members{}, err
	}
	var s admin.Status
	c.configuration(&st, differences, &s)
	return admin.Members{Ring: s.Ring, Leader: s.Leader, Primary: s.Primary, PrimaryReason: s.PrimaryReason, Members: s.Members, Missing: s.Missing, Others: s.Others}, nil
}

// Groups implements admin.Daemon.
func (c *control) Groups(ctx context.Context, after string, limit int) (admin.GroupPage, error) {
	p := admin.GroupPage{Groups: []admin.GroupSummary{}}
	err := c.read(ctx, func(m *node.Machine, _ time.Duration) {
		g := m.Groups()
		p.Total = g.Count()
		names := g.GroupsAfter(after)
		for i, name := range names {
			if i == limit {
				p.Next = names[i-1]
				break
			}
			s := admin.GroupSummary{Name: name}
			s.Members, s.Here = g.Size(name)
			p.Groups = append(p.Groups, s)
		}
	})
	return p, err
}

// Group implements admin.Daemon.
func (c *control) Group(ctx context.Context, name string) (admin.Group, error) {
	g := admin.Group{Name: name, Names: []string{}}
	var found bool
	err := c.read(ctx, func(m *node.Machine, _ time.Duration) {
		t := m.Groups()
		id, ok := t.ViewID(name)
		if !ok {
			return
		}
		found = true
		g.View = fmt.Sprintf("%08x.%08x.%d", id[0], id[1], id[2])
		g.Size, g.Here = t.Size(name)
		for i, x := range t.Members(name) {
			if i == admin.MaxGroupMembers {
				break
			}
			g.Names = append(g.Names, x.Private)
		}
	})
	if err == nil && !found {
		err = &admin.Error{Code: admin.CodeNotFound, Text: fmt.Sprintf("there is no group %.64q", name), Next: "evensong groups lists them"}
	}
	return g, err
}

// sessionOf is a client as the admin plane shows it.
func sessionOf(m *node.Machine, s *node.SessionStatus, now time.Duration) admin.Session {
	out := admin.Session{
		ID: s.ID, Name: s.Name, State: s.State.String(), Dialect: s.Dialect, Age: admin.Duration(now - s.Since),
		QueuedBytes: s.QueuedBytes, Queued: s.QueuedMessages, HighBytes: s.HighBytes, Slow: s.OverSince != 0, Dropped: s.Dropped,
		BytesWritten: s.WrittenBytes, WaitingBytes: s.InputBytes, Waits: s.InputStalled, Groups: []string{},
	}
	out.TLS, out.Certificate = s.TLS, s.Cert
	if s.Peer.IsValid() {
		out.Peer = s.Peer.String()
	}
	if s.StalledSince != 0 {
		out.Stalled = admin.Duration(now - s.StalledSince)
	}
	var names []string
	names, out.InGroups = m.Groups().GroupsOf(s.ID, groupsShown)
	out.Groups = append(out.Groups, names...)
	return out
}

// groupsShown bounds the groups that are listed for one session.
const groupsShown = 20

// Sessions implements admin.Daemon.
func (c *control) Sessions(ctx context.Context, after uint64, limit int) (admin.SessionPage, error) {
	p := admin.SessionPage{Sessions: []admin.Session{}}
	err := c.read(ctx, func(m *node.Machine, now time.Duration) {
		p.Total = m.Stats().Sessions
		page := m.SessionPage(after, limit+1)
		for i := range page {
			if i == limit {
				p.Next = page[i-1].ID
				break
			}
			p.Sessions = append(p.Sessions, sessionOf(m, &page[i], now))
		}
	})
	return p, err
}

// CloseSession implements admin.Daemon.
func (c *control) CloseSession(ctx context.Context, id uint64) error {
	var found bool
	err := c.change(ctx, func(m *node.Machine, now time.Duration, fx *Effects) { found = m.CloseSession(now, id, fx) })
	if err == nil && !found {
		err = &admin.Error{Code: admin.CodeNotFound, Text: fmt.Sprintf("there is no session %d", id), Next: "evensong monitor sessions lists them"}
	}
	return err
}

// Partition implements admin.Daemon.
func (c *control) Partition(ctx context.Context, p admin.Partition) error {
	return c.change(ctx, func(m *node.Machine, now time.Duration, fx *Effects) {
		m.Partition(now, now+time.Duration(p.Lease), p.Components, fx)
	})
}

// Heal implements admin.Daemon.
func (c *control) Heal(ctx context.Context) error {
	return c.change(ctx, func(m *node.Machine, now time.Duration, fx *Effects) { m.Heal(now, fx) })
}

// Set implements admin.Daemon. The log level changes only if the windows could be.
func (c *control) Set(ctx context.Context, s admin.Settings) (admin.Settings, error) {
	level := c.h.core.cfg.Admin.Level
	var to slog.Level
	if s.LogLevel != "" {
		if level == nil {
			return s, &admin.Error{Code: admin.CodeRefused, Text: "the log level of this daemon cannot be changed while it runs"}
		}
		var err error
		if to, err = parseLevel(s.LogLevel); err != nil {
			return s, err
		}
	}
	if s.Windows() {
		var refused error
		err := c.read(ctx, func(m *node.Machine, now time.Duration) {
			refused = m.SetWindows(now, window(s.Window), window(s.PersonalWindow), window(s.AcceleratedWindow))
		})
		switch {
		case err != nil:
			return s, err
		case refused != nil:
			return s, admin.Invalid("give windows that fit each other: accelerated at most personal, personal at most all", "%v", refused)
		}
	}
	if s.LogLevel != "" {
		level.Set(to)
	}
	st, err := c.Status(ctx)
	w := st.Windows // in force now, though the ring uses them from its next visit of the token on
	return admin.Settings{Window: &w.Global, PersonalWindow: &w.Personal, AcceleratedWindow: &w.Accelerated, LogLevel: st.LogLevel}, err
}

// window is what the machine takes for a window that may be left as it is. Zero and less are no windows.
func window(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

var levels = []struct {
	name  string
	level slog.Level
}{{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError}}

func parseLevel(name string) (slog.Level, error) {
	for _, l := range levels {
		if l.name == name {
			return l.level, nil
		}
	}
	return 0, admin.Invalid("use debug, info, warn or error", "%.20q is no level of the log", name)
}

func levelName(l slog.Level) string {
	for _, k := range levels {
		if l <= k.level {
			return k.name
		}
	}
	return "error"
}

// Reload implements admin.Daemon.
func (c *control) Reload(ctx context.Context) (admin.Reloaded, error) {
	r, err := c.h.Reload(ctx)
	if errors.Is(err, ErrReload) {
		return admin.Reloaded{}, &admin.Error{Code: admin.CodeRefused, Text: err.Error()}
	}
	return admin.Reloaded{Changed: append([]string{}, r.Changed...), Ignored: append([]string{}, r.Restart...)}, err
}

// Drain implements admin.Daemon.
func (c *control) Drain(_ context.Context, wait time.Duration) error {
	c.h.Drain(wait)
	return nil
}

// Drained implements admin.Daemon.
func (c *control) Drained(ctx context.Context) (admin.DrainEnd, error) {
	select {
	case <-c.h.drained:
		c.h.tellOnce.Do(func() { close(c.h.told) })
		return c.h.drainEnd, nil
	case <-ctx.Done():
	case <-c.h.over:
	}
	return admin.DrainEnd{Names: []string{}}, nil
}

// Terminate implements admin.Daemon.
func (c *control) Terminate(context.Context) error {
	c.h.terminated.Store(true)
	c.h.Stop()
	return nil
}

// names lists daemons.
func names(ps []evs.ProcID) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.Name
	}
	return out
}
