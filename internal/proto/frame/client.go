// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"evensong/internal/proto/evs"
)

// appendCommand writes a header and one group. Commands have hint 0 with a mark and no data.
func appendCommand(dst []byte, t Type, private, group string) []byte {
	dst = appendHead(dst, t, private, 1, NewHint(0, LittleEndian), 0)
	return AppendName(dst, group)
}

// appendHead is Header.Append in our own order, for names that are strings: a []byte would have to be allocated.
func appendHead[T ~string | ~[]byte](dst []byte, t Type, name T, groups int, hint Hint, data int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t)&^Mark|Mark)
	dst = AppendName(dst, name)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(groups))
	dst = append(dst, hint[:]...)
	return binary.LittleEndian.AppendUint32(dst, uint32(data))
}

// CommandSize is the size of a join, leave or kill.
const CommandSize = HeaderSize + NameSize

// AppendJoin writes a join (client-protocol 4.1). private is the sender's private name. See CheckGroup.
func AppendJoin(dst []byte, private, group string) []byte {
	return appendCommand(dst, TypeJoin, private, group)
}

// AppendLeave writes a leave (client-protocol 4.2).
func AppendLeave(dst []byte, private, group string) []byte {
	return appendCommand(dst, TypeLeave, private, group)
}

// AppendKill writes a disconnect (client-protocol 4.3).
func AppendKill(dst []byte, private string) []byte {
	return appendCommand(dst, TypeKill, private, private)
}

// MulticastSize is the size of a multicast.
func MulticastSize(groups, data int) int { return HeaderSize + NameSize*groups + data }

// AppendMulticast writes a multicast (client-protocol 4.4). See CheckMulticast.
func AppendMulticast(dst []byte, private string, t Type, messType int16, groups []string, data []byte) []byte {
	dst = appendHead(dst, t, private, len(groups), NewHint(messType, LittleEndian), len(data))
	for _, g := range groups {
		dst = AppendName(dst, g)
	}
	return append(dst, data...)
}

// CheckMulticast says why a daemon would refuse a multicast, with the code a client library returns for it: a type
// without exactly one service or with daemon-only bits (ErrIllegalService), too many groups or one that does not fit
// its field (ErrIllegalGroup), or too many bytes (ErrMessageTooLong).
func CheckMulticast(t Type, groups []string, dataBytes int) error {
	if bits.OnesCount32(uint32(t&MaskRegular)) != 1 || t&(MaskCommand|MaskDaemonOnly) != 0 || uint32(t)&Mark != 0 {
		return fmt.Errorf("multicast with type %v: %w", t, ErrIllegalService)
	}
	if len(groups) > MaxGroups {
		return fmt.Errorf("multicast to %d groups (at most %d): %w", len(groups), MaxGroups, ErrIllegalGroup)
	}
	for _, g := range groups {
		if len(g) > MaxGroupName {
			return fmt.Errorf("multicast to %q: name too long (%d > %d bytes): %w", g, len(g), MaxGroupName, ErrIllegalGroup)
		}
	}
	if body := dataBytes + NameSize*len(groups); body > MaxBody {
		return fmt.Errorf("multicast of %d bytes with names (at most %d): %w", body, MaxBody, ErrMessageTooLong)
	}
	return nil
}

// MulticastType is the type word for a service.
func MulticastType(s evs.Service, selfDiscard bool) Type {
	t := TypeOf(s)
	if selfDiscard {
		t |= TypeSelfDiscard
	}
	return t
}
