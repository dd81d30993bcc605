package setting

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// capLast is the highest capability that this code knows; kernels with more
// keep theirs as the init has them.
const capLast = 40

// NoSetuidFixup keeps capabilities while identities change (capabilities(7)).
const NoSetuidFixup = 1 << 2

// CredsOf is who a thread is.
func CredsOf(st *procfs.Status) image.Creds {
	return image.Creds{UID: st.Uid, GID: st.Gid, Groups: st.Groups, Inheritable: st.CapInh, Permitted: st.CapPrm,
		Effective: st.CapEff, Bounding: st.CapBnd, Ambient: st.CapAmb, NoNewPrivs: st.NoNewPrivs}
}

// PlanCreds makes thread i of a process, which is own, who it was. While the
// identities change, SECBIT_NO_SETUID_FIXUP keeps the capabilities; then they
// are set to what they were, never more.
func PlanCreds(tp *tape.Tape, nr *abi.Calls, own *image.Creds, p *image.Process, i int) {
	th := &p.Threads[i]
	c := &th.Creds
	if !sameCreds(c, own) {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_SECUREBITS), tape.N(NoSetuidFixup))
		for n := range capLast + 1 {
			if own.Bounding&(1<<n) != 0 && c.Bounding&(1<<n) == 0 {
				tp.Add("prctl", nr.Prctl, tape.N(unix.PR_CAPBSET_DROP), tape.N(n))
			}
		}
		groups := make([]byte, 0, 4*len(c.Groups))
		for _, g := range c.Groups {
			groups = binary.LittleEndian.AppendUint32(groups, g)
		}
		tp.Add("setgroups", nr.Setgroups, tape.N(len(c.Groups)), tape.At(tp.Bytes(groups), 0))
		tp.Add("setresgid", nr.Setresgid, tape.N(c.GID[0]), tape.N(c.GID[1]), tape.N(c.GID[2]))
		tp.Add("setresuid", nr.Setresuid, tape.N(c.UID[0]), tape.N(c.UID[1]), tape.N(c.UID[2]))
		tp.Add("setfsgid", nr.Setfsgid, tape.N(c.GID[3]))
		tp.Add("setfsuid", nr.Setfsuid, tape.N(c.UID[3]))
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_SECUREBITS), tape.N(c.SecureBits))
		planCaps(tp, nr, c)
	}
	if c.KeepCaps {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_KEEPCAPS), tape.N(1))
	}
	if c.NoNewPrivs {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_NO_NEW_PRIVS), tape.N(1), tape.N(0), tape.N(0), tape.N(0))
	}
	if th.Parent != 0 {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_PDEATHSIG), tape.N(th.Parent))
	}
	if i == len(p.Threads)-1 && p.Dumpable != 2 {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_DUMPABLE), tape.N(p.Dumpable))
	}
}

// planCaps is capset(2) of version 3, and the ambient set.
func planCaps(tp *tape.Tape, nr *abi.Calls, c *image.Creds) {
	header := tp.Words(0x20080522)
	d := make([]byte, 0, 24)
	for _, shift := range []uint{0, 32} {
		for _, set := range []uint64{c.Effective, c.Permitted, c.Inheritable} {
			d = binary.LittleEndian.AppendUint32(d, uint32(set>>shift))
		}
	}
	tp.Add("capset", nr.Capset, tape.At(header, 0), tape.At(tp.Bytes(d), 0))
	for n := range capLast + 1 {
		if c.Ambient&(1<<n) != 0 {
			tp.Add("prctl", nr.Prctl, tape.N(unix.PR_CAP_AMBIENT), tape.N(unix.PR_CAP_AMBIENT_RAISE), tape.N(n), tape.N(0), tape.N(0))
		}
	}
}

func sameCreds(a, b *image.Creds) bool {
	return a.UID == b.UID && a.GID == b.GID && slices.Equal(a.Groups, b.Groups) && a.Inheritable == b.Inheritable &&
		a.Permitted == b.Permitted && a.Effective == b.Effective && a.Bounding == b.Bounding && a.Ambient == b.Ambient &&
		a.SecureBits == b.SecureBits
}
