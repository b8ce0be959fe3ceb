// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// listener is one place where clients connect.
type listener struct {
	net.Listener
	local bool        // a Unix socket
	path  string      // of a Unix socket
	file  os.FileInfo // what the path was when we made it
}

// bindListeners opens all listeners of cfg, or none.
func bindListeners(cfg *Config) (_ []*listener, err error) {
	var ls []*listener
	defer func() {
		if err != nil {
			closeListeners(ls)
		}
	}()
	for _, a := range cfg.Listen {
		var lc net.ListenConfig
		if cfg.NoReuse {
			lc.Control = noReuse
		}
		ln, err := lc.Listen(context.Background(), listenNetwork(a, cfg.Listen), a.String())
		if err != nil {
			return nil, err
		}
		ls = append(ls, &listener{Listener: ln})
	}
	for _, p := range cfg.Unix {
		l, err := listenUnix(p, cfg.UnixMode, cfg.UnixGroup)
		if err != nil {
			return nil, fmt.Errorf("listen unix %s: %w%s", p, err, ifForbidden(err, "--unix-socket, or none"))
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// listenNetwork makes the unspecified IPv6 address serve IPv4, too, unless that is listed by itself.
func listenNetwork(a netip.AddrPort, all []netip.AddrPort) string {
	switch {
	case a.Addr().Is4():
		return "tcp4"
	case a.Addr().IsUnspecified() && !slices.ContainsFunc(all, func(b netip.AddrPort) bool { return b.Addr().Is4() && b.Port() == a.Port() && a.Port() != 0 }):
		return "tcp"
	default:
		return "tcp6"
	}
}

// listenUnix makes the socket file. One that a crashed daemon left behind is removed; one that is alive is an error,
// because taking its path away would leave that daemon running where nobody finds it.
func listenUnix(path string, mode fs.FileMode, group string) (*listener, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, errors.New("there is a file of that name which is no socket; remove it or choose another path")
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		switch {
		case err == nil:
			c.Close()
			return nil, errors.New("already running: another daemon answers there; choose another path with --unix-socket, or none")
		case !isRefused(err):
			return nil, fmt.Errorf("cannot tell whether another daemon is running there: %w", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove the socket of a daemon that is gone: %w", err)
		}
	}
	if mode == 0 {
		mode = 0o666
	}
	first := mode
	if gid >= 0 {
		first &^= 0o077 // nobody else before the socket has its group
	}
	config := net.ListenConfig{Control: restrictSocket(first)}
	ln, err := config.Listen(context.Background(), "unix", path)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return nil, op.Err // the caller names the path
	} else if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	l := &listener{Listener: ln, local: true, path: path}
	if gid >= 0 {
		err = os.Lchown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		l.Close()
		os.Remove(path)
		return nil, err
	}
	if l.file, err = os.Lstat(path); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ifForbidden is what to do about a socket where this user may not make it; else empty.
func ifForbidden(err error, flag string) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	return "; this user may not write there: choose another path with " + flag
}

// groupID is the number of a group that is given by number or name; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, err
	}
	n, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1, fmt.Errorf("group %s has the number %q here, which a socket cannot have", group, g.Gid)
	}
	return n, nil
}

// unlink removes the socket file if it is still the one that we made.
func (l *listener) unlink() {
	if l.path == "" {
		return
	}
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.file) {
		os.Remove(l.path)
	}
}

// closeListeners ends all and removes their socket files.
func closeListeners(ls []*listener) {
	for _, l := range ls {
		l.unlink() // first: from here on a dialer learns at once that nobody is there
		l.Close()
	}
}

// remoteAddr is the peer of a TCP connection; invalid for a Unix socket.
func remoteAddr(c net.Conn) netip.AddrPort {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a := t.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}
