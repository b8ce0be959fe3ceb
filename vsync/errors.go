// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"errors"
	"fmt"
	"strconv"

	"evensong/client"
	"evensong/internal/proto/flush"
	"evensong/internal/proto/frame"
)

// Errors are *client.Error, and errors.Is finds their codes: those of package client, and these of the flush layer.
const (
	// ErrIllegalGroup (-14): not a member of the group, or already one, or leaving it; or not a legal name.
	ErrIllegalGroup = frame.ErrIllegalGroup
	// ErrIllegalService (-12): not exactly one service level, or a bit that is not a user's.
	ErrIllegalService = frame.ErrIllegalService
	// ErrIllegalParam (-24): a subgroup cast to nobody.
	ErrIllegalParam = frame.ErrIllegalParam
	// ErrWouldBlock (-25): nothing to receive now.
	ErrWouldBlock = frame.ErrWouldBlock
	// ErrIllegalMessageType (-26): the type is one of the three that the flush protocol uses. See MinMessageType.
	ErrIllegalMessageType = frame.ErrIllegalMessageType
	// ErrIllegalState (-27): a flush without a request, or a message between the flush and the next view.
	ErrIllegalState = frame.ErrIllegalState
	// ErrIllegalReceivers (-28): a receiver is not a member of the view.
	ErrIllegalReceivers = frame.ErrIllegalReceivers
)

// ErrCannotEvict is in Stuck.Err when the session's daemon cannot remove members: one of the original cannot.
var ErrCannotEvict = errors.New("this daemon cannot remove a member that does not answer")

// codes are the numbers that the original's library returns for each refusal.
var codes = [...]client.Code{
	flush.RefuseGroup: ErrIllegalGroup, flush.RefuseState: ErrIllegalState, flush.RefuseType: ErrIllegalMessageType,
	flush.RefuseService: ErrIllegalService, flush.RefuseReceivers: ErrIllegalReceivers, flush.RefuseParam: ErrIllegalParam,
}

// refused turns a refusal of the machine into the error that users see.
func refused(verb, group string, err error) error {
	r, ok := errors.AsType[flush.Refusal](err)
	if !ok {
		panic(fmt.Sprintf("vsync: unexpected error of the machine: %v", err))
	}
	return &client.Error{Op: op(verb, group), Code: codes[r], Detail: r.Error()}
}

func op(verb, group string) string { return verb + " " + strconv.Quote(group) }
