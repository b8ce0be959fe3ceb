// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"evensong/client"
	"evensong/daemon"
)

// A daemon and a client of it in one process.
func Example() {
	ctx := context.Background()
	d, err := daemon.Start(ctx, daemon.Config{
		Name:   "here",
		Bind:   netip.MustParseAddrPort("127.0.0.1:0"),
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	c, err := client.Dial(ctx, d.ListenAddrs()[0].String(), client.WithName("alice"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	c.Join(ctx, "chat")
	c.Multicast(ctx, client.Agreed, 0, []byte("hello"), "chat")
	for ev, err := range c.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok {
			fmt.Printf("%s: %s\n", m.Sender, m.Data)
			return
		}
	}
	// Output: #alice#here: hello
}
