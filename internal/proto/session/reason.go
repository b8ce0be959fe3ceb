// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strconv"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
)

// Reason says why a session ended. Zero: it did not.
type Reason uint8

// The reasons.
const (
	Running Reason = iota

	// Before the session was accepted.
	ReasonSilent      // no complete connect message in time
	ReasonVersion     // client too old
	ReasonIllegalName // private name
	ReasonNotUnique   // private name
	ReasonNoMethod    // no authentication method is allowed
	ReasonAuth        // chosen method unknown or not allowed, none chosen, or one said no
	ReasonRules       // the access rules let it not in
	ReasonAuthTimeout // authentication not complete in time
	ReasonQuota       // too many sessions
	ReasonOwnVersion  // own dialect: another version of it
	ReasonCapability  // own dialect: something is needed that is not offered
	ReasonTLS         // begins with a TLS hello, and there is no certificate
	ReasonTLSFailed   // the TLS handshake failed
	ReasonPlain       // without TLS, which is required
	ReasonGoneEarly   // client closed during the handshake

	// The client's doing.
	ReasonKill          // disconnect request
	ReasonGone          // closed between two messages
	ReasonGoneInMessage // closed inside a message, which is discarded

	// A header that breaks a rule of client-protocol 4.5 or 4.6.
	ReasonMark
	ReasonService
	ReasonDaemonOnly
	ReasonNameForm
	ReasonNameOther
	ReasonGroups
	ReasonHint
	ReasonLength

	// In the own dialect.
	ReasonMalformed    // bytes that break a rule of the document
	ReasonUnresponsive // no sign of life
	ReasonUnfinished   // unfinished messages of all clients take too much memory

	// The node's doing, through Close.
	ReasonSlowBytes    // reads too slowly: hard bound in bytes
	ReasonSlowMessages // reads too slowly: MaxSessionMessages
	ReasonStalled      // does not read: over its budget, and no progress in time
	ReasonWaited       // reads too slowly: PolicyBlock, and the others have waited long enough
	ReasonCrowded      // reads too slowly: what waits for all clients together, and most of it for this one
	ReasonEvicted      // an operator's wish
	ReasonShutdown     // the daemon stops
	ReasonWriteFailed  // the shell could not write to the connection
)

var reasonTexts = [...]struct {
	name, text string
	code       frame.Code // what a client in the handshake is told; 0: nothing
}{
	Running:             {"running", "the session is not over", 0},
	ReasonSilent:        {"silent", "the client did not complete its connect message in time", 0},
	ReasonVersion:       {"version", "the client's protocol version is older than 3.1", frame.ErrRejectVersion},
	ReasonIllegalName:   {"illegal-name", "the private name is longer than 10 bytes, incomplete, or has illegal characters", frame.ErrRejectIllegalName},
	ReasonNotUnique:     {"not-unique", "the private name is in use at this daemon", frame.ErrRejectNotUnique},
	ReasonNoMethod:      {"no-auth-method", "this daemon allows no authentication method that the client could use", frame.ErrRejectAuth},
	ReasonAuth:          {"auth", "the client chose no allowed authentication method, or one refused it", frame.ErrRejectAuth},
	ReasonRules:         {"rules", "the access rules do not let this client in", frame.ErrRejectAuth},
	ReasonAuthTimeout:   {"auth-timeout", "the client did not complete authentication in time", frame.ErrRejectAuth},
	ReasonQuota:         {"quota", "the daemon serves as many sessions as it may", frame.ErrRejectQuota},
	ReasonOwnVersion:    {"own-version", "the client speaks another version of Evensong's own dialect", frame.ErrRejectVersion},
	ReasonCapability:    {"capability", "the client needs a capability that this daemon does not offer", frame.ErrRejectVersion},
	ReasonTLS:           {"tls", "the client began with a TLS hello, and this daemon does not offer TLS", 0},
	ReasonTLSFailed:     {"tls-failed", "the TLS handshake with the client failed", 0},
	ReasonPlain:         {"plain", "the client did not begin with TLS, which this daemon requires over TCP", frame.ErrRejectAuth},
	ReasonGoneEarly:     {"gone-early", "the client closed the connection during the handshake", 0},
	ReasonKill:          {"kill", "the client asked to be disconnected", 0},
	ReasonGone:          {"gone", "the client closed the connection", 0},
	ReasonGoneInMessage: {"gone-in-message", "the client closed the connection inside a message, which was discarded", 0},
	ReasonMark:          {"header-mark", "malformed header: the type word has half of a byte-order mark", 0},
	ReasonService:       {"header-service", "malformed header: the type word has not exactly one service or command", 0},
	ReasonDaemonOnly:    {"header-daemon-only", "malformed header: the type word has bits that only daemons may set", 0},
	ReasonNameForm:      {"header-name-form", "malformed header: the name field is not of the form #user#daemon", 0},
	ReasonNameOther:     {"header-name-other", "malformed header: the name field is not this session's private name", 0},
	ReasonGroups:        {"header-groups", "malformed header: the number of groups is not between 0 and 100", 0},
	ReasonHint:          {"header-hint", "malformed header: the hint word has bits outside the message type", 0},
	ReasonLength:        {"header-length", "malformed header: data and group names have less than 0 or more than 143952 bytes", 0},
	ReasonMalformed:     {"malformed", "what the client sent breaks a rule of the own dialect", frame.ErrIllegalMessage},
	ReasonUnresponsive:  {"unresponsive", "the client gave no sign of life", 0},
	ReasonUnfinished:    {"unfinished", "messages of which only a part has arrived take as much memory as they may, and this client began another part", 0},
	ReasonSlowBytes:     {"slow-bytes", "the client read too slowly: the bytes queued for it reached the hard bound", 0},
	ReasonSlowMessages:  {"slow-messages", "the client read too slowly: the messages queued for it reached MaxSessionMessages", 0},
	ReasonStalled:       {"stalled", "the client did not read: more than its budget was queued, and nothing could be written to it for too long", 0},
	ReasonWaited:        {"waited", "the client read too slowly: the others have waited for it as long as they may", 0},
	ReasonCrowded:       {"crowded", "the client read too slowly: what is queued for all clients reached its bound, and it had the most", 0},
	ReasonEvicted:       {"evicted", "an operator closed the session", 0},
	ReasonShutdown:      {"shutdown", "the daemon stops", 0},
	ReasonWriteFailed:   {"write-failed", "writing to the client failed", 0},
}

// String is a short name for logs and metrics, such as "not-unique".
func (r Reason) String() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r].name
	}
	return "Reason(" + strconv.Itoa(int(r)) + ")"
}

// Sentence is the reason for people, without a full stop.
func (r Reason) Sentence() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r].text
	}
	return "unknown reason " + strconv.Itoa(int(r))
}

// Code is what a client that is still in the handshake is told; zero when the connection is closed without a word.
func (r Reason) Code() frame.Code {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r].code
	}
	return 0
}

// Wanted reports whether a client whose session ends for this reason still wants what waits for it, as far as we know: one
// that asked to be disconnected does not (client-protocol 4.3), and one that does not read would not take it.
func (r Reason) Wanted() bool {
	switch r {
	case ReasonKill, ReasonWriteFailed:
		return false
	}
	switch r.Cause() {
	case evs.DetailSlow, evs.DetailSilent:
		return false
	}
	return true
}

// Cause is what the members of a group learn about a disconnect for this reason.
func (r Reason) Cause() evs.Detail {
	switch r {
	case ReasonKill:
		return evs.DetailAsked
	case ReasonGone, ReasonGoneEarly, ReasonGoneInMessage, ReasonWriteFailed:
		return evs.DetailLost
	case ReasonSlowBytes, ReasonSlowMessages, ReasonStalled, ReasonWaited, ReasonCrowded:
		return evs.DetailSlow
	case ReasonUnresponsive:
		return evs.DetailSilent
	case ReasonEvicted:
		return evs.DetailEvicted
	case ReasonShutdown:
		return evs.DetailShutdown
	case ReasonMark, ReasonService, ReasonDaemonOnly, ReasonNameForm, ReasonNameOther, ReasonGroups, ReasonHint, ReasonLength,
		ReasonMalformed:
		return evs.DetailProtocol
	}
	return evs.DetailNone
}

// faultReasons maps what is wrong with a header to why its session ends.
var faultReasons = [...]Reason{
	frame.FaultNone:       Running,
	frame.FaultMark:       ReasonMark,
	frame.FaultService:    ReasonService,
	frame.FaultDaemonOnly: ReasonDaemonOnly,
	frame.FaultNameForm:   ReasonNameForm,
	frame.FaultNameOther:  ReasonNameOther,
	frame.FaultGroups:     ReasonGroups,
	frame.FaultHint:       ReasonHint,
	frame.FaultLength:     ReasonLength,
}

// reasonOf maps the codes of handshake refusals to reasons; others are bugs of the caller.
func reasonOf(code frame.Code) Reason {
	switch code {
	case frame.ErrRejectNotUnique:
		return ReasonNotUnique
	case frame.ErrRejectIllegalName, frame.ErrRejectNoName:
		return ReasonIllegalName
	case frame.ErrRejectQuota:
		return ReasonQuota
	case frame.ErrRejectVersion:
		return ReasonVersion
	case frame.ErrRejectAuth:
		return ReasonAuth
	}
	panic("session: no refusal of a handshake: " + code.String())
}
