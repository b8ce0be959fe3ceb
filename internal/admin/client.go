// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAnswerBytes bounds what a client reads of an answer.
const maxAnswerBytes = 32 << 20

// Client calls the admin plane of one daemon. It may be used concurrently.
type Client struct {
	at    string // as it was given, for errors
	base  string
	token string
	http  *http.Client
}

// DialOptions are what a client needs for daemons on TCP.
type DialOptions struct {
	Token string      // shown to daemons on TCP only
	TLS   *tls.Config // nil: plain
}

// NewClient returns a client of the daemon at address: the path of a Unix socket (with a slash, or after "unix:"), or
// HOST:PORT. It connects when it is used.
func NewClient(address string, o DialOptions) *Client {
	c := &Client{at: address, base: "http://evensong", http: &http.Client{}}
	t := &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second, DisableCompression: true, TLSClientConfig: o.TLS}
	path, isUnix := strings.CutPrefix(address, "unix:")
	switch {
	case isUnix || strings.ContainsAny(address, `/\`):
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	default:
		c.token = o.Token
		c.base = "http://" + address
		if o.TLS != nil {
			c.base = "https://" + address
		}
	}
	c.http.Transport = t
	return c
}

// Close lets go of connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Address is where the daemon is, as it was given.
func (c *Client) Address() string { return c.at }

// UnreachableError is a daemon that could not be asked.
type UnreachableError struct {
	Address string
	Err     error
}

// Error says who could not be reached, why, and what to do.
func (e *UnreachableError) Error() string {
	cause := e.Err
	if u, ok := errors.AsType[*url.Error](cause); ok {
		cause = u.Err
	}
	if errors.Is(cause, fs.ErrPermission) {
		return fmt.Sprintf("the admin socket %s is closed to this user%s; %s", e.Address, ofUser(strings.TrimPrefix(e.Address, "unix:")), asOwner)
	}
	return fmt.Sprintf("no daemon answers at %s: %v; %s", e.Address, cause, e.next(cause))
}

// next is what to do.
func (e *UnreachableError) next(cause error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](cause); ok {
		return "--admin-ca FILE names the authority that has signed the certificate of its admin address"
	}
	if _, ok := errors.AsType[x509.HostnameError](cause); ok {
		return "give a name or an address that stands in the certificate of its admin address"
	}
	if strings.Contains(cause.Error(), "server gave HTTP response to HTTPS client") { // net/http has no value for it
		return "it speaks without TLS there: leave out --admin-tls and --admin-ca, or give it --admin-cert and --admin-key"
	}
	if strings.Contains(cause.Error(), "malformed HTTP") { // likewise
		return "what answers there does not speak HTTP; the port for clients is not the admin address"
	}
	if strings.Contains(e.Address, "://") {
		return "an admin address is HOST:PORT without a scheme, with --admin-tls for TLS, or the path of a socket"
	}
	return "is it running, and is this its admin address?"
}

// Refused reports whether nobody is there at all: a socket that a daemon left behind, or a port that nobody has.
func (e *UnreachableError) Refused() bool {
	return errors.Is(e.Err, syscall.ECONNREFUSED) || errors.Is(e.Err, fs.ErrNotExist)
}

// Unwrap is the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// call sends one request; in nil means none, out nil that the answer does not matter. Refusals are *Error.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("admin address %q: %w", c.at, err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	a, err := c.http.Do(r)
	if err != nil {
		return &UnreachableError{c.at, err}
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, maxAnswerBytes))
	if err != nil {
		return &UnreachableError{c.at, err}
	}
	if a.StatusCode != http.StatusOK {
		e := &Error{}
		if json.Unmarshal(b, e) != nil || e.Text == "" {
			if strings.Contains(string(b), "HTTP request to an HTTPS server") {
				return fmt.Errorf("%s speaks TLS; --admin-tls has this command speak it, too, and --admin-ca FILE names the authority that has signed its certificate", c.at)
			}
			return fmt.Errorf("%s answers %q; is it the admin address of a daemon?", c.at, a.Status)
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w; is it the admin address of a daemon?", c.at, err)
	}
	return nil
}

// Status is one picture of the daemon.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Members is its configuration.
func (c *Client) Members(ctx context.Context) (m Members, err error) {
	return m, c.call(ctx, http.MethodGet, "/v1/members", nil, &m)
}

// Groups is a page of the groups after a name.
func (c *Client) Groups(ctx context.Context, after string, limit int) (g GroupPage, err error) {
	q := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	return g, c.call(ctx, http.MethodGet, "/v1/groups?"+q.Encode(), nil, &g)
}

// Group is one group.
func (c *Client) Group(ctx context.Context, name string) (g Group, err error) {
	return g, c.call(ctx, http.MethodGet, "/v1/groups/"+url.PathEscape(name), nil, &g)
}

// Sessions is a page of the sessions after a number.
func (c *Client) Sessions(ctx context.Context, after uint64, limit int) (s SessionPage, err error) {
	return s, c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/sessions?after=%d&limit=%d", after, limit), nil, &s)
}

// CloseSession ends a client's session.
func (c *Client) CloseSession(ctx context.Context, id uint64) (d Done, err error) {
	return d, c.call(ctx, http.MethodPost, fmt.Sprintf("/v1/session/%d/close", id), nil, &d)
}

// Set changes settings and returns those in force.
func (c *Client) Set(ctx context.Context, s Settings) (now Settings, err error) {
	return now, c.call(ctx, http.MethodPost, "/v1/set", s, &now)
}

// Partition cuts daemons off at this daemon.
func (c *Client) Partition(ctx context.Context, p Partition) (d Done, err error) {
	return d, c.call(ctx, http.MethodPost, "/v1/partition", p, &d)
}

// Heal ends a partition at this daemon.
func (c *Client) Heal(ctx context.Context) (d Done, err error) {
	return d, c.call(ctx, http.MethodPost, "/v1/heal", nil, &d)
}

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (r Reloaded, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", nil, &r)
}

// Drain begins an orderly end.
func (c *Client) Drain(ctx context.Context, d Drain) (done Done, err error) {
	return done, c.call(ctx, http.MethodPost, "/v1/drain", d, &done)
}

// Drained waits for the end of a drain for about a second, and says how it ended if it has.
func (c *Client) Drained(ctx context.Context) (d DrainEnd, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/drained", nil, &d)
}

// Terminate stops the daemon without a good-bye.
func (c *Client) Terminate(ctx context.Context) (d Done, err error) {
	return d, c.call(ctx, http.MethodPost, "/v1/terminate", nil, &d)
}
