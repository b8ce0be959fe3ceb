// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"fmt"
	"strings"
)

// Version is a library's or daemon's version. The bytes are signed on the wire, so 128 and more count as too old
// (client-protocol 2.6).
type Version struct{ Major, Minor, Patch uint8 }

// Ours is the version that we announce, as daemon and as client.
var Ours = Version{4, 4, 0}

// Versions at which the handshake changes, as numbers (client-protocol 2.1, 2.6).
const (
	versionOldest    = 30100 // older ones are refused
	versionNoPatch   = 31400 // up to here the connect message has no patch byte
	versionPatchBack = 31500 // from here on the accept message has one
	versionAuth      = 31600 // from here on there is an authentication phase
)

// number is what versions are compared by.
func (v Version) number() int {
	return int(int8(v.Major))*10000 + int(int8(v.Minor))*100 + int(int8(v.Patch))
}

// TooOld reports whether a client of this version is refused: before 3.1.
func (v Version) TooOld() bool { return v.number() < versionOldest }

// HasAuth reports whether a client of this version takes part in the choice of authentication methods.
func (v Version) HasAuth() bool { return v.number() >= versionAuth }

// hasPatchBack reports whether a client of this version expects a patch byte in the accept message.
func (v Version) hasPatchBack() bool { return v.number() >= versionPatchBack }

// String is "4.4.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Connect is the first message of a client (client-protocol 2.1).
//
//	0      1      2                     3      4   5
//	+------+------+---------------------+------+---+-----------+
//	| major| minor| patch, if over 3.14 | flags| L | user (L)  |
//	+------+------+---------------------+------+---+-----------+
type Connect struct {
	Version Version
	Flags   byte   // as sent: bit 0 membership, bits 4 to 7 priority
	User    string // private name; empty: the daemon invents one
}

// FlagMembership asks for membership messages.
const FlagMembership byte = 1

// MaxConnect is the size of the longest connect message.
const MaxConnect = 5 + MaxUserName

// Membership reports whether the client wants membership messages.
func (c *Connect) Membership() bool { return c.Flags&FlagMembership != 0 }

// Priority is 0 to 15; clients send 0 or 1, and nothing depends on it.
func (c *Connect) Priority() uint8 { return c.Flags >> 4 }

// ParseConnect reads a connect message from the start of b, which may still grow. n is its size, zero while it is not
// complete. code is not zero as soon as the bytes show that it will be refused, with the code to send: the rules are
// those of client-protocol 2.1 in their order. An illegal name is known only when all of it is there.
func ParseConnect(b []byte) (c Connect, n int, code Code) {
	if len(b) < 2 {
		return c, 0, 0
	}
	c.Version = Version{Major: b[0], Minor: b[1]}
	n = 2
	if c.Version.number() > versionNoPatch {
		if len(b) < 3 {
			return c, 0, 0
		}
		c.Version.Patch = b[2]
		n = 3
	}
	if c.Version.TooOld() {
		return c, 0, ErrRejectVersion
	}
	if len(b) < n+2 {
		return c, 0, 0
	}
	c.Flags = b[n]
	size := int(b[n+1])
	n += 2
	if size > MaxUserName {
		return c, 0, ErrRejectIllegalName
	}
	if len(b) < n+size {
		return c, 0, 0
	}
	c.User = string(b[n : n+size])
	if size > 0 && !LegalUser(c.User) {
		return c, 0, ErrRejectIllegalName
	}
	return c, n + size, 0
}

// ConnectInName reports whether the incomplete connect message b ends inside the private name: the original then
// answers REJECT_ILLEGAL_NAME, while it says nothing to one that ends earlier (client-protocol 2.1, rules 4 and 7).
func ConnectInName(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	if v := (Version{Major: b[0], Minor: b[1]}); v.number() > versionNoPatch {
		return len(b) >= 5
	}
	return len(b) >= 4
}

// Append writes the connect message. The private name is cut at 10 bytes, as client libraries do.
func (c *Connect) Append(dst []byte) []byte {
	dst = append(dst, c.Version.Major, c.Version.Minor)
	if (Version{Major: c.Version.Major, Minor: c.Version.Minor}).number() > versionNoPatch {
		dst = append(dst, c.Version.Patch)
	}
	user := c.User[:min(len(c.User), MaxUserName)]
	dst = append(dst, c.Flags, byte(len(user)))
	return append(dst, user...)
}

// Sizes of the authentication phase (client-protocol 2.2, 2.3). Older C clients have no room for a longer list than 89.
const (
	MaxAuthList    = 89
	MaxAuthMethods = 3
	AuthNameSize   = 30
	AuthChoiceSize = MaxAuthMethods * AuthNameSize
)

// Names of the authentication methods that clients of the original know.
const (
	AuthNull     = "NULL"
	AuthIP       = "IP"
	AuthPassword = "PWORD"
)

// AppendAuthList writes the list of allowed methods in the given order: a length, then each name with a blank behind
// it, the last one too. NULL should be first. The caller sees to it that the list fits MaxAuthList. It must be handed
// to the kernel in one write (client-protocol 2.2).
func AppendAuthList(dst []byte, methods []string) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for _, m := range methods {
		dst = append(append(dst, m...), ' ')
	}
	dst[at] = byte(len(dst) - at - 1)
	return dst
}

// ParseAuthList reads a daemon's list from the start of b. n is its size, zero while it is not complete. code is the
// code of a refusal instead of the list, or ErrConnectionClosed for a length that no daemon sends. An empty list is
// followed by a refusal.
func ParseAuthList(b []byte) (methods []string, n int, code Code) {
	switch {
	case len(b) == 0:
		return nil, 0, 0
	case b[0] >= 0x80:
		return nil, 0, Code(b[0])
	case b[0] > MaxAuthList+1:
		return nil, 0, ErrConnectionClosed
	}
	n = 1 + int(b[0])
	if len(b) < n {
		return nil, 0, 0
	}
	return strings.Fields(string(b[1:n])), n, 0
}

// AppendAuthChoice writes the methods that a client wants to use, in 90 bytes. At most three are allowed; a real daemon
// needs the third slot empty (client-protocol 2.3). Names have 1 to 29 bytes.
func AppendAuthChoice(dst []byte, methods ...string) ([]byte, error) {
	if len(methods) == 0 || len(methods) > MaxAuthMethods {
		return dst, fmt.Errorf("choose authentication: %d methods, want 1 to %d: %w", len(methods), MaxAuthMethods, ErrRejectAuth)
	}
	for _, m := range methods {
		if m == "" || len(m) >= AuthNameSize || strings.IndexByte(m, 0) >= 0 {
			return dst, fmt.Errorf("choose authentication: method name %q: %w", m, ErrRejectAuth)
		}
	}
	var slots [AuthChoiceSize]byte
	for i, m := range methods {
		copy(slots[i*AuthNameSize:], m)
	}
	return append(dst, slots[:]...), nil
}

// ParseAuthChoice reads the 90 bytes at the start of b. The list ends at the first empty slot.
func ParseAuthChoice(b []byte) []string {
	var methods []string
	for i := range MaxAuthMethods {
		slot := b[i*AuthNameSize : (i+1)*AuthNameSize]
		if end := bytes.IndexByte(slot, 0); end == 0 {
			break
		} else if end > 0 {
			slot = slot[:end]
		}
		methods = append(methods, string(slot))
	}
	return methods
}

// AppendAccept writes the accept message for a client of the given version: our version, without its patch byte for
// those before 3.15.0, and the private name. It must be handed to the kernel in one write (client-protocol 2.4, 2.6).
func AppendAccept(dst []byte, client Version, private string) []byte {
	dst = append(dst, Accept.Byte(), Ours.Major, Ours.Minor)
	if client.hasPatchBack() {
		dst = append(dst, Ours.Patch)
	}
	dst = append(dst, byte(len(private)))
	return append(dst, private...)
}

// ParseAccept reads a daemon's accept message from the start of b; client is the version that was announced to it. n is
// its size, zero while it is not complete. code is the code of a refusal instead.
func ParseAccept(b []byte, client Version) (daemon Version, private string, n int, code Code) {
	if len(b) == 0 {
		return daemon, "", 0, 0
	}
	if b[0] != Accept.Byte() {
		// Zero is no code, but no acceptance either.
		if code = Code(b[0]); code == 0 {
			code = ErrConnectionClosed
		}
		return daemon, "", 0, code
	}
	n = 3
	if client.hasPatchBack() {
		n = 4
	}
	if len(b) < n+1 {
		return daemon, "", 0, 0
	}
	daemon = Version{Major: b[1], Minor: b[2]}
	if n == 4 {
		daemon.Patch = b[3]
	}
	size := int(b[n])
	n++
	if size > MaxGroupName {
		return daemon, "", 0, ErrConnectionClosed
	}
	if len(b) < n+size {
		return daemon, "", 0, 0
	}
	return daemon, string(b[n : n+size]), n + size, 0
}
