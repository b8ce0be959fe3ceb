// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"fmt"
	"io"
	"time"

	"evensong/internal/tools/amount"
	"evensong/internal/tools/latency"
)

// Report is the outcome of a flood. Times are in seconds.
type Report struct {
	Group    string `json:"group"`
	Service  string `json:"service"`
	Sessions int    `json:"sessions"`
	Members  int    `json:"members,omitempty"`
	Size     int    `json:"message_bytes"`
	Sent     Flow   `json:"sent"`
	Received Flow   `json:"received"`
	// Latency is from Multicast to the delivery at the same session.
	Latency *latency.Summary `json:"latency_seconds,omitempty"`
	// Times is where Latency comes from.
	Times *latency.Histogram `json:"-"`
}

// Flow is messages over time: from the first until the last one was delivered, or for SendOnly ordered.
type Flow struct {
	Messages          int     `json:"messages"`
	Seconds           float64 `json:"seconds"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
}

func newFlow(messages, size int, s span) Flow {
	fl := Flow{Messages: messages, Seconds: s.last.Sub(s.first).Seconds()}
	if fl.Seconds > 0 {
		fl.MessagesPerSecond = float64(messages) / fl.Seconds
		fl.BytesPerSecond = fl.MessagesPerSecond * float64(size)
	}
	return fl
}

func (f *flood) report() *Report {
	r := &Report{Group: f.Group, Service: f.Service.String(), Sessions: f.Sessions, Members: f.Members, Size: f.Bytes}
	all := latency.New()
	var sending, receiving span
	for _, s := range f.sessions {
		all.Add(s.times)
		sending.join(s.sending)
		receiving.join(s.receiving)
	}
	r.Sent = newFlow(int(f.sent.Load()), f.Bytes, sending)
	r.Received = newFlow(int(f.received.Load()), f.Bytes, receiving)
	if all.Count() > 0 {
		r.Latency, r.Times = new(all.Summary()), all
	}
	return r
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	p := &printer{w: w}
	p.line("%s, %s, group %s, %s", amount.Of(r.Size, "byte"), r.Service, r.Group, amount.Of(r.Sessions, "session"))
	if r.Members > 0 {
		p.line(" of %s", amount.Of(r.Members, "member"))
	}
	p.line("\n")
	for _, f := range []struct {
		name string
		flow Flow
	}{{"sent", r.Sent}, {"received", r.Received}} {
		if f.flow.Messages > 0 {
			p.line("%-9s %8d messages in %8.3f s  %10.0f messages/s  %9.2f MB/s\n", f.name, f.flow.Messages, f.flow.Seconds, f.flow.MessagesPerSecond, f.flow.BytesPerSecond/1e6)
		}
	}
	if l := r.Latency; l != nil {
		p.line("latency   p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	}
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, a...)
	}
}

func ms(seconds float64) string {
	return fmt.Sprintf("%.3f ms", seconds*float64(time.Second/time.Millisecond))
}
