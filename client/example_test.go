// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"time"

	"evensong/client"
	"evensong/daemon"
)

// These examples need a daemon on this machine, so they are compiled and not run; those without a daemon are run.

func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "4803@localhost", client.WithName("alice"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	c.Join(ctx, "chat")
	c.Multicast(ctx, client.Agreed, 0, []byte("hello"), "chat")
	for ev, err := range c.Events(ctx) {
		fmt.Println(ev, err)
	}
}

// The kinds of events that a program usually tells apart.
func ExampleConn_Events() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Join(ctx, "chat"); err != nil {
		log.Fatal(err)
	}
	for ev, err := range c.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			fmt.Printf("%s says %q\n", ev.Sender, ev.Data)
		case *client.View:
			fmt.Printf("%d members, I am number %d\n", len(ev.Members), ev.Rank(c.PrivateGroup())+1)
			if ev.Cause == client.CausedByNetwork {
				fmt.Println("these delivered what I delivered:", ev.Came(c.PrivateGroup()))
			}
		case *client.Transition:
			fmt.Println("members became unreachable in", ev.Group)
		case *client.SelfLeave:
			return
		case *client.Rejected:
			fmt.Println("not allowed to", ev.Request)
		}
	}
}

// A context bounds waiting: here for an answer.
func ExampleConn_Next() {
	c, err := client.Dial(context.Background(), "4803@localhost")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	ev, err := c.Next(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("nothing came in a second")
	case errors.Is(err, client.ErrConnectionClosed):
		fmt.Println("the session is lost:", err)
	case err == nil:
		fmt.Println("about group", ev.GroupName())
	}
}

// The private name of a session that ended is free when its disconnect was ordered, which takes a moment.
func ExampleDial_nameInUse() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "4803@localhost", client.WithName("alice"))
	if errors.Is(err, client.ErrNotUnique) {
		time.Sleep(100 * time.Millisecond)
		c, err = client.Dial(ctx, "4803@localhost", client.WithName("alice"))
	}
	if err != nil {
		log.Fatal(err)
	}
	c.Close()
}

// Pooled messages save the garbage collector's work in programs that receive much.
func ExampleWithPooledMessages() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "", client.WithPooledMessages())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	total := 0
	for ev, err := range c.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok {
			total += len(m.Data)
			m.Release()
		}
	}
	fmt.Println(total)
}

// Errors carry the number that the C library would have returned.
func ExampleError() {
	_, err := client.Dial(context.Background(), "somehost")
	fmt.Println(err)
	if code, ok := errors.AsType[client.Code](err); ok {
		fmt.Println(int(code), code.String())
	}
	// Output:
	// dial somehost: not a usable daemon name (ILLEGAL_SPREAD, -1): a port is missing; for a daemon on that host write 4803@somehost
	// -1 ILLEGAL_SPREAD
}

// Rank 0 is a coordinator that all members of a view agree on.
func ExampleView_Rank() {
	v := client.View{Group: "chat", Members: []string{"#alice#d1", "#bob#d2"}, Cause: client.CausedByJoin, Joined: "#bob#d2"}
	fmt.Println(v.Rank("#alice#d1"), v.Rank("#bob#d2"), v.Rank("#carol#d3"))
	fmt.Println(v.Came("#alice#d1"), v.Came("#bob#d2"))
	// Output:
	// 0 1 -1
	// [#alice#d1] [#bob#d2]
}

func ExampleService() {
	s := client.Safe | client.SelfDiscard
	fmt.Println(s, s.Level(), s.Has(client.SelfDiscard), s.Valid(), (client.FIFO | client.Safe).Valid())
	// Output: safe|self-discard safe true true false
}

// A session in Evensong's own dialect can wait for its requests, and ask without joining.
func ExampleConn_JoinAcked() {
	ctx := context.Background()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	d, err := daemon.Start(ctx, daemon.Config{Name: "d", Cluster: "example", Bind: loopback, Listen: []netip.AddrPort{loopback}})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	c, err := client.Dial(ctx, "evensong://"+d.ListenAddrs()[0].String(), client.WithName("alice"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ack, err := c.JoinAcked(ctx, "chat")
	if err != nil {
		log.Fatal(err)
	}
	id, members, _, err := c.Members(ctx, "chat")
	fmt.Println(ack.Changed, ack.View == id, members, err)
	// Output: true true [#alice#d] <nil>
}

// A session inside of TLS, with an authority of one's own and a certificate for daemons that ask for one.
func ExampleWithTLS() {
	authority, err := os.ReadFile("ca.crt")
	if err != nil {
		log.Fatal(err)
	}
	mine, err := tls.LoadX509KeyPair("alice.crt", "alice.key")
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	c, err := client.Dial(context.Background(), "evensongs://db1.example.org:4803", client.WithTLS(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{mine}}))
	if err != nil {
		log.Fatal(err) // it says what to do
	}
	defer c.Close()
	fmt.Println(c.PrivateGroup())
}
