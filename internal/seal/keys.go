// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

const (
	// KeySize is the length of a cluster's key in bytes.
	KeySize = 32
	// MaxKeys bounds the keys that are accepted at a time: the one that is left, the one that comes, and room for a mistake.
	MaxKeys = 4
)

// What keys are derived for. A change of the format changes them.
const (
	infoDatagrams = "evensong datagrams 1"
	infoID        = "evensong cluster key id 1"
)

// KeyID tells keys apart, without telling them: operators compare it, and a receiver finds the key of a datagram by it.
type KeyID uint32

// String is eight hexadecimal digits.
func (id KeyID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// Key is one secret of a cluster. Printed, it is its ID.
type Key struct {
	prk [sha256.Size]byte // HKDF-Extract of the secret: what is derived for each sender starts here
	id  KeyID
}

// NewKey is the key of a secret.
func NewKey(secret [KeySize]byte) (Key, error) {
	same := true
	for _, b := range secret {
		same = same && b == secret[0]
	}
	if same {
		return Key{}, errors.New("all its bytes are the same; a key is drawn at random")
	}
	prk, err := hkdf.Extract(sha256.New, secret[:], nil)
	if err != nil {
		return Key{}, fmt.Errorf("derive from the cluster's key: %w", err)
	}
	id, err := hkdf.Expand(sha256.New, prk, infoID, 4)
	if err != nil {
		return Key{}, fmt.Errorf("derive from the cluster's key: %w", err)
	}
	return Key{[sha256.Size]byte(prk), KeyID(binary.LittleEndian.Uint32(id))}, nil
}

// ID tells the key from others.
func (k Key) ID() KeyID { return k.id }

// String is the ID, so that no log gets the secret.
func (k Key) String() string { return k.id.String() }

// GoString is String, for the same reason.
func (k Key) GoString() string { return "seal.Key(" + k.id.String() + ")" }

// Draw returns a new secret.
func Draw() (secret [KeySize]byte) {
	rand.Read(secret[:]) // never fails
	return secret
}

// Format is how a secret is written: hexadecimal digits.
func Format(secret [KeySize]byte) string { return hex.EncodeToString(secret[:]) }

// ParseSecret reads a secret of 64 hexadecimal digits, or in base64. Its errors do not repeat the text.
func ParseSecret(text string) (secret [KeySize]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	switch {
	case err != nil:
		return secret, errors.New("no key: want 32 bytes as 64 hexadecimal digits or in base64")
	case len(b) != KeySize:
		return secret, fmt.Errorf("a key of %d bytes: want %d, as 64 hexadecimal digits or in base64", len(b), KeySize)
	}
	return [KeySize]byte(b), nil
}

// Keys are those of a cluster: the first seals, all open. Not modified after NewKeys.
type Keys struct {
	list []Key
}

// NewKeys returns the keys of at least one and at most MaxKeys, of which no two may have the same ID.
func NewKeys(list ...Key) (*Keys, error) {
	if len(list) == 0 {
		return nil, errors.New("no key")
	}
	if len(list) > MaxKeys {
		return nil, fmt.Errorf("%d keys: want at most %d; remove those that no daemon sends with any more", len(list), MaxKeys)
	}
	for i, k := range list {
		for _, o := range list[:i] {
			if o.id == k.id {
				return nil, fmt.Errorf("the key %v is there twice", k)
			}
		}
	}
	return &Keys{append([]Key(nil), list...)}, nil
}

// IDs are those of the keys, that of the one which seals first.
func (k *Keys) IDs() []KeyID {
	var ids []KeyID
	for i := range k.list {
		ids = append(ids, k.list[i].id)
	}
	return ids
}

// Equal reports whether the same keys are there in the same order.
func (k *Keys) Equal(o *Keys) bool {
	if len(k.list) != len(o.list) {
		return false
	}
	for i := range k.list {
		if !k.list[i].equal(&o.list[i]) {
			return false
		}
	}
	return true
}

func (k *Key) equal(o *Key) bool { return hmac.Equal(k.prk[:], o.prk[:]) }

// String says what each is for: "seals with 1a2b3c4d, opens 5e6f7081, too".
func (k *Keys) String() string {
	s := "seals with " + k.list[0].String()
	for i := range k.list[1:] {
		if i == 0 {
			s += ", opens "
		} else {
			s += " and "
		}
		s += k.list[i+1].String()
	}
	if len(k.list) > 1 {
		s += ", too"
	}
	return s
}

// GoString is String, so that nothing prints secrets.
func (k *Keys) GoString() string { return "seal.Keys(" + k.String() + ")" }

// index is the place of the key with an ID, or -1.
func (k *Keys) index(id KeyID) int {
	for i := range k.list {
		if k.list[i].id == id {
			return i
		}
	}
	return -1
}

// deriver makes the ciphers of senders from one key. It keeps the state of the HMAC, so that a datagram of nobody knows who
// costs the hash of one block and the tables of the cipher.
type deriver struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newDeriver(k *Key) *deriver { return &deriver{mac: hmac.New(sha256.New, k.prk[:])} }

// cipher is that of the sender with a salt: HKDF-Expand (RFC 5869, 2.3) of one block, of which the information is the purpose
// and the salt.
func (d *deriver) cipher(salt *Salt) cipher.AEAD {
	d.mac.Reset()
	d.mac.Write([]byte(infoDatagrams))
	d.mac.Write(salt[:])
	d.mac.Write([]byte{1})
	block, err := aes.NewCipher(d.mac.Sum(d.sum[:0]))
	if err != nil {
		panic("aes: " + err.Error()) // the length of the key is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("gcm: " + err.Error())
	}
	return aead
}
