// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"evensong/internal/config"
	"evensong/internal/seal"
)

// newConfigKeyCommand makes keys of clusters, and tells which are in a file.
func newConfigKeyCommand() *cobra.Command {
	show := false
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Write a key by which the daemons of a cluster seal what they send each other",
		Long: `Write a new key to FILE, which must not exist yet and which nobody but its owner can read. Copy it to the machines of all
daemons of the cluster, in a way that nobody else can look at, and name it with ClusterKeyFile or --cluster-key-file. With
"-" for FILE the key goes to standard output, as a line of such a file.

With --show it says which keys FILE has, by their IDs: the first seals, all open. The IDs tell keys apart and are no secret.

Exit status: 0 if it was done, 2 for wrong use, 3 if the file is there already or cannot be written, or
with --show cannot be used.`,
		Example: `  evensong config key /etc/evensong/cluster.key
  evensong config key - >> /etc/evensong/cluster.key
  evensong config key --show /etc/evensong/cluster.key`,
		Args:         arguments(1, 1),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if show {
				keys, err := config.ReadKeys(args[0])
				if err != nil {
					return configFailure{err.Error(), config.ExitStatus}
				}
				for i, id := range keys.IDs() {
					what := "opens"
					if i == 0 {
						what = "seals and opens"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%v %s\n", id, what)
				}
				return nil
			}
			line := seal.Format(seal.Draw()) + "\n"
			if args[0] == "-" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), line)
				return err
			}
			if err := writeNew(args[0], line); err != nil {
				return configFailure{unwritten(args[0], err), config.ExitStatus}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "say which keys the file has, by their IDs")
	return cmd
}

// unwritten says why the key was not written to path, and what to do.
func unwritten(path string, err error) string {
	info, _ := os.Stat(path)
	folder := filepath.Dir(path)
	reason, hint := err.Error(), "name a file in a directory where this user can make one"
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		reason = e.Err.Error()
	}
	switch {
	case info != nil && info.IsDir():
		reason, hint = "it is a directory", "name a file in it, such as "+filepath.Join(path, "cluster.key")
	case errors.Is(err, fs.ErrExist):
		return path + " is there already; to change a key while daemons run, add the new one below the old one (evensong config key - >> " + path + "), as docs/operations/service.md describes"
	case errors.Is(err, fs.ErrNotExist):
		reason, hint = "there is no directory "+folder, "make it first, or name a file in one that is there"
	case errors.Is(err, fs.ErrPermission):
		reason, hint = "this user may not make files in "+folder, "run the command as the user to whom that directory belongs, or name a file in another one"
	}
	return "no key was written to " + path + ": " + reason + "; " + hint
}

// writeNew writes a file that was not there, for its owner only.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path) // half a key is none
	}
	return err
}
