// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"evensong/internal/proto/packet"
	"evensong/internal/seal"
)

const (
	keyFileKey = "ClusterKeyFile"
	keyHint    = "\"evensong config key FILE\" writes a good one"
)

// LoadKeys reads the cluster's keys, with which daemons seal what they send each other. Nil without ClusterKeyFile. It does not
// change c. The error is Problems, all at once; none of them repeats what is in the file.
func LoadKeys(c *Config) (*seal.Keys, error) {
	if c.Local.KeyFile == "" {
		return nil, nil
	}
	keys, problems := readKeys(c.Local.KeyFile, c.origins[keyFileKey].Where)
	if n := c.Ring.PacketBytes; n != 0 && n < minPacket+seal.Overhead {
		problems = append(problems, Problem{File: c.origins["PacketBytes"].Where, Severity: Error,
			Text: fmt.Sprintf("PacketBytes of %d leaves too little room: sealing takes %d bytes of each datagram (%s)", n, seal.Overhead, keyFileKey),
			Hint: fmt.Sprintf("choose %d to %d", minPacket+seal.Overhead, packet.MaxDatagram)})
	}
	if problems.Errors() > 0 {
		return nil, problems
	}
	return keys, nil
}

// ReadKeys is LoadKeys for a file that stands in no configuration.
func ReadKeys(path string) (*seal.Keys, error) {
	keys, problems := readKeys(path, path)
	if problems.Errors() > 0 {
		return nil, problems
	}
	return keys, nil
}

// readKeys reads a file of keys. where is what names the file.
func readKeys(path, where string) (*seal.Keys, Problems) {
	data, err := readSecret(path)
	if err != nil {
		return nil, Problems{{File: where, Severity: Error, Text: fmt.Sprintf("the cluster's key: %v", err), Hint: hintOf(err, path)}}
	}
	return parseKeys(path, data)
}

// parseKeys reads keys, one on a line, the one that seals first.
func parseKeys(file string, data []byte) (*seal.Keys, Problems) {
	r := &accessReader{file: file}
	var list []seal.Key
	r.each(data, func(text string, col int) {
		secret, err := seal.ParseSecret(text)
		if err != nil {
			hint := keyHint
			if len(text) > 2*seal.KeySize {
				hint = "each key stands on a line of its own; " + keyHint
			}
			r.report(Error, col, hint, "%v", err)
			return
		}
		k, err := seal.NewKey(secret)
		if err != nil {
			r.report(Error, col, keyHint, "this is no key: %v", err)
			return
		}
		list = append(list, k)
		if _, err := seal.NewKeys(list...); err != nil {
			r.report(Error, col, "the first key seals, those below it only open", "%v", err)
		}
	})
	switch {
	case r.problems.Errors() > 0:
		return nil, r.problems
	case len(list) == 0:
		r.line = max(r.line, 1)
		r.report(Error, 1, keyHint, "there is no key in the file")
		return nil, r.problems
	}
	keys, err := seal.NewKeys(list...)
	if err != nil {
		r.report(Error, 1, keyHint, "%v", err)
	}
	return keys, r.problems
}

// errExposed is that of a secret which others can read.
var errExposed = errors.New("others can read or write it")

func hintOf(err error, path string) string {
	switch {
	case errors.Is(err, errExposed):
		return "chmod 600 " + path + ", and if others have been on this machine meanwhile, take a new key"
	case errors.Is(err, os.ErrNotExist):
		return "copy it from another daemon of the cluster; for the first, " + keyHint + fromHere(path)
	}
	return "the daemon's user must be able to read it, and nobody else"
}

// readSecret reads a file that nobody but its owner can read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: %w (mode %04o)", path, errExposed, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// changedKeys says how the keys differ that now and next have both. Whether there are any is a value of its own.
func changedKeys(now, next *Config) []Change {
	if now.Keys == nil || next.Keys == nil || now.Keys.Equal(next.Keys) {
		return nil
	}
	return []Change{{"cluster key", fmt.Sprintf("cluster key: %v; before it was: %v", next.Keys, now.Keys), false}}
}
