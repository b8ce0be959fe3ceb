// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package host

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Rights is the identity that a daemon takes after a start by root.
type Rights struct {
	User, Group string // names or numbers; an empty group is the user's own
	uid, gid    int
}

// FindRights looks the identity up. It is an error if there is no such user or group, and if the user is root: a daemon
// told to give up its rights must not keep them.
func FindRights(name, group string) (*Rights, error) {
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		if id, idErr := user.LookupId(name); idErr == nil {
			u, err = id, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("user %q of DaemonUser: %w; create it, or name another with --user", name, err)
	}
	r := &Rights{User: name, Group: group}
	if r.uid, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("user %q has the number %q", name, u.Uid)
	}
	gid := u.Gid
	if group != "" {
		g, err := user.LookupGroup(group)
		if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
			if id, idErr := user.LookupGroupId(group); idErr == nil {
				g, err = id, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("group %q of DaemonGroup: %w; create it, or name another with --group", group, err)
		}
		gid = g.Gid
	}
	if r.gid, err = strconv.Atoi(gid); err != nil {
		return nil, fmt.Errorf("group %q has the number %q", group, gid)
	}
	if r.uid == 0 {
		return nil, fmt.Errorf("user %q of DaemonUser is root itself", name)
	}
	return r, nil
}

// IDs are the numbers of user and group.
func (r *Rights) IDs() (uid, gid int) { return r.uid, r.gid }

// TakeDir gives the user a directory that root has for itself, not what is in it. Any other path is passed over: others use
// it, too.
func (r *Rights) TakeDir(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || s.Uid != 0 || info.Mode().Perm()&0o077 != 0 {
			return nil
		}
		err = os.Lchown(path, r.uid, r.gid)
	}
	if err != nil {
		return fmt.Errorf("give %s to user %q: %w", path, r.User, err)
	}
	return nil
}

// Take gives the user what it needs (paths, and what directories among them hold) and gives up the rights of root for
// good, in all threads. Paths that do not exist are passed over.
func (r *Rights) Take(paths ...string) error {
	for _, p := range paths {
		err := filepath.Walk(p, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, r.uid, r.gid)
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("give %s to user %q: %w", p, r.User, err)
		}
	}
	if err := syscall.Setgroups([]int{r.gid}); err != nil {
		return fmt.Errorf("leave the groups of root: %w", err)
	}
	if err := syscall.Setgid(r.gid); err != nil {
		return fmt.Errorf("become group %d: %w", r.gid, err)
	}
	if err := syscall.Setuid(r.uid); err != nil {
		return fmt.Errorf("become user %q: %w", r.User, err)
	}
	if err := syscall.Setuid(0); err == nil {
		return fmt.Errorf("user %q could become root again", r.User)
	}
	return nil
}
