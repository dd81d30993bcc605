//go:build linux

package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

func TestPythonAsyncio(t *testing.T) {
	r := newRig(t, "python-asyncio")
	script, port := testdata(t, r.top, "aio.py"), freePort(t)
	r.endure(subject{
		options: fast, argv: []string{python(t), script, strconv.Itoa(port)},
		full: cyclesFull, client: newServer(port),
	})
}

func TestNode(t *testing.T) {
	r := newRig(t, "node")
	script, port := testdata(t, r.top, "server.js"), freePort(t)
	r.endure(subject{
		options: fast, argv: []string{need(t, "nodejs", "node"), script, strconv.Itoa(port)},
		full: cyclesFull, client: newServer(port),
	})
}

func TestGo(t *testing.T) {
	r := newRig(t, "go")
	port, bin := freePort(t), filepath.Join(r.top, "goserver")
	build := exec.Command("go", "build", "-o", bin, "./testdata/goserver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r.endure(subject{
		options: fast, argv: []string{bin, strconv.Itoa(port)}, full: cyclesRisky, client: newServer(port),
	})
}

func TestJava(t *testing.T) {
	r := newRig(t, "java")
	java, javac, port := need(t, "default-jdk-headless", "java"), need(t, "default-jdk-headless", "javac"), freePort(t)
	if out, err := exec.Command(javac, "-d", r.top, "testdata/Server.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	r.endure(subject{
		options: []string{"--every", "500ms"},
		argv:    []string{java, "-Xmx96m", "-Dsun.net.httpserver.nodelay=true", "-cp", r.top, "Server", strconv.Itoa(port)},
		full:    cyclesFull, client: newServer(port),
	})
}
