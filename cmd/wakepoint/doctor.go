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
	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) doctorCommand() *cobra.Command {
	fix := false
	cmd := a.formatFlag(a.command(&cobra.Command{
		Use:   "doctor [--fix]",
		Short: "What this host can do: rights, kernel features, the store, the units",
		Long: `Try, by behaviour, what this host can do: the rights of this process, the kernel
features that are used, the place of the store, what is in it, and whether a
boot brings back what was running. It changes nothing, and fails when something
is missing without which nothing works, or is damaged. Of a large store it reads
what is small, and "wakepoint verify" all.

With --fix it installs and enables the units by which systemd looks after
keepers, and brings everything back at boot.`,
		Args: takes(0, 0),
	}, []int{7}, func(ctx context.Context, args []string) error {
		if fix {
			if err := a.fixUnits(ctx); err != nil {
				return err
			}
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		findings := []engine.Feature{rightsFinding(), a.unitsFinding(ctx, site.Program), storeFinding(a.storeDir)}
		contents, err := contentsFinding(ctx, site)
		if err != nil {
			return err
		}
		if contents != nil {
			findings = append(findings, *contents)
		}
		return a.printFindings(append(findings, engine.Probe()...))
	}))
	cmd.Flags().BoolVar(&fix, "fix", false, "install and enable the units of systemd")
	return cmd
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
	damaged := ""
	for _, f := range findings {
		if f.Name == contentsName && !f.OK && !f.Needed {
			damaged = f.Detail
		}
		if !f.OK && f.Needed {
			missing = append(missing, f.Name)
		}
		if !f.OK && f.Hint != "" && a.format != "json" {
			fmt.Fprintf(a.err, "hint: %s: %s\n", f.Name, a.atStore(f.Hint))
		}
	}
	if len(missing) > 0 {
		return api.Errorf(api.CodeFailed, "", "needed and missing: %s", strings.Join(missing, ", "))
	}
	if damaged != "" {
		return api.Errorf(api.CodeIntegrity, "", "the store is damaged: %s", damaged)
	}
	return nil
}

func findingRows(findings []engine.Feature) [][]string {
	var rows [][]string
	for _, f := range findings {
		result := "ok"
		switch {
		case f.Name == contentsName && !f.OK && !f.Needed:
			result = "DAMAGED"
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
	case exists && !private(place):
		f.Detail += ", not private: others own it or may enter it"
		f.Hint = "choose another place with --store, or see that it is yours, and mounted if it is to be, and `chmod 700 " + place + "`"
	case volatile(place):
		f.Needed = false // it works until the next boot
		f.Detail += ", in memory (tmpfs): nothing in it survives a boot or a power cut"
		f.Hint = "choose a place on a disk with --store"
	default:
		f.OK = true
	}
	return f
}

// private says whether a directory is this user's alone, as a store must be.
func private(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && int(st.Uid) == os.Geteuid() && st.Mode&0o077 == 0
}

// volatile says whether a directory lies in memory.
func volatile(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// contentsName is the finding about what is in the store. Where it is not ok
// and not needed either, something is damaged.
const contentsName = "store contents"

// doctorReads is the size up to which doctor reads a store as verify does.
const doctorReads = 1 << 30

// contentsFinding judges what is in the store; nil when there is nothing.
func contentsFinding(ctx context.Context, site keeper.Site) (*engine.Feature, error) {
	list, err := os.ReadDir(site.StoreDir)
	if err != nil || len(list) == 0 {
		return nil, nil // the other finding says so, and opening it would make one
	}
	f := &engine.Feature{Name: contentsName}
	small, size := true, int64(0)
	err = filepath.WalkDir(site.StoreDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what cannot be read, the reading says
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		small = size <= doctorReads
		if !small {
			return fs.SkipAll
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	look, read := keeper.Verify, "every byte was read"
	if !small {
		look, read = keeper.VerifySmall, "`wakepoint verify` reads their pages too"
	}
	all, err := look(ctx, site)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		e := asError(err)
		f.Needed, f.Detail, f.Hint = true, e.Message, e.Hint
		return f, nil
	}
	sum := sumOf(all)
	f.OK, f.Detail = sum.places == 0, fmt.Sprintf("%s; %s", sum, read)
	if !f.OK {
		f.Detail, f.Hint = fmt.Sprintf("%s; %s", damageText(sum.places), sum), "`wakepoint verify` names every damaged file, and what follows"
	}
	return f, nil
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
