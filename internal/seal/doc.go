// SPDX-License-Identifier: Apache-2.0

// Package seal makes the datagrams between daemons unreadable and unforgeable for whoever does not have the cluster's key
// (docs/decisions/0010-sealed-datagrams.md). It knows bytes and times, nothing of what is in the datagrams; the host seals
// what the machine sends, and opens what arrives before the machine sees it.
//
//	 0               4               8                              20                              28
//	+---+---+---+---+---+---+---+---+---+---+ ... +---+---+---+---+---+---+---+---+---+---+---+---+---+--- ... ---+---+ ... +---+
//	|'E' 'S'|ver|knd|    key id     |         salt          |            counter            | ciphertext  |   tag, 16     |
//	+---+---+---+---+---+---+---+---+---+---+ ... +---+---+---+---+---+---+---+---+---+---+---+---+---+--- ... ---+---+ ... +---+
//
// Integers are little-endian. The cipher is AES-256-GCM. Its key is HKDF-SHA256 of the cluster's key and the sender's salt,
// which the sender draws when it starts; its nonce is the counter, of which a sender uses each value once; the header is
// authenticated with the rest. So no pair of key and nonce comes twice, whatever restarts.
//
// What was recorded may be sent again. Of a sender that is known, each counter is taken once (window). Of a sender that is
// not, nothing is taken until it has proved that it lives now: it is asked by a hello with a cookie, and answers with a hello
// that has the cookie in it (hello.go). The datagrams of daemons that have ended therefore open nothing, and cost nobody
// who is alive a place in the table of senders.
package seal
