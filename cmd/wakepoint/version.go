package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// version is set by the linker (-X main.version=1.2.3) and never changed.
var version string

// versionText is our version: the linker's, else what the build says.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (a *app) versionCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  takes(0, 0),
	}, nil, func(context.Context, []string) error {
		if a.format == "json" {
			return a.printJSON(map[string]string{
				"version": versionText(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
			})
		}
		fmt.Fprintf(a.out, "wakepoint %s (%s/%s, %s)\n", versionText(), runtime.GOOS, runtime.GOARCH, runtime.Version())
		return nil
	}))
}

func (a *app) manCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages",
		Long:   "Write the manual pages to DIR. Their date is SOURCE_DATE_EPOCH where that is set.",
		Args:   takes(1, 1),
		Hidden: true,
	}, nil, func(_ context.Context, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return err
		}
		root := cmd.Root()
		root.DisableAutoGenTag = true
		return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "wakepoint " + versionText(), Manual: "Wakepoint"}, args[0])
	})
	return cmd
}
