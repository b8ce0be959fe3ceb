// SPDX-License-Identifier: Apache-2.0

package eventlog

import "strings"

// The types of events that DebugFlags selects, named as in the original. DEBUG, MEMORY and SKIPLIST, which are about the
// insides of the original, have no lines here.
const (
	ACM           = "ACM"           // decisions of the access rules
	Configuration = "CONFIGURATION" // what the configuration says, and how daemons differ in it
	DataLink      = "DATA_LINK"     // datagrams that could not be sent
	Events        = "EVENTS"        // the daemon's own scheduling
	Exit          = "EXIT"          // its end
	FlowControl   = "FLOW_CONTROL"  // clients that are slow
	Groups        = "GROUPS"        // views of groups
	Membership    = "MEMBERSHIP"    // configurations of daemons
	Network       = "NETWORK"       // packets that do not belong here
	Print         = "PRINT"         // written whatever is selected
	Protocol      = "PROTOCOL"      // everything else between daemons
	Security      = "SECURITY"      // authentication, and what operators ordered
	Session       = "SESSION"       // clients that come and go
	Status        = "STATUS"        // storage and rights of the process
)

// kinds tells types by how texts begin; the first that fits counts. Texts are constants, so this is a table and no guess:
// a test holds it against all texts in the code.
var kinds = []struct{ prefix, event string }{
	{"daemon starts", Print},
	{"ready", Print},
	{"stopp", Exit},
	{"profile", Print},

	{"configuration installed", Membership},
	{"membership ", Membership},
	{"a daemon is not counted on", Membership},
	{"daemons of the configuration", Membership},
	{"all daemons of the configuration", Membership},
	{"another daemon uses this daemon's name", Membership},
	{"primary", Membership},
	{"the ring number could not be stored", Membership},
	{"a daemon runs with another token timeout", Configuration},
	{"a daemon prefers the other ring variant", Configuration},
	{"a daemon has another configuration", Configuration},
	{"a daemon has the same configuration", Configuration},
	{"a daemon's configuration", Configuration},
	{"a daemon is kept out", Configuration},
	{"a daemon takes part", Configuration},
	{"configuration", Configuration},
	{"this daemon's own address", Configuration},
	{"peers: ", Configuration},
	{"there is no admin socket", Configuration},
	{"reload", Configuration},
	{"reading the configuration", Configuration},

	{"client refused by the access rules", ACM},
	{"request refused by the access rules", ACM},
	{"access", ACM},
	{"admin ", Security},
	{"the admin plane", Security},
	{"authentication", Security},
	{"rights", Security},
	{"datagrams between daemons", Security},
	{"TLS for clients", Security},

	{"client reads too slowly", FlowControl},
	{"client has caught up", FlowControl},
	{"client ", Session},
	{"session", Session},
	{"join ", Session},
	{"leave ", Session},
	{"accept", Session},
	{"no descriptor left", Session},
	{"no kernel memory", FlowControl},
	{"drain", Session},

	{"view", Groups},
	{"group ", Groups},
	{"a daemon sent clients' messages", Groups},

	{"packets of another cluster", Network},
	{"sealed datagrams", Network},
	{"unsealed datagrams", Network},
	{"datagrams sealed", Network},
	{"datagrams that do not open", Network},
	{"datagrams", DataLink},
	{"the group address", DataLink},
	{"not scheduled", Events},
	{"lines suppressed", Events},
	{"stable storage", Status},
	{"no state directory", Status},
	{"log", Status},
}

// Type is the type of the event that a line is about, by its text. Texts that are not known are about the protocol.
func Type(text string) string {
	for _, k := range kinds {
		if strings.HasPrefix(text, k.prefix) {
			return k.event
		}
	}
	return Protocol
}
