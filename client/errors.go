// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"strings"

	"evensong/internal/proto/frame"
)

// Code is a result number of the client protocol. It is an error, so errors.Is finds it in what this package returns,
// and errors.AsType[client.Code] gives the number back: int(code) is what the C library would have returned. Its
// String method is the protocol's name, such as "REJECT_AUTH".
type Code = frame.Code

// The codes that this package returns.
const (
	// ErrIllegalAddress (-1): the address is malformed or its host is unknown.
	ErrIllegalAddress = frame.ErrIllegalSpread
	// ErrCouldNotConnect (-2): nobody listens at the address.
	ErrCouldNotConnect = frame.ErrCouldNotConnect
	// ErrQuota (-3): the daemon has as many sessions as it allows.
	ErrQuota = frame.ErrRejectQuota
	// ErrNoName (-4): the daemon wants a private name.
	ErrNoName = frame.ErrRejectNoName
	// ErrIllegalName (-5): the private name is too long or has an illegal character.
	ErrIllegalName = frame.ErrRejectIllegalName
	// ErrNotUnique (-6): another session of this daemon has the private name, or had it a moment ago.
	ErrNotUnique = frame.ErrRejectNotUnique
	// ErrVersion (-7): daemon and client do not speak a common version.
	ErrVersion = frame.ErrRejectVersion
	// ErrConnectionClosed (-8): the session is lost.
	ErrConnectionClosed = frame.ErrConnectionClosed
	// ErrAuth (-9): authentication or authorization failed.
	ErrAuth = frame.ErrRejectAuth
	// ErrClosed (-11): this program has closed the session.
	ErrClosed = frame.ErrIllegalSession
	// ErrIllegalService (-12): not exactly one service level, or a bit that is not a client's.
	ErrIllegalService = frame.ErrIllegalService
	// ErrIllegalMessage (-13): the daemon sent something that is not of the protocol.
	ErrIllegalMessage = frame.ErrIllegalMessage
	// ErrIllegalGroup (-14): a group name is empty, too long or has an illegal character; or there are none or too many.
	ErrIllegalGroup = frame.ErrIllegalGroup
	// ErrMessageTooLong (-17): data and destinations are larger than the session allows.
	ErrMessageTooLong = frame.ErrMessageTooLong
)

// Error is what the functions of this package return. errors.Is and errors.AsType see both Code and Err: a wait that
// ended with its context is context.Canceled or context.DeadlineExceeded.
type Error struct {
	// Op is what was tried: "dial 4803@host", `join "chat"`.
	Op string
	// Code is zero when the protocol has none for the case: the end of a context.
	Code Code
	// Reason is the short name of what the daemon gave as its reason, such as "slow-bytes", for programs to compare. Only
	// daemons that speak Evensong's own dialect give one.
	Reason string
	// Detail says more than Code; may be empty.
	Detail string
	// Err is the cause; may be nil.
	Err error
}

// Error is a sentence with operation, code, detail and cause.
func (e *Error) Error() string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	add(e.Op)
	if e.Code != 0 && !errors.Is(e.Err, e.Code) {
		add(e.Code.Error())
	}
	if !strings.HasPrefix(e.Code.Error(), e.Detail+" (") { // a daemon's sentence may be the code's
		add(e.Detail)
	}
	if e.Err != nil {
		add(e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns code and cause, those that there are.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Code != 0 {
		errs = append(errs, e.Code)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// errClosed is what the queues of a session hold after Close.
var errClosed error = &Error{Code: ErrClosed, Detail: "closed by this program"}

// wrap puts the operation in front of an error of a queue: the end of a context, or why the session is over. The
// latter is shared by all callers and so copied.
func wrap(op string, err error) error {
	if e, ok := err.(*Error); ok {
		c := *e
		c.Op = op
		return &c
	}
	return &Error{Op: op, Err: err}
}
