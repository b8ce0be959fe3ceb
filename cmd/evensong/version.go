// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
)

// versionInfo is what "evensong version" says.
type versionInfo struct {
	Version        string `json:"version"`
	Revision       string `json:"revision,omitempty"`
	Modified       bool   `json:"modified,omitempty"`
	Go             string `json:"go"`
	System         string `json:"system"`
	ClientProtocol string `json:"client_protocol"`
	DaemonProtocol int    `json:"daemon_protocol"`
}

func thisVersion() versionInfo {
	v := versionInfo{
		Version: "development", Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		ClientProtocol: frame.Ours.String(), DaemonProtocol: packet.Version,
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		if b.Main.Version != "" && b.Main.Version != "(devel)" {
			v.Version = b.Main.Version
		}
		for _, s := range b.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

// newVersionCommand is "evensong version".
func newVersionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is, and which protocols it speaks",
		Example: "  evensong version\n  evensong version -o json",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := thisVersion()
			switch output {
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(v)
			case "table":
				fmt.Fprintf(cmd.OutOrStdout(), "evensong %s", v.Version)
				if v.Revision != "" {
					fmt.Fprintf(cmd.OutOrStdout(), " (%s)", v.Revision)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s, %s; client protocol %s, daemon protocol %d\n", v.Go, v.System, v.ClientProtocol, v.DaemonProtocol)
				return nil
			}
			return failure{fmt.Errorf("-o %q: want table or json", output), exitUsage}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}
