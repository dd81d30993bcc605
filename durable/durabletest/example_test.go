package durabletest_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// save appends a line to a file, and acknowledges it by nil. It has a mistake.
func save(d durable.FS, line string) error {
	f, err := d.Append("/lines")
	if errors.Is(err, fs.ErrNotExist) {
		f, err = d.Create("/lines") // the name is not durable before d.SyncDir("/")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte(line + "\n")); err != nil {
		return err
	}
	return f.Sync()
}

func load(d durable.FS) (string, error) {
	f, err := d.Open("/lines")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

// stdout takes the place of the *testing.T of a real test.
type stdout struct{}

func (stdout) Helper()                           {}
func (stdout) Logf(string, ...any)               {}
func (stdout) Errorf(format string, args ...any) { fmt.Printf("FAIL "+format+"\n", args...) }

// A test of a server that keeps lines. What it forgets shows at one of the cuts.
func ExampleCrash() {
	t := stdout{}
	begin := func() durabletest.Test {
		acknowledged := "" // the ledger
		run := func(d durable.FS) error {
			if err := save(d, "hello"); err != nil {
				return err
			}
			acknowledged = "hello"
			return nil
		}
		check := func(d durable.FS) error {
			got, err := load(d)
			if err == nil && !strings.HasPrefix(got, acknowledged) {
				err = fmt.Errorf("%q was acknowledged, and there is %q", acknowledged, got)
			}
			return err
		}
		return durabletest.Test{Run: run, Check: check}
	}
	durabletest.Crash(t, durabletest.Options{Only: "run 5 cut 0"}, begin)
	// Output:
	// FAIL run, the power cut, LoseAll at its end:
	// it is not as promised: "hello" was acknowledged, and there is ""
	// to repeat it: Options{Only: "run 5 cut 0"}
}

func ExampleDisk() {
	d := durabletest.NewDisk()
	f, _ := d.Create("/f")
	_ = d.SyncDir("/")
	_, _ = f.Write([]byte("synced "))
	_ = f.Sync()
	_, _ = f.Write([]byte("and not"))
	for _, keep := range []durabletest.Survivors{durabletest.LoseAll, durabletest.KeepAll, durabletest.KeepSizes} {
		f, _ := d.Cut(keep).Open("/f")
		b, _ := io.ReadAll(f)
		fmt.Printf("%v: %q\n", keep, b)
	}
	// Output:
	// LoseAll: "synced "
	// KeepAll: "synced and not"
	// KeepSizes: "synced \x00\x00\x00\x00\x00\x00\x00"
}
