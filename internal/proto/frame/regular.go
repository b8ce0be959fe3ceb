// SPDX-License-Identifier: Apache-2.0

package frame

// RegularNamesSize is the size of the message that AppendRegularNames writes.
func RegularNamesSize(groups, data int) int { return HeaderSize + NameSize*groups + data }

// AppendRegularNames is AppendRegular for destinations that came one by one, without their padding.
func AppendRegularNames[T ~string | ~[]byte](dst []byte, t Type, sender T, hint Hint, groups [][]byte, data []byte) []byte {
	return append(AppendRegularHead(dst, t, sender, hint, groups, len(data)), data...)
}

// AppendRegularHead is AppendRegularNames for the caller who has so many bytes of data where they belong, right behind what it appends.
func AppendRegularHead[T ~string | ~[]byte](dst []byte, t Type, sender T, hint Hint, groups [][]byte, data int) []byte {
	dst = appendHead(dst, t, sender, len(groups), hint, data)
	for _, g := range groups {
		dst = AppendName(dst, g)
	}
	return dst
}
