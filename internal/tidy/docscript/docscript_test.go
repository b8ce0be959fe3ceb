// SPDX-License-Identifier: Apache-2.0

package docscript

import (
	"reflect"
	"strings"
	"testing"
)

func TestBlocks(t *testing.T) {
	doc := "# Title\n\n```sh\n$ not marked\n```\n\n<!-- run status=2 -->\n```console\n$ one\nout\n$ two | three\n```\n" +
		"<!-- run background ready=joined daemon -->\n\n~~~\n$ four\na\n\nb\n~~~\n"
	got, err := Blocks([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Line: 9, Status: 2, Commands: []Command{{9, "one", []string{"out"}}, {11, "two | three", nil}}},
		{Line: 16, Background: true, Ready: "joined", Daemon: true, Commands: []Command{{16, "four", []string{"a", "", "b"}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ doc, want string }{
		{"<!-- run -->\n```\nout\n```\n", "output before the first command"},
		{"<!-- run -->\n```\n```\n", "without a command"},
		{"<!-- run -->\ntext\n```\n", "right above"},
		{"<!-- run -->\n", "does not end"},
		{"<!-- run -->\n```\n$ x\n", "does not end"},
		{"<!-- run fast -->\n", "unknown word"},
		{"<!-- run status=x -->\n", "want a number"},
		{"<!-- runs -->\n", "is not a run comment"},
		{"<!-- run background -->\n```\n$ x\n```\n", "needs one command and ready"},
		{"<!-- run ready=x -->\n```\n$ x\n```\n", "ready and daemon are for background"},
	} {
		if _, err := Blocks([]byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.doc, err, tt.want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		want, got string
		ok        bool
	}{
		{"", "", true},
		{"a\nb", "a\nb\n", true},
		{"a", "a\nb\n", false},
		{"a\nb", "a\n", false},
		{"a ... c", "a b c\n", true},
		{"a ... c", "a b c d\n", false},
		{"...b...d", "a b c d\n", true},
		{"...d...b", "a b c d\n", false},
		{"a\n...\nd", "a\nb\nc\nd\n", true},
		{"a\n...\nd", "a\nd\n", true},
		{"a\n...", "b\n", false},
		{"...\nx", "a\nb\n", false},
		{"a", "a  \n", true},
	} {
		var want []string
		if tt.want != "" {
			want = strings.Split(tt.want, "\n")
		}
		if got := Match(want, tt.got); (got == "") != tt.ok {
			t.Errorf("%q against %q: %q", tt.want, tt.got, got)
		}
	}
}
