package engine

import (
	"testing"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
)

// TestConnected looks at calls that a freeze broke off: of a connect(2) whose
// connection comes back reset nothing is left to be made again.
func TestConnected(t *testing.T) {
	arch := abi.AMD64
	d := dumper{f: &Frozen{tree: &Tree{arch: arch}}}
	d.tree.Descriptions = []image.Description{{}, {Socket: &image.Socket{Reset: true}}, {Socket: &image.Socket{}}}
	d.tree.Tables = []image.Table{{Entries: []image.Entry{{FD: 3, Description: 0}, {FD: 4, Description: 1}, {FD: 5, Description: 2}}}}
	for _, c := range []struct {
		name   string
		call   int
		result int64
		fd     uint64
		ends   bool
	}{
		{"connected meanwhile", arch.NR.Connect, -abi.ErestartSys, 4, true},
		{"with a time-out", arch.NR.Connect, -abi.ErestartNoHand, 4, true},
		{"not connected yet", arch.NR.Connect, -abi.ErestartSys, 5, false},
		{"not a socket", arch.NR.Connect, -abi.ErestartSys, 3, false},
		{"closed", arch.NR.Connect, -abi.ErestartSys, 6, false},
		{"over", arch.NR.Connect, -111, 4, false},
		{"another call", arch.NR.Read, -abi.ErestartSys, 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			th := image.Thread{Regs: make([]uint64, arch.RegWords)}
			th.Regs[arch.Call], th.Regs[arch.Result], th.Regs[arch.Args[0]] = uint64(c.call), uint64(c.result), c.fd
			d.connected(0, &th)
			ended := th.Regs[arch.Call] == ^uint64(0) && th.Regs[arch.Result] == 0
			kept := th.Regs[arch.Call] == uint64(c.call) && th.Regs[arch.Result] == uint64(c.result)
			if ended != c.ends || kept == c.ends {
				t.Errorf("call %d, result %d", int64(th.Regs[arch.Call]), int64(th.Regs[arch.Result]))
			}
		})
	}
}
