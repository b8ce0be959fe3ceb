// SPDX-License-Identifier: Apache-2.0

package run

import (
	"strings"
	"testing"
	"time"
)

// sample is a result of two tables.
type sample struct {
	Origin
	Rows []int
}

var sampleTables = []Table{{{"figure", "value"}, {"größer", "1"}}, {{"n"}, {"1 000"}, {"20"}}}

func (s *sample) Markdown() string { return s.InMarkdown(sampleTables...) + "\nend\n" }
func (s *sample) Text() string     { return s.InText(Left, sampleTables...) + "\nend\n" }

func TestWrite(t *testing.T) {
	s := sample{Origin{Machine: "m", Commit: "c", Options: "go run -a <b", Time: time.Unix(0, 0).UTC()}, []int{7}}
	for format, want := range map[string]string{
		"markdown": `Machine: m. Commit c, 1970-01-01. Command:

    go run -a <b

| figure | value |
| --- | --- |
| größer | 1 |

| n |
| --- |
| 1 000 |
| 20 |

end
`,
		"text": `m; commit c

figure  value$
größer  1    $

n    $
1 000$
20   $

end
`,
		"json": `{
  "Machine": "m",
  "Commit": "c",
  "Options": "go run -a <b",
  "Time": "1970-01-01T00:00:00Z",
  "Rows": [
    7
  ]
}
`,
	} {
		var b strings.Builder
		if err := Write(&b, format, &s); err != nil {
			t.Fatal(err)
		}
		if want = strings.ReplaceAll(want, "$", "  "); b.String() != want { // a cell ends with two spaces
			t.Errorf("%s: got\n%s\nwant\n%s", format, b.String(), want)
		}
	}
	if got, want := s.InText(Right, sampleTables[1]), "m; commit c\n\n    n  \n1 000  \n   20  \n"; got != want {
		t.Errorf("flush right: got\n%s\nwant\n%s", got, want)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{9, 1, 4, 2}, 3},
	} {
		first := c.values[0]
		if got := Median(c.values); got != c.want || c.values[0] != first {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		v                 float64
		number, thousands string
	}{
		{0, "0.00", "0"},
		{9.876, "9.88", "10"},
		{98.76, "98.8", "99"},
		{987.6, "988", "988"},
		{1234.5, "1234", "1 234"},
		{123456, "123456", "123 456"},
		{1234567, "1234567", "1 234 567"},
	} {
		if n, k := Number(c.v), Thousands(c.v); n != c.number || k != c.thousands {
			t.Errorf("%v: got %q and %q, want %q and %q", c.v, n, k, c.number, c.thousands)
		}
	}
}
