package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/store"
)

// TestExplain: what a person can do something about has a code and a hint
// that fits where it happened.
func TestExplain(t *testing.T) {
	damage := &store.DamageError{Pack: "packs/g1.0", What: "frame"}
	workload := func(err error) *api.Error { return Workload("web", err) }
	whole := func(err error) *api.Error { return Store("/s", err) }
	dump := func(err error) *api.Error { return Dump("/d", err) }
	for name, c := range map[string]struct {
		explain func(error) *api.Error
		err     error
		code    api.Code
		hint    string
	}{
		"damaged workload":     {workload, damage, 7, "`wakepoint verify web`"},
		"damaged store":        {whole, damage, 7, "`wakepoint verify`"},
		"damaged dump":         {dump, damage, 7, "`wakepoint verify /d`"},
		"newer workload":       {workload, store.ErrVersion, 1, "version of wakepoint"},
		"newer store":          {whole, store.ErrVersion, 1, "version of wakepoint"},
		"newer dump":           {dump, store.ErrVersion, 1, "version of wakepoint"},
		"foreign store":        {whole, store.ErrForeign, 1, "empty or does not exist"},
		"store of others":      {whole, disk.ErrNotPrivate, 1, "name a directory"},
		"locked workload":      {workload, store.ErrLocked, 11, "`wakepoint status web`"},
		"locked dump":          {dump, store.ErrLocked, 11, "another wakepoint"},
		"full store":           {workload, syscall.ENOSPC, 1, "checkpoints go on by themselves"},
		"full dump":            {dump, syscall.ENOSPC, 1, "make room on the file system of /d"},
		"read-only store":      {workload, syscall.EROFS, 1, "remount"},
		"read-only dump":       {dump, syscall.EROFS, 1, "remount"},
		"changed file":         {workload, &engine.ChangedError{Path: "/x"}, 1, "put that file back"},
		"changed file, dump":   {dump, &engine.ChangedError{Path: "/x"}, 1, "put that file back"},
		"missing file":         {workload, &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}, 1, "put back what is missing"},
		"port that nobody has": {workload, &engine.TakenError{Address: "127.0.0.1 port 1", Port: 1}, 1, "`ss -lpn`"},
	} {
		e := c.explain(fmt.Errorf("restore: %w", c.err))
		if e.Code != c.code || !strings.Contains(e.Hint, c.hint) || !errors.Is(e, c.err) {
			t.Errorf("%s: code %d, hint %q", name, e.Code, e.Hint)
		}
	}
}

// TestBound reads lines of the kernel's tables of sockets.
func TestBound(t *testing.T) {
	const tcp = "   0: 0100007F:9611 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 5809370 1 0 100 0 0 10 0"
	for _, c := range []struct {
		line, table string
		port        int
		want        string
	}{
		{fmt.Sprintf(tcp, "0A"), "tcp", 38417, "5809370"},
		{fmt.Sprintf(tcp, "0A"), "tcp", 38418, ""},
		{fmt.Sprintf(tcp, "01"), "tcp", 38417, ""},
		{fmt.Sprintf(tcp, "07"), "udp", 38417, "5809370"},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "tcp", 0, ""},
		{"", "tcp", 0, ""},
	} {
		if got, ok := bound(c.line, c.table, c.port); got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

// TestHintPrivate never tells to open or to close a directory of others.
func TestHintPrivate(t *testing.T) {
	dir := t.TempDir()
	if h := private(dir); !strings.Contains(h, "`chmod 700 "+dir+"`") {
		t.Error(h)
	}
	if h := private(dir + "/none"); strings.Contains(h, "chmod") {
		t.Error(h)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: chown")
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if h := private(dir); strings.Contains(h, "chmod") {
		t.Error(h)
	}
}
