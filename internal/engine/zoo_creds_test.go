package engine

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"
)

// TestZooCreds: who a process is, what it may do, and how it runs; per thread
// where the kernel has it so.
func TestZooCreds(t *testing.T) {
	zoo(t, "creds", named(`plain user no_groups saved_user back_to_root fs_user some_caps no_caps ambient bounding securebits
		keepcaps no_new_privs undumpable undumpable_user dumpable_user threads name no_name limits_root limits_user few_processes
		fifo rr batch idle nice_user deadline affinity io_priority io_idle slack persona oom core_filter no_thp thp_advised
		reaper mask autogroup no_tsc mce no_exec_gain merge speculation barrier one_node jailed half_jailed at_the_root parent_death`))
}

// TestArgumentsAreBytes: what the command is given need not be text.
func TestArgumentsAreBytes(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	out, err := os.Create(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	record, err := os.Create(dir + "/record")
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	tree, err := Start(context.Background(), StartOptions{Argv: []string{"/bin/sh", "-c", `printf '%s\n' "$1 $X"; exec sleep 60`, "sh", "\xff<\x80"},
		Env: []string{"X=\xfe&"}, Dir: dir, Stdout: out, Stderr: out, Record: record})
	if err != nil {
		t.Fatal(err)
	}
	defer killTree(t, tree)
	var b []byte
	for deadline := time.Now().Add(30 * time.Second); !bytes.HasSuffix(b, []byte("\n")) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, err = os.ReadFile(dir + "/out")
	}
	if string(b) != "\xff<\x80 \xfe&\n" {
		t.Fatalf("%q %v", b, err)
	}
}
