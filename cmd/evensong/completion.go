// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// newCompletionCommand is "evensong completion".
func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Write the completion for bash, zsh, fish or powershell",
		Long: `Write a script that completes commands, flags and values in a shell, those that only running daemons know as well: names of
daemons and of groups.

  bash        source <(evensong completion bash)
              or: evensong completion bash > /etc/bash_completion.d/evensong
  zsh         evensong completion zsh > "${fpath[1]}/_evensong"
  fish        evensong completion fish > ~/.config/fish/completions/evensong.fish
  powershell  evensong completion powershell | Out-String | Invoke-Expression`,
		Example:   "  evensong completion bash",
		Args:      arguments(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return failure{fmt.Errorf("unknown shell %q; choose bash, zsh, fish or powershell", args[0]), exitUsage}
		},
	}
}
