// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"strconv"
)

// Code is a result number of the client protocol (client-protocol 2.5, 7.2, 8.8). Negative codes are errors and
// implement error, so that errors.Is finds them and errors.AsType[frame.Code] gives the number back. Zero is no code.
type Code int8

// Accept is the only code that is not an error: the first byte of an accept message.
const Accept Code = 1

// The errors of the protocol. Those between -3 and -9 travel as one byte, the others exist inside libraries only.
const (
	ErrIllegalSpread      Code = -1
	ErrCouldNotConnect    Code = -2
	ErrRejectQuota        Code = -3
	ErrRejectNoName       Code = -4
	ErrRejectIllegalName  Code = -5
	ErrRejectNotUnique    Code = -6
	ErrRejectVersion      Code = -7
	ErrConnectionClosed   Code = -8
	ErrRejectAuth         Code = -9
	ErrIllegalSession     Code = -11
	ErrIllegalService     Code = -12
	ErrIllegalMessage     Code = -13
	ErrIllegalGroup       Code = -14
	ErrBufferTooShort     Code = -15
	ErrGroupsTooShort     Code = -16
	ErrMessageTooLong     Code = -17
	ErrNetErrorOnSession  Code = -18
	ErrBug                Code = -19
	ErrIllegalParam       Code = -24
	ErrWouldBlock         Code = -25
	ErrIllegalMessageType Code = -26
	ErrIllegalState       Code = -27
	ErrIllegalReceivers   Code = -28
)

// codes is the one table: number, name in the protocol, sentence.
var codes = [...]struct {
	code Code
	name string
	text string
}{
	{Accept, "ACCEPT_SESSION", "session accepted"},
	{ErrIllegalSpread, "ILLEGAL_SPREAD", "not a usable daemon name"},
	{ErrCouldNotConnect, "COULD_NOT_CONNECT", "no daemon could be reached there"},
	{ErrRejectQuota, "REJECT_QUOTA", "the daemon serves as many sessions as it may"},
	{ErrRejectNoName, "REJECT_NO_NAME", "a private name is needed"},
	{ErrRejectIllegalName, "REJECT_ILLEGAL_NAME", "the private name is too long or has illegal characters"},
	{ErrRejectNotUnique, "REJECT_NOT_UNIQUE", "the private name is in use at this daemon"},
	{ErrRejectVersion, "REJECT_VERSION", "the versions of client and daemon do not work together"},
	{ErrConnectionClosed, "CONNECTION_CLOSED", "the connection was closed"},
	{ErrRejectAuth, "REJECT_AUTH", "authentication failed"},
	{ErrIllegalSession, "ILLEGAL_SESSION", "no such session"},
	{ErrIllegalService, "ILLEGAL_SERVICE", "not exactly one service, or a reserved bit in the service type"},
	{ErrIllegalMessage, "ILLEGAL_MESSAGE", "malformed message"},
	{ErrIllegalGroup, "ILLEGAL_GROUP", "not a legal group name, or not a group of this session"},
	{ErrBufferTooShort, "BUFFER_TOO_SHORT", "the message does not fit into the buffer"},
	{ErrGroupsTooShort, "GROUPS_TOO_SHORT", "the group names do not fit into the list"},
	{ErrMessageTooLong, "MESSAGE_TOO_LONG", "data and group names are too long together"},
	{ErrNetErrorOnSession, "NET_ERROR_ON_SESSION", "the session failed earlier"},
	{ErrBug, "SP_BUG", "internal error"},
	{ErrIllegalParam, "ILLEGAL_PARAM", "illegal parameter"},
	{ErrWouldBlock, "WOULD_BLOCK", "nothing to receive now"},
	{ErrIllegalMessageType, "ILLEGAL_MESSAGE_TYPE", "message type is reserved"},
	{ErrIllegalState, "ILLEGAL_STATE", "not allowed in this state of the group"},
	{ErrIllegalReceivers, "ILLEGAL_RECEIVERS", "receivers are not members of the view"},
}

// Codes lists all codes, accept first, then downwards from -1. The slice is the caller's.
func Codes() []Code {
	all := make([]Code, len(codes))
	for i := range codes {
		all[i] = codes[i].code
	}
	return all
}

// Known reports whether the protocol defines c.
func (c Code) Known() bool {
	for i := range codes {
		if codes[i].code == c {
			return true
		}
	}
	return false
}

// String is the protocol's name, such as "REJECT_AUTH".
func (c Code) String() string {
	for i := range codes {
		if codes[i].code == c {
			return codes[i].name
		}
	}
	return "code " + strconv.Itoa(int(c))
}

// Error is a sentence with name and number, for people who know either.
func (c Code) Error() string {
	for i := range codes {
		if codes[i].code == c {
			return fmt.Sprintf("%s (%s, %d)", codes[i].text, codes[i].name, int(c))
		}
	}
	return fmt.Sprintf("unknown result code %d", int(c))
}

// Byte is how the code travels in a handshake.
func (c Code) Byte() byte { return byte(c) }
