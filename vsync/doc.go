// SPDX-License-Identifier: Apache-2.0

// Package vsync is view synchrony on a client session: the views of a group change only with the consent of its
// members, and every message is delivered in the view in which it was sent. It takes the place of the flush library of
// the Spread toolkit and speaks its protocol, so members of both kinds can be in one group, at daemons of both kinds.
//
//	c, err := vsync.Dial(ctx, "4803@localhost", vsync.WithClient(client.WithName("alice")))
//	...
//	defer c.Close()
//	c.Join(ctx, "ledger")
//	for ev, err := range c.Events(ctx) {
//		...
//		switch ev := ev.(type) {
//		case *vsync.View:
//			fmt.Println("these are the members now:", ev.Members, "and these came with me:", ev.Came)
//		case *vsync.Message:
//			fmt.Printf("%s says %s\n", ev.Sender, ev.Data)
//		case *vsync.FlushRequest:
//			// Send what must still be said to the old members, then:
//			c.Flush(ctx, ev.Group)
//		}
//	}
//
// # What is promised
//
// Two members that go from one view to the same next one delivered the same messages in between, those of every service.
// A message is delivered in the view that its sender had received when it sent it, to members of that view, and not at
// all to others. Nothing of a newcomer is seen before the view that has it. View.Came says who came along. So a group of
// replicas that take their input from messages is in one state at each view.
//
// The price is a round of messages among all members for each view, and that a member that does not answer holds up the
// group. After WithFlushTimeout such members are named in a Stuck event, and removed if the daemon can do that. A plain
// session in the group never answers; Stuck.Silent names members from which no answer was ever seen.
//
// Order is promised in each group for itself: messages of two groups are not ordered against each other, because a view
// change delays one and not the other.
//
// # The two ways to flush
//
// Without options the program answers each FlushRequest with Flush. Between the answer and the next View it cannot send
// to the group: ErrIllegalState. It sends in the view that it has received last; a view that waits to be received must be
// received first, which is ErrIllegalState too.
//
// With WithAutoFlush requests are answered at once, and sending waits during a view change. That is for programs that
// need one order of messages and views but nothing to say before a view ends. The view in which a message is then sent,
// Message.View at its receivers, may be newer than the one that the program has received.
//
// # Concurrency and memory
//
// All methods of Conn may be called concurrently. One goroutine per session runs the protocol; it and those of the client
// end before Close returns. Events wait in a queue (WithReceiveQueue); when it is full nothing is read any more,
// so views stop and the others will name this member as stuck. Data given to Multicast is copied; events belong to their
// receiver.
//
// # For programs written for the flush library
//
//	FL_lib_init                      not needed
//	FL_version                       ProtocolVersion
//	FL_connect, FL_disconnect        Dial or Wrap, Close
//	FL_join, FL_leave, FL_flush      Join, Leave, Flush
//	FL_multicast, FL_scat_...        Multicast, MulticastParts; pieces are not limited in number
//	FL_subgroupcast, FL_unicast      Subgroupcast, SubgroupcastParts, Unicast
//	FL_receive, DONT_BLOCK           Next, Events; TryNext
//	FL_more_msgs, FL_poll            More; Waiting counts events instead of bytes
//	FL_error                         the text of an error; the numbers are client.Code
//	FL_get_gid_offset_... (three)    View.ID, View.Came
//	list of a view's body            View.Joined, Left, Disconnected, or with the cause network View.Came
//	last entry of a subgroup cast    Message.Group; Message.Groups are the receivers
package vsync
