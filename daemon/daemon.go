// SPDX-License-Identifier: Apache-2.0

// Package daemon runs an Evensong daemon inside your own process, for programs that do not want one beside them. It is
// the same daemon: it forms a cluster with others, embedded or not, and serves clients on the addresses it is given,
// your own program through package client among them.
//
// An embedded daemon shares its process's fate and its processors. If the program stops for longer than the token
// timeout (a debugger, a suspended machine), the others go on without it and it comes back as after a partition.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"evensong/internal/config"
	"evensong/internal/host"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
	"evensong/internal/seal"
	"evensong/internal/transport"
)

// Errors of Start: ErrConfig for a configuration that cannot work anywhere, ErrBind for addresses and socket files that
// cannot be had here and now. Test with errors.Is.
var (
	ErrConfig = host.ErrConfig
	ErrBind   = host.ErrBind
)

// DefaultPort is where daemons hear each other and clients look for them, unless told otherwise.
const DefaultPort = config.DefaultPort

// Config describes a daemon. The zero value is one alone on all IPv4 addresses of this machine, without clients. It is
// not modified and may be used again.
type Config struct {
	// Name of the daemon, unique in its cluster: 1 to 19 characters of ASCII from '$' to '~'. Empty means the first
	// part of the host name.
	Name string
	// Cluster separates clusters that can hear each other. All daemons of one must give the same; empty is a name, too.
	Cluster string
	// Bind is the UDP address for the other daemons, who must be able to reach it. An invalid address means all IPv4
	// addresses, port 4803. Port zero lets the system choose, which is for tests: peers have to know it.
	Bind netip.AddrPort
	// Peers are the addresses of the other daemons; the own one may be among them. A daemon needs to know at least one
	// that is up to find the others.
	Peers []netip.AddrPort
	// PeerHosts are further peers, as HOST or HOST:PORT (DefaultPort without). A host name may stand for any number of daemons, as
	// that of a headless service does, and for others later: names are looked up when the daemon starts, and again every 10 s
	// while it is alone, else every minute. A name that is not found is no error, and logged.
	PeerHosts []string

	// Voters are the names of all daemons of the cluster, this one's among them, the same everywhere: a configuration of more than half of them is
	// primary, and clients that ask are told (client.WithPrimary). Nil: nothing is said of that.
	Voters []string

	// Listen are TCP addresses for clients. Port zero lets the system choose; see Daemon.ListenAddrs.
	Listen []netip.AddrPort
	// Unix are paths of Unix sockets for clients ("/tmp/4803" is where those of the original look), and UnixMode their
	// permissions; zero means 0666.
	Unix     []string
	UnixMode fs.FileMode
	// MaxSessions bounds the clients served at once; more are refused. Zero means 20000, or less if the process may not
	// have that many descriptors.
	MaxSessions int
	// SessionBytes may wait for a client before it counts as slow; it is cut off when it takes nothing for 10 s then, or when
	// eight times as many wait. Zero means 8 MiB.
	SessionBytes int

	// TLS, if not nil, is for clients over TCP that begin with a TLS hello: a certificate with its key, and in ClientCAs and
	// ClientAuth whose certificates are good and whether clients need one. The least version is 1.3, and sessions are never
	// resumed, whatever it or its GetConfigForClient says. The name in a client's certificate is what access rules know as cert, if one of
	// ClientCAs vouches for it: with a ClientAuth that has nothing verified there are no names. With TLSRequired clients over
	// TCP without TLS are refused; Unix sockets are not concerned.
	TLS         *tls.Config
	TLSRequired bool

	// AccessRules say what clients may do, one rule on each line, such as "deny join group=secret*"; the page
	// docs/operations/access.md describes them. What no rule decides is permitted, or with AccessDeny refused.
	AccessRules string
	AccessDeny  bool

	// ClusterKeyFile has the key by which all daemons of the cluster seal what they send each other, as "evensong config key"
	// writes it: nobody without it can read or forge that. Nobody but its owner may have rights to the file. Empty means that
	// nothing is sealed. All daemons must give the same key, or none.
	ClusterKeyFile string

	// TokenTimeout is how long the ring may be silent before it is taken for broken; how soon a crash is noticed follows
	// from it. All daemons should give the same. Zero means 250ms, the least is 12ms.
	TokenTimeout time.Duration
	// PlainRing turns the accelerated ring off, which passes the token before a round's last packets are sent.
	PlainRing bool
	// StateDir is a directory where the daemon keeps what makes ring identifiers unique across its crashes. Empty means
	// nowhere: then a restart of all daemons at once may reuse identifiers.
	StateDir string

	// Logger gets what happens, with the reasons. Nil means no log.
	Logger *slog.Logger
}

// Daemon is a running daemon. Its methods may be called concurrently.
type Daemon struct {
	host   *host.Host
	name   string
	detach func() bool // from Start's context
}

// Start starts a daemon and returns once clients can connect; the cluster forms meanwhile. The end of ctx makes it leave
// in order, as Close does, which must be called in any case.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := cfg.Name
	if name == "" {
		var err error
		if name, err = hostName(); err != nil {
			return nil, fmt.Errorf("%w: no name given, and %w", ErrConfig, err)
		}
	}
	if cfg.TLSRequired && cfg.TLS == nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, errors.New("TLSRequired without TLS: no client could connect over TCP"))
	}
	if t := cfg.TLS; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, errors.New("TLS has no certificate, so no handshake could succeed: give one in Certificates, or by GetCertificate"))
	}
	if cfg.Voters != nil && !slices.Contains(cfg.Voters, name) {
		return nil, fmt.Errorf("%w: Voters are the names of all daemons of the cluster, and this one, %q, is not among them", ErrConfig, name)
	}
	bind := cfg.Bind
	if !bind.Addr().IsValid() {
		bind = netip.AddrPortFrom(netip.IPv4Unspecified(), DefaultPort)
	}
	var keys *seal.Keys
	if cfg.ClusterKeyFile != "" {
		var err error
		if keys, err = config.ReadKeys(cfg.ClusterKeyFile); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	peers := host.Peers{Fixed: slices.Clone(cfg.Peers)}
	for _, s := range cfg.PeerHosts {
		h, port, err := config.ParseHost(s)
		if err != nil {
			return nil, fmt.Errorf("%w: PeerHosts: %w", ErrConfig, err)
		}
		peers.Names = append(peers.Names, host.PeerName{Host: h, Port: port})
	}
	d := &Daemon{name: name}
	var err error
	d.host, err = host.Start(host.Config{
		Transport:    transport.Config{Bind: bind},
		Keys:         keys,
		Listen:       slices.Clone(cfg.Listen),
		Unix:         slices.Clone(cfg.Unix),
		UnixMode:     cfg.UnixMode,
		MaxSessions:  cfg.MaxSessions,
		StateDir:     cfg.StateDir,
		TokenTimeout: cfg.TokenTimeout,
		Peers:        peers,
		TLS:          cfg.TLS,
		Logger:       cfg.Logger,
	}, func(boot host.Boot) (host.Machine, error) {
		m, err := newNode(cfg, name, boot)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		return m, nil
	})
	if err != nil {
		return nil, err
	}
	d.detach = context.AfterFunc(ctx, d.host.Leave)
	return d, nil
}

// newNode builds the protocols of a daemon.
func newNode(cfg Config, name string, boot host.Boot) (*node.Machine, error) {
	inc, rnd, err := host.NewIdentity()
	if err != nil {
		return nil, err
	}
	rules, err := config.ParseRules("AccessRules", []byte(cfg.AccessRules), cfg.AccessDeny)
	if err != nil {
		return nil, err
	}
	rc := ring.Config{TokenTimeout: cfg.TokenTimeout}.WithDefaults()
	if cfg.ClusterKeyFile != "" {
		rc.PacketBytes -= seal.Overhead
	}
	return node.New(node.Config{
		Session:       session.Config{Rules: rules, TLSRequired: cfg.TLSRequired},
		Me:            evs.ProcID{Name: name, Inc: inc},
		Cluster:       cfg.Cluster,
		Peers:         slices.Clone(cfg.Peers),
		Voters:        slices.Clone(cfg.Voters),
		Accelerated:   !cfg.PlainRing,
		Ring:          rc,
		Stable:        boot.Stable,
		StoredRingSeq: boot.RingSeq,
		MaxSessions:   cfg.MaxSessions,
		SessionBytes:  cfg.SessionBytes,
		Listeners:     host.Announced(boot.Listen, cfg.Bind.Addr()),
	}, rnd, 0)
}

// hostName is a daemon name made of this machine's name.
func hostName() (string, error) {
	s, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host name is unknown: %w", err)
	}
	s, _, _ = strings.Cut(s, ".")
	return s[:min(len(s), config.MaxNameLength)], nil
}

// Name is the daemon's name.
func (d *Daemon) Name() string { return d.name }

// Addr is the UDP address, with the real port.
func (d *Daemon) Addr() netip.AddrPort { return d.host.Addr() }

// ListenAddrs are the TCP addresses for clients, with the real ports, in the order of Config.Listen.
func (d *Daemon) ListenAddrs() []netip.AddrPort { return slices.Clone(d.host.ListenAddrs()) }

// Members are the names of the daemons in the present configuration, in ring order; none while the first one forms.
// It fails if ctx ends or the daemon has ended.
func (d *Daemon) Members(ctx context.Context) ([]string, error) {
	members, err := d.host.Members(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range members {
		names = append(names, p.Name)
	}
	return names, nil
}

// Done is closed once the daemon has ended, for whatever reason.
func (d *Daemon) Done() <-chan struct{} { return d.host.Done() }

// Err is nil while the daemon runs and after an orderly end, else what ended it: it is never nil after a fault in the
// daemon itself, which stops it and leaves your program alone.
func (d *Daemon) Err() error { return d.host.Err() }

// Close makes the daemon leave its cluster in order and waits until nothing of it is left, a few seconds at most. It
// returns what Err then returns, and may be called again.
func (d *Daemon) Close() error {
	d.detach()
	return d.host.Close()
}
