// SPDX-License-Identifier: Apache-2.0

package evs

// Level says how much a note matters: Error needs an operator, Warn is odd but heals by itself, Info is life cycle and
// configuration, Debug is at most once per round.
type Level uint8

// The levels, in rising order.
const (
	Debug Level = iota + 1
	Info
	Warn
	Error
)

// Attr is one fact of a note. Where one of these keys fits it is used, so that lines can be searched alike: proc ring seq
// aru state from to reason group session peer.
type Attr struct {
	Key   string
	Value any
}

// Note is something that a machine wants known: the shell logs and counts it. Text is constant for a kind of note.
type Note struct {
	Level Level
	Text  string
	Attrs []Attr
}
