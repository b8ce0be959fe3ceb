// SPDX-License-Identifier: Apache-2.0

package user

import (
	"evensong/client"
)

// The colors of what is printed on a terminal, as its escape sequences: views are told from messages at a glance, and
// what can cost messages stands out.
const (
	colorNone  = ""
	colorView  = "\x1b[32m"
	colorAlert = "\x1b[33m"
	colorName  = "\x1b[36m"
	colorOff   = "\x1b[0m"
)

func colorOf(ev client.Event) string {
	switch ev := ev.(type) {
	case *client.View:
		if ev.Cause == client.CausedByNetwork {
			return colorAlert
		}
		return colorView
	case *client.Transition, *client.Rejected, *client.PrimaryChange:
		return colorAlert
	case *client.SelfLeave:
		return colorView
	}
	return colorNone
}

// paint is the text in a color, if colors are wanted.
func paint(on bool, color, text string) string {
	if !on || color == colorNone {
		return text
	}
	return color + text + colorOff
}
