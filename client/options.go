// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Sizes and times of a session, with the reason for each default.
const (
	// defaultReadBuffer takes many frames with one read: at a million small messages per second this is what counts.
	defaultReadBuffer = 256 << 10
	// minReadBuffer holds a header with the names of a usual message.
	minReadBuffer = 4 << 10
	// defaultReceiveQueue lets a receiver pause for a moment although the daemon cuts off slow readers; the original's
	// daemon does so at 1000 waiting messages.
	defaultReceiveQueue = 4 << 20
	// defaultSendBuffer holds a few of the largest messages, or thousands of small ones, for one write.
	defaultSendBuffer = 256 << 10
	// defaultConnectTimeout is for daemons that accept and then say nothing. The original's daemon can keep a client
	// waiting for some seconds while it forms a ring.
	defaultConnectTimeout = 15 * time.Second
	// defaultCloseTimeout bounds what Close waits for: pending messages written and the daemon's end of the session.
	defaultCloseTimeout = 3 * time.Second
)

// DialFunc opens a connection; (*net.Dialer).DialContext is one. network is "unix" or "tcp".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// options is what the functions below fill in. It is not changed after Dial.
type options struct {
	name           string
	membership     bool
	priority       int
	auth           []Auth
	readBuffer     int
	receiveQueue   int
	sendBuffer     int
	maxMessage     int
	pooled         bool
	dial           DialFunc
	connectTimeout time.Duration
	closeTimeout   time.Duration
	ping           time.Duration
	primary        bool
	secure         bool // through TLS
	tls            *tls.Config
}

// Option changes how Dial opens a session.
type Option func(*options)

// WithName asks for a private name: 1 to 10 characters from $ to ~ (codes 36 to 126). Without it, or with an empty
// one, the daemon invents a name. A longer name is an error; it is not cut. In Evensong's own dialect a name may have as
// many bytes of UTF-8 as fit 255 together with the daemon's.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithMembership chooses whether the session gets views, transitional signals and self-leaves. The default is true.
// Without them a program cannot know when its join or leave took effect.
func WithMembership(on bool) Option { return func(o *options) { o.membership = on } }

// WithPriority sets the priority that is told to the daemon, 0 or 1; other values are moved to the nearer of the two.
// No daemon makes use of it.
func WithPriority(priority int) Option {
	return func(o *options) { o.priority = min(max(priority, 0), 1) }
}

// WithAuth chooses the authentication methods, in the order in which they run; all must succeed. The default is
// AuthNull(). At most two: the original's daemon misreads a request that uses all three slots (client-protocol 2.3).
func WithAuth(methods ...Auth) Option { return func(o *options) { o.auth = methods } }

// WithReadBuffer sets how many bytes one read from the daemon can take; many messages share a read. Default 256 KiB,
// at least 4 KiB. A larger message still fits.
func WithReadBuffer(bytes int) Option { return func(o *options) { o.readBuffer = bytes } }

// WithReceiveQueue sets how many bytes of events are kept for a receiver that does not call Next. Default 4 MiB. When
// the queue is full the session stops reading, and after the socket buffers are full too the daemon treats it as a slow
// reader: it will end the session. At least one event is always accepted.
func WithReceiveQueue(bytes int) Option { return func(o *options) { o.receiveQueue = bytes } }

// WithSendBuffer sets how many bytes of messages may wait to be written. Default 256 KiB. When it is full, Multicast,
// Join and Leave wait. At least one message is always accepted.
func WithSendBuffer(bytes int) Option { return func(o *options) { o.sendBuffer = bytes } }

// WithMaxMessage sets the limit for a message's data plus 32 bytes per destination. The default, MaxMessage, is what
// every daemon takes. Up to MaxMessageEvensong is allowed and is for Evensong daemons only: the original's daemon stops
// when it gets a message between the two (client-protocol 3.5). In Evensong's own dialect the option has no effect: the
// daemon says what it takes.
func WithMaxMessage(bytes int) Option { return func(o *options) { o.maxMessage = bytes } }

// WithPooledMessages takes each *Message and its Data from a pool. The receiver must call Release when it is done with
// a message and must not touch it after that. Strings stay valid; other events are not pooled.
func WithPooledMessages() Option { return func(o *options) { o.pooled = true } }

// WithDialFunc replaces how the connection to the daemon is opened: through a proxy, or in a test. The address is
// parsed as usual first.
func WithDialFunc(dial DialFunc) Option { return func(o *options) { o.dial = dial } }

// WithConnectTimeout bounds Dial in addition to its context. Default 15 s; zero or less leaves it to the context.
func WithConnectTimeout(d time.Duration) Option { return func(o *options) { o.connectTimeout = d } }

// WithCloseTimeout bounds how long Close waits for a daemon that does not read. Default 3 s; zero or less means that
// Close does not wait: what is still in the send buffer is lost.
func WithCloseTimeout(d time.Duration) Option { return func(o *options) { o.closeTimeout = d } }

// WithPing sets the wish for the interval of signs of life in Evensong's own dialect: each side sends something at least
// that often, and takes the other for gone when it was silent for three intervals. Default 10 s; zero or less wishes none.
// The daemon moves it to between one second and one hour. The original's protocol has none.
func WithPing(d time.Duration) Option { return func(o *options) { o.ping = max(d, 0) } }

// WithPrimary asks the daemon to tell whether its configuration is primary: see Primary. In Evensong's own dialect a daemon that
// cannot refuses the session: the error is an *Error with the Reason "capability". The original's protocol has nothing of it, and
// the option no effect.
func WithPrimary() Option { return func(o *options) { o.primary = true } }

func newOptions(opts []Option, own bool) (options, error) {
	o := options{
		membership:     true,
		auth:           []Auth{AuthNull()},
		readBuffer:     defaultReadBuffer,
		receiveQueue:   defaultReceiveQueue,
		sendBuffer:     defaultSendBuffer,
		maxMessage:     MaxMessage,
		dial:           (&net.Dialer{}).DialContext,
		connectTimeout: defaultConnectTimeout,
		closeTimeout:   defaultCloseTimeout,
		ping:           defaultPing,
	}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkPrivateName(o.name); err != nil && !own { // of a longer one the daemon is the judge, as it depends on its name
		return o, err
	}
	if n := len(o.auth); n < 1 || n > 2 {
		return o, &Error{Code: ErrAuth, Detail: fmt.Sprintf("%d authentication methods given, one or two are possible", n)}
	}
	for _, a := range o.auth {
		if err := a.check(); err != nil {
			return o, err
		}
	}
	if o.maxMessage < 0 || o.maxMessage > MaxMessageEvensong {
		return o, &Error{Code: ErrMessageTooLong, Detail: fmt.Sprintf("WithMaxMessage(%d): possible are 0 to %d bytes", o.maxMessage, MaxMessageEvensong)}
	}
	o.readBuffer = max(o.readBuffer, minReadBuffer)
	o.receiveQueue = max(o.receiveQueue, 1)
	o.sendBuffer = max(o.sendBuffer, 1)
	return o, nil
}
