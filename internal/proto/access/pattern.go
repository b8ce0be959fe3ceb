// SPDX-License-Identifier: Apache-2.0

package access

// A Pattern matches names as a shell does: * stands for any characters, also none, ? for exactly one, every other
// character for itself. Case counts.
type Pattern string

// Match reports whether all of name fits. It allocates nothing; its time is at most the product of the two lengths.
func Match[T ~string | ~[]byte](p Pattern, name T) bool {
	i, j := 0, 0
	star, again := -1, 0 // the last *, and where in the name what follows it is tried next
	for j < len(name) {
		switch {
		case i < len(p) && p[i] == '*':
			star, again = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == name[j]):
			i++
			j++
		case star >= 0:
			again++
			i, j = star+1, again
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// matchAny reports whether one of the patterns fits.
func matchAny[T ~string | ~[]byte](ps []Pattern, name T) bool {
	for _, p := range ps {
		if Match(p, name) {
			return true
		}
	}
	return false
}
