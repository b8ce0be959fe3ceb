// SPDX-License-Identifier: Apache-2.0

package vsync_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"

	"evensong/client"
	"evensong/daemon"
	"evensong/vsync"
)

// start runs a daemon inside the example and returns its address.
func start() (addr string, stop func()) {
	here := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(context.Background(), daemon.Config{Name: "d1", Cluster: "example", Bind: here, Listen: []netip.AddrPort{here}})
	if err != nil {
		log.Fatal(err)
	}
	return d.ListenAddrs()[0].String(), func() { d.Close() }
}

// Two members: the first one has something to say before the view with the second one begins.
func Example() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, err := vsync.Dial(ctx, addr, vsync.WithClient(client.WithName("alice")))
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := vsync.Dial(ctx, addr, vsync.WithClient(client.WithName("bob")))
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	alice.Join(ctx, "ledger")
	for ev, err := range alice.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *vsync.View:
			fmt.Println("alice: view of", ev.Members, "came with me:", ev.Came)
			if len(ev.Members) == 1 {
				bob.Join(ctx, "ledger")
				continue
			}
		case *vsync.FlushRequest:
			alice.Multicast(ctx, ev.Group, client.FIFO, 0, []byte("among ourselves"))
			alice.Flush(ctx, ev.Group)
			continue
		case *vsync.Message:
			fmt.Printf("alice: %s says %q\n", ev.Sender, ev.Data)
			continue
		}
		break
	}
	ev, err := bob.Next(ctx)
	fmt.Println("bob:", ev.(*vsync.View).Members, err)
	// Output:
	// alice: view of [#alice#d1] came with me: [#alice#d1]
	// alice: #alice#d1 says "among ourselves"
	// alice: view of [#alice#d1 #bob#d1] came with me: [#alice#d1]
	// bob: [#alice#d1 #bob#d1] <nil>
}

// A program with nothing to say before a view ends lets the library flush.
func ExampleWithAutoFlush() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c, err := vsync.Dial(ctx, addr, vsync.WithAutoFlush(), vsync.WithClient(client.WithName("carol")))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	c.Join(ctx, "ledger")
	for ev, err := range c.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *vsync.View:
			c.Multicast(ctx, "ledger", client.Agreed, 1, []byte("hello"))
		case *vsync.Message:
			fmt.Printf("%s says %q\n", ev.Sender, ev.Data)
			return
		}
	}
	// Output:
	// #carol#d1 says "hello"
}

// Between the flush and the next view nothing can be sent to the group.
func ExampleConn_Flush() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c, err := vsync.Dial(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.Flush(ctx, "ledger")
	fmt.Println(err, errors.Is(err, vsync.ErrIllegalGroup))
	// Output:
	// flush "ledger": not a legal group name, or not a group of this session (ILLEGAL_GROUP, -14): not a group that this is possible in now: it must be joined, and not yet be left true
}

// Members that hold up a view are named, and removed if the daemon can do that.
func ExampleStuck() {
	s := &vsync.Stuck{Group: "ledger", Members: []string{"#dave#d1"}, Silent: []string{"#dave#d1"}, Err: vsync.ErrCannotEvict}
	fmt.Println(s)
	// Output:
	// ledger waits for #dave#d1 (no answer was ever seen from #dave#d1): this daemon cannot remove a member that does not answer
}
