package abi

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMachineCode assembles the sources and compares the bytes in the tables.
func TestMachineCode(t *testing.T) {
	as, err := exec.LookPath("as")
	if err != nil {
		t.Skip("skip: no assembler (binutils) is installed")
	}
	for name, want := range map[string][]byte{"gate_amd64": AMD64.Gate, "init_amd64": AMD64.Init} {
		dir := t.TempDir()
		obj, bin := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
		if out, err := exec.Command(as, "--64", "-o", obj, "testdata/"+name+".s.txt").CombinedOutput(); err != nil {
			t.Skipf("skip: this assembler cannot do x86-64: %s", out)
		}
		if out, err := exec.Command("objcopy", "-O", "binary", obj, bin).CombinedOutput(); err != nil {
			t.Fatalf("objcopy: %v %s", err, out)
		}
		got, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the table holds other bytes than its source", name)
		}
	}
}

func TestGateCall(t *testing.T) {
	a := AMD64
	if got := a.Gate[a.GateCall : int(a.GateCall)+a.InsnLen]; !bytes.Equal(got, a.Syscall) {
		t.Errorf("at GateCall stand %x", got)
	}
}

func TestInitELF(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(AMD64.InitELF(77)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || len(f.Progs) != 1 || f.Entry != initBase+120 {
		t.Errorf("type %v, %d segments, entry %#x", f.Type, len(f.Progs), f.Entry)
	}
	b := AMD64.InitELF(77)
	if b[len(b)-8] != 77 {
		t.Errorf("command's number is not at the end")
	}
}

func TestRewound(t *testing.T) {
	var r Regs
	r[rip], r[rax], r[origRax] = 0x1000, ^uint64(0)-ErestartSys+1, 232
	w := AMD64.Rewound(r)
	if w[rip] != 0xffe || w[rax] != 232 || int64(w[origRax]) != -1 {
		t.Errorf("rewound to %#x with %d", w[rip], w[rax])
	}
	r[rax] = ^uint64(0) - ErestartRestart + 1
	if w = AMD64.Rewound(r); w[rax] != 219 {
		t.Errorf("a call with a restart block goes on as %d", w[rax])
	}
	r[rax] = 5
	if w = AMD64.Rewound(r); w != r {
		t.Errorf("a finished call was rewound")
	}
}
