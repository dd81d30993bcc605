package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) exportCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "export NAME[@GEN] FILE",
		Short: "Write a generation to one file, to go on elsewhere",
		Long: `Write a generation of a workload, the newest one unless GEN is given, to one
file that holds all that a start elsewhere needs, and sign it with a key that
belongs to this store's. The workload runs on. FILE - is the standard output.

The file is not encrypted: it holds the program's memory and its environment for
whoever can read it. "wakepoint import" takes it in on the other machine.`,
		Example: `  wakepoint export web web.wakepoint
  wakepoint export web@g411 - | ssh other 'cat >web.wakepoint'`,
		Args:              takes(2, 2),
		ValidArgsFunction: a.completeNames,
	}, []int{4, 7}, func(ctx context.Context, args []string) error {
		name, generation, _ := strings.Cut(args[0], "@")
		file := args[1]
		if file == "-" && isTerminal(a.out) {
			return usage(cmd, "the standard output is a terminal")
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.onNamed(ctx, site, name, func() (err error) {
			a.warnOf(site, name)
			var out keeper.Exported
			if file == "-" {
				out, err = keeper.Export(ctx, site, name, generation, a.out)
			} else {
				out, err = keeper.ExportFile(ctx, site, name, generation, file)
			}
			if err == nil {
				a.say("%s@%s, %s, signed by %s; it holds the program's memory in the clear", name, out.Generation, bytesText(out.Bytes), out.Signer)
			}
			return err
		})
	})
	return cmd
}

func (a *app) importCommand() *cobra.Command {
	var o keeper.ImportOptions
	cmd := a.command(&cobra.Command{
		Use:   "import FILE [--name N] [--trust FINGERPRINT]",
		Short: "Make a workload of a file that export wrote",
		Long: `Make a workload of a file that "wakepoint export" wrote, and print its name. It
is stopped: "wakepoint start" lets it go on; "wakepoint recover" leaves it alone
until it was started by hand. A file that is damaged or was changed, or whose
signer is not trusted here, is refused before anything of it is acted on.

The fingerprint of the signer is printed by "wakepoint export"; --trust takes in
all that it signs from now on. A trusted file is run as whatever user it says:
only root may import what runs as somebody else.`,
		Example: `  wakepoint import web.wakepoint
  wakepoint import --name web-copy web.wakepoint`,
		Args: takes(1, 1),
	}, []int{7, 11}, func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		out, err := keeper.Import(ctx, site, args[0], o)
		if err != nil {
			return about(args[0], err)
		}
		fmt.Fprintln(a.out, out.Name)
		a.say("%s is stopped at %s, which was %s, signed by %s", out.Name, out.Generation, out.From, out.Signer)
		return nil
	})
	cmd.Flags().StringVar(&o.Name, "name", "", "the `NAME` of the workload (default: the one that it had)")
	cmd.Flags().StringVar(&o.Trust, "trust", "", "take in all that the signer with this `FINGERPRINT` signs, from now on")
	return cmd
}
