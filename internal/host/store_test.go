// SPDX-License-Identifier: Apache-2.0

package host

import (
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRingFile(t *testing.T) {
	dir := t.TempDir()
	if seq, err := readRing(dir); seq != 0 || err != nil {
		t.Fatalf("nothing stored: %d, %v", seq, err)
	}
	for _, want := range []uint64{1, 7, math.MaxUint64} {
		if err := writeRing(dir, want); err != nil {
			t.Fatal(err)
		}
		if seq, err := readRing(dir); seq != want || err != nil {
			t.Fatalf("got %d, %v; want %d", seq, err, want)
		}
	}
	if es, _ := os.ReadDir(dir); len(es) != 1 {
		t.Errorf("%d files, want 1: %v", len(es), es)
	}
}

// Every way to cut or change the file is noticed: a number read wrongly could be lower than one that others know.
func TestDamagedRingFile(t *testing.T) {
	dir := t.TempDir()
	whole := encodeRing(123456)
	var bad [][]byte
	for i := range whole {
		bad = append(bad, whole[:i])
		for bit := range 8 {
			b := append([]byte(nil), whole...)
			b[i] ^= 1 << bit
			bad = append(bad, b)
		}
	}
	bad = append(bad, append(append([]byte(nil), whole...), '\n'), []byte("evensong ring 2 5 crc32c 00000000\n"), make([]byte, len(whole)))
	for _, b := range bad {
		if seq, err := decodeRing(b); err == nil {
			t.Errorf("%q read as %d", b, seq)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ringFile), whole[:9], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(Config{Transport: local(LoopAuto).Transport, StateDir: dir}, func(Boot) (Machine, error) { return &echo{}, nil })
	if err == nil || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("start over a damaged file: %v", err)
	}
}

func FuzzRingFile(f *testing.F) {
	f.Add(encodeRing(1))
	f.Add([]byte("evensong ring 1 01 crc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if seq, err := decodeRing(b); err == nil && string(encodeRing(seq)) != string(b) {
			t.Errorf("%q accepted as %d", b, seq)
		}
	})
}

func TestStableStorage(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		dir := filepath.Join(t.TempDir(), "state")
		cfg.StateDir = dir
		m := &echo{}
		h := start(t, cfg, m)
		if _, err := Start(cfg, func(Boot) (Machine, error) { return &echo{}, nil }); err == nil || !strings.Contains(err.Error(), "another daemon") {
			t.Errorf("two daemons with one state: %v", err)
		}
		u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for range 5 {
			u.Write([]byte("store"))
		}
		eventually(t, h, "stored", func() bool { return len(m.stored) == 5 })
		do(t, h, func() {
			for id, err := range m.stored {
				if err != nil {
					t.Errorf("store %d: %v", id, err)
				}
			}
		})
		// A failing disk is reported, not hidden.
		if os.Getuid() == 0 {
			os.RemoveAll(dir)
		} else {
			os.Chmod(dir, 0o500)
		}
		u.Write([]byte("store"))
		eventually(t, h, "failed", func() bool { return m.stored[6] != nil })
		if h.Stats().StoreErrors.Load() != 1 {
			t.Errorf("StoreErrors = %d", h.Stats().StoreErrors.Load())
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStoredNumberComesBack(t *testing.T) {
	dir := t.TempDir()
	if err := writeRing(dir, 41); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ring.tmp123"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	var boot Boot
	h, err := Start(Config{Transport: local(LoopAuto).Transport, StateDir: dir}, func(b Boot) (Machine, error) {
		boot = b
		return &echo{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if boot.RingSeq != 41 || !boot.Stable || boot.Addr != h.Addr() {
		t.Errorf("boot %+v", boot)
	}
	if _, err := os.Stat(filepath.Join(dir, "ring.tmp123")); err == nil {
		t.Error("the torn file is still there")
	}
}

// Writes that wait for the disk become one, never lower the number, and are all answered.
func TestStoreCombinesWrites(t *testing.T) {
	var stats Stats
	s, err := openStore(t.TempDir(), &stats)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan uint64, 10)
	s.stored = func(id uint64, err error) {
		if err != nil {
			t.Error(err)
		}
		answers <- id
	}
	for i, seq := range []uint64{5, 9, 7} {
		s.put(storeJob{ID: uint64(i), RingSeq: seq})
	}
	go s.run()
	for i := range uint64(3) {
		if id := <-answers; id != i {
			t.Errorf("answer %d, want %d", id, i)
		}
	}
	s.put(storeJob{ID: 3, RingSeq: 6})
	if id := <-answers; id != 3 {
		t.Errorf("answer %d, want 3", id)
	}
	s.close()
	if n := stats.Stores.Load(); n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
	if seq, err := readRing(s.dir); seq != 9 || err != nil {
		t.Errorf("stored %d, %v; want 9", seq, err)
	}
}

func TestWatchdog(t *testing.T) {
	var stats Stats
	stop, late := make(chan struct{}), make(chan time.Duration, 1)
	done := make(chan struct{})
	w := newWatchdog(func() time.Duration { return 0 }, &stats, func(d time.Duration) {
		select {
		case late <- d:
		default:
		}
	})
	go func() {
		defer close(done)
		// Every nap is a little too long for this limit.
		w.run(stop)
	}()
	if d := <-late; d <= 0 {
		t.Errorf("late by %v", d)
	}
	close(stop)
	<-done
	if stats.Stalls() == 0 || stats.LongestStall() < stats.LastStall() || stats.LastStall() <= 0 {
		t.Errorf("stalls %d, longest %v, last %v", stats.Stalls(), stats.LongestStall(), stats.LastStall())
	}
}

// TestWatchdogRests: while the loop is idle the watchdog has no timer, and afterwards it watches again.
func TestWatchdogRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats Stats
		var naps, lates atomic.Int64
		w := newWatchdog(func() time.Duration { naps.Add(1); return 100 * time.Millisecond }, &stats, func(time.Duration) { lates.Add(1) })
		stop := make(chan struct{})
		go w.run(stop)
		for range 3 {
			time.Sleep(time.Second + time.Millisecond)
			if n := naps.Load(); n < 10 {
				t.Errorf("%d naps in a second", n)
			}
			w.rest()
			time.Sleep(time.Second)
			naps.Store(0)
			time.Sleep(time.Minute)
			if n := naps.Load(); n != 0 {
				t.Errorf("%d naps in a minute of rest", n)
			}
			w.work()
			w.work()
		}
		w.rest()
		w.overslept(time.Second)
		if lates.Load() != 1 || stats.Stalls() != 1 || stats.LastStall() != time.Second || stats.LongestStall() != time.Second {
			t.Errorf("%d stalls, the last of %v, the longest of %v", stats.Stalls(), stats.LastStall(), stats.LongestStall())
		}
		close(stop)
	})
}
