// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"fmt"
	"iter"
	"strings"
)

// Lengths of names in bytes (client-protocol 3.4).
const (
	NameSize       = 32           // a name's field on the wire, NUL padded
	MaxGroupName   = NameSize - 1 // visible bytes: receivers written in Java need the NUL
	MaxUserName    = 10           // private name, visible
	MaxDaemonName  = 19
	MaxPrivateName = 1 + MaxUserName + 1 + MaxDaemonName // "#user#daemon": 31
)

// LegalChar reports whether c may be part of a name: '$' to '~'. In particular '#' may not.
func LegalChar(c byte) bool { return c >= 0x24 && c <= 0x7E }

// legal reports whether s has at least one and at most max bytes, all of them legal.
func legal[T ~string | ~[]byte](s T, max int) bool {
	if len(s) == 0 || len(s) > max {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !LegalChar(s[i]) {
			return false
		}
	}
	return true
}

// LegalGroup reports whether s can be joined: 1 to 31 legal characters. A private group is not one.
func LegalGroup[T ~string | ~[]byte](s T) bool { return legal(s, MaxGroupName) }

// LegalUser reports whether s is a private name: 1 to 10 legal characters.
func LegalUser[T ~string | ~[]byte](s T) bool { return legal(s, MaxUserName) }

// LegalDaemon reports whether s is a daemon name: 1 to 19 legal characters.
func LegalDaemon[T ~string | ~[]byte](s T) bool { return legal(s, MaxDaemonName) }

// CheckGroup says what is wrong with a name that a client wants to join; nil if nothing is. Errors are
// ErrIllegalGroup.
func CheckGroup(s string) error {
	switch {
	case LegalGroup(s):
		return nil
	case s == "":
		return fmt.Errorf("empty group name: %w", ErrIllegalGroup)
	case len(s) > MaxGroupName:
		return fmt.Errorf("group name %q too long (%d > %d bytes): %w", s, len(s), MaxGroupName, ErrIllegalGroup)
	}
	return fmt.Errorf("group name %q has a character outside '$' to '~': %w", s, ErrIllegalGroup)
}

// PrivateName is "#user#daemon", the name under which a session is member, sender and destination.
func PrivateName(user, daemon string) string { return "#" + user + "#" + daemon }

// SplitPrivate takes "#user#daemon" apart. It is false unless both parts have legal length and characters
// (client-protocol 4.5, rule 2).
func SplitPrivate[T ~string | ~[]byte](s T) (user, daemon T, ok bool) {
	if len(s) < 4 || s[0] != '#' {
		return user, daemon, false
	}
	for i := 1; i < len(s); i++ {
		if s[i] == '#' {
			user, daemon = s[1:i], s[i+1:]
			return user, daemon, LegalUser(user) && LegalDaemon(daemon)
		}
	}
	return user, daemon, false
}

// Name is the visible part of a name's field: up to the first NUL, all 32 bytes if there is none. What is behind the
// NUL may be anything and is never looked at (client-protocol 3.4). It aliases field.
func Name(field []byte) []byte {
	if i := bytes.IndexByte(field[:NameSize], 0); i >= 0 {
		return field[:i]
	}
	return field[:NameSize]
}

var zeros [NameSize]byte

// AppendName appends a name's field, NUL padded. Names are cut at 31 bytes, because receivers may search for the NUL.
func AppendName[T ~string | ~[]byte](dst []byte, name T) []byte {
	if len(name) > MaxGroupName {
		name = name[:MaxGroupName]
	}
	dst = append(dst, name...)
	return append(dst, zeros[:NameSize-len(name)]...)
}

// Groups is a list of names as it travels: 32 bytes each. A length that is no multiple of 32 is a mistake of the caller;
// the rest is not seen.
type Groups []byte

// Len is the number of names.
func (g Groups) Len() int { return len(g) / NameSize }

// At is the visible part of name i, aliasing g.
func (g Groups) At(i int) []byte { return Name(g[i*NameSize : (i+1)*NameSize]) }

// All yields the visible names in order.
func (g Groups) All() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for i := range g.Len() {
			if !yield(i, g.At(i)) {
				return
			}
		}
	}
}

// Strings copies the names. The strings share one allocation.
func (g Groups) Strings() []string { return appendStrings(make([]string, 0, g.Len()), g) }

func appendStrings(dst []string, g Groups) []string {
	all := string(g)
	for len(all) >= NameSize {
		field := all[:NameSize]
		if i := strings.IndexByte(field, 0); i >= 0 {
			field = field[:i]
		}
		dst = append(dst, field)
		all = all[NameSize:]
	}
	return dst
}

// appendGroups copies the fields of g to dst with nothing behind their NULs: what a sender left there may be memory of
// its process, and is no business of the receivers. A field without any NUL is cut at 31 bytes, because there are
// receivers that search on until they find one (client-protocol 7.3, trap 7); such a name never reaches anybody, so
// no destination is lost.
func appendGroups(dst []byte, g Groups) []byte {
	for len(g) >= NameSize {
		at := len(dst)
		dst = append(dst, g[:NameSize]...)
		field := dst[at : at+NameSize]
		field[NameSize-1] = 0
		if i := bytes.IndexByte(field, 0); i < NameSize-1 {
			clear(field[i:])
		}
		g = g[NameSize:]
	}
	return dst
}
