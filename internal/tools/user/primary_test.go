// SPDX-License-Identifier: Apache-2.0

package user

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestDialWatchingEarlierDaemon: a daemon that does not know the capability is asked again without it.
func TestDialWatchingEarlierDaemon(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	hellos := make(chan string, 2)
	go func() {
		defer close(hellos)
		for _, reason := range []string{"capability", "quota"} {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			head := make([]byte, 8)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			body := make([]byte, binary.LittleEndian.Uint32(head[4:]))
			if _, err := io.ReadFull(c, body); err != nil {
				return
			}
			hellos <- string(body)
			said := "\xf9\x00" + string(rune(len(reason))) + reason + "no" // CLOSE, own-dialect 2.5
			_, _ = c.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(said))), "\x42\x00\x00\x00"+said...))
			c.Close()
		}
	}()
	_, err = dialWatching(t.Context(), Options{Address: "evensong://" + ln.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("error %v", err)
	}
	first, second := <-hellos, <-hellos
	if !strings.Contains(first, "\x07primary") || strings.Contains(second, "primary") || !strings.Contains(second, "\x07receipt") {
		t.Errorf("hellos %q, %q", first, second)
	}
}
