// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// MisspeltVariables warns of environment variables that nothing reads and that look like one that is read: the same letters with
// other underscores, a letter or two more or less at the end, or one other letter in a name that is long enough. environ is that of os.Environ. Other unknown names are
// no mistake: container platforms set EVENSONG_PORT and the like for a service of that name.
func MisspeltVariables(environ []string) (problems []Problem) {
	letters := func(name string) string { return strings.ReplaceAll(name, "_", "") }
	known := make(map[string]bool)
	for _, o := range options {
		known[o.Env()] = true
	}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, EnvPrefix) || known[name] || value == "" {
			continue
		}
		for _, o := range options {
			a, b := letters(name), letters(o.Env())
			ending := len(a)+len(b) > 2*len(letters(EnvPrefix))+14 && max(len(a), len(b))-min(len(a), len(b)) <= 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
			letter := len(b) > len(letters(EnvPrefix))+5 && len(a) <= len(b)+1 && editDistance(a, b) == 1
			if a != b && !ending && !letter {
				continue
			}
			problems = append(problems, Problem{File: name, Severity: Warning, Text: "nothing reads this variable", Hint: fmt.Sprintf("did you mean %s?", o.Env())})
			break
		}
	}
	return problems
}
