package vmtest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Needs lists the files of an installed program for an initramfs: itself, in
// /bin, its loader and its libraries, in their places.
//
// Source: ldd(1).
func Needs(program string) (map[string]string, error) {
	at, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	if at, err = filepath.EvalSymlinks(at); err != nil {
		return nil, err
	}
	out, err := exec.Command("ldd", at).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", at, err)
	}
	files := map[string]string{"/bin/" + program: at}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				files[word] = word
			}
		}
	}
	return files, nil
}
