// SPDX-License-Identifier: Apache-2.0

// Package client connects a Go program to a daemon of Evensong, or of the Spread toolkit, and gives it process groups:
// join, leave, multicast, and one stream of events whose order is the same at all members.
//
//	c, err := client.Dial(ctx, "4803@localhost", client.WithName("alice"))
//	...
//	defer c.Close()
//	c.Join(ctx, "chat")
//	c.Multicast(ctx, client.Agreed, 0, []byte("hello"), "chat")
//	for ev, err := range c.Events(ctx) {
//		...
//		switch ev := ev.(type) {
//		case *client.Message:
//			fmt.Printf("%s says %s\n", ev.Sender, ev.Data)
//		case *client.View:
//			fmt.Printf("members are now %v, because of a %v\n", ev.Members, ev.Cause)
//		}
//	}
//
// # What is promised
//
// A member is delivered Agreed and Safe messages, and views, in the one order that all members of its configuration
// share, and two members that go from one view to the next together were delivered the same messages in it (extended
// virtual synchrony). A message is delivered in the view that is current at its place in the order, which may be later
// than the view it was sent in; where that matters, use view synchrony. When the network splits, every part goes on
// alone, and each is told so by a Transition and a View.
//
// Nothing is acknowledged in the original's protocol. Join, Leave and Multicast return when the request is on its way; the
// View, the SelfLeave and the message's own delivery say that it took effect. A context bounds waiting only: it cannot call
// back what was accepted. A lost session is reported by every method and never replaced in silence, because a new session
// starts at another place in the order.
//
// # Evensong's own dialect
//
// An address with evensong:// in front speaks Evensong's own dialect (docs/wire/own-dialect.md) to one of its daemons, on
// the same port. Sessions of both dialects are in the same groups. What it adds: longer names and larger messages,
// requests with an answer (JoinAcked, LeaveAcked, MulticastAcked, Evict, Groups, Members), why a member has gone
// (View.Detail), why a session ends (Error.Reason), signs of life in both directions (WithPing), and where other daemons
// are (Peers). A Roamer moves to one of them when its session is lost, and says so.
//
// # Concurrency and memory
//
// All methods of Conn may be called concurrently. Frames of concurrent senders never mix, and small ones share a write.
// A few goroutines serve each session, a reader and a writer among them; all end before Close returns, and also when the
// session is lost.
//
// Everything is bounded. Messages wait in a send buffer (WithSendBuffer); when it is full, senders wait. Received
// events wait in a queue (WithReceiveQueue); when it is full, reading stops, and a daemon ends the session of a
// receiver that stays too slow. So a program that only sends must receive too, or not be a member of a group.
//
// Data given to Multicast is copied and belongs to the caller again. Events belong to their receiver. With
// WithPooledMessages, Message.Release gives a message back for reuse.
//
// # For programs written for the Spread toolkit
//
//	SP_connect, SP_connect_timeout   Dial with a context, WithName, WithPriority; membership is on unless WithMembership(false)
//	SP_set_auth_method, _methods     WithAuth; a method is a name and a function on the connection
//	SP_disconnect, SP_kill           Close, Abort
//	SP_join, SP_leave                Join, Leave
//	SP_multicast, SP_multigroup_...  Multicast with one or several groups
//	SP_scat_multicast                MulticastParts
//	SP_receive, SP_scat_receive      Next, Events; the service type became the type of the event
//	SP_poll                          Waiting counts events instead of bytes
//	SP_get_memb_info                 View: ID, Cause, Joined, Left, Disconnected
//	SP_get_vs_sets_info, _members    View.VSSets, View.Mine, View.Came
//	SP_equal_group_ids               == on ViewID
//	SP_error                         the text of an error
//	service and message type         Service, with the same numbers; int16
//	mailbox in select or poll        a goroutine with Next
//
// What receiving does in cases that the C call leaves to its caller:
//
//	buffer or group list too short   cannot happen: a message brings its own memory (DROP_RECV, -15 and -16 do not exist)
//	mess_type of a view              View.Rank(c.PrivateGroup())
//	endian_mismatch                  Message.EndianMismatch; integers of views are converted
//	message from the access rules    Rejected
//	first error -8, later ones -18   ErrConnectionClosed each time; ErrClosed (-11) after Close
//	a private name over 10 bytes,    errors ErrIllegalName and ErrIllegalGroup, where the C library cuts
//	a group over 31 bytes
//	no group at all                  ErrIllegalGroup, where the C library sends nothing and returns 0
//	more than 43 groups              allowed up to 100; the original's daemon delivers such a message to nobody
//	over 143120 bytes to one group   ErrMessageTooLong, because the original's daemon would stop; see WithMaxMessage
//
// The bytes are those of the original's client protocol, version 4.4 (docs/wire/client-protocol.md). Deliberate
// differences in how they are used: a third authentication method is not offered, and messages that the original's
// daemon cannot carry are refused unless asked for.
package client
