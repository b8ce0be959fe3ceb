// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// Bounds of a token file.
const (
	minToken  = 16 // characters: what a generator writes has more, what a person invents is guessed
	maxToken  = 512
	maxTokens = 100
)

// Tokens are the secrets that admit clients over TCP, each with the name of who has it. Not modified after ReadTokens.
type Tokens struct {
	names  []string
	hashes [][sha256.Size]byte
}

// ReadTokens reads a token file: one token per line, after its holder's name and a blank if it has one ("admin" if not);
// # begins a comment. The file must belong to nobody else's eyes: no permission for group and others.
func ReadTokens(path string) (*Tokens, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	t := &Tokens{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		name := "admin"
		switch len(fields) {
		case 0:
			continue
		case 1:
		case 2:
			name = fields[0]
		default:
			return nil, fmt.Errorf("%s:%d: want a token, or a name and a token", path, n)
		}
		token := fields[len(fields)-1]
		if len(token) < minToken || len(token) > maxToken || len(name) > 64 {
			return nil, fmt.Errorf("%s:%d: a token has %d to %d characters and its name at most 64; \"openssl rand -hex 32\" writes a good one", path, n, minToken, maxToken)
		}
		if len(t.names) == maxTokens {
			return nil, fmt.Errorf("%s:%d: more than %d tokens", path, n, maxTokens)
		}
		t.names = append(t.names, name)
		t.hashes = append(t.hashes, sha256.Sum256([]byte(token)))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(t.names) == 0 {
		return nil, fmt.Errorf("%s: no token in it; \"openssl rand -hex 32\" writes a good one", path)
	}
	return t, nil
}

// FirstToken is the first token of a token file, for a client that shows it.
func FirstToken(path string) (string, error) {
	text, err := readSecret(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 0 {
			return fields[len(fields)-1], nil
		}
	}
	return "", fmt.Errorf("%s: no token in it", path)
}

// readSecret reads a file that nobody but its owner can read.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others can read it (mode %04o); make it safe with: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b), err
}

// holder is the name of who has the token; empty: nobody. It takes the same time for all wrong tokens.
func (t *Tokens) holder(token string) string {
	if t == nil || len(token) > maxToken {
		return ""
	}
	name, hash := "", sha256.Sum256([]byte(token))
	for i := range t.hashes {
		if subtle.ConstantTimeCompare(hash[:], t.hashes[i][:]) == 1 {
			name = t.names[i]
		}
	}
	return name
}
