package keeper

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/api"
)

// Root of a user namespace may not watch mounts by fanotify. What it starts runs
// all the same, its status says what is not captured and why, and goes on saying
// it after the keeper has changed. (A generation it cannot have either: the kernel
// lets only root of the host look at what is mapped. The program lives on.)
func TestRealInAUserNamespace(t *testing.T) {
	if os.Getenv("WAKEPOINT_TEST_INSIDE") == "" {
		inUserNamespace(t)
		return
	}
	s := site(t)
	ctx := context.Background()
	spec := shell(counter)
	spec.Name = "web"
	_, lerr := Launch(ctx, s, spec, api.Policy{EverySeconds: 1}, nil)
	said := func() bool {
		v, err := StatusOf(ctx, s, "web")
		if err != nil {
			return false
		}
		notes := strings.Join(v.Notes, "\n")
		return v.State == api.Running && strings.Contains(notes, "not captured") && strings.Contains(notes, "fanotify_init") && strings.Contains(notes, "--data DIR")
	}
	if !said() {
		v, err := StatusOf(ctx, s, "web")
		t.Fatalf("%v; %+v %v", lerr, v, err)
	}
	v, err := StatusOf(ctx, s, "web")
	if err != nil {
		t.Fatal(err)
	}
	if v.Generation == "" && (lerr == nil || v.Failures == 0) {
		t.Errorf("there is no generation, and nobody was told: %+v", v)
	}
	pid := v.PID
	if err := syscall.Kill(v.KeeperPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next keeper says it too", func() bool {
		next, err := StatusOf(ctx, s, "web")
		return err == nil && next.KeeperPID != v.KeeperPID && next.PID == pid && said()
	})
	goesOn(t, s, "web")
	t.Log("seen inside")
}

// inUserNamespace runs the test that calls it once more, in a user namespace that
// has the IDs of the host.
func inUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: a user namespace is given many IDs")
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "WAKEPOINT_TEST_INSIDE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		t.Skip("skip: needs user namespaces: ", err)
	}
	if err != nil || !strings.Contains(string(out), "seen inside") {
		t.Errorf("%v\n%s", err, out)
	}
}
