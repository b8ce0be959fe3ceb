// SPDX-License-Identifier: Apache-2.0

package user

import (
	"fmt"
	"strings"

	"evensong/client"
)

// ServiceNames are the levels that ParseService knows, from the weakest to the strongest.
var ServiceNames = []string{"unreliable", "reliable", "fifo", "causal", "agreed", "safe"}

var services = []client.Service{client.Unreliable, client.Reliable, client.FIFO, client.Causal, client.Agreed, client.Safe}

// ParseService is the level of a name, in any case. A beginning is enough where only one name has it.
func ParseService(name string) (client.Service, error) {
	var found []client.Service
	for i, n := range ServiceNames {
		if low := strings.ToLower(name); low == n {
			return services[i], nil
		} else if low != "" && strings.HasPrefix(n, low) {
			found = append(found, services[i])
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return 0, fmt.Errorf("there is no service %q: want one of %s", name, strings.Join(ServiceNames, ", "))
}
