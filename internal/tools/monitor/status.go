// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"evensong/internal/admin"
	"evensong/internal/config"
	"evensong/internal/tools/amount"
)

// Report is what was found out about one daemon.
type Report struct {
	Daemon string        `json:"daemon,omitempty"` // its name, if it is known
	At     string        `json:"at,omitempty"`     // its admin address
	Error  string        `json:"error,omitempty"`  // why there is no status
	Status *admin.Status `json:"status,omitempty"`
	Delta  *Delta        `json:"delta,omitempty"` // since the last report of the same daemon

	err  error
	when time.Time
}

// Delta is what happened at one daemon between two reports of it.
type Delta struct {
	Seconds       float64 `json:"seconds"`
	Messages      uint64  `json:"messages"` // delivered
	Packets       uint64  `json:"packets"`  // delivered
	Rounds        uint64  `json:"rounds"`
	Sent          uint64  `json:"sent"`
	Retransmitted uint64  `json:"retransmitted"`
}

// Watcher collects reports of daemons and knows the previous one of each, so that what is between two reports is about
// one daemon.
type Watcher struct {
	reach Reach
	last  map[string]*Report // by ID of the daemon: a restart begins anew
}

// NewWatcher returns a watcher that has seen nothing.
func NewWatcher(r Reach) *Watcher { return &Watcher{reach: r, last: map[string]*Report{}} }

// Ask asks all daemons at once. Reports are in the order of the targets.
func (w *Watcher) Ask(ctx context.Context, ts []Target) []*Report {
	out := make([]*Report, len(ts))
	var wg sync.WaitGroup
	for i, t := range ts {
		wg.Go(func() {
			c, cancel := w.reach.limit(ctx)
			defer cancel()
			r := &Report{Daemon: t.Name, At: t.Client.Address()}
			s, err := t.Client.Status(c)
			r.when = time.Now()
			if err != nil {
				r.err, r.Error = err, err.Error()
			} else {
				r.Daemon, r.Status = s.Name, &s
			}
			out[i] = r
		})
	}
	wg.Wait()
	w.compare(out)
	return out
}

// compare gives each report what happened since the last one of the same daemon.
func (w *Watcher) compare(rs []*Report) {
	for _, r := range rs {
		if r.Status == nil {
			continue
		}
		if before := w.last[r.Status.ID]; before != nil {
			r.Delta = delta(before.Status, r.Status, r.when.Sub(before.when))
		}
		w.last[r.Status.ID] = r
	}
}

func delta(a, b *admin.Status, d time.Duration) *Delta {
	return &Delta{
		Seconds:  d.Seconds(),
		Messages: b.Order.DeliveredMessages - a.Order.DeliveredMessages, Packets: b.Order.DeliveredPackets - a.Order.DeliveredPackets,
		Rounds: b.Order.Rounds - a.Order.Rounds, Sent: b.Packets.Sent - a.Packets.Sent,
		Retransmitted: b.Packets.Retransmitted - a.Packets.Retransmitted,
	}
}

// failed is an error if no daemon answered, or one of those asked for by name did not.
func failed(rs []*Report) error {
	var errs []error
	var silent []string
	for _, r := range rs {
		if r.err != nil {
			errs, silent = append(errs, r.err), append(silent, nameOr(r.Daemon, r.At))
		}
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1 && len(rs) == 1:
		return exit(errs[0])
	}
	// Why is in the reports; the exit status is that of a refusal if one of them is.
	err := fmt.Errorf("%d of %s did not answer: %s", len(errs), amount.Of(len(rs), "daemon"), strings.Join(silent, ", "))
	if e, ok := errors.AsType[*ExitError](exit(errors.Join(errs...))); ok {
		return &ExitError{err, e.Code}
	}
	return err
}

// Status asks daemons and prints what they say: once, or again and again every interval until ctx ends.
func Status(ctx context.Context, r Reach, o Output, interval time.Duration, w io.Writer) error {
	watcher := NewWatcher(r)
	for {
		ts, err := r.Targets(ctx)
		if err != nil {
			return err
		}
		rs := watcher.Ask(ctx, ts)
		if ctx.Err() != nil && interval > 0 {
			return nil
		}
		if interval <= 0 && !o.JSON && len(rs) == 1 && rs[0].err != nil {
			return failed(rs) // the error says it all
		}
		if err := o.reports(w, rs, interval > 0); err != nil {
			return err
		}
		if interval <= 0 {
			return failed(rs)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// Output says how things are printed.
type Output struct {
	JSON bool
	Long bool // every field of a status even if there are several daemons
}

// json writes v, one line per value when streaming.
func (o Output) json(w io.Writer, v any, stream bool) error {
	e := json.NewEncoder(w)
	if !stream {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

func (o Output) reports(w io.Writer, rs []*Report, stream bool) error {
	switch {
	case o.JSON:
		return o.json(w, rs, stream)
	case len(rs) == 1 || o.Long:
		for i, r := range rs {
			if i > 0 {
				fmt.Fprintln(w)
			}
			if r.Status == nil {
				fmt.Fprintf(w, "daemon %s: %s\n", nameOr(r.Daemon, r.At), r.Error)
				continue
			}
			if err := writeStatus(w, r); err != nil {
				return err
			}
		}
		if stream {
			fmt.Fprintln(w)
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DAEMON\tSTATE\tUP\tDAEMONS\tLEADER\tRING\tSESSIONS\tGROUPS\tMESSAGES\tPACKETS\tRETRANS\tNOTE")
	for _, r := range rs {
		s := r.Status
		if s == nil {
			fmt.Fprintf(t, "%s\tno answer\t\t\t\t\t\t\t\t\t\t%s\n", nameOr(r.Daemon, r.At), r.Error)
			continue
		}
		messages := fmt.Sprint(s.Order.DeliveredMessages)
		if r.Delta != nil {
			messages += fmt.Sprintf(" (%s/s)", rate(r.Delta.Messages, r.Delta.Seconds))
		}
		fmt.Fprintf(t, "%s\t%s\t%v\t%d\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%s\n", s.Name, state(s), s.Uptime, s.Daemons, s.Leader, s.Ring,
			s.Clients.Sessions, s.Clients.Groups, messages, s.Order.DeliveredPackets, s.Packets.Retransmitted, remark(s, r.when))
	}
	if stream {
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func nameOr(name, at string) string {
	if name == "" {
		return at
	}
	return name
}

func rate(n uint64, seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(n)/seconds)
}

// state is the state in a word.
func state(s *admin.Status) string {
	if s.Ready {
		return "ready"
	}
	return s.State
}

// states and groupStates are what the original's monitor calls states that mean the same. Ours has no stages in a segment,
// so 2 SEG and 3 REPRESENTED do not occur.
var (
	states      = map[string]string{"operational": "1 OP", "gather": "4 GATHER", "commit": "5 FORM", "recover": "6 EVS"}
	groupStates = map[string]string{"stable": "1 normal", "transitional": "2 transitional", "exchange": "3 gathering", "aborted": "4 gathering, new transition"}
)

// familiar adds to a state what those know it by who know the original's monitor.
func familiar(state string, by map[string]string) string {
	if known := by[state]; known != "" {
		return state + " (" + known + ")"
	}
	return state
}

// remark is what deserves attention.
func remark(s *admin.Status, now time.Time) string {
	var parts []string
	if s.NotReady != "" {
		parts = append(parts, s.NotReady)
	}
	if p := s.Partition; p != nil {
		parts = append(parts, fmt.Sprintf("partitioned, component %d for %v", p.Component, p.Remaining))
	}
	if len(s.Missing) > 0 {
		parts = append(parts, "missing "+names(s.Missing))
	}
	for _, list := range [][]admin.Member{s.Members, s.Missing, s.Others} {
		for _, x := range list {
			for _, note := range memberNotes(&x) {
				parts = append(parts, x.Name+": "+note)
			}
		}
	}
	if g := s.GroupAddress; g != nil && len(g.Missing) > 0 {
		parts = append(parts, g.Address+" does not reach "+strings.Join(g.Missing, " "))
	}
	if s.Slow.Daemon != "" {
		parts = append(parts, "waits for daemon "+s.Slow.Daemon)
	}
	if note := expiryNote(s.TLS, now); note != "" {
		parts = append(parts, "TLS certificate "+note)
	}
	for _, x := range s.Slow.Sessions {
		if x.Slow {
			parts = append(parts, "slow client "+x.Name)
			break
		}
	}
	return strings.Join(parts, "; ")
}

// primaryText says whether the configuration is primary, and why; empty where no rule is configured.
func primaryText(primary, reason string) string {
	switch {
	case primary != "yes" && primary != "no":
		return ""
	case reason == "":
		return primary
	}
	return primary + ": " + reason
}

// tlsText is what clients find that use TLS, or do not, and until when.
func tlsText(s *admin.Status, now time.Time) string {
	t := s.TLS
	text := "on for clients over TCP"
	if t.Required {
		text = "required of clients over TCP"
	}
	switch t.ClientCertificates {
	case "none":
		text += ", who show no certificates"
	default:
		text += ", their certificates " + t.ClientCertificates
	}
	text += fmt.Sprintf("; connections %d, handshakes %d, failed %d", s.Clients.TLSConnections, s.Clients.TLSHandshakes, s.Clients.TLSFailures)
	if !t.Expires.IsZero() {
		text += fmt.Sprintf("; certificate for %s until %s UTC", t.Certificate, t.Expires.UTC().Format("2006-01-02 15:04"))
	}
	if note := expiryNote(t, now); note != "" {
		text += "; it " + note
	}
	return text
}

// expiryNote says of a certificate that has ended, or will soon, what to do; empty if that is far away.
func expiryNote(t *admin.TLSState, now time.Time) string {
	switch {
	case t == nil || t.Expires.IsZero() || now.Add(config.ExpirySoon).Before(t.Expires):
		return ""
	case now.After(t.Expires):
		return "has ended, and clients refuse it: renew it, then reload"
	}
	left := t.Expires.Sub(now)
	if days := int(left.Hours() / 24); days > 0 {
		return "ends in " + amount.Of(days, "day") + ": renew it, then reload"
	}
	return "ends in " + admin.Duration(left).String() + ": renew it, then reload"
}

// groupText is what a group address is good for.
func groupText(g *admin.GroupAddress) string {
	if len(g.Missing) > 0 {
		return g.Reason + " (missing " + strings.Join(g.Missing, " ") + ")"
	}
	return g.Reason
}

// writeStatus prints every field of a status.
func writeStatus(w io.Writer, r *Report) error {
	s := r.Status
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(key, format string, a ...any) { fmt.Fprintf(t, "  %s\t%s\n", key, fmt.Sprintf(format, a...)) }
	fmt.Fprintf(t, "daemon %s, version %s, up %v\n", s.Name, s.Version, s.Uptime)
	if s.Ready {
		row("state", "ready; %s, groups %s", familiar(s.State, states), familiar(s.GroupState, groupStates))
	} else {
		row("state", "not ready: %s; %s, groups %s", s.NotReady, familiar(s.State, states), familiar(s.GroupState, groupStates))
	}
	row("configuration", "%s in %s, leader %s, %s ring %s", amount.Of(s.Daemons, "daemon"), amount.Of(s.Segments, "segment"), s.Leader, s.Protocol, s.Ring)
	if text := primaryText(s.Primary, s.PrimaryReason); text != "" {
		row("primary", "%s", text)
	}
	row("members", "%s", names(s.Members))
	if len(s.Missing) > 0 {
		row("missing", "%s; start them, or see in their logs and with evensong config check why they do not come", names(s.Missing))
		if n := s.Packets.Ignored["sealed"] + s.Packets.Ignored["unsealed"] + s.Packets.Ignored["key"]; n > 0 {
			row("", "%s ignored because only one side has a ClusterKeyFile, or theirs has other keys; the log says whose", amount.Of(n, "datagram"))
		}
	}
	for _, x := range s.Members {
		if x.Foreign {
			row("address", "%s is none of this machine: the others send to another one. Correct the file, or -n; --bind says that this is meant", x.Address)
		}
	}
	for _, x := range s.Others {
		if x.KeptOut {
			row("kept out", "%s, which no configuration here lists; stop it, or list it and reload", x.Name)
		}
	}
	for _, text := range differing(s.Members, s.Missing, s.Others) {
		row("differs", "%s", text)
	}
	for i, c := range s.Changes {
		if i == 3 {
			break
		}
		key := ""
		if i == 0 {
			key = "last changes"
		}
		row(key, "%s", changeText(&c))
	}
	row("token", "rounds %d, repeats %d, membership changes %d", s.Order.Rounds, s.Order.TokenRepeats, s.Order.MembershipChanges)
	row("packets", "sent %d, received %d, retransmitted %d (to one %d, segment %d, all %d)", s.Packets.Sent, s.Packets.Received,
		s.Packets.Retransmitted, s.Packets.RetransmittedToOne, s.Packets.RetransmittedToSegment, s.Packets.RetransmittedToAll)
	row("datagrams", "sent %d (%s), received %d (%s), refused by the system %d, no room %d", s.Packets.DatagramsSent, amount.Of(s.Packets.BytesSent, "byte"),
		s.Packets.DatagramsReceived, amount.Of(s.Packets.BytesReceived, "byte"), s.Host.SendErrors, s.Host.SendsDropped)
	row("", "path %s: %s to send, %d to receive; %s sent, %s received, %s refused", s.Host.DatagramPath, amount.Of(s.Packets.SendCalls, "call"), s.Packets.ReceiveCalls,
		runs(s.Packets.RunsSent, s.Packets.InRunsSent), runs(s.Packets.RunsReceived, s.Packets.InRunsReceived), amount.Of(s.Packets.RunsRefused, "run"))
	if k := s.Host.ClusterKeys; len(k) > 0 {
		row("sealed", "with the key %s%s", k[0], others(k[1:]))
	}
	if g := s.GroupAddress; g != nil {
		row("group address", "%s %s; %s", g.Address, groupText(g), amount.Of(s.Packets.DatagramsToGroup, "datagram"))
	}
	row("ignored", "%s", counts(s.Packets.Ignored))
	row("order", "my aru %d, aru %d, highest %d, stable %d", s.Order.MyARU, s.Order.ARU, s.Order.Highest, s.Order.Stable)
	row("delivered", "messages %d, packets %d; recovered packets %d, withheld messages %d", s.Order.DeliveredMessages, s.Order.DeliveredPackets, s.Order.Recovered, s.Order.Withheld)
	row("windows", "%s of all, %d of one, %d behind the token (%s)", amount.Of(s.Windows.Global, "packet"), s.Windows.Personal, s.Windows.Accelerated, s.Windows.Reason)
	row("packet size", "at most %s (%s)", amount.Of(s.Windows.PacketBytes, "byte"), s.Windows.PacketReason)
	row("clients", "sessions %d of %d, groups %d, accepted %d, refused %d, deliveries %d", s.Clients.Sessions, s.Host.MaxSessions, s.Clients.Groups,
		s.Clients.Accepted, s.Clients.RefusedSessions, s.Clients.Deliveries)
	if s.TLS != nil {
		row("TLS", "%s", tlsText(s, r.when))
	}
	row("closed", "%s", counts(closedText(s.Clients.Closed)))
	row("rules refused", "%s", counts(s.Clients.RefusedRequests))
	blocked := ""
	if s.Clients.Blocked {
		blocked = "; everybody waits for a slow client"
	}
	row("queues", "%s for clients, over their budgets %d (%s so far), %s left out, waited for slow ones %v%s", amount.Of(s.Clients.QueuedBytes, "byte"),
		s.Clients.SlowClients, amount.Of(s.Clients.SlowTimes, "time"), amount.Of(s.Clients.Dropped, "message"), s.Clients.BlockedTime, blocked)
	row("calls", "%d to read from clients, %d to write to them; woken %s", s.Clients.ReadCalls, s.Clients.WriteCalls, amount.Of(s.Host.Wakeups, "time"))
	row("waiting", "%s of %s for the token; clients that do not read: %d", amount.Of(s.Clients.WaitingBytes, "byte"), amount.Of(s.Clients.WaitingClients, "client"), s.Clients.BlockedClients)
	if s.Slow.Daemon != "" {
		row("slow", "daemon %s: the ring waits for its receipt since %s", s.Slow.Daemon, amount.Of(s.Slow.Rounds, "round"))
	}
	for _, x := range s.Slow.Sessions {
		row("slow", "client %s (session %d, dialect %s): %s queued, nothing taken for %v", x.Name, x.ID, nameOr(x.Dialect, "unknown"), amount.Of(x.QueuedBytes, "byte"), x.Stalled)
	}
	row("host", "stalls %d (longest %v), log lines lost %d, store errors %d, process %d, CPU %v, goroutines %d, heap %s", s.Host.Stalls, s.Host.LongestStall,
		s.Host.LogLines, s.Host.StoreErrors, s.Host.PID, s.Host.CPU, s.Host.Goroutines, amount.Of(s.Host.HeapBytes, "byte"))
	if p := s.Partition; p != nil {
		row("partition", "component %d of %s; ends in %v unless it is renewed", p.Component, componentsText(p.Components), p.Remaining)
	}
	if d := s.Draining; d != nil {
		row("draining", "%s left, for %v at most", amount.Of(d.Sessions, "session"), d.Remaining)
	}
	row("control", "dangerous commands %s, log level %s, clients at %s, daemons at %s", permitted(s.DangerousMonitor), nameOr(s.LogLevel, "fixed"),
		strings.Join(s.Host.Listen, " "), s.Host.Datagrams)
	if d := r.Delta; d != nil {
		row("since last", "%s, %s, %s in %.2f s (%s messages/s)", amount.Of(d.Messages, "message"), amount.Of(d.Packets, "packet"), amount.Of(d.Rounds, "round"), d.Seconds, rate(d.Messages, d.Seconds))
	}
	return t.Flush()
}

// names lists daemons.
func names(ms []admin.Member) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return strings.Join(out, " ")
}

func permitted(yes bool) string {
	if yes {
		return "permitted"
	}
	return "refused"
}

// changeText is one configuration change in words.
func changeText(c *admin.Change) string {
	text := fmt.Sprintf("%v ago: ring %s of %s", c.Age, c.Ring, strings.Join(c.Members, " "))
	if len(c.Joined) > 0 {
		text += "; joined: " + strings.Join(c.Joined, " ")
	}
	if len(c.Gone) > 0 {
		text += "; gone: " + strings.Join(c.Gone, " ")
	}
	return text + "; why: " + c.Reason
}

// others are the keys that only open.
func others(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return "; opened with " + strings.Join(keys, " and ") + ", too"
}

// counts are counters by reason, those that count something.
func counts(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// closedText are the ends of sessions by words of people: what the protocol calls a kill is what clients do that end well.
func closedText(by map[string]uint64) map[string]uint64 {
	out := maps.Clone(by)
	if n := out["kill"]; n > 0 {
		delete(out, "kill")
		out["quit"] = n
	}
	return out
}

// componentsText writes a partition as the commands take it: a,b/c.
func componentsText(all map[string]int) string {
	by := map[int][]string{}
	for name, c := range all {
		by[c] = append(by[c], name)
	}
	var parts []string
	for _, c := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[c])
		parts = append(parts, strings.Join(by[c], ","))
	}
	return strings.Join(parts, "/")
}

// runs is how many runs of datagrams there were, and how long.
func runs(n, datagrams uint64) string {
	if n == 0 {
		return "no runs"
	}
	return fmt.Sprintf("%s of %.1f datagrams", amount.Of(n, "run"), float64(datagrams)/float64(n))
}
