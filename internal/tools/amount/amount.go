// SPDX-License-Identifier: Apache-2.0

// Package amount writes numbers of things as people do: "1 daemon", "2 daemons".
package amount

import "fmt"

// Of is a number and a noun, which gets an s unless the number is one. The noun may have words in front: "log line".
func Of[N interface {
	~int | ~int64 | ~uint16 | ~uint32 | ~uint64
}](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
