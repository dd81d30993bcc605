package vmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Missing names what is needed on this host to boot a machine and is not
// there, as packages of Debian; nil when all is.
func Missing() []string {
	var missing []string
	for _, t := range []struct{ tool, pkg string }{
		{"qemu-system-x86_64", "qemu-system-x86"}, {"mkfs.ext4", "e2fsprogs"},
		{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"go", "golang"},
	} {
		if _, err := find(t.tool); err != nil {
			missing = append(missing, t.pkg)
		}
	}
	return missing
}

// find is exec.LookPath, also where only root looks.
func find(tool string) (string, error) {
	for _, path := range []string{tool, "/usr/sbin/" + tool, "/sbin/" + tool} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s: %w", tool, exec.ErrNotFound)
}

// run runs a tool and returns what it printed; its complaint is in the error.
func run(dir, tool string, args ...string) (string, error) {
	path, err := find(tool)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "LC_ALL=C")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", tool, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Cache returns the directory in which packages of Debian lie unpacked, by
// their names: build/vm of the module in which the caller runs. The scripts use
// it too.
func Cache() (string, error) {
	mod, err := run("", "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if mod = strings.TrimSpace(mod); mod == "" || mod == os.DevNull {
		return "", errors.New("not inside a module")
	}
	dir := filepath.Join(filepath.Dir(mod), "build", "vm")
	return dir, os.MkdirAll(dir, 0o755)
}

// Build builds a program of this module, static, for the machine.
func Build(out, pkg string) error {
	_, err := run("", "go", "build", "-trimpath", "-buildvcs=false", "-o", out, pkg)
	return err
}

// Unpacked returns the directory in which a package of Debian lies unpacked,
// and fetches it when it is not there. Nothing is installed.
func Unpacked(cache, pkg string) (string, error) {
	dir := filepath.Join(cache, pkg)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(cache, "work.")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil { // apt-get drops its rights
		return "", err
	}
	if _, err := run(work, "apt-get", "download", "-q", pkg); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s: %d files: %w", pkg, len(debs), err)
	}
	unpacked := filepath.Join(work, "unpacked")
	if _, err := run(work, "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		return "", err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		if _, serr := os.Stat(dir); serr != nil { // another may have been faster
			return "", err
		}
	}
	return dir, nil
}

// Kernel is one of Debian's kernels, unpacked.
type Kernel struct {
	Line    string // "6.1"
	Image   string // path of vmlinuz
	modules string // path of lib/modules/RELEASE
}

// FindKernel returns the newest kernel of a line ("6.1", "6.12") that Debian
// makes for clouds, which are small, and fetches it when it is not in the cache.
func FindKernel(cache, line string) (Kernel, error) {
	names, err := kernels(line)
	if err == nil && len(names) == 0 && os.Geteuid() == 0 {
		if _, err = run("", "apt-get", "update", "-q"); err == nil { // an image without lists
			names, err = kernels(line)
		}
	}
	if err != nil {
		return Kernel{}, err
	}
	if len(names) == 0 {
		return Kernel{}, fmt.Errorf("apt-get knows no kernel %s", line)
	}
	dir, err := Unpacked(cache, slices.MaxFunc(names, compareVersions))
	if err != nil {
		return Kernel{}, err
	}
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	modules, _ := filepath.Glob(filepath.Join(dir, "lib", "modules", "*"))
	if len(images) != 1 || len(modules) != 1 {
		return Kernel{}, fmt.Errorf("%s: %d kernels and %d sets of modules", dir, len(images), len(modules))
	}
	return Kernel{Line: line, Image: images[0], modules: modules[0]}, nil
}

// kernels lists the packages of a line.
func kernels(line string) ([]string, error) {
	out, err := run("", "apt-cache", "pkgnames", "linux-image-"+line+".")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(out), func(s string) bool {
		return !strings.HasSuffix(s, "-cloud-amd64")
	}), nil
}

// compareVersions compares names by the numbers in them.
func compareVersions(a, b string) int {
	numbers := func(s string) (list []int) {
		for _, f := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsDigit(r) }) {
			n, _ := strconv.Atoi(f) // digits only
			list = append(list, n)
		}
		return list
	}
	return slices.Compare(numbers(a), numbers(b))
}

// modules are those without which a machine has no disk, and those that tell
// of sockets, in the order in which they must be loaded. What a kernel has
// built in is no module of it.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
	"unix_diag", "inet_diag", "tcp_diag", "udp_diag",
}

// moduleFiles returns the paths of the kernel's modules, in their order.
func (k Kernel) moduleFiles() ([]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(k.modules, "kernel"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _, _ := strings.Cut(d.Name(), ".ko")
			found[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	var list []string
	for _, name := range modules {
		if path := found[name]; path != "" {
			list = append(list, path)
		}
	}
	return list, err
}
