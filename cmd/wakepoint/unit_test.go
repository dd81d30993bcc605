package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const unitFile = "../../packaging/wakepoint-recover.service"

// TestUnit: systemd finds nothing wrong with the unit, what it executes is a
// command line of ours, and the key that it may be handed is the one that we
// look for.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(unit), "\nExecStart=-/usr/bin/")
	line, _, _ = strings.Cut(line, "\n")
	tryHint(t, unitFile, line, false)
	if !bytes.Contains(unit, []byte("\n#LoadCredentialEncrypted="+credentialName+"\n")) {
		t.Errorf("no credential %s", credentialName)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("skip: systemd is not installed")
	}
	// Its own program stands for the one that is not installed here.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, with := range []string{"#LoadCredentialEncrypted", "LoadCredentialEncrypted"} {
		text := bytes.ReplaceAll(unit, []byte("/usr/bin/wakepoint"), []byte(self))
		text = bytes.ReplaceAll(text, []byte("#LoadCredentialEncrypted"), []byte(with))
		file := filepath.Join(dir, filepath.Base(unitFile))
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
	}
}
