// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package client

import "net"

// directWriter is not offered here: all writing is the writer's.
func directWriter(net.Conn) func([]byte) int { return nil }

// directReader is the connection's own method here.
func directReader(nc net.Conn) func(b, more []byte) (int, error) { return plainReader(nc) }
