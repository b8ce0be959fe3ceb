// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// socketSuffix ends the names of admin sockets: NAME-PORT.admin, so that daemons of several clusters share a directory.
const socketSuffix = ".admin"

// systemDir is the directory of daemons that root or the system has started.
const systemDir = "/run/evensong"

// Dir is where admin sockets are when nobody says otherwise: the runtime directory if there is one, /run/evensong for root
// and for the user whom it belongs to, because a daemon of root's has become that user, and else a directory of this user's
// that nobody else may enter.
func Dir(runtimeDir string) string { return dir(runtimeDir, systemDir) }

func dir(runtimeDir, system string) string {
	switch {
	case runtimeDir != "":
		return runtimeDir
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "evensong")
	case runtime.GOOS == "windows":
		if dir, err := os.UserCacheDir(); err == nil {
			return filepath.Join(dir, "evensong")
		}
		return filepath.Join(os.TempDir(), "evensong")
	case runtime.GOOS == "linux" && (os.Geteuid() == 0 || mine(system)):
		return system
	}
	return filepath.Join(os.TempDir(), "evensong-"+strconv.Itoa(os.Geteuid()))
}

// mine reports whether a path is a directory of this user's.
func mine(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	uid, ok := owner(info)
	return ok && uid == os.Geteuid()
}

// SocketPath is the admin socket of the daemon called name that receives datagrams at port.
func SocketPath(dir, name string, port uint16) string {
	return filepath.Join(dir, url.PathEscape(name)+"-"+strconv.Itoa(int(port))+socketSuffix)
}

// MakeDir makes the directory of an admin socket if it is missing, for its owner only. One that somebody else could have
// put there, or can change, is refused: whoever owns it can put a socket of their own in the daemon's place.
func MakeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if strings.HasPrefix(dir, os.TempDir()+string(os.PathSeparator)+"evensong-") {
		link, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if uid, ok := owner(link); ok && (uid != os.Geteuid() || link.Mode()&fs.ModeSymlink != 0 || link.Mode().Perm()&0o022 != 0) {
			return fmt.Errorf("%s belongs to somebody else or others can write to it; remove it, or choose another directory with --runtime-dir", dir)
		}
	}
	return nil
}

// Socket is an admin socket found in a directory.
type Socket struct {
	Name string // of the daemon
	Port int
	Path string
}

// Sockets are the admin sockets in a directory, by name and port. Whether a daemon answers there is another question.
func Sockets(dir string) []Socket {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+socketSuffix))
	if err != nil {
		return nil
	}
	var out []Socket
	for _, p := range paths {
		stem := strings.TrimSuffix(filepath.Base(p), socketSuffix)
		i := strings.LastIndexByte(stem, '-')
		if i < 1 {
			continue
		}
		name, err := url.PathUnescape(stem[:i])
		port, perr := strconv.Atoi(stem[i+1:])
		if err != nil || perr != nil {
			continue
		}
		out = append(out, Socket{Name: name, Port: port, Path: p})
	}
	slices.SortFunc(out, func(a, b Socket) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Port - b.Port
	})
	return out
}

// Missing is the error that there is no admin socket in Dir(runtimeDir): that it is closed to this user, or, if nobody named
// a directory, where those of other users' daemons are.
func Missing(runtimeDir string) error { return missing(runtimeDir, systemDir) }

func missing(runtimeDir, system string) error {
	dir := dir(runtimeDir, system)
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s, where the admin sockets are, is closed to this user%s; %s", dir, ofUser(dir), asOwner)
	}
	var others []string
	candidates, _ := filepath.Glob(filepath.Join(escapeGlob(os.TempDir()), "evensong-*"))
	for _, d := range append(candidates, system) {
		_, id, _ := strings.Cut(filepath.Base(d), "evensong-")
		info, err := os.Lstat(d)
		if err == nil && info.IsDir() && d != dir && !mine(d) && strings.Trim(id, "0123456789") == "" {
			others = append(others, d+ofUser(d))
		}
	}
	if runtimeDir == "" && len(others) > 0 {
		return fmt.Errorf("no daemon has an admin socket in %s; those of other users are in %s; %s", dir, strings.Join(others, ", "), asOwner)
	}
	return fmt.Errorf("no daemon has an admin socket in %s; is one running here, as this user? --runtime-dir or EVENSONG_RUNTIME_DIR names another directory, that of RuntimeDir for example, and --admin a daemon elsewhere", dir)
}

// asOwner is what to do about a socket that is closed to this user.
const asOwner = "only the user of a daemon, and root, may ask it: run the command as one of them, or use its admin plane over TCP (the daemon's --admin-listen)"

// ofUser tells to whom a path belongs, or the directory where it is: " (it belongs to user x)"; empty if that is not known.
func ofUser(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		if info, err = os.Lstat(filepath.Dir(path)); err != nil {
			return ""
		}
	}
	uid, ok := owner(info)
	if !ok {
		return ""
	}
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Sprintf(" (it belongs to user %s)", name)
}

func escapeGlob(dir string) string {
	if runtime.GOOS == "windows" {
		return dir
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
