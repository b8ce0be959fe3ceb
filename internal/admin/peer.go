// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
)

// peer is who is at the other end of a connection.
type peer struct {
	unix bool
	// known says that the system told who the peer is: uid and pid.
	known    bool
	uid, pid int
	remote   string // of TCP
	token    string // name of the token, once it was shown
}

// String is the peer for the audit.
func (p *peer) String() string {
	switch {
	case p.unix && p.known:
		return fmt.Sprintf("uid %d, process %d", p.uid, p.pid)
	case p.unix:
		return "a process of this host"
	case p.token != "":
		return fmt.Sprintf("token %s from %s", p.token, p.remote)
	}
	return p.remote
}

// isOwner reports whether a peer on the Unix socket may use it: the daemon's own user and root. Where the system does not
// say who it is, the permissions of the socket's file decide alone.
func (p *peer) isOwner() bool { return !p.known || p.uid == 0 || p.uid == os.Geteuid() }

type peerKey struct{}

// withPeer notes who is at the other end of a new connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	p := &peer{remote: c.RemoteAddr().String()}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if s, ok := c.(*slotted); ok {
		c = s.Conn
	}
	if u, ok := c.(*net.UnixConn); ok {
		p.unix = true
		p.uid, p.pid, p.known = credentials(u)
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// peerOf is who sent r. It is a copy, so that a token counts for its request only.
func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		q := *p
		return &q
	}
	return &peer{remote: r.RemoteAddr}
}
