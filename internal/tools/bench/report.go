// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"evensong/internal/tools/latency"
)

// Report is what was measured. Times are in seconds.
type Report struct {
	Version   string    `json:"version,omitempty"` // of the daemons, if they tell it
	Time      time.Time `json:"time"`
	Machine   Machine   `json:"machine"` // that the sessions are on
	Servers   []string  `json:"servers"`
	Daemons   []string  `json:"daemons"` // whose figures are in Load.Daemons
	Senders   int       `json:"senders"`
	Receivers int       `json:"receivers"` // the senders included
	Groups    int       `json:"groups"`
	Window    int       `json:"window"`
	Runs      []*Load   `json:"runs"`
	Warnings  []string  `json:"warnings,omitempty"`
}

// Machine decides the figures, as far as it is easy to find out.
type Machine struct {
	Cores  int    `json:"cores"`
	Model  string `json:"model,omitempty"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
}

// String is the machine in one line.
func (m Machine) String() string {
	s := fmt.Sprintf("%d cores", m.Cores)
	if m.Model != "" {
		s += ", " + m.Model
	}
	return fmt.Sprintf("%s, %s, %s", s, strings.TrimSpace(m.OS+"/"+m.Arch+" "+m.Kernel), m.Go)
}

// Load is one service, size and rate. A delivery is one message that one receiver got.
type Load struct {
	Service   string  `json:"service"`
	Bytes     int     `json:"message_bytes"`
	Rate      string  `json:"rate"`                                    // as it was asked for
	Scheduled float64 `json:"scheduled_messages_per_second,omitempty"` // none at the rate max
	Seconds   float64 `json:"seconds"`

	Messages Messages `json:"messages"`
	// Slowest and Fastest are messages per second of the receivers that got fewest and most.
	Slowest float64 `json:"slowest_receiver_messages_per_second"`
	Fastest float64 `json:"fastest_receiver_messages_per_second"`
	Lost    uint64  `json:"lost"` // deliveries; only services that may lose do
	// Behind says that the schedule asked for more than the cluster takes; Unsent messages were due and never sent. In
	// Latency they count as long as they had waited.
	Behind bool   `json:"behind_schedule,omitempty"`
	Unsent uint64 `json:"unsent,omitempty"`

	// Latency is until the delivery at each receiver: from when a message was due, or at the rate max from when it was sent.
	Latency     *latency.Summary   `json:"latency_seconds,omitempty"`
	Percentiles []Percentile       `json:"latency_percentiles,omitempty"`
	Times       *latency.Histogram `json:"-"`
	Points      []Point            `json:"points"`

	// ClientCPU is user and system time of all sessions in microseconds for each delivery, what measuring takes included.
	ClientCPU float64 `json:"client_cpu_microseconds_per_delivery"`
	// Busy is how many processors were busy with sessions and daemons, if all are on this machine; else zero.
	Busy    float64  `json:"processors_busy,omitempty"`
	Daemons *Daemons `json:"daemons,omitempty"`

	cores int
}

// Messages are how many there were. PerSecond is what a receiver got, the mean of all.
type Messages struct {
	Sent           uint64  `json:"sent"`     // warming up included
	Received       uint64  `json:"received"` // deliveries in the time measured
	PerSecond      float64 `json:"per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
}

// Percentile is the time that a share of all deliveries did not exceed.
type Percentile struct {
	Share   float64 `json:"share"`
	Seconds float64 `json:"seconds"`
}

// Point is what came in a piece of the time measured.
type Point struct {
	Seconds   float64 `json:"at"` // its beginning
	PerSecond float64 `json:"messages_per_second"`
	Mean      float64 `json:"mean_latency"`
	Max       float64 `json:"max_latency"`
}

// Daemons are what the daemons counted themselves, together. The numbers down to DatagramsOut are for each delivery.
type Daemons struct {
	Count   int     `json:"count"`
	CPU     float64 `json:"cpu_microseconds"` // user and system time of their processes
	Wakeups float64 `json:"wakeups"`          // how often a daemon had slept and was woken
	// System calls, for clients and for datagrams.
	Reads            float64 `json:"client_reads"`
	Writes           float64 `json:"client_writes"`
	DatagramReceives float64 `json:"datagram_receives"`
	DatagramSends    float64 `json:"datagram_sends"`
	DatagramsIn      float64 `json:"datagrams_received"`
	DatagramsOut     float64 `json:"datagrams_sent"`

	Packets              uint64  `json:"packets_sent"` // data packets, each counted once
	Retransmitted        uint64  `json:"packets_retransmitted"`
	Rotations            float64 `json:"rotations_per_second"` // of the token
	TokenRepeats         uint64  `json:"token_repeats"`
	ConfigurationChanges uint64  `json:"configuration_changes"`
	Stalls               uint64  `json:"stalls"`       // a daemon was not scheduled for longer than half the token timeout
	InputStalls          uint64  `json:"input_stalls"` // a client had to wait for the token
	SlowTimes            uint64  `json:"slow_times"`   // a client went over its budget
}

// Calls are the system calls for a delivery, without waiting.
func (d *Daemons) Calls() float64 {
	return d.Reads + d.Writes + d.DatagramReceives + d.DatagramSends
}

// RetransmittedShare is the share of the packets that were sent again.
func (d *Daemons) RetransmittedShare() float64 {
	return float64(d.Retransmitted) / max(float64(d.Packets), 1)
}

// percentiles are points of the distribution, closer to each other towards its end.
func percentiles(h *latency.Histogram) []Percentile {
	var out []Percentile
	for step := 0; ; step++ {
		// Ten points to each nine: 0, 0.206, 0.369, ... 0.9, ... 0.99, ...
		share := 1 - math.Pow(10, -float64(step)/10)
		if rest := float64(h.Count()) * (1 - share); rest < 1 || step > 80 {
			break
		}
		out = append(out, Percentile{share, h.Quantile(share).Seconds()})
	}
	return append(out, Percentile{1, h.Quantile(1).Seconds()})
}

// Write prints the report for people. The last line is Line.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, window %d, at %s", r.crowd(), r.Window, strings.Join(r.Servers, " "))
	if len(r.Daemons) > 0 {
		fmt.Fprintf(&b, "; daemons %s, version %s", strings.Join(r.Daemons, " "), r.Version)
	}
	fmt.Fprintf(&b, "\n%s\n\n", r.Machine)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "service\tbytes\trate\tmessages/s\tMB/s\tp50 ms\tp90 ms\tp99 ms\tp99.9 ms\tmax ms\tCPU µs/delivery, sessions + daemons\t")
	for _, l := range r.Runs {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.2f\t", l.Service, l.Bytes, l.Rate, l.Messages.PerSecond, l.Messages.BytesPerSecond/1e6)
		if x := l.Latency; x != nil {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t", ms(x.P50), ms(x.P90), ms(x.P99), ms(x.P999), ms(x.Max))
		} else {
			fmt.Fprint(t, "-\t-\t-\t-\t-\t")
		}
		fmt.Fprintf(t, "%s\t\n", l.cpu())
	}
	t.Flush()
	if r.asked() {
		b.WriteString("\nOf the daemons, for 1000 deliveries: system calls by what they are for, and datagrams\n")
		fmt.Fprintln(t, "service\tbytes\trate\twake-ups\tread\twrite\trecv\tsend\tdatagrams\tretransmitted\trotations/s\t")
		for _, l := range r.Runs {
			if d := l.Daemons; d != nil {
				fmt.Fprintf(t, "%s\t%d\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t%.2f %%\t%.0f\t\n", l.Service, l.Bytes, l.Rate, 1e3*d.Wakeups, 1e3*d.Reads, 1e3*d.Writes,
					1e3*d.DatagramReceives, 1e3*d.DatagramSends, 1e3*d.DatagramsOut, 100*d.RetransmittedShare(), d.Rotations)
			}
		}
		t.Flush()
	}
	for _, l := range r.Runs {
		for _, remark := range l.remarks() {
			fmt.Fprintf(&b, "\n%s, %d bytes, %s: %s\n", l.Service, l.Bytes, l.Rate, remark)
		}
	}
	for _, text := range r.Warnings {
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	if n := len(r.Runs); n > 0 && r.Runs[n-1].Times != nil {
		l := r.Runs[n-1]
		fmt.Fprintf(&b, "\nLatency, %s, %d bytes, %s:\n", l.Service, l.Bytes, l.pace())
		if err := l.Times.Write(&b); err != nil {
			return err
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Line())
	_, err := io.WriteString(w, b.String())
	return err
}

// asked reports whether the daemons' figures are known.
func (r *Report) asked() bool {
	for _, l := range r.Runs {
		if l.Daemons != nil {
			return true
		}
	}
	return false
}

// crowd is who sends and receives.
func (r *Report) crowd() string {
	return fmt.Sprintf("%s, %s, %s", count(r.Senders, "sender"), count(r.Receivers, "receiver"), count(r.Groups, "group"))
}

func (l *Load) cpu() string {
	if l.Daemons == nil {
		return fmt.Sprintf("%.2f + ?", l.ClientCPU)
	}
	return fmt.Sprintf("%.2f + %.2f", l.ClientCPU, l.Daemons.CPU)
}

// pace is the rate in words.
func (l *Load) pace() string {
	if l.Scheduled > 0 {
		return fmt.Sprintf("%.0f messages/s by schedule", l.Scheduled)
	}
	return "as fast as it goes"
}

// busyShare is the part of all processors that may be busy before messages wait for them. By schedule each message wakes who is concerned by itself, so half of a rate
// may take as much of them as all of it.
const busyShare = 0.85

// remarks are what a reader must not miss.
func (l *Load) remarks() (list []string) {
	if l.Behind {
		list = append(list, fmt.Sprintf("behind its schedule of %.0f messages/s; the latencies tell how far, %d messages were never sent", l.Scheduled, l.Unsent))
	}
	if l.Scheduled > 0 && l.cores > 0 && l.Busy >= busyShare*float64(l.cores) {
		list = append(list, fmt.Sprintf("%.1f of %s were busy: much of the latency is waiting for one. Choose a lower rate, or daemons on other machines", l.Busy, count(l.cores, "processor")))
	}
	if l.Lost > 0 {
		list = append(list, fmt.Sprintf("%d deliveries lost", l.Lost))
	}
	if d := l.Daemons; d != nil {
		if d.ConfigurationChanges > 0 {
			list = append(list, fmt.Sprintf("the daemons changed their configuration (%d times): repeat it", d.ConfigurationChanges))
		}
		if d.Stalls > 0 {
			list = append(list, fmt.Sprintf("%d times a daemon did not get the processor in time: the machine is too busy for good figures", d.Stalls))
		}
		if d.SlowTimes > 0 {
			list = append(list, fmt.Sprintf("%d times a receiver was too slow for its budget", d.SlowTimes))
		}
	}
	return list
}

// Line is the report in one line, in the same form each time, so that two compare by eye.
func (r *Report) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bench: %s", r.crowd())
	if n := len(r.Daemons); n > 0 {
		fmt.Fprintf(&b, ", %s", count(n, "daemon"))
	}
	last := ""
	for _, l := range r.Runs {
		if load := fmt.Sprintf("%s %d bytes", l.Service, l.Bytes); load != last {
			fmt.Fprintf(&b, "; %s:", load)
			last = load
		} else {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %.0f/s %.1f MB/s", l.Rate, l.Messages.PerSecond, l.Messages.BytesPerSecond/1e6)
		if x := l.Latency; x != nil {
			fmt.Fprintf(&b, " p50 %s p99 %s p99.9 %s ms", ms(x.P50), ms(x.P99), ms(x.P999))
		}
		fmt.Fprintf(&b, " CPU %s µs", l.cpu())
		if l.Behind {
			b.WriteString(" (behind schedule)")
		}
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func ms(seconds float64) string { return fmt.Sprintf("%.3f", 1e3*seconds) }
