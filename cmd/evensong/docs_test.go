// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"evensong/daemon"
	"evensong/internal/testcert"
	"evensong/internal/tidy/docscript"
)

// TestDocuments runs the marked commands of all documents (package docscript), each document against a daemon "d" of its
// own that EVENSONG_SERVER names, in a directory that is empty but for certificates: the authority's (ca.crt), and with their
// keys those of that daemon (daemon.crt) and of the client alice (alice.crt). A daemon that the document starts has free addresses in place of those
// of its file, and EVENSONG_ADMIN leads operators to it.
func TestDocuments(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the documents' commands are for a POSIX shell")
	}
	root := filepath.Join("..", "..")
	documents := []string{filepath.Join(root, "README.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, path := range documents {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found, err := docscript.Blocks(data)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if blocks += len(found); len(found) == 0 {
			continue
		}
		name, _ := filepath.Rel(root, path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runDocument(t, found)
		})
	}
	if blocks == 0 {
		t.Error("no document has a marked block")
	}
}

func runDocument(t *testing.T, blocks []docscript.Block) {
	dir := t.TempDir()
	ca := testcert.New(t)
	ca.File(dir)
	pair := ca.Sign(nil)
	pair.Files(t, dir, "daemon")
	ca.Named("alice").Files(t, dir, "alice")
	secure := &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}
	addr, err := startDaemonWith(t.Cleanup, daemon.Config{TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	// Each command may take so long: all of a document together take as long as the machine needs.
	const patience = 50 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	patient := time.AfterFunc(patience, func() { t.Errorf("a command takes more than %v", patience); cancel() })
	defer patient.Stop()
	type background struct {
		docscript.Command
		cmd *exec.Cmd
		out *output
	}
	var waiting []background
	for _, b := range blocks {
		for i, c := range b.Commands {
			patient.Reset(patience)
			out := &output{}
			cmd := exec.CommandContext(ctx, "sh", "-c", c.Text)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
			cmd.Env = append(os.Environ(), envServer+"="+addr, "NO_COLOR=1", "EVENSONG_ADMIN=./admin")
			if b.Daemon {
				cmd.Env = append(cmd.Env, "EVENSONG_BIND="+freePort(t), "EVENSONG_LISTEN=127.0.0.1:0",
					"EVENSONG_UNIX_SOCKET=none", "EVENSONG_ADMIN_SOCKET=./admin")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if b.Background {
				waiting = append(waiting, background{c, cmd, out})
				if !out.await(ctx, b.Ready) {
					t.Fatalf("line %d: %s: no %q in\n%s", c.Line, c.Text, b.Ready, out.String())
				}
				continue
			}
			want := 0
			if i == len(b.Commands)-1 {
				want = b.Status
			}
			judge(t, c, cmd.Wait(), want, out)
		}
	}
	for _, w := range waiting {
		patient.Reset(patience)
		judge(t, w.Command, w.cmd.Wait(), 0, w.out)
	}
}

// freePort is an address for datagrams that nobody uses now. The system gives such a port to somebody else last.
func freePort(t *testing.T) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

func judge(t *testing.T, c docscript.Command, err error, want int, out *output) {
	t.Helper()
	status := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("line %d: %s: exit status %d, want %d", c.Line, c.Text, status, want)
	}
	if diff := docscript.Match(c.Output, out.String()); diff != "" {
		t.Errorf("line %d: %s: %s", c.Line, c.Text, diff)
	}
}

// output is what a command prints, to be looked at while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await looks for a text until ctx ends.
func (o *output) await(ctx context.Context, text string) bool {
	for !strings.Contains(o.String(), text) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}
