// SPDX-License-Identifier: Apache-2.0

package user

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"evensong/client"
)

// record is one event as a JSON object: one shape for all kinds, with what a kind does not have left out.
type record struct {
	Event  string   `json:"event"` // message, view, transition, self-leave, rejected, peers, primary, lost, moved
	Group  string   `json:"group,omitempty"`
	Groups []string `json:"groups,omitempty"`

	Sender         string `json:"sender,omitempty"`
	Service        string `json:"service,omitempty"`
	SelfDiscard    bool   `json:"self_discard,omitempty"`
	Type           *int16 `json:"type,omitempty"`
	EndianMismatch bool   `json:"endian_mismatch,omitempty"`
	// Data is the message if it is valid UTF-8, else DataBase64 is.
	Data       *string `json:"data,omitempty"`
	DataBase64 []byte  `json:"data_base64,omitempty"`

	ID           string     `json:"id,omitempty"`
	Cause        string     `json:"cause,omitempty"`
	Why          string     `json:"why,omitempty"`
	Members      []string   `json:"members,omitempty"`
	Joined       string     `json:"joined,omitempty"`
	Left         string     `json:"left,omitempty"`
	Disconnected string     `json:"disconnected,omitempty"`
	VSSets       [][]string `json:"vs_sets,omitempty"`
	Mine         *int       `json:"vs_set_mine,omitempty"`

	// Primary is yes or no in a view where the daemons have a rule, and always there in the event primary.
	Primary string `json:"primary,omitempty"`

	Request string `json:"request,omitempty"`

	Peers   *[]recordPeer `json:"peers,omitempty"` // present and empty if there is no other daemon
	Address string        `json:"address,omitempty"`
	Session string        `json:"session,omitempty"`
	Error   string        `json:"error,omitempty"`
}

// recordPeer is a daemon to which a client could turn.
type recordPeer struct {
	Daemon    string   `json:"daemon"`
	Addresses []string `json:"addresses,omitempty"`
}

func (r *record) data(service client.Service, messType int16, data []byte) {
	r.Service, r.SelfDiscard, r.Type = service.Level().String(), service.Has(client.SelfDiscard), &messType
	if utf8.Valid(data) {
		r.Data = new(string(data))
	} else {
		r.DataBase64 = data
	}
}

// asJSON is the event as one line of JSON, without a newline.
func (n *narrator) asJSON(ev client.Event) []byte {
	var r record
	switch ev := ev.(type) {
	case *client.Message:
		r = record{Event: "message", Groups: ev.Groups, Sender: ev.Sender, EndianMismatch: ev.EndianMismatch}
		r.data(ev.Service, ev.Type, ev.Data)
	case *client.View:
		r = record{Event: "view", Group: ev.Group, ID: ev.ID.String(), Cause: ev.Cause.String(), Why: whyView(ev, n.me, n.last[ev.Group]), Members: ev.Members,
			Joined: ev.Joined, Left: ev.Left, Disconnected: ev.Disconnected, VSSets: ev.VSSets, Mine: &ev.Mine}
		if ev.Primary != client.PrimaryUnclaimed {
			r.Primary = ev.Primary.String()
		}
	case *client.Transition:
		r = record{Event: "transition", Group: ev.Group, ID: ev.ID.String()}
	case *client.SelfLeave:
		r = record{Event: "self-leave", Group: ev.Group}
	case *client.Rejected:
		r = record{Event: "rejected", Groups: ev.Groups, Request: ev.Request.String()}
		if ev.Request == client.RequestMulticast {
			r.data(ev.Service, ev.Type, ev.Data)
		}
	case *client.Peers:
		peers := make([]recordPeer, len(ev.List))
		for i, d := range ev.List {
			peers[i] = recordPeer{Daemon: d.Name, Addresses: d.Addresses}
		}
		r = record{Event: "peers", Peers: &peers}
	case *client.PrimaryChange:
		r = record{Event: "primary", Primary: ev.Primary.String()}
	case *client.Lost:
		r = record{Event: "lost", Address: ev.Address, Error: fmt.Sprint(ev.Err)}
	case *client.Moved:
		r = record{Event: "moved", Address: ev.Address, Session: ev.PrivateGroup, Groups: ev.Rejoins}
	default:
		panic(fmt.Sprintf("user: unknown event %T", ev))
	}
	n.remember(ev)
	line, err := json.Marshal(&r)
	if err != nil {
		panic("user: " + err.Error()) // strings and numbers always have a form
	}
	return line
}
