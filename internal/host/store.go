// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

// ringFile is the one file of the state directory: the highest ring sequence number this daemon took part in. It is
// a line of text with a checksum, so that an operator can read it and damage is noticed.
const ringFile = "ring"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeRing is the content of ringFile.
func encodeRing(seq uint64) []byte {
	b := fmt.Appendf(nil, "evensong ring 1 %d ", seq)
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

// decodeRing accepts exactly what encodeRing writes.
func decodeRing(b []byte) (uint64, error) {
	f := bytes.Fields(b)
	if len(f) < 4 {
		return 0, errors.New("too short")
	}
	if string(f[0]) != "evensong" || string(f[1]) != "ring" {
		return 0, errors.New("not a ring file")
	}
	if string(f[2]) != "1" {
		return 0, fmt.Errorf("format %q, and only 1 is known here", f[2])
	}
	seq, err := strconv.ParseUint(string(f[3]), 10, 64)
	if err != nil || !bytes.Equal(b, encodeRing(seq)) {
		return 0, errors.New("the checksum does not fit")
	}
	return seq, nil
}

// readRing returns the stored ring sequence number, or zero if there was never one.
func readRing(dir string) (uint64, error) {
	path := filepath.Join(dir, ringFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the stored ring number: %w", err)
	}
	seq, err := decodeRing(b)
	if err != nil {
		return 0, fmt.Errorf("%s is damaged: %w. Restore it from a copy; or, only while no other daemon of this cluster "+
			"runs or after all of them have seen this one gone, remove it", path, err)
	}
	return seq, nil
}

// writeRing replaces the stored number such that at every instant either the old or the new one is there, and the new
// one survives a crash once this returns.
func writeRing(dir string, seq uint64) (err error) {
	f, err := os.CreateTemp(dir, ringFile+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(encodeRing(seq)); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, ringFile)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable. Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cleanState removes what a crash between create and rename left behind.
func cleanState(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, ringFile+".tmp*"))
	if err != nil {
		return
	}
	for _, f := range left {
		os.Remove(f) // if it stays, it stays: nothing reads it
	}
}

// store writes ring numbers in a goroutine of its own, because fsync may take longer than a token may wait.
type store struct {
	dir    string
	stats  *Stats
	stored func(id uint64, err error) // called from run
	lock   *os.File

	mu     sync.Mutex
	wake   sync.Cond
	queue  []storeJob // at most what the machine has in flight
	closed bool
	done   chan struct{}

	last uint64 // what the file holds; owned by run
}

// storeJob is a ring sequence number to be written, and the name under which the outcome is reported.
type storeJob struct {
	ID      uint64
	RingSeq uint64
}

// openStore locks dir, reads what is stored there and returns both.
func openStore(dir string, stats *Stats) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	cleanState(dir)
	seq, err := readRing(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s := &store{dir: dir, stats: stats, lock: lock, last: seq, done: make(chan struct{})}
	s.wake.L = &s.mu
	return s, nil
}

// put queues a write. It does not wait.
func (s *store) put(st storeJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, st)
	s.wake.Signal()
}

// run performs writes until close. Writes that came meanwhile are made as one: only the highest number matters, and
// it never goes down.
func (s *store) run() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.wake.Wait()
		}
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		highest := s.last
		for _, st := range batch {
			highest = max(highest, st.RingSeq)
		}
		var err error
		if highest > s.last {
			s.stats.Stores.Add(1)
			if err = writeRing(s.dir, highest); err == nil {
				s.last = highest
			} else {
				s.stats.StoreErrors.Add(1)
			}
		}
		for _, st := range batch {
			s.stored(st.ID, err)
		}
	}
}

// close finishes the queued writes and ends run, which must have been started.
func (s *store) close() {
	s.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.done
	s.lock.Close()
}
