// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Auth is an authentication method: its name, and what the client does on the connection when its turn comes.
type Auth struct {
	// Name is what the daemon lists, at most 29 bytes without blanks. Case counts.
	Name string
	// Exchange talks to the daemon's side of the method, nil if there is nothing to say. It must leave the connection
	// exactly behind its own last byte, and may be cut short by the end of Dial's context. It must not keep rw.
	Exchange func(rw io.ReadWriter) error
}

// AuthNull is the method that admits everybody a daemon lets use it.
func AuthNull() Auth { return Auth{Name: "NULL"} }

// AuthIP is the method by which the daemon looks at the client's address. The client has nothing to do.
func AuthIP() Auth { return Auth{Name: "IP"} }

// passwordUserBytes and passwordBytes are the fixed fields of the PWORD exchange (client-protocol 2.3).
const (
	passwordUserBytes = 32
	passwordBytes     = 8
)

// AuthPassword is the PWORD method: a user name of at most 31 bytes and a password, of which the method carries 8
// bytes. Both go over the connection as they are, readable for everybody on the way: it keeps honest people apart and
// nobody else.
func AuthPassword(user, password string) Auth {
	return Auth{Name: "PWORD", Exchange: func(rw io.ReadWriter) error {
		if user == "" || len(user) >= passwordUserBytes || strings.ContainsRune(user, 0) {
			return fmt.Errorf("user name %q: 1 to %d bytes are possible", user, passwordUserBytes-1)
		}
		var block [passwordUserBytes + passwordBytes]byte
		copy(block[:passwordUserBytes], user)
		copy(block[passwordUserBytes:], password)
		if _, err := rw.Write(block[:]); err != nil {
			return err
		}
		var answer [1]byte
		if _, err := io.ReadFull(rw, answer[:]); err != nil {
			return err
		}
		if answer[0] != 1 {
			return errors.New("wrong user or password")
		}
		return nil
	}}
}

// maxAuthName is the longest name that a slot of the choice block holds with its terminator.
const maxAuthName = 29

func (a Auth) check() error {
	if a.Name == "" || len(a.Name) > maxAuthName || strings.ContainsAny(a.Name, " \x00") {
		return &Error{Code: ErrAuth, Detail: fmt.Sprintf("authentication method %q: a name has 1 to %d bytes and no blanks", a.Name, maxAuthName)}
	}
	return nil
}
