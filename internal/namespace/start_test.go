package namespace

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestEnterCode assembles the source and compares the bytes in the table.
func TestEnterCode(t *testing.T) {
	as, err := exec.LookPath("as")
	if err != nil {
		t.Skip("skip: no assembler (binutils) is installed")
	}
	dir := t.TempDir()
	obj, bin := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
	if out, err := exec.Command(as, "--64", "-o", obj, "testdata/enter_amd64.s.txt").CombinedOutput(); err != nil {
		t.Skipf("skip: this assembler cannot do x86-64: %s", out)
	}
	if out, err := exec.Command("objcopy", "-O", "binary", obj, bin).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v %s", err, out)
	}
	got, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, enterAMD64) {
		t.Error("the table holds other bytes than its source")
	}
}
