// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A metric is one family: how it is called and where its value is in a Status. Labels have few values, all of them from
// lists in our code, except the daemon names of a cluster, which its configuration bounds: nothing that clients choose
// becomes a label.
type metric struct {
	name  string
	help  string
	kind  prometheus.ValueType
	label string // empty: none
	// values calls add for each value; label is ignored where there is none.
	values func(s *Status, add func(value float64, label string))
}

func one[T int | int64 | uint64 | float64](f func(s *Status) T) func(*Status, func(float64, string)) {
	return func(s *Status, add func(float64, string)) { add(float64(f(s)), "") }
}

func truth(f func(s *Status) bool) func(*Status, func(float64, string)) {
	return func(s *Status, add func(float64, string)) {
		if f(s) {
			add(1, "")
		} else {
			add(0, "")
		}
	}
}

func byReason(f func(s *Status) map[string]uint64) func(*Status, func(float64, string)) {
	return func(s *Status, add func(float64, string)) {
		m := f(s)
		for _, why := range slices.Sorted(maps.Keys(m)) {
			add(float64(m[why]), why)
		}
	}
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// metrics are all families that are about Evensong, in the order of docs/operations/metrics.md.
var metrics = []metric{
	{"evensong_info", "Always 1; the label has the version of the daemon.", gauge, "version", func(s *Status, add func(float64, string)) { add(1, s.Version) }},
	{"evensong_uptime_seconds", "Time since the daemon's start.", gauge, "", one(func(s *Status) float64 { return time.Duration(s.Uptime).Seconds() })},
	{"evensong_ready", "1 if the daemon is in an installed configuration and serves clients, else 0.", gauge, "", truth(func(s *Status) bool { return s.Ready })},
	{"evensong_draining", "1 while the daemon takes no new clients because it is going to leave.", gauge, "", truth(func(s *Status) bool { return s.Draining != nil })},
	{"evensong_partitioned", "1 while an operator's partition is in force at this daemon.", gauge, "", truth(func(s *Status) bool { return s.Partition != nil })},

	{"evensong_configuration_members", "Daemons of the installed configuration.", gauge, "", one(func(s *Status) int { return s.Daemons })},
	{"evensong_configuration_segments", "Segments in which they are.", gauge, "", one(func(s *Status) int { return s.Segments })},
	{"evensong_primary", "1 if the configuration is primary and clients are told so; 0 if not, and where no rule is configured.", gauge, "", truth(func(s *Status) bool { return s.Primary == "yes" })},
	{"evensong_configuration_changes_total", "Configurations installed.", counter, "", one(func(s *Status) uint64 { return s.Order.MembershipChanges })},

	{"evensong_recoveries_total", "Recoveries begun, those that another change cut short as well.", counter, "", one(func(s *Status) uint64 { return s.Order.Attempts })},
	{"evensong_packets_recovered_total", "Packets of an old ring that only its recovery brought.", counter, "", one(func(s *Status) uint64 { return s.Order.Recovered })},
	{"evensong_messages_withheld_total", "Messages left out behind a hole that no surviving daemon could fill, as extended virtual synchrony demands.", counter, "", one(func(s *Status) uint64 { return s.Order.Withheld })},

	{"evensong_token_rounds_total", "Visits of the token.", counter, "", one(func(s *Status) uint64 { return s.Order.Rounds })},
	{"evensong_token_repeats_total", "Tokens sent again because nothing showed that they had arrived.", counter, "", one(func(s *Status) uint64 { return s.Order.TokenRepeats })},
	{"evensong_ring_behind_packets", "Packets between the highest position known and what has been received here without a gap.", gauge, "", one(func(s *Status) uint64 { return s.Order.Highest - min(s.Order.Highest, s.Order.MyARU) })},
	{"evensong_ring_unstable_packets", "Packets between the highest position known and what everybody is known to have.", gauge, "", one(func(s *Status) uint64 { return s.Order.Highest - min(s.Order.Highest, s.Order.Stable) })},
	{"evensong_window_packets", "Flow control in force, in packets of the usual length, of which longer ones take as much as they hold: most per round, of all daemons (global), of one (personal), of one behind the token (accelerated).", gauge, "window", func(s *Status, add func(float64, string)) {
		add(float64(s.Windows.Global), "global")
		add(float64(s.Windows.Personal), "personal")
		add(float64(s.Windows.Accelerated), "accelerated")
	}},
	{"evensong_packet_bytes_max", "How long a data packet of this daemon may be at present, in bytes.", gauge, "", one(func(s *Status) uint64 { return uint64(s.Windows.PacketBytes) })},

	{"evensong_packets_sent_total", "Data packets originated here, each counted once.", counter, "", one(func(s *Status) uint64 { return s.Packets.Sent })},
	{"evensong_packets_received_total", "Data packets of other daemons that were new here.", counter, "", one(func(s *Status) uint64 { return s.Packets.Received })},
	{"evensong_packets_retransmitted_total", "Data packets sent again, by who they went to: one daemon, a segment, or all.", counter, "to", func(s *Status, add func(float64, string)) {
		add(float64(s.Packets.RetransmittedToOne), "one")
		add(float64(s.Packets.RetransmittedToSegment), "segment")
		add(float64(s.Packets.RetransmittedToAll), "all")
	}},
	{"evensong_packets_ignored_total", "Packets that were not used, by reason; see docs/operations/metrics.md.", counter, "reason", byReason(func(s *Status) map[string]uint64 { return s.Packets.Ignored })},
	{"evensong_packets_delivered_total", "Data packets whose messages are all delivered.", counter, "", one(func(s *Status) uint64 { return s.Order.DeliveredPackets })},
	{"evensong_messages_delivered_total", "Messages of the order that were delivered here, those between daemons included.", counter, "", one(func(s *Status) uint64 { return s.Order.DeliveredMessages })},
	{"evensong_datagrams_sent_total", "Datagrams of all kinds given to the system; one to a group of addresses counts once.", counter, "", one(func(s *Status) uint64 { return s.Packets.DatagramsSent })},
	{"evensong_datagrams_received_total", "Datagrams of all kinds.", counter, "", one(func(s *Status) uint64 { return s.Packets.DatagramsReceived })},
	{"evensong_datagrams_sent_bytes_total", "Bytes of the datagrams sent, without headers of the network.", counter, "", one(func(s *Status) uint64 { return s.Packets.BytesSent })},
	{"evensong_datagrams_received_bytes_total", "Bytes of the datagrams received, without headers of the network.", counter, "", one(func(s *Status) uint64 { return s.Packets.BytesReceived })},
	{"evensong_datagram_send_calls_total", "System calls that sent datagrams.", counter, "", one(func(s *Status) uint64 { return s.Packets.SendCalls })},
	{"evensong_datagram_receive_calls_total", "System calls that received datagrams, those that found none included.", counter, "", one(func(s *Status) uint64 { return s.Packets.ReceiveCalls })},
	{"evensong_datagram_runs_sent_total", "Runs of datagrams that were given to the system as one.", counter, "", one(func(s *Status) uint64 { return s.Packets.RunsSent })},
	{"evensong_datagram_runs_sent_datagrams_total", "Datagrams in these runs.", counter, "", one(func(s *Status) uint64 { return s.Packets.InRunsSent })},
	{"evensong_datagram_runs_received_total", "Runs of datagrams that came from the system as one.", counter, "", one(func(s *Status) uint64 { return s.Packets.RunsReceived })},
	{"evensong_datagram_runs_received_datagrams_total", "Datagrams in these runs.", counter, "", one(func(s *Status) uint64 { return s.Packets.InRunsReceived })},
	{"evensong_datagram_runs_refused_total", "Runs that the system refused; their datagrams went one by one.", counter, "", one(func(s *Status) uint64 { return s.Packets.RunsRefused })},
	{"evensong_datagrams_to_group_total", "Datagrams to a multicast or broadcast address, each in place of several.", counter, "", one(func(s *Status) uint64 { return s.Packets.DatagramsToGroup })},
	{"evensong_group_address_used", "1 while packets of this daemon go to its segment's multicast or broadcast address, since that reaches everybody; else 0.", gauge, "", truth(func(s *Status) bool { return s.GroupAddress != nil && s.GroupAddress.Used })},
	{"evensong_group_address_missing", "Daemons that this address is not known to reach; while there are any, each daemon gets a copy.", gauge, "", one(func(s *Status) int {
		if s.GroupAddress == nil {
			return 0
		}
		return len(s.GroupAddress.Missing)
	})},
	{"evensong_datagrams_loss_injected_total", "Datagrams received and thrown away at random, as a test wants it.", counter, "", one(func(s *Status) uint64 { return s.Packets.LossInjected })},
	{"evensong_datagram_send_errors_total", "Datagrams that the system refused to send. Questions for longer packets that it refuses as too long do not count: that is an answer.", counter, "", one(func(s *Status) uint64 { return s.Host.SendErrors })},
	{"evensong_datagram_sends_dropped_total", "Datagrams not sent because the system had no room.", counter, "", one(func(s *Status) uint64 { return s.Host.SendsDropped })},

	{"evensong_sessions", "Clients connected to this daemon.", gauge, "", one(func(s *Status) int { return s.Clients.Sessions })},
	{"evensong_sessions_max", "More clients are refused.", gauge, "", one(func(s *Status) int { return s.Host.MaxSessions })},
	{"evensong_sessions_accepted_total", "Connections of clients that were taken.", counter, "", one(func(s *Status) uint64 { return s.Clients.Accepted })},
	{"evensong_sessions_refused_total", "Connections of clients that were refused because there were too many, or no descriptor was left.", counter, "", one(func(s *Status) uint64 { return s.Clients.RefusedSessions })},
	{"evensong_requests_refused_total", "What the access rules refused to clients, by what it was about.", counter, "request", byReason(func(s *Status) map[string]uint64 { return s.Clients.RefusedRequests })},
	{"evensong_sessions_closed_total", "Sessions that ended, by reason; see docs/operations/metrics.md.", counter, "reason", byReason(func(s *Status) map[string]uint64 { return s.Clients.Closed })},
	{"evensong_sessions_blocked", "Clients that do not read now.", gauge, "", one(func(s *Status) int64 { return s.Clients.BlockedClients })},
	{"evensong_sessions_waiting", "Clients that are not read now because what they sent waits for the token.", gauge, "", one(func(s *Status) int { return s.Clients.WaitingClients })},
	{"evensong_queued_bytes", "Bytes that wait for clients to read, each once however many clients it is for.", gauge, "", one(func(s *Status) int { return s.Clients.QueuedBytes })},
	{"evensong_sessions_slow", "Clients over their budgets.", gauge, "", one(func(s *Status) int { return s.Clients.SlowClients })},
	{"evensong_sessions_slow_total", "How often a client went over its budget.", counter, "", one(func(s *Status) uint64 { return s.Clients.SlowTimes })},
	{"evensong_messages_dropped_total", "Unreliable messages left out for slow clients, under that policy.", counter, "", one(func(s *Status) uint64 { return s.Clients.Dropped })},
	{"evensong_blocked", "1 while everybody waits for a slow client, under that policy.", gauge, "", truth(func(s *Status) bool { return s.Clients.Blocked })},
	{"evensong_blocked_seconds_total", "How long everybody has waited for slow clients; a wait counts when it ends.", counter, "", one(func(s *Status) float64 { return time.Duration(s.Clients.BlockedTime).Seconds() })},
	{"evensong_input_waiting_bytes", "Bytes of clients that wait for the token.", gauge, "", one(func(s *Status) int { return s.Clients.WaitingBytes })},
	{"evensong_input_stalls_total", "How often a client had to wait for the token.", counter, "", one(func(s *Status) uint64 { return s.Clients.InputStalls })},
	{"evensong_client_received_bytes_total", "Bytes that clients sent.", counter, "", one(func(s *Status) uint64 { return s.Clients.BytesReceived })},
	{"evensong_client_sent_bytes_total", "Bytes written to clients.", counter, "", one(func(s *Status) uint64 { return s.Clients.BytesSent })},
	{"evensong_client_read_calls_total", "System calls that took what clients sent.", counter, "", one(func(s *Status) uint64 { return s.Clients.ReadCalls })},
	{"evensong_client_write_calls_total", "System calls that wrote to clients.", counter, "", one(func(s *Status) uint64 { return s.Clients.WriteCalls })},
	{"evensong_tls_connections", "Connections of clients that use TLS now.", gauge, "", one(func(s *Status) int64 { return s.Clients.TLSConnections })},
	{"evensong_tls_handshakes_total", "TLS handshakes that clients began.", counter, "", one(func(s *Status) uint64 { return s.Clients.TLSHandshakes })},
	{"evensong_tls_handshake_failures_total", "TLS handshakes with clients that came to nothing; the log says why.", counter, "", one(func(s *Status) uint64 { return s.Clients.TLSFailures })},
	{"evensong_tls_certificate_expiry_seconds", "When the daemon's certificate for clients ends, in Unix time; a reload that renews it counts. Nothing where there is none.", gauge, "", func(s *Status, add func(float64, string)) {
		if s.TLS != nil && !s.TLS.Expires.IsZero() {
			add(float64(s.TLS.Expires.Unix()), "")
		}
	}},
	{"evensong_deliveries_total", "Messages and views given to clients, counted for each of them.", counter, "", one(func(s *Status) uint64 { return s.Clients.Deliveries })},
	{"evensong_groups", "Groups of the whole configuration.", gauge, "", one(func(s *Status) int { return s.Clients.Groups })},
	{"evensong_slowest_session_bytes", "Bytes that wait for the client that most bytes wait for.", gauge, "", one(func(s *Status) int {
		if len(s.Slow.Sessions) == 0 {
			return 0
		}
		return s.Slow.Sessions[0].QueuedBytes
	})},

	{"evensong_wakeups_total", "How often the daemon had slept and was woken.", counter, "", one(func(s *Status) uint64 { return s.Host.Wakeups })},
	{"evensong_stalls_total", "How often the process was not scheduled for longer than half the token timeout.", counter, "", one(func(s *Status) int64 { return s.Host.Stalls })},
	{"evensong_longest_stall_seconds", "The longest of these times.", gauge, "", one(func(s *Status) float64 { return time.Duration(s.Host.LongestStall).Seconds() })},
	{"evensong_log_lines_lost_total", "Log lines left out by the rate limit or because the log was too slow.", counter, "", one(func(s *Status) uint64 { return s.Host.LogLines })},
	{"evensong_store_errors_total", "Writes to stable storage that failed.", counter, "", one(func(s *Status) uint64 { return s.Host.StoreErrors })},
}

// collector reads a Status for each scrape: the daemon keeps plain counters and pays nothing in between.
type collector struct {
	daemon Daemon
	descs  []*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A daemon that does not answer gives an error instead of old values.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	st, err := c.daemon.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.descs[0], err)
		return
	}
	for i := range metrics {
		m, d := &metrics[i], c.descs[i]
		m.values(&st, func(v float64, label string) {
			if m.label == "" {
				ch <- prometheus.MustNewConstMetric(d, m.kind, v)
			} else {
				ch <- prometheus.MustNewConstMetric(d, m.kind, v, label)
			}
		})
	}
}

// newRegistry has the daemon's metrics, and those of its process and of the Go runtime.
func newRegistry(d Daemon) *prometheus.Registry {
	c := &collector{daemon: d}
	for _, m := range metrics {
		var labels []string
		if m.label != "" {
			labels = []string{m.label}
		}
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, labels, nil))
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
