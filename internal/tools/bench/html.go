// SPDX-License-Identifier: Apache-2.0

package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms":      ms,
	"mega":    func(v float64) string { return fmt.Sprintf("%.2f", v/1e6) },
	"kilo":    func(v float64) string { return fmt.Sprintf("%.1f", 1e3*v) },
	"percent": func(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) },
}).Parse(pageText))

// HTML writes the report as one page that needs nothing but itself.
func (r *Report) HTML(w io.Writer) error {
	d := struct {
		Report  *Report
		Crowd   string
		Asked   bool
		Remarks []string
		Plots   []*plot
	}{r, r.crowd(), r.asked(), nil, nil}
	over := &plot{Title: "Throughput over time", Text: "Messages per second and receiver, over seconds since measuring began."}
	dist := &plot{Title: "Latency distribution", Text: "The share of all deliveries (across) that took no longer than so many milliseconds (up, logarithmic).", logY: true, nines: true}
	took := &plot{Title: "Latency over time", Text: "The mean of each piece of time (thick) and its longest (thin), in milliseconds (logarithmic), over seconds.", logY: true}
	for i, l := range r.Runs {
		name := fmt.Sprintf("%s, %d bytes, %s", l.Service, l.Bytes, l.Rate)
		for _, remark := range l.remarks() {
			d.Remarks = append(d.Remarks, name+": "+remark)
		}
		var rate, share, mean, most curve
		rate.Name, share.Name, mean.Name, most.Name = name, name, name+", mean", name+", longest"
		rate.Color, share.Color, mean.Color, most.Color = i%colors, i%colors, i%colors, i%colors
		most.Thin = true
		for _, p := range l.Points {
			rate.add(p.Seconds, p.PerSecond, "%s: %.0f messages/s at %.2f s", name, p.PerSecond, p.Seconds)
			if p.PerSecond > 0 {
				mean.add(p.Seconds, 1e3*p.Mean, "%s: mean %s ms at %.2f s", name, ms(p.Mean), p.Seconds)
				most.add(p.Seconds, 1e3*p.Max, "%s: longest %s ms at %.2f s", name, ms(p.Max), p.Seconds)
			}
		}
		for _, p := range l.Percentiles {
			if p.Share < 1 {
				share.add(-math.Log10(1-p.Share), 1e3*p.Seconds, "%s: %s %% took up to %s ms", name, percentText(p.Share), ms(p.Seconds))
			}
		}
		over.Curves, dist.Curves, took.Curves = append(over.Curves, &rate), append(dist.Curves, &share), append(took.Curves, &mean, &most)
	}
	for _, p := range []*plot{over, dist, took} {
		p.draw()
		d.Plots = append(d.Plots, p)
	}
	return page.Execute(w, d)
}

// percentText is a share with as many digits as it needs.
func percentText(share float64) string {
	digits := int(max(0, math.Ceil(-math.Log10(1-share)-1e-6)-2))
	return strconv.FormatFloat(100*share, 'f', digits, 64)
}

// colors are how many the page has.
const colors = 6

// plot is one picture: its curves in their own units, and after draw in those of the page.
type plot struct {
	Title, Text string
	logY        bool
	nines       bool // x is the number of nines of a share
	Curves      []*curve

	Width, Height         float64
	Left, Right, Bottom   float64
	LabelX, LabelY, TickY float64
	XTicks, YTicks        []mark
}

type mark struct {
	At    float64
	Label string
}

type curve struct {
	Name  string
	Color int
	Thin  bool
	at    []dot
	Path  string
	Dots  []dot
}

type dot struct {
	X, Y  float64
	Title string
}

func (c *curve) add(x, y float64, format string, a ...any) {
	c.at = append(c.at, dot{x, y, fmt.Sprintf(format, a...)})
}

// draw places everything on the page.
func (p *plot) draw() {
	p.Width, p.Height = 960, 320
	p.Left, p.Right, p.Bottom = 70, 945, 285
	p.LabelX, p.LabelY, p.TickY = p.Left-8, p.Bottom+20, p.Bottom+5
	const top = 12
	maxX, minY, maxY := 0.0, math.Inf(1), 0.0
	for _, c := range p.Curves {
		for _, d := range c.at {
			maxX, maxY = max(maxX, d.X), max(maxY, d.Y)
			if d.Y > 0 {
				minY = min(minY, d.Y)
			}
		}
	}
	if maxX == 0 {
		maxX = 1
	}
	if maxY == 0 {
		minY, maxY = 1, 1
	}
	low, high, step := 0.0, 0.0, 0.0
	if p.logY {
		low, high, step = math.Floor(math.Log10(minY)), math.Ceil(math.Log10(maxY)), 1
		if low == high {
			high++
		}
	} else {
		step = round(maxY / 5)
		high = math.Ceil(maxY/step) * step
	}
	y := func(v float64) float64 {
		if p.logY {
			v = math.Log10(max(v, math.Pow(10, low)))
		}
		return tenth(p.Bottom - (v-low)/(high-low)*(p.Bottom-top))
	}
	x := func(v float64) float64 { return tenth(p.Left + v/maxX*(p.Right-p.Left)) }
	for i := 0; low+float64(i)*step <= high*(1+1e-9); i++ {
		v := low + float64(i)*step
		if p.logY {
			v = math.Pow(10, v)
		}
		p.YTicks = append(p.YTicks, mark{y(v), number(v)})
	}
	if p.nines {
		for n := 0.0; n <= maxX; n++ {
			p.XTicks = append(p.XTicks, mark{x(n), percentText(1-math.Pow(10, -n)) + " %"})
		}
		if half := math.Log10(2); maxX >= half {
			p.XTicks = append(p.XTicks, mark{x(half), "50 %"})
		}
	} else {
		s := round(maxX / 8)
		for i := 0; float64(i)*s <= maxX; i++ {
			p.XTicks = append(p.XTicks, mark{x(float64(i) * s), number(float64(i)*s) + " s"})
		}
	}
	for _, c := range p.Curves {
		var b strings.Builder
		for i, d := range c.at {
			at := dot{x(d.X), y(d.Y), d.Title}
			c.Dots = append(c.Dots, at)
			fmt.Fprintf(&b, "%c%g %g", "ML"[min(i, 1)], at.X, at.Y)
		}
		c.Path = b.String()
	}
}

// round is 1, 2 or 5 times a power of ten, not less than v.
func round(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// tenth is exact enough for a page.
func tenth(v float64) float64 { return math.Round(10*v) / 10 }

// number is a short label.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
