// SPDX-License-Identifier: Apache-2.0

package evs

import "strconv"

// Clients of the original's protocol have room for user names of ten characters. A session with another name is shown to
// them under a short one, which every daemon can tell from the session's number: docs/decisions/0006-long-names.md.

// shortMark begins short user names. No user name of either dialect may begin with it.
const shortMark = '!'

// shortDigits and shortBase bound a short name: nine digits hold 10^14 sessions of one daemon.
const (
	shortDigits = 9
	shortBase   = 36
	shortRange  = 101559956668416 // shortBase^shortDigits
)

// FitsOriginal reports whether a user name is one that the original's protocol has room for: 1 to 10 characters from '$'
// to '~'.
func FitsOriginal(user string) bool {
	if user == "" || len(user) > 1+shortDigits {
		return false
	}
	for i := range len(user) {
		if user[i] < '$' || user[i] > '~' {
			return false
		}
	}
	return true
}

// ShortPrivate is what clients of the original see of the private name of a session: the name itself if it fits.
func ShortPrivate(private, user string, session uint64, daemon string) string {
	if FitsOriginal(user) {
		return private
	}
	b := append(make([]byte, 0, 32), '#', shortMark)
	b = strconv.AppendUint(b, session%shortRange, shortBase)
	return string(append(append(b, '#'), daemon...))
}

// ParseShortUser is the session that a short user name is of.
func ParseShortUser(user []byte) (session uint64, ok bool) {
	if len(user) < 2 || len(user) > 1+shortDigits || user[0] != shortMark {
		return 0, false
	}
	for _, c := range user[1:] {
		switch {
		case c >= '0' && c <= '9':
			session = session*shortBase + uint64(c-'0')
		case c >= 'a' && c <= 'z':
			session = session*shortBase + uint64(c-'a') + 10
		default:
			return 0, false
		}
	}
	return session, user[1] != '0' || len(user) == 2
}
