package store

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/object"
)

const (
	workloadFile = "workload" // record: CBOR of workloadHead
	lockFile     = "lock"
	stateFile    = "state" // record: CBOR of state
	recordsDir   = "records"
	packsDir     = "packs"
	manifestsDir = "manifests"
)

// workloadHead says what a directory is.
type workloadHead struct {
	Version int `cbor:"version"`
}

// state is what must outlive all generations.
type state struct {
	Epoch uint64 `cbor:"epoch"` // of the newest writer
	Tried uint64 `cbor:"tried"` // no higher generation number was ever used
}

// Workload is one workload's directory. Its methods may be called from any
// goroutine.
type Workload struct {
	dir       string
	o         Options
	fs        disk.FS
	keys      keyring
	packs     *object.Dir
	manifests *object.Dir

	mu     sync.Mutex // guards what follows; never held during I/O of a draft's pages
	damage *Damage    // of the file that says what the directory is; nil when that is whole
	own    io.Closer  // the lock, nil when not held
	state  state
	draft  *Draft // the one that is open
	bad    spots  // what Scrub found; never changed, only replaced
	// expect is how many chunks the last draft used: the next one gets memory
	// for as many before the program stands still.
	expect int
}

// OpenWorkload opens dir as a workload, whatever store it belongs to, and makes
// one that belongs to none where dir is missing or empty. It refuses what Open refuses. One whose file
// of that name is damaged or gone opens as long as a manifest can be read.
func OpenWorkload(dir string, o Options) (*Workload, error) {
	return openWorkload(dir, [16]byte{}, o.filled())
}

// openWorkload opens or makes a workload of a store; of any when that is zero.
func openWorkload(dir string, store [16]byte, o Options) (*Workload, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open workload: %w", err)
	}
	w, made := workloadAt(dir, o), false
	err = claim(o.FS, dir, workloadFile, manifestsDir, func() error {
		made = true
		w.keys.store = store
		_, _ = rand.Read(w.keys.workload[:]) // never fails
		return w.mark()
	})
	if err == nil && !made {
		err = w.identify()
	}
	if err == nil && store != [16]byte{} && w.keys.store != store {
		err = fmt.Errorf("of another store: %w", ErrForeign)
	}
	if err != nil {
		return nil, fmt.Errorf("open workload %s: %w", dir, err)
	}
	return w, nil
}

// workloadAt is a directory of which only its place is known.
func workloadAt(dir string, o Options) *Workload {
	return &Workload{
		dir:       dir,
		o:         o,
		fs:        o.FS,
		packs:     object.Open(o.FS, filepath.Join(dir, packsDir)),
		manifests: object.Open(o.FS, filepath.Join(dir, manifestsDir)),
		keys:      keyring{root: o.Key},
	}
}

// mark writes the file that says what the directory is.
func (w *Workload) mark() error {
	b, err := encodeCBOR(workloadHead{Version: 1})
	if err != nil {
		return err
	}
	return writeRecord(w.fs, w.keys, filepath.Join(w.dir, workloadFile), b)
}

// identify reads what the directory is. The ids stand in every manifest too,
// so that a damaged file costs no generation.
func (w *Workload) identify() error {
	b, k, err := openRecord(w.fs, w.o.Key, filepath.Join(w.dir, workloadFile))
	if d := damageIn(workloadFile, err); d != nil {
		k, ok := w.keysOfManifests()
		if !ok {
			return &d.DamageError
		}
		d.Follows = "it is written again when a keeper takes the workload; its generations say what it held"
		w.keys, w.damage = k, d
		return nil
	}
	if err != nil {
		return err
	}
	var head workloadHead
	if err := decodeCBOR(b, &head); err != nil || head.Version != 1 {
		return ErrVersion
	}
	w.keys = k
	return nil
}

// keysOfManifests finds the ids in the newest manifest that is whole.
func (w *Workload) keysOfManifests() (keyring, bool) {
	gens, err := w.list()
	if err != nil {
		return keyring{}, false
	}
	for _, g := range gens {
		b, err := w.manifests.Get(g.String(), envelopeMax)
		if err != nil {
			continue
		}
		if _, k, err := disclose(w.o.Key, magicManifest, g.String(), b); err == nil {
			return k, true
		}
	}
	return keyring{}, false
}

// keysOfRecords finds the ids in a record that is whole.
func (w *Workload) keysOfRecords() keyring {
	dir := filepath.Join(w.dir, recordsDir)
	entries, _ := w.fs.ReadDir(dir)
	for _, e := range entries {
		if _, k, err := openRecord(w.fs, w.o.Key, filepath.Join(dir, e.Name())); err == nil {
			return k
		}
	}
	return w.keys
}

// Dir returns the workload's directory.
func (w *Workload) Dir() string { return w.dir }

// Lock makes this Workload the writer until the Closer is closed; ErrLocked
// when there is one already. It begins a new epoch durably, and removes what
// writers before it left unfinished.
func (w *Workload) Lock() (io.Closer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.own != nil {
		return nil, fmt.Errorf("lock workload %s: %w", w.dir, ErrLocked)
	}
	own, err := w.acquire()
	if err != nil {
		return nil, fmt.Errorf("lock workload %s: %w", w.dir, err)
	}
	if err := w.takeOver(); err != nil {
		own.Close()
		return nil, fmt.Errorf("lock workload %s: %w", w.dir, err)
	}
	w.own = own
	return &writerLock{w: w}, nil
}

// writerLock is the caller's end of Workload.own.
type writerLock struct {
	w    *Workload
	once sync.Once
}

func (l *writerLock) Close() error {
	err := error(fs.ErrClosed)
	l.once.Do(func() {
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		err = l.w.own.Close()
		l.w.own = nil
	})
	return err
}

// acquire takes the lock file. What the directory is, is durable before the
// first one is made: with that alone in it nobody could take its name again.
func (w *Workload) acquire() (io.Closer, error) {
	file := filepath.Join(w.dir, lockFile)
	if _, err := w.fs.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		if err := w.fs.SyncDir(w.dir); err != nil {
			return nil, err
		}
		f, err := w.fs.Create(file)
		if err == nil {
			err = f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return w.fs.Lock(file, disk.Exclusive)
}

// takeOver begins an epoch. The caller holds the lock file.
func (w *Workload) takeOver() error {
	// Whoever made the directory may have died before fsyncing its name.
	if err := w.fs.SyncDir(filepath.Dir(w.dir)); err != nil {
		return err
	}
	for _, d := range []*object.Dir{w.packs, w.manifests} {
		if err := d.Make(); err != nil {
			return err
		}
	}
	s, err := w.readState()
	if err != nil {
		return err
	}
	// Where the store is older than it was, no number that was used is used
	// for anything else.
	h := w.readHead()
	if h != nil {
		s.Epoch, s.Tried = max(s.Epoch, h.Epoch), max(s.Tried, h.Generation)
	} else {
		h = new(head)
	}
	s.Epoch++
	// The numbers that were tried are durable before the traces of them go.
	if err := w.writeState(s); err != nil {
		return err
	}
	if err := w.heal(); err != nil {
		return err
	}
	for _, d := range []*object.Dir{w.packs, w.manifests} {
		if err := d.Sweep(); err != nil {
			return err
		}
	}
	// A commit or a removal that was cut short leaves whole packs, too.
	if err := w.sweepPacks(false); err != nil {
		return err
	}
	if err := w.sweepRecords(); err != nil {
		return err
	}
	h.Epoch = s.Epoch
	w.noteHead(*h)
	return nil
}

// heal writes the file that says what the directory is once more where it was
// damaged, and else removes what of it a healing has left that was cut short.
func (w *Workload) heal() error {
	if w.damage == nil {
		return removeTemp(w.fs, filepath.Join(w.dir, workloadFile))
	}
	if err := w.mark(); err != nil {
		return err
	}
	w.damage = nil
	return nil
}

func (w *Workload) sweepRecords() error {
	return w.withRecords(func(dir string) error { return object.Open(w.fs, dir).Sweep() })
}

// readState reads the state and brings it up to date with what lies in the
// directory. A damaged state is made again from that alone.
func (w *Workload) readState() (state, error) {
	var s state
	b, err := readRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile))
	switch {
	case err == nil:
		if err := decodeState(b, &s); err != nil {
			s = state{}
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrDamaged):
	default:
		return state{}, err
	}
	tried, err := w.highest()
	if err != nil {
		return state{}, err
	}
	s.Tried = max(s.Tried, uint64(tried))
	if s.Epoch == 0 {
		// Epochs order the writers, so they go on from the newest one seen.
		gens, err := w.list()
		if err != nil {
			return state{}, err
		}
		for _, g := range gens {
			if m, err := w.manifest(g); err == nil {
				s.Epoch = max(s.Epoch, m.Epoch)
			}
		}
	}
	return s, nil
}

func decodeState(b []byte, s *state) error {
	if err := decodeCBOR(b, s); err != nil {
		return &DamageError{Pack: stateFile, What: err.Error()}
	}
	return nil
}

// highest returns the highest generation number of which there is a trace:
// a manifest, a pack, or what an unfinished commit left of one.
func (w *Workload) highest() (Generation, error) {
	var top Generation
	for _, d := range []*object.Dir{w.packs, w.manifests} {
		done, err := d.List()
		if err != nil {
			return 0, err
		}
		undone, err := d.Leftovers()
		if err != nil {
			return 0, err
		}
		for _, name := range slices.Concat(done, undone) {
			if id, ok := parsePackID(name); ok {
				top = max(top, id.Generation())
			} else if g, err := ParseGeneration(name); err == nil {
				top = max(top, g)
			}
		}
	}
	return top, nil
}

// writeState makes s the state durably, and then in memory.
func (w *Workload) writeState(s state) error {
	b, err := encodeCBOR(s)
	if err != nil {
		return err
	}
	if err := writeRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile), b); err != nil {
		return err
	}
	w.state = s
	return nil
}

// checkWriter returns an error unless this Workload may write: ErrNotLocked,
// or ErrStale when another writer has begun a later epoch, as can happen where
// locks do not reach (a directory shared between machines). The caller holds
// w.mu.
func (w *Workload) checkWriter() error {
	if w.own == nil {
		return ErrNotLocked
	}
	var s state
	b, err := readRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile))
	if err == nil {
		err = decodeState(b, &s)
	}
	switch {
	case errors.Is(err, ErrDamaged):
		return nil // says nothing of other writers; it is written again some time
	case err != nil:
		return fmt.Errorf("state: %w", err)
	case s.Epoch != w.state.Epoch:
		return fmt.Errorf("epoch %d, not %d: %w", s.Epoch, w.state.Epoch, ErrStale)
	}
	return nil
}

// list returns the numbers of all manifests, newest first.
func (w *Workload) list() ([]Generation, error) {
	names, err := w.manifests.List()
	if err != nil {
		return nil, err
	}
	var gens []Generation
	for _, name := range names {
		if g, err := ParseGeneration(name); err == nil && g.String() == name {
			gens = append(gens, g)
		}
	}
	slices.SortFunc(gens, func(a, b Generation) int { return cmp.Compare(b, a) })
	return gens, nil
}

// manifest reads a manifest, or where that is damaged its copy: ErrNotFound,
// ErrDamaged, ErrKey or ErrVersion.
func (w *Workload) manifest(g Generation) (*manifest, error) {
	m, err := w.firstManifest(g)
	if errors.Is(err, ErrDamaged) {
		if copied, cerr := w.secondManifest(g); cerr == nil {
			return copied, nil
		}
	}
	return m, err
}

func (w *Workload) firstManifest(g Generation) (*manifest, error) {
	b, err := w.manifests.Get(g.String(), envelopeMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%v: %w", g, ErrNotFound)
	}
	file := manifestsDir + "/" + g.String()
	if err != nil {
		return nil, lost(file, 0, err)
	}
	m, err := decodeManifest(b, w.keys, g)
	if errors.Is(err, ErrVersion) || errors.Is(err, ErrKey) {
		return nil, fmt.Errorf("%v: %w", g, err)
	}
	if err != nil {
		return nil, &DamageError{Pack: file, What: "manifest: " + err.Error()}
	}
	return m, nil
}

func (w *Workload) secondManifest(g Generation) (*manifest, error) {
	r := newPackReader(w.packs, w.keys)
	defer r.close()
	b, err := r.copyOf(place{}, g)
	if err != nil {
		return nil, err
	}
	return checkManifest(b, g)
}

// Generations returns the committed generations, newest first, and names
// those whose manifest cannot be read. It reads manifests only.
func (w *Workload) Generations() ([]Info, []Damage, error) {
	gens, err := w.list()
	if err != nil {
		return nil, nil, fmt.Errorf("list generations: %w", err)
	}
	var infos []Info
	var damages []Damage
	for _, g := range gens {
		m, err := w.manifest(g)
		switch {
		case err == nil:
			infos = append(infos, m.info())
		case errors.Is(err, ErrNotFound): // went away meanwhile
		default:
			damages = append(damages, damageOf(err, manifestsDir+"/"+g.String(), g))
		}
	}
	return infos, damages, nil
}

// damageOf names the generations that an error touches.
func damageOf(err error, file string, gens ...Generation) Damage {
	var de *DamageError
	if errors.As(err, &de) {
		return Damage{DamageError: *de, Generations: gens}
	}
	return Damage{DamageError: DamageError{Pack: file, What: "cannot be read", Err: err}, Generations: gens}
}

// damageIn is the damage of a file that must be there, nil when err says
// nothing of its bytes.
func damageIn(file string, err error) *Damage {
	var de *DamageError
	switch {
	case errors.As(err, &de):
		return &Damage{DamageError: DamageError{Pack: file, Offset: de.Offset, What: de.What, Err: de.Err}}
	case errors.Is(err, fs.ErrNotExist):
		return &Damage{DamageError: DamageError{Pack: file, What: "is missing"}}
	}
	return nil
}
