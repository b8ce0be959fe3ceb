// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"evensong/internal/admin"
	"evensong/internal/config"
)

// AdminConfig says where and how a host can be looked at and steered. The zero value: not at all.
type AdminConfig struct {
	// Socket is the path of the Unix socket, for the daemon's own user and root. Empty: none.
	Socket string
	// Optional: a socket that cannot be made is a warning, no error.
	Optional bool
	// Listen are HOST:PORT pairs for TCP, which need TokenFile.
	Listen []string
	// TokenFile has the tokens that admit clients over TCP; see admin.ReadTokens.
	TokenFile string
	// CertFile and KeyFile are the certificate for TCP in PEM. Both empty: plain TCP.
	CertFile, KeyFile string
	// Dangerous permits the commands that disturb service.
	Dangerous bool
	// Cluster is its name, Daemons those of its configuration.
	Cluster string
	Daemons []admin.Member
	// Level is the level of the log, if it can be changed. Nil: it cannot.
	Level *slog.LevelVar
}

func (a *AdminConfig) validate() error {
	var errs []error
	if len(a.Listen) > 0 && a.TokenFile == "" {
		errs = append(errs, errors.New("the admin plane over TCP needs a token file: there is no control without proof of who asks"))
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		errs = append(errs, errors.New("the admin plane needs both a certificate and its key, or neither"))
	}
	return errors.Join(errs...)
}

// adminConfig is the admin plane's part of a configuration, without a socket that the configuration does not name: a
// program that has a daemon inside wants none that it did not ask for.
func adminConfig(c *config.Config) AdminConfig {
	a := AdminConfig{
		Listen: c.Admin.Listen, TokenFile: c.Admin.TokenFile, CertFile: c.Admin.CertFile, KeyFile: c.Admin.KeyFile,
		Dangerous: c.DangerousMonitor, Cluster: c.Cluster,
	}
	if c.Admin.Socket != config.NoSocket {
		a.Socket = c.Admin.Socket
	}
	for i, d := range c.Daemons {
		m := admin.Member{Name: d.Name, Segment: d.Segment + 1, Admin: c.Admin.Peers[d.Name]}
		if d.Addr.Addr().IsValid() {
			m.Address = d.Addr.String()
		} else if c.ByName(i) {
			m.Address = fmt.Sprintf("%s:%d", d.Host, d.Addr.Port())
		}
		a.Daemons = append(a.Daemons, m)
	}
	return a
}

// UseDefaultSocket has the daemon of a configuration listen for operators where the commands look for it, unless the
// configuration says where, or that there is no socket.
func (a *AdminConfig) UseDefaultSocket(c *config.Config, self int) {
	if c.Admin.Socket != "" {
		return
	}
	a.Socket = admin.SocketPath(admin.Dir(c.Local.RuntimeDir), c.Daemons[self].Name, c.Daemons[self].Addr.Port())
	a.Optional = true
}

// adminPlane is the admin server of a host and what it listens on.
type adminPlane struct {
	server    *admin.Server
	listeners []*listener
}

// openAdmin binds what cfg asks for; nil if that is nothing.
func openAdmin(h *Host, cfg *Config) (_ *adminPlane, err error) {
	a := &cfg.Admin
	if a.Socket == "" && len(a.Listen) == 0 {
		return nil, nil
	}
	p := &adminPlane{}
	defer func() {
		if err != nil {
			closeListeners(p.listeners)
		}
	}()
	sc := admin.Config{Dangerous: a.Dangerous, Logger: cfg.Logger}
	if a.TokenFile != "" {
		if sc.Tokens, err = admin.ReadTokens(a.TokenFile); err != nil {
			return nil, fmt.Errorf("%w: admin token file: %w", ErrConfig, err)
		}
	}
	if a.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: admin certificate %s with the key %s: %w; give a certificate and its key, both in PEM", ErrConfig, a.CertFile, a.KeyFile, err)
		}
		sc.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	}
	if a.Socket != "" {
		switch l, err := listenAdmin(a.Socket); {
		case err == nil:
			p.listeners = append(p.listeners, l)
		case a.Optional:
			cfg.Logger.Warn("there is no admin socket: the commands that look at this daemon do not reach it; choose a place with --admin-socket or --runtime-dir", "reason", err.Error())
		default:
			return nil, fmt.Errorf("%w: %w", ErrBind, err)
		}
	}
	for _, addr := range a.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("%w: admin plane: %w", ErrBind, err)
		}
		p.listeners = append(p.listeners, &listener{Listener: l})
		if t, ok := l.Addr().(*net.TCPAddr); ok && !t.IP.IsLoopback() && sc.TLS == nil {
			cfg.Logger.Warn("the admin plane is open to the network without TLS: whoever can listen there learns the tokens", "address", l.Addr().String())
		}
	}
	p.server = admin.NewServer(sc, &control{h})
	return p, nil
}

// listenAdmin makes a socket that only the daemon's user and root can open.
func listenAdmin(path string) (*listener, error) {
	if err := admin.MakeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("admin socket: %w%s", err, ifForbidden(err, "--admin-socket or --runtime-dir"))
	}
	l, err := listenUnix(path, 0o600, "")
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w%s", path, err, ifForbidden(err, "--admin-socket or --runtime-dir"))
	}
	return l, nil
}

// serve starts to answer.
func (p *adminPlane) serve() error {
	if p == nil {
		return nil
	}
	for _, l := range p.listeners {
		if err := p.server.Serve(l.Listener); err != nil {
			return err
		}
	}
	return nil
}

func (p *adminPlane) close() {
	if p == nil {
		return
	}
	for _, l := range p.listeners {
		l.unlink()
	}
	p.server.Close()
	closeListeners(p.listeners)
}

// addresses is where the admin plane answers.
func (p *adminPlane) addresses() []string {
	out := []string{}
	if p == nil {
		return out
	}
	for _, l := range p.listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// AdminAddrs is where the admin plane answers: the path of a socket, HOST:PORT with the real port.
func (h *Host) AdminAddrs() []string { return h.admin.addresses() }
