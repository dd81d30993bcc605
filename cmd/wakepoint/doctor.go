package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
)

func (a *app) doctorCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "doctor",
		Short: "What this host can do: rights, kernel features, the store's place",
		Long: `Try, by behaviour, what this host can do: the rights of this process, the kernel
features that are used, and the place of the store. It changes nothing, and
fails when something is missing without which nothing works.`,
		Args: takes(0, 0),
	}, nil, func(ctx context.Context, args []string) error {
		findings := append([]engine.Feature{rightsFinding(), storeFinding(a.storeDir)}, engine.Probe()...)
		return a.printFindings(findings)
	}))
}

func (a *app) printFindings(findings []engine.Feature) error {
	if a.format == "json" {
		if err := a.printJSON(findings); err != nil {
			return err
		}
	} else if err := a.printTable([]string{"WHAT", "RESULT", "DETAIL"}, findingRows(findings)); err != nil {
		return err
	}
	var missing []string
	for _, f := range findings {
		if !f.OK && f.Needed {
			missing = append(missing, f.Name)
		}
		if !f.OK && f.Hint != "" && a.format != "json" {
			fmt.Fprintf(a.err, "hint: %s: %s\n", f.Name, f.Hint)
		}
	}
	if len(missing) > 0 {
		return api.Errorf(api.CodeFailed, "", "needed and missing: %s", strings.Join(missing, ", "))
	}
	return nil
}

func findingRows(findings []engine.Feature) [][]string {
	var rows [][]string
	for _, f := range findings {
		result := "ok"
		switch {
		case !f.OK && f.Needed:
			result = "MISSING"
		case !f.OK:
			result = "no"
		}
		rows = append(rows, []string{f.Name, result, f.Detail})
	}
	return rows
}

func rightsFinding() engine.Feature {
	f := engine.Feature{Name: "rights", Needed: true}
	missing, err := rights()
	switch failed := rightsError(missing, os.Geteuid()); {
	case err != nil:
		f.Detail = err.Error()
	case failed != nil:
		f.Detail, f.Hint = failed.Error(), api.AsError(failed).Hint
	default:
		f.OK, f.Detail = true, "this process may save and bring back any program"
	}
	return f
}

// storeFinding judges the place of the store without making it.
func storeFinding(dir string) engine.Feature {
	f := engine.Feature{Name: "store", Needed: true}
	place, exists, err := nearest(dir)
	if err != nil {
		f.Detail, f.Hint = err.Error(), "choose another place with --store"
		return f
	}
	var st unix.Statfs_t
	if err := unix.Statfs(place, &st); err != nil {
		f.Detail = fmt.Sprintf("%s: %s", place, err)
		return f
	}
	state := "will be made"
	if exists {
		state = "exists"
	}
	free := int64(st.Bavail) * st.Bsize
	f.Detail = fmt.Sprintf("%s (%s), %s free", dir, state, bytesText(free))
	switch access := unix.Access(place, unix.W_OK|unix.X_OK); {
	case st.Flags&unix.ST_RDONLY != 0:
		f.Detail += ", read-only"
		f.Hint = "choose another place with --store"
	case access != nil:
		f.Detail += ", " + access.Error()
		f.Hint = "choose another place with --store, or run as root"
	case st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC:
		f.Needed = false // it works until the next boot
		f.Detail += ", in memory (tmpfs): nothing in it survives a boot or a power cut"
		f.Hint = "choose a place on a disk with --store"
	default:
		f.OK = true
	}
	return f
}

// nearest returns dir, or the nearest directory above it that exists.
func nearest(dir string) (place string, exists bool, err error) {
	place, err = filepath.Abs(dir)
	if err != nil {
		return "", false, err
	}
	for exists = true; ; exists = false {
		info, err := os.Stat(place)
		switch {
		case err == nil && !info.IsDir():
			return "", false, fmt.Errorf("%s is not a directory", place)
		case err == nil:
			return place, exists, nil
		case !errors.Is(err, fs.ErrNotExist) || place == "/":
			return "", false, err
		}
		place = filepath.Dir(place)
	}
}
