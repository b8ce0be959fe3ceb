// SPDX-License-Identifier: Apache-2.0

package vsync

import (
	"fmt"
	"time"

	"evensong/client"
	"evensong/internal/proto/flush"
)

const (
	// ProtocolVersion is the version of the original's flush library whose protocol this is.
	ProtocolVersion = "2.0.0"
	// MinMessageType is the smallest message type that applications may use; those below belong to the protocol.
	MinMessageType = flush.MinType
)

const (
	// defaultFlushTimeout is long for programs and short for people: a program that takes longer to finish a view
	// should say so by a longer timeout at all members.
	defaultFlushTimeout = 30 * time.Second
	// defaultReceiveQueue comes on top of the client's own queue, which does the real buffering.
	defaultReceiveQueue = 1 << 20
	// evictTimeout bounds how long one request to evict may take to hand over.
	evictTimeout = 5 * time.Second
)

type options struct {
	client       []client.Option
	autoFlush    bool
	flushTimeout time.Duration
	receiveQueue int
}

// Option changes how Dial and Wrap set up a session.
type Option func(*options)

// WithClient gives options to the underlying session. Membership messages are always on.
func WithClient(opts ...client.Option) Option {
	return func(o *options) { o.client = append(o.client, opts...) }
}

// WithAutoFlush answers flush requests at once, so that the program sees none; see the package documentation.
func WithAutoFlush() Option { return func(o *options) { o.autoFlush = true } }

// WithFlushTimeout sets how long other members may take to answer a view change, counted from when this session has
// answered it. Then they are named in a Stuck event, and the daemon is asked to evict them if it can. Default 30 s. Zero
// waits for ever, as the original does.
func WithFlushTimeout(d time.Duration) Option { return func(o *options) { o.flushTimeout = d } }

// WithReceiveQueue sets how many bytes of events are kept for a program that does not call Next, on top of those in the
// client's queue. Default 1 MiB. When it is full, the session stops reading.
func WithReceiveQueue(bytes int) Option { return func(o *options) { o.receiveQueue = bytes } }

func newOptions(opts []Option) (options, error) {
	o := options{flushTimeout: defaultFlushTimeout, receiveQueue: defaultReceiveQueue}
	for _, opt := range opts {
		opt(&o)
	}
	if o.flushTimeout < 0 {
		return o, &client.Error{Code: ErrIllegalParam, Detail: fmt.Sprintf("WithFlushTimeout(%v): zero means never, less is not possible", o.flushTimeout)}
	}
	o.receiveQueue = max(o.receiveQueue, 1)
	return o, nil
}
