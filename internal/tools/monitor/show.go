// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"evensong/internal/admin"
	"evensong/internal/tools/amount"
)

// Members prints the configuration, and which daemons of the file are not in it.
func Members(ctx context.Context, r Reach, o Output, w io.Writer) error {
	t, err := r.One(ctx, true)
	if err != nil {
		return err
	}
	ctx, cancel := r.limit(ctx)
	defer cancel()
	m, err := t.Client.Members(ctx)
	if err != nil {
		return exit(err)
	}
	r.addSockets(ctx, t, m)
	if o.JSON {
		return o.json(w, m, false)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "DAEMON\tSEGMENT\tADDRESS\tADMIN\tNOTE")
	line := func(x *admin.Member, note string) {
		segment := "-"
		if x.Segment > 0 {
			segment = fmt.Sprint(x.Segment)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", x.Name, segment, orDash(x.Address), orDash(x.Admin), note)
	}
	for _, x := range m.Members {
		var notes []string
		if x.Leader {
			notes = append(notes, "leader")
		}
		if x.Me {
			notes = append(notes, "asked")
		}
		line(&x, strings.Join(append(notes, memberNotes(&x)...), ", "))
	}
	for _, x := range m.Missing {
		line(&x, strings.Join(append([]string{"missing"}, memberNotes(&x)...), ", "))
	}
	for _, x := range m.Others {
		line(&x, strings.Join(append([]string{"not in this configuration's file"}, memberNotes(&x)...), ", "))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if text := primaryText(m.Primary, m.PrimaryReason); text != "" {
		if _, err := fmt.Fprintf(w, "primary: %s\n", text); err != nil {
			return err
		}
	}
	for _, text := range differing(m.Members, m.Missing, m.Others) {
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// memberNotes is what deserves attention about a daemon, in few words.
func memberNotes(x *admin.Member) (notes []string) {
	if x.Foreign {
		notes = append(notes, "its address is none of its machine")
	}
	if x.KeptOut {
		notes = append(notes, "kept out")
	}
	if len(x.Differs) > 0 {
		notes = append(notes, "another configuration")
	}
	return notes
}

// differing says of each daemon with another configuration how it differs, and what to do.
func differing(lists ...[]admin.Member) (out []string) {
	for _, list := range lists {
		for _, x := range list {
			if len(x.Differs) > 0 {
				out = append(out, fmt.Sprintf("daemon %s has another configuration: %s; compare the files (evensong config check, config diff), and reload the daemon that has an old one", x.Name, strings.Join(x.Differs, "; ")))
			}
		}
	}
	return out
}

// addSockets adds the admin sockets of this host that are found, where the daemon that was asked was told no admin address. A
// socket counts if its daemon says who it is: a daemon elsewhere, or of another cluster, may have the name and the port.
func (r *Reach) addSockets(ctx context.Context, t Target, m admin.Members) {
	sockets := admin.Sockets(r.dir())
	if strings.ContainsAny(t.At, `/\`) {
		if dir := filepath.Dir(strings.TrimPrefix(t.At, "unix:")); dir != filepath.Clean(r.dir()) {
			sockets = append(sockets, admin.Sockets(dir)...)
		}
	}
	cluster := ""
	for _, list := range [][]admin.Member{m.Members, m.Missing} {
		for i := range list {
			x := &list[i]
			for _, s := range sockets {
				if x.Admin != "" || s.Name != x.Name {
					continue
				}
				if x.ID == "" && cluster == "" { // missing: of its daemon only the cluster can be compared
					asked, err := t.Client.Status(ctx)
					if err != nil {
						return
					}
					cluster = asked.Cluster
				}
				c := admin.NewClient(s.Path, admin.DialOptions{})
				is, err := c.Status(ctx)
				c.Close()
				if err == nil && is.Name == x.Name && (is.ID == x.ID || x.ID == "" && is.Cluster == cluster && strings.HasSuffix(x.Address, fmt.Sprintf(":%d", s.Port))) {
					x.Admin = s.Path
				}
			}
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Groups prints all groups with their sizes, or the members of one.
func Groups(ctx context.Context, r Reach, o Output, name string, w io.Writer) error {
	t, err := r.One(ctx, true)
	if err != nil {
		return err
	}
	if name != "" {
		c, cancel := r.limit(ctx)
		defer cancel()
		g, err := t.Client.Group(c, name)
		if err != nil {
			return exit(err)
		}
		if o.JSON {
			return o.json(w, g, false)
		}
		fmt.Fprintf(w, "group %s: %s, %d of them at this daemon, view %s\n", g.Name, amount.Of(g.Size, "member"), g.Here, g.View)
		for _, m := range g.Names {
			fmt.Fprintln(w, "  "+m)
		}
		if n := g.Size - len(g.Names); n > 0 {
			fmt.Fprintf(w, "  and %d more\n", n)
		}
		return nil
	}
	all := []admin.GroupSummary{}
	after := ""
	for {
		c, cancel := r.limit(ctx)
		p, err := t.Client.Groups(c, after, admin.MaxPage)
		cancel()
		if err != nil {
			return exit(err)
		}
		all = append(all, p.Groups...)
		if after = p.Next; after == "" {
			break
		}
	}
	if o.JSON {
		return o.json(w, all, false)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tMEMBERS\tHERE")
	for _, g := range all {
		fmt.Fprintf(tw, "%s\t%d\t%d\n", g.Name, g.Members, g.Here)
	}
	return tw.Flush()
}

// Sessions prints the clients of a daemon.
func Sessions(ctx context.Context, r Reach, o Output, w io.Writer) error {
	t, err := r.One(ctx, false)
	if err != nil {
		return err
	}
	all := []admin.Session{}
	var after uint64
	for {
		c, cancel := r.limit(ctx)
		p, err := t.Client.Sessions(c, after, admin.MaxPage)
		cancel()
		if err != nil {
			return exit(err)
		}
		all = append(all, p.Sessions...)
		if after = p.Next; after == 0 {
			break
		}
	}
	if o.JSON {
		return o.json(w, all, false)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ID\tNAME\tSTATE\tDIALECT\tFROM\tUP\tQUEUED\tMOST\tSTALLED\tDROPPED\tFOR TOKEN\tGROUPS\tNOTE")
	for _, s := range all {
		stalled, note := "-", ""
		if s.QueuedBytes > 0 {
			stalled = s.Stalled.String()
		}
		if s.Slow {
			note = "slow"
		}
		if s.Waits {
			note = strings.TrimPrefix(note+", waits for the token", ", ")
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%v\t%d\t%d\t%s\t%d\t%d\t%d\t%s\n", s.ID, orDash(s.Name), s.State, orDash(s.Dialect), nameOr(s.Peer, "socket"), s.Age,
			s.QueuedBytes, s.HighBytes, stalled, s.Dropped, s.WaitingBytes, s.InGroups, note)
	}
	return tw.Flush()
}

// Names are the daemons or groups that a completion offers: as many as one page has, and none when nobody answers.
func Names(ctx context.Context, r Reach, groups bool) []string {
	t, err := r.One(ctx, true)
	if err != nil {
		return nil
	}
	ctx, cancel := r.limit(ctx)
	defer cancel()
	var names []string
	if groups {
		p, err := t.Client.Groups(ctx, "", admin.MaxPage)
		if err != nil {
			return nil
		}
		for _, g := range p.Groups {
			names = append(names, g.Name)
		}
		return names
	}
	m, err := t.Client.Members(ctx)
	if err != nil {
		return nil
	}
	for _, x := range m.Members {
		names = append(names, x.Name)
	}
	return names
}
