package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// CommitInfo is what a generation says of itself.
type CommitInfo struct {
	Pause time.Duration // how long the program stood still
	Tag   string
	Meta  map[string]string
}

// freeAbove is the size of a draft's buffer from which its memory is given
// back to the system at once, so that a process at rest stays small.
const freeAbove = 8 << 20

// Commit makes the draft the newest generation. When it returns nil the
// generation survives a power cut. When it returns an error the generation
// may or may not exist (Generations tells), its number is not used again, and
// every earlier generation is as it was. The draft has ended either way.
func (d *Draft) Commit(ctx context.Context, c CommitInfo) (Info, error) {
	if d.ended {
		return Info{}, fmt.Errorf("commit %v: %w", d.gen, errEnded)
	}
	d.ended = true
	feed := d.feed
	stop := context.AfterFunc(ctx, func() { feed.fail(context.Cause(ctx)) })
	defer stop()
	m, err := d.prepare(c)
	if err == nil {
		err = d.publish(ctx, m)
	}
	if err != nil {
		err = fmt.Errorf("commit %v: %w", d.gen, err)
		if cerr := d.discard(); cerr != nil {
			err = fmt.Errorf("%w (and then: %v)", err, cerr)
		}
		d.release()
		return Info{}, err
	}
	d.release()
	return m.info(), nil
}

// Abort drops the draft. Its number is not used again.
func (d *Draft) Abort() error {
	if d.ended {
		return nil
	}
	d.ended = true
	d.feed.fail(errAborted)
	_ = d.feed.finish()
	err := d.discard()
	d.release()
	if err != nil {
		return fmt.Errorf("abort %v: %w", d.gen, err)
	}
	return nil
}

// prepare waits for everything to be handed to the file system and makes the
// manifest.
func (d *Draft) prepare(c CommitInfo) (*manifest, error) {
	if err := d.feed.finish(); err != nil {
		return nil, err
	}
	for name, s := range d.sections {
		if !s.closed {
			return nil, fmt.Errorf("section %q was not closed", name)
		}
	}
	m := d.manifest(c)
	d.index(m)
	moved, err := d.evacuate(m)
	if moved {
		d.index(m)
	}
	if err == nil {
		err = m.check()
	}
	return m, err
}

// manifest begins the manifest.
func (d *Draft) manifest(c CommitInfo) *manifest {
	slices.SortFunc(d.blobs, func(a, b blobRef) int { return cmp.Compare(a.Name, b.Name) })
	m := &manifest{
		Generation: uint64(d.gen),
		Epoch:      d.epoch,
		Pause:      int64(c.Pause),
		Tag:        c.Tag,
		Meta:       c.Meta,
		Blobs:      d.blobs,
	}
	if d.parent != nil {
		m.Parent = d.parent.m.Generation
	}
	return m
}

// index fills in the sections of a manifest and the packs that it refers to.
func (d *Draft) index(m *manifest) {
	m.NewBytes, m.TotalBytes = d.out.bytes(), 0
	m.Sections, m.Packs = nil, nil
	live := map[PackID]int64{}
	for _, name := range slices.Sorted(maps.Keys(d.sections)) {
		s := d.sections[name].tree.section(name)
		m.Sections = append(m.Sections, s)
		m.TotalBytes += s.Pages * PageSize
		for _, l := range s.Live {
			live[l.Pack] += l.Live
		}
	}
	counted := map[place]bool{} // a blob may hold a piece twice
	for _, b := range m.Blobs {
		for _, p := range b.Pieces {
			if e := p.entry(); !counted[e.place] {
				counted[e.place] = true
				live[p.Pack] += e.cost()
			}
		}
	}
	size := map[PackID]int64{}
	if d.parent != nil {
		for _, p := range d.parent.m.Packs {
			size[p.Pack] = p.Size
		}
	}
	for i, p := range d.out.frames.packs {
		size[packID(d.gen, i)] = p.size
	}
	for _, id := range slices.Sorted(maps.Keys(live)) {
		if live[id] != 0 {
			m.Packs = append(m.Packs, packUse{Pack: id, Size: size[id], Live: live[id]})
		}
	}
}

// publish is the commit. The order is the promise:
//
//  1. the packs are written and fsynced;
//  2. they get their names, and their directory is fsynced;
//  3. the manifest is written under a temporary name and fsynced;
//  4. it gets its name: from here on the generation may exist;
//  5. its directory is fsynced: from here on it survives a power cut,
//     and only now is anybody told;
//  6. the head beside the key follows. The generation does not depend on it.
//
// A manifest so never refers to what may be lost, and as one draft ends before
// the next begins, generation N+1 is never seen before N. TestCommitTrace
// holds the order, TestCommitFaults makes every step fail.
func (d *Draft) publish(ctx context.Context, m *manifest) error {
	if err := d.out.copies.finish(); err != nil {
		return err
	}
	m.Committed, m.NewBytes, m.Copies = d.w.o.Now().UnixNano(), d.out.bytes(), d.out.copies.next()
	b, err := encodeCBOR(m)
	if err != nil {
		return err
	}
	if err := d.out.copies.add(place{}, b); err != nil {
		return err
	}
	if err := d.out.copies.finish(); err != nil {
		return err
	}
	if err := d.out.sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	d.w.mu.Lock()
	err = d.w.checkWriter()
	d.w.mu.Unlock()
	if err != nil {
		return err
	}
	if b, err = encodeManifest(d.w.keys, m); err != nil {
		return err
	}
	if err := d.out.publish(); err != nil {
		return err
	}
	if err := d.w.manifests.Put(d.gen.String(), b); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	sum := sha256.Sum256(b)
	d.w.noteHead(head{Epoch: d.epoch, Generation: uint64(d.gen), Sum: sum[:]})
	return nil
}

// discard removes what the draft left on disk, unless its manifest is there:
// then the generation may exist and keeps what it refers to. That the number
// was tried is made durable before the traces of it go; where that fails (the
// disk may be full of them) it is tried again afterwards.
func (d *Draft) discard() error {
	d.out.settle()
	defer d.out.close()
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if err := d.w.checkWriter(); err != nil {
		return err // what lies there under our number may be another writer's
	}
	noted := d.w.writeState(d.w.state)
	var err error
	if !d.visible() {
		err = d.out.abort()
	}
	if noted != nil {
		noted = d.w.writeState(d.w.state)
	}
	return errors.Join(noted, err)
}

// visible reports whether the manifest may have its name.
func (d *Draft) visible() bool {
	_, err := d.w.manifests.Stat(d.gen.String())
	return !isNotExist(err)
}

// release ends the draft in memory.
func (d *Draft) release() {
	if d.parent != nil {
		d.parent.Close()
	}
	d.w.mu.Lock()
	d.w.draft = nil
	d.w.expect = min(max(d.feed.used+1, d.w.expect*3/4), expectMax)
	d.w.mu.Unlock()
	big := d.feed.made*chunkSize > freeAbove
	d.feed, d.out, d.src, d.sections, d.blobs = &feed{err: errEnded}, nil, nil, nil, nil
	if big {
		debug.FreeOSMemory()
	}
}

func sortLive(l []packLive) {
	slices.SortFunc(l, func(a, b packLive) int { return cmp.Compare(a.Pack, b.Pack) })
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
