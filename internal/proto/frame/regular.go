// SPDX-License-Identifier: Apache-2.0

package frame

// RegularNamesSize is the size of the message that AppendRegularNames writes.
func RegularNamesSize(groups, data int) int { return HeaderSize + NameSize*groups + data }

// AppendRegularNames is AppendRegular for destinations that came one by one, without their padding.
func AppendRegularNames[T ~string | ~[]byte](dst []byte, t Type, sender T, hint Hint, groups [][]byte, data []byte) []byte {
	dst = appendHead(dst, t, sender, len(groups), hint, len(data))
	for _, g := range groups {
		dst = AppendName(dst, g)
	}
	return append(dst, data...)
}
