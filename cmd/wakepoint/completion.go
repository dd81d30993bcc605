package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// shells are those for which there is a completion script.
var shells = []string{"bash", "fish", "powershell", "zsh"}

func (a *app) completionCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Print the script that lets a shell complete commands",
		Long: `Print the script that lets a shell complete commands, flags and the names of
workloads. The packages install it.`,
		Example: `  source <(wakepoint completion bash)
  wakepoint completion fish >~/.config/fish/completions/wakepoint.fish`,
		Args:              takes(1, 1),
		ValidArgsFunction: cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp),
	}, nil, func(_ context.Context, args []string) error {
		root := cmd.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.out, true)
		case "fish":
			return root.GenFishCompletion(a.out, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(a.out)
		case "zsh":
			return root.GenZshCompletion(a.out)
		}
		return usage(cmd, "%q is none of %s", args[0], strings.Join(shells, ", "))
	})
	return cmd
}

func (a *app) helpCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print the help of a command",
		Args:  takes(0, 1),
	}, nil, func(_ context.Context, args []string) error {
		if len(args) == 0 {
			return cmd.Root().Help()
		}
		for _, c := range cmd.Root().Commands() {
			if c.Name() == args[0] {
				c.InitDefaultHelpFlag() // so that it is shown
				return c.Help()
			}
		}
		return unknownCommand(cmd.Root(), args[0])
	})
	return cmd
}
