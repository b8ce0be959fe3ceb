// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/frame"
)

// The captures 23 to 26 are conversations of the original's flush_user with its daemon. Each session of them is played
// by a machine: it gets what the daemon sent, the user does what the user did, and what the machine sends must be the
// captured bytes. Sessions live through all four files.

type vector struct {
	Name    string
	Records []struct {
		Seq                        int
		Connection, Dir, Kind, Hex string
	}
}

func loadVectors(t testing.TB) (all []vector) {
	t.Helper()
	for _, prefix := range []string{"23", "24", "25", "26"} {
		files, _ := filepath.Glob(filepath.Join("..", "..", "..", "testdata", "vectors", prefix+"-*.json"))
		if len(files) != 1 {
			t.Fatalf("vector %s: found %v", prefix, files)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// encode is the frame that a client sends for s.
func encode(private string, s Send) []byte {
	switch s.Kind {
	case SendJoin:
		return frame.AppendJoin(nil, private, s.Group)
	case SendLeave:
		return frame.AppendLeave(nil, private, s.Group)
	case SendMulticast:
		return frame.AppendMulticast(nil, private, frame.Type(s.Service), s.Type, s.Groups, slices.Concat(s.Data, s.Tail))
	case SendEvict:
	}
	panic("no frame of the original's protocol for " + s.Kind.String())
}

// deliver gives a frame of the daemon to a machine. swap writes what senders put into data as a big-endian machine would.
func deliver(t testing.TB, m *Machine, b []byte, swap bool, fx *Effects) {
	t.Helper()
	f, n, fault := frame.ParseReceived(b)
	if n != len(b) || fault != frame.FaultNone {
		t.Fatalf("a record is not one frame: %v", fault)
	}
	switch f.Type.Kind() {
	case frame.KindRegular:
		msg := &Message{Sender: string(f.Name), Groups: f.Groups.Strings(), Service: Service(f.Type), Type: f.Hint.MessType(),
			BigEndian: f.Hint.Order() == frame.BigEndian, Data: slices.Clone(f.Data)}
		if swap {
			swapMessage(msg)
		}
		m.HandleMessage(0, msg, fx)
	case frame.KindView:
		v, own, err := frame.ParseView(&f)
		if err != nil {
			t.Fatal(err)
		}
		dv := &DaemonView{Group: v.Group, ID: v.ID, Cause: v.Cause, Members: v.Members}
		dv.Changed, _ = v.Changed()
		if own >= 0 {
			dv.Mine = v.Sets[own]
		}
		m.HandleView(0, dv, fx)
	case frame.KindTransition:
		m.HandleSignal(string(f.Name), fx)
	case frame.KindSelfLeave:
		m.HandleSelfLeave(string(f.Name), fx)
	default:
		t.Fatalf("unexpected %v", f.Type)
	}
	if err := m.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
}

// swapMessage changes the byte order of the words that the flush layer puts into data.
func swapMessage(msg *Message) {
	words := func(b []byte) {
		for w := range slices.Chunk(b, 4) {
			slices.Reverse(w)
		}
	}
	end := len(msg.Data)
	if msg.Service&SubgroupCast != 0 {
		end -= groupBytes
	}
	switch msg.Type {
	case TypeFlushOK, TypeFlushRecv:
		words(msg.Data)
	case TypeVulnerable:
		words(msg.Data[end-idBytes : end])
		slices.Reverse(msg.Data[end-idBytes-typeBytes : end-idBytes])
	}
	msg.BigEndian = !msg.BigEndian
}

func TestVectors(t *testing.T) {
	for _, swap := range []bool{false, true} {
		t.Run(map[bool]string{false: "little-endian", true: "big-endian"}[swap], func(t *testing.T) { playVectors(t, swap) })
	}
}

func playVectors(t *testing.T, swap bool) {
	machines := map[string]*Machine{}
	unsent := map[string][]Send{} // what machines want to send and the capture has not shown yet
	var seen []string
	for _, v := range loadVectors(t) {
		for _, r := range v.Records {
			if r.Kind != "message" {
				continue
			}
			user := r.Connection
			private := "#" + user + "#localhost"
			m := machines[user]
			if m == nil {
				m = machine(t, Config{Private: private})
				machines[user] = m
			}
			b, err := hex.DecodeString(r.Hex)
			if err != nil {
				t.Fatal(err)
			}
			var fx Effects
			if r.Dir == "daemon->client" {
				deliver(t, m, b, swap, &fx)
			} else {
				f, _, _ := frame.ParseReceived(b)
				if f.Type&frame.TypeKill != 0 {
					// The library of the original works inside the receive call: a program that ends without another
					// call keeps its last FLUSH_RECV to itself.
					unsent[user] = nil
					continue
				}
				if len(unsent[user]) == 0 {
					act(t, m, &f, &fx)
				}
				unsent[user] = append(unsent[user], fx.Sends...)
				if len(unsent[user]) == 0 {
					t.Fatalf("%s record %d: %s has nothing to send", v.Name, r.Seq, user)
				}
				got := encode(private, unsent[user][0])
				unsent[user] = unsent[user][1:]
				if string(got) != string(b) {
					t.Errorf("%s record %d:\n got %x\nwant %x", v.Name, r.Seq, got, b)
				}
				fx.Sends = nil
			}
			unsent[user] = append(unsent[user], fx.Sends...)
			for _, e := range fx.Events {
				seen = append(seen, user+": "+describe(e))
			}
		}
	}
	for user, sends := range unsent {
		if len(sends) > 0 {
			t.Errorf("%s wants to send %d messages that the capture does not have", user, len(sends))
		}
	}
	want := strings.TrimSpace(`
fa: view fg 1 by join of #fa#localhost: #fa#localhost; came #fa#localhost
fa: flush request fg
fa: message fg type 1 from #fa#localhost to fg: "after-req\n"
fa: view fg 2 by join of #fb#localhost: #fa#localhost #fb#localhost; came #fa#localhost
fb: view fg 2 by join of #fb#localhost: #fa#localhost #fb#localhost; came #fb#localhost
fa: message fg type 1 from #fa#localhost to fg: "hello-vs\n"
fb: message fg type 1 from #fa#localhost to fg: "hello-vs\n"
fa: message fg type 0 from #fb#localhost to #fa#localhost fg: "subcast\n"
fa: flush request fg
fb: flush request fg
fa: message fg type 2 from #fb#localhost to fg: "mess num 2\x00s"
fb: message fg type 2 from #fb#localhost to fg: "mess num 2\x00s"
fb: view fg 3 by join of #fc#localhost: #fa#localhost #fb#localhost #fc#localhost; came #fa#localhost #fb#localhost
fa: view fg 3 by join of #fc#localhost: #fa#localhost #fb#localhost #fc#localhost; came #fa#localhost #fb#localhost
fc: view fg 3 by join of #fc#localhost: #fa#localhost #fb#localhost #fc#localhost; came #fc#localhost
fc: self-leave fg, asked true
fa: flush request fg
fa: signal fg, gone are #fc#localhost
fb: flush request fg
fb: signal fg, gone are #fc#localhost
fb: view fg 4 by leave of #fc#localhost: #fa#localhost #fb#localhost; came #fa#localhost #fb#localhost
fa: view fg 4 by leave of #fc#localhost: #fa#localhost #fb#localhost; came #fa#localhost #fb#localhost
fa: flush request fg
fa: signal fg, gone are #fb#localhost
`)
	// The order between sessions is that of the capture, which means nothing: compare session by session.
	for _, user := range []string{"fa", "fb", "fc"} {
		only := func(lines []string) string {
			return strings.Join(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasPrefix(l, user+":") }), "\n")
		}
		if got, want := only(seen), only(strings.Split(want, "\n")); got != want {
			t.Errorf("%s got\n%s\nwant\n%s", user, got, want)
		}
	}
}

// act lets the user do what led to the frame f.
func act(t *testing.T, m *Machine, f *frame.Message, fx *Effects) {
	t.Helper()
	group := string(f.Groups.At(0))
	var err error
	switch {
	case f.Type&frame.TypeJoin != 0:
		err = m.Join(group, fx)
	case f.Type&frame.TypeLeave != 0:
		err = m.Leave(group, fx)
	case f.Hint.MessType() == TypeFlushOK:
		err = m.Flush(0, group, fx)
	default:
		service := Service(f.Type)
		messType, data := f.Hint.MessType(), f.Data
		ref := ""
		if service&SubgroupCast != 0 {
			ref, data, _ = cutGroup(data)
		}
		if messType == TypeVulnerable {
			messType, _, data, _ = cutVulnerable(data, order(false))
		}
		if ref != "" {
			err = m.Subgroupcast(ref, f.Groups.Strings(), service&^SubgroupCast, messType, data, fx)
		} else {
			err = m.Multicast(group, service, messType, data, fx)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
