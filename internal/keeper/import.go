package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/bundle"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// ImportOptions says how a file is taken in.
type ImportOptions struct {
	Name  string // of the workload; empty: the one that it had
	Trust string // fingerprint of a signer who is trusted from now on; may be empty
}

// Imported is what Import has made.
type Imported struct {
	Name       string
	Generation string // "g1"
	From       string // "web@g411", where it comes from
	Signer     string
}

// Import makes a workload of a file that Export wrote. The file is read twice:
// first for its signature alone, which must be this site's own or of one that
// it trusts; then it is written to the store, and becomes a workload only when
// what was read is what was signed. On an error, and wherever it is cut,
// nothing of it is left.
//
// The workload is stopped: `recover` does not touch it before a person has
// started it. An ordinary user gets only what runs wholly as himself.
func Import(ctx context.Context, s Site, file string, o ImportOptions) (Imported, error) {
	s, err := s.filled()
	if err != nil {
		return Imported{}, err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // nobody waits at a FIFO
	if err != nil {
		return Imported{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Imported{}, err
	}
	if !st.Mode().IsRegular() {
		return Imported{}, api.Errorf(api.CodeUsage, "copy it to a file first: it is read twice", "%s is not a file", file)
	}
	c, err := bundle.Check(bundle.Source{Context: ctx, File: f}, st.Size())
	if err != nil {
		return Imported{}, explainBundle(err)
	}
	signer := seal.Signer(c.Signer)
	if err := s.believe(signer, o.Trust); err != nil {
		return Imported{}, err
	}
	opened, err := s.open()
	if err != nil {
		return Imported{}, err
	}
	if o.Trust != "" && s.KeyFile != "" {
		if err := seal.Trust(disk.OS{}, s.trustedFile(), signer); err != nil {
			return Imported{}, explainTrusted(s.trustedFile(), err)
		}
	}
	in := &incoming{st: opened, name: o.Name, user: generation.ThisUser()}
	out, err := in.take(ctx, c)
	if err != nil {
		if left := in.turnAway(); left != nil {
			err = fmt.Errorf("%w (and then: %v)", err, left)
		}
		return Imported{}, explainBundle(err)
	}
	out.Signer = signer.String()
	return out, nil
}

// explainBundle says what is the matter with a file.
func explainBundle(err error) error {
	switch {
	case errors.Is(err, bundle.ErrSignature):
		return api.Errorf(api.CodeIntegrity, "copy it again from where it was exported", "%w", err)
	case errors.Is(err, bundle.ErrFormat), errors.Is(err, bundle.ErrTooLarge):
		return api.Errorf(api.CodeIntegrity, "name a file that `wakepoint export NAME FILE` wrote", "%w", err)
	case errors.Is(err, bundle.ErrVersion):
		return api.Errorf(api.CodeFailed, "use the version of wakepoint that wrote it, or a later one", "%w", err)
	}
	return err
}

func explainTrusted(file string, err error) error {
	switch {
	case errors.Is(err, seal.ErrExposed):
		return api.Errorf(api.CodeIntegrity, "it must belong to the user who runs wakepoint, with mode 0600", "%w", err)
	case errors.Is(err, seal.ErrSigner):
		return api.Errorf(api.CodeIntegrity, "correct the line in "+file+", or delete it", "%w", err)
	}
	return err
}

// believe is nil when files of a signer are taken in: the site's own, those of
// whom it trusts, or of whom a person trusts now.
func (s Site) believe(signer seal.Signer, trust string) error {
	if trust != "" {
		named, err := seal.ParseSigner(trust)
		switch {
		case err != nil:
			return api.Errorf(api.CodeUsage, "`wakepoint export NAME FILE` says it where the file is made", "%w", err)
		case named != signer:
			return api.Errorf(api.CodeIntegrity, "it is not the file that you think it is", "it is signed by %v, not by %v", signer, named)
		}
		return nil
	}
	own, known, err := s.ownSigner()
	if err != nil || known && own == signer {
		return err
	}
	list, err := seal.Trusted(disk.OS{}, s.trustedFile())
	if err != nil {
		return explainTrusted(s.trustedFile(), err)
	}
	if slices.Contains(list, signer) {
		return nil
	}
	return api.Errorf(api.CodeIntegrity, "compare it with what the export said there; `wakepoint import --trust "+signer.String()+" FILE` takes in all that it signs from now on",
		"it is signed by %v, who is not trusted here", signer)
}

// incoming is a workload that is being imported.
type incoming struct {
	st   *store.Store
	name string
	user generation.User

	w       *store.Workload
	own     io.Closer
	d       *store.Draft
	section *store.SectionWriter

	info   bundle.Info
	spec   *api.Spec
	policy *api.Policy
	tree   bool
}

// take reads the file into a workload.
func (in *incoming) take(ctx context.Context, c *bundle.Checked) (Imported, error) {
	if err := c.Read(ended{ctx, in}); err != nil {
		return Imported{}, err
	}
	if in.spec == nil || in.policy == nil || !in.tree {
		return Imported{}, fmt.Errorf("a part is missing: %w", bundle.ErrFormat)
	}
	if err := in.closeSection(); err != nil {
		return Imported{}, err
	}
	info, err := in.commit(ctx)
	if err != nil {
		return Imported{}, hint.Workload(in.name, err)
	}
	_, err = in.st.Admit(in.w, in.name)
	if err != nil {
		return Imported{}, in.refused(err)
	}
	_ = in.own.Close()
	from := in.info.Workload + "@" + store.Generation(in.info.Generation).String()
	return Imported{Name: in.name, Generation: info.Generation.String(), From: from}, nil
}

// commit writes the records and makes the generation durable. Verdicts of
// elsewhere do not come along, and the runs are counted anew.
func (in *incoming) commit(ctx context.Context) (store.Info, error) {
	meta := maps.Clone(in.info.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	if meta[metaTaken] == "" {
		meta[metaTaken] = time.Unix(0, in.info.Committed).UTC().Format(time.RFC3339Nano)
	}
	meta[metaRun], meta[metaFrom], meta[metaImported] = "1", "0", strconv.FormatUint(in.info.Generation, 10)
	run := runRecord{State: api.Stopped, Run: 1, Frozen: true, Head: in.d.Generation()}
	if err := errors.Join(putRecord(in.w, recordPolicy, in.policy), putRecord(in.w, recordRun, run), putRecord(in.w, recordSpec, in.spec)); err != nil {
		return store.Info{}, err
	}
	return in.d.Commit(ctx, store.CommitInfo{Pause: time.Duration(in.info.Pause), Tag: in.info.Tag, Meta: meta})
}

// turnAway leaves nothing of what was not admitted.
func (in *incoming) turnAway() error {
	if in.w == nil {
		return nil
	}
	_ = in.d.Abort() // what it leaves goes with the rest
	return in.st.TurnAway(in.w, in.own)
}

// refused says why a workload of the name cannot be made.
func (in *incoming) refused(err error) error {
	switch {
	case errors.Is(err, store.ErrExist):
		return api.Errorf(api.CodeFailed, "take another --name, or `wakepoint rm "+in.name+"`", "there is a workload %s already", in.name)
	case errors.Is(err, store.ErrName):
		return api.Errorf(api.CodeUsage, "", "%w", err)
	case errors.Is(err, store.ErrLocked):
		return api.Errorf(api.CodeLocked, "try again when that has ended", "another import makes %s", in.name)
	}
	return hint.Workload(in.name, err)
}

// Info makes the place for the workload.
func (in *incoming) Info(i bundle.Info) error {
	in.info = i
	if in.name == "" {
		in.name = i.Workload
	}
	w, own, err := in.st.Incoming(in.name)
	if err != nil {
		return in.refused(err)
	}
	d, err := w.Begin(0)
	if err != nil {
		return errors.Join(hint.Workload(in.name, err), in.st.TurnAway(w, own))
	}
	in.w, in.own, in.d = w, own, d
	return nil
}

// Record takes in what the workload is and how it is looked after.
func (in *incoming) Record(name string, data []byte) error {
	var err error
	switch name {
	case recordSpec:
		in.spec = new(api.Spec)
		if err = json.Unmarshal(data, in.spec); err == nil && (len(in.spec.Argv) == 0 || !filepath.IsAbs(in.spec.Dir)) {
			err = errors.New("no command, or no directory")
		}
		in.spec.Name, in.spec.Adopt, in.spec.Cut = in.name, 0, false
	case recordPolicy:
		in.policy = new(api.Policy)
		if err = json.Unmarshal(data, in.policy); err == nil {
			err = checkPolicy(*in.policy)
		}
		if free, _, serr := files.Space(in.st.Dir()); serr == nil && in.policy.KeepSizeBytes > 0 {
			in.policy.KeepSizeBytes = min(in.policy.KeepSizeBytes, policy.KeepSize(free))
		}
	default:
		err = errors.New("not known")
	}
	if err != nil {
		return fmt.Errorf("record %s: %w: %w", name, err, bundle.ErrFormat)
	}
	return nil
}

// Blob takes in a value; what a restore will act on is looked through first.
func (in *incoming) Blob(name string, data []byte) error {
	switch name {
	case engine.TreeBlob:
		t, err := image.Decode(data)
		if err != nil {
			return fmt.Errorf("%w: %w", err, bundle.ErrFormat)
		}
		if err := in.user.Own(t); err != nil {
			return api.Errorf(api.CodeFailed, "only root can bring it back: import it as root", "%w", err)
		}
		in.tree = true
	case files.IndexName:
		if _, err := files.Decode(data); err != nil {
			return fmt.Errorf("%w: %w", err, bundle.ErrFormat)
		}
	case files.KeptName:
		if _, err := files.DecodeKept(data); err != nil {
			return fmt.Errorf("%w: %w", err, bundle.ErrFormat)
		}
	}
	return in.d.Blob(name, data)
}

// Section begins a section.
func (in *incoming) Section(name string) error {
	err := in.closeSection()
	if err == nil {
		in.section, err = in.d.Section(name, false)
	}
	return err
}

func (in *incoming) closeSection() error {
	if in.section == nil {
		return nil
	}
	return in.section.Close()
}

// Run takes in pages.
func (in *incoming) Run(off int64, p []byte) error { return in.section.Put(off, p) }

// ended is a sink that ends with a context.
type ended struct {
	ctx context.Context
	*incoming
}

func (e ended) Run(off int64, p []byte) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	return e.incoming.Run(off, p)
}
