// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/order"
	"evensong/internal/proto/session"
)

// TestReasonsAreDocumented: what a status and the metrics call by a short word, the pages for operators explain.
func TestReasonsAreDocumented(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page := read("../../docs/operations/monitor.md")
	for r := session.Running + 1; !strings.HasPrefix(r.String(), "Reason("); r++ {
		if want := "| `" + r.String() + "` | " + r.Sentence() + " |\n"; !strings.Contains(page, want) {
			t.Errorf("docs/operations/monitor.md lacks %q", want)
		}
	}
	page = read("../../docs/operations/metrics.md")
	for d := order.Drop(1); !strings.HasPrefix(d.String(), "Drop("); d++ {
		if !strings.Contains(page, "| `"+d.String()+"` | ") {
			t.Errorf("docs/operations/metrics.md lacks the reason %q of ignored packets", d)
		}
	}
}

// TestDrain: a drain closes the listeners, lets clients go on, and the host leaves when the last has gone or when the time is
// over.
func TestDrain(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		refused := func(h *Host) {
			t.Helper()
			eventually(t, h, "refused", func() bool {
				c, err := net.Dial("tcp", h.ListenAddrs()[0].String())
				if err == nil {
					c.Close()
				}
				return err != nil
			})
		}
		t.Run("the last client goes", func(t *testing.T) {
			h := start(t, cfg, &echo{})
			c := dial(t, h)
			echoed(t, c, "before")
			h.Drain(time.Hour)
			refused(h)
			echoed(t, c, "during")
			if d := h.draining(); d == nil || d.Sessions != 1 || d.Remaining <= 0 {
				t.Errorf("state %+v", d)
			}
			c.Close()
			<-h.Done()
			if err := h.Err(); err != nil {
				t.Error(err)
			}
		})
		t.Run("the time is over", func(t *testing.T) {
			h := start(t, cfg, &echo{})
			c := dial(t, h)
			echoed(t, c, "before")
			h.Drain(time.Hour)
			refused(h)
			h.Drain(0) // another deadline
			go func() { io.ReadAll(c); c.Close() }()
			<-h.Done()
			if err := h.Err(); err != nil {
				t.Error(err)
			}
		})
	})
}

func echoed(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("%q, %v; want %q", b, err, text)
	}
}

// TestAdminErrors: what is wrong with the place of an admin plane, and what it is called.
func TestAdminErrors(t *testing.T) {
	dir := t.TempDir()
	token := dir + "/token"
	if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		admin AdminConfig
		want  error
		text  string
	}{
		"TCP without a token":     {AdminConfig{Listen: []string{"127.0.0.1:0"}}, ErrConfig, "no control without proof"},
		"token for all to read":   {AdminConfig{Listen: []string{"127.0.0.1:0"}, TokenFile: token}, ErrConfig, "chmod 600"},
		"certificate without key": {AdminConfig{CertFile: "x"}, ErrConfig, "both a certificate and its key"},
		"no certificate":          {AdminConfig{Listen: []string{"127.0.0.1:0"}, CertFile: dir + "/x", KeyFile: dir + "/y"}, ErrConfig, "token file"},
		"a file is there":         {AdminConfig{Socket: dir + "/file"}, ErrBind, "which is no socket"},
		"no directory":            {AdminConfig{Socket: dir + "/file/a.admin"}, ErrBind, "admin socket"},
	} {
		cfg := local(LoopAuto)
		cfg.Admin = row.admin
		_, err := Start(cfg, func(Boot) (Machine, error) { return &echo{}, nil })
		if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v; want %v with %q", name, err, row.want, row.text)
		}
	}
	cfg := local(LoopAuto)
	cfg.Admin = AdminConfig{Socket: dir + "/file", Optional: true}
	h := start(t, cfg, &echo{})
	if at := h.AdminAddrs(); len(at) != 0 {
		t.Errorf("an optional socket that cannot be made is at %v", at)
	}
}
