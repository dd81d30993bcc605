package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// pendingWatch is a registration of an epoll whose descriptor is looked up
// when all tables are known.
type pendingWatch struct {
	description int // the epoll's
	index       int // of the registration
	table       int // of the process at which the epoll was found
	fd          int
	nth         int // among those of the same number
	ino         uint64
	c           *descriptor
}

func (d *dumper) epoll(c *descriptor, table, index int, desc *image.Description) error {
	desc.Kind = image.EpollKind
	seen := map[int]int{}
	for k, t := range c.info.Epoll {
		desc.Epoll = append(desc.Epoll, image.Watch{FD: t.FD, Table: -1, Description: -1, Events: t.Events, Data: t.Data})
		d.watches = append(d.watches, pendingWatch{index, k, table, t.FD, seen[t.FD], t.Inode, c})
		seen[t.FD]++
	}
	return nil
}

// watchResolver finds the descriptions behind registrations.
type watchResolver struct {
	d      *dumper
	tables []map[int]int // by table: number to description
	holds  []map[int]bool
	known  map[int]known    // by description: somebody who has it
	byIno  map[uint64][]int // descriptions
}

// resolveWatches finds the description behind each registration: the one at
// that number now, in the table where the epoll was found or in another that
// holds it, or else, when the number was closed, a duplicate elsewhere.
func (d *dumper) resolveWatches() error {
	if len(d.watches) == 0 {
		return nil
	}
	r := watchResolver{d: d, known: map[int]known{}, byIno: map[uint64][]int{}}
	for _, t := range d.tree.Tables {
		at, holds := map[int]int{}, map[int]bool{}
		for _, e := range t.Entries {
			at[e.FD], holds[e.Description] = e.Description, true
		}
		r.tables, r.holds = append(r.tables, at), append(r.holds, holds)
	}
	for _, list := range d.byLink {
		for _, k := range list {
			r.known[k.index] = k
		}
	}
	for i, ino := range d.inodes {
		r.byIno[ino] = append(r.byIno[ino], i)
	}
	for _, w := range d.watches {
		if err := r.resolve(w, &d.tree.Descriptions[w.description].Epoll[w.index]); err != nil {
			return err
		}
	}
	return nil
}

func (r *watchResolver) resolve(w pendingWatch, watch *image.Watch) error {
	if w.table < 0 {
		return w.c.refuse("an epoll that travels in a message,", "")
	}
	for t := range r.tables {
		table := (w.table + t) % len(r.tables)
		i, ok := r.tables[table][w.fd]
		if !ok || !r.holds[table][w.description] {
			continue
		}
		same, err := r.same(w, i)
		if err != nil {
			return err
		}
		if same {
			watch.Table, watch.Description = table, i
			return nil
		}
	}
	for _, i := range r.byIno[w.ino] {
		same, err := r.same(w, i)
		if err != nil {
			return err
		}
		if same {
			watch.Table, watch.Description = w.table, i
			return nil
		}
	}
	return refuse(w.c.p.pid, fmt.Sprintf("epoll fd %d of pid %d watches fd %d, which was closed while something else keeps it open",
		w.c.fd, w.c.p.pid, w.fd), "the program should remove descriptors from epoll before it closes them")
}

// same says whether a registration is that of a description. Kinds without an
// inode of their own, and the two ends of a pipe, only the kernel can tell apart.
func (r *watchResolver) same(w pendingWatch, i int) (bool, error) {
	if r.d.inodes[i] != w.ino {
		return false, nil
	}
	if len(r.byIno[w.ino]) == 1 {
		return true, nil
	}
	k, ok := r.known[i]
	if !ok {
		return false, nil
	}
	order, err := sys.KcmpEpoll(k.pid, k.fd, w.c.p.pid, w.c.fd, w.fd, w.nth)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("compare with a registration of epoll fd %d: %w", w.c.fd, err)
	}
	return order == 0, nil
}

// planWatches adds the registrations of the epolls that belong to a table.
// Where the number means another file by now, the watched one takes its place
// for a moment.
func (r *restorer) planWatches(tp *tape.Tape, table, self int) {
	t := &r.tree.Tables[table]
	at := map[int]image.Entry{}
	for _, e := range t.Entries {
		at[e.FD] = e
	}
	free := 0 // where a descriptor arrives
	for _, taken := at[free]; taken || free == self; _, taken = at[free] {
		free++
	}
	fetch := func(e image.Entry) {
		r.planFetch(tp, self, e)
		if e.FD != free {
			tp.Add("close", r.arch.NR.Close, tape.N(free))
		}
	}
	var done []int
	for _, e := range t.Entries {
		d := &r.tree.Descriptions[e.Description]
		if d.Kind != image.EpollKind || slices.Contains(done, e.Description) {
			continue
		}
		done = append(done, e.Description)
		for _, w := range d.Epoll {
			if w.Table != table {
				continue
			}
			now, taken := at[w.FD]
			stray := !taken || now.Description != w.Description
			if stray {
				fetch(image.Entry{FD: w.FD, Description: w.Description})
			}
			event := make([]byte, 16) // struct epoll_event is packed on amd64
			binary.LittleEndian.PutUint32(event, w.Events)
			binary.LittleEndian.PutUint64(event[4:], w.Data)
			tp.Add("epoll_ctl", r.arch.NR.EpollCtl, tape.N(e.FD), tape.N(unix.EPOLL_CTL_ADD), tape.N(w.FD), tape.At(tp.Bytes(event), 0))
			if stray && taken {
				fetch(now)
			} else if stray {
				tp.Add("close", r.arch.NR.Close, tape.N(w.FD))
			}
		}
	}
}
