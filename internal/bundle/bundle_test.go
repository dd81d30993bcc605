package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// testKey signs in tests.
func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

// content is what a file holds, as a sink hears it.
type content struct {
	Info     Info
	Records  []value
	Blobs    []value
	Sections []section
}

type value struct {
	Name string
	Data []byte
}

type section struct {
	Name string
	Runs []run
}

type run struct {
	Off   int64
	Pages []byte
}

// keep is a sink that holds everything, and checks what the reader promises.
type keep struct {
	content
	deny error // what every call returns
}

func (k *keep) Info(i Info) error { k.content.Info = i; return k.deny }

func (k *keep) Record(name string, data []byte) error {
	if !validName(name) || strings.ContainsAny(name, "/\x00") || len(data) > recordMax {
		panic("record " + name)
	}
	k.Records = append(k.Records, value{name, bytes.Clone(data)})
	return k.deny
}

func (k *keep) Blob(name string, data []byte) error {
	if !validLabel(name) || len(data) > blobMax {
		panic("blob " + name)
	}
	k.Blobs = append(k.Blobs, value{name, bytes.Clone(data)})
	return k.deny
}

func (k *keep) Section(name string) error {
	if !validLabel(name) {
		panic("section " + name)
	}
	k.Sections = append(k.Sections, section{Name: name})
	return k.deny
}

func (k *keep) Run(off int64, p []byte) error {
	if off < 0 || off%PageSize != 0 || len(p) == 0 || len(p)%PageSize != 0 || off > SectionMax-int64(len(p)) {
		panic(fmt.Sprintf("run %#x+%#x", off, len(p)))
	}
	s := &k.Sections[len(k.Sections)-1]
	s.Runs = append(s.Runs, run{off, bytes.Clone(p)})
	return k.deny
}

// write writes a file.
func write(t testing.TB, c content) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, testKey(), time.Unix(1, 2), c.Info)
	must(t, err)
	for _, v := range c.Records {
		must(t, w.Record(v.Name, v.Data))
	}
	for _, v := range c.Blobs {
		must(t, w.Blob(v.Name, v.Data))
	}
	for _, s := range c.Sections {
		must(t, w.Section(s.Name))
		for _, r := range s.Runs {
			must(t, w.Run(r.Off, r.Pages))
		}
	}
	must(t, w.Close())
	return out.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 3))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// sample has something of everything.
func sample() content {
	return content{
		Info:    Info{Workload: "web", Generation: 411, Committed: 5, Pause: 6, Tag: "t", Meta: map[string]string{"a": "b"}},
		Records: []value{{"policy", []byte("{}")}, {"spec", random(3 << 20)}},
		Blobs:   []value{{"empty", nil}, {"even", random(2 * pieceMax)}, {"tree", bytes.Repeat([]byte("same"), 1<<19)}},
		Sections: []section{
			{"files", nil},
			{"mem", []run{{0, random(PageSize)}, {PageSize, bytes.Repeat([]byte("page"), 2*PageSize/4)}, {1 << 40, random(RunMax)}, {SectionMax - PageSize, random(PageSize)}}},
		},
	}
}

func read(b []byte) (content, *Checked, error) {
	c, err := Check(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return content{}, nil, err
	}
	k := &keep{}
	err = c.Read(k)
	return k.content, c, err
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	b := write(t, want)
	got, c, err := read(b)
	must(t, err)
	if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Error(diff)
	}
	if !c.Signer.Equal(testKey().Public()) || !c.Made.Equal(time.Unix(1, 2)) {
		t.Errorf("%x, %v", c.Signer, c.Made)
	}
	if len(b) > 11<<20 { // 9 MiB are random
		t.Errorf("%d bytes", len(b))
	}
}

// TestWriterRefuses: what could not be read is not written.
func TestWriterRefuses(t *testing.T) {
	for name, do := range map[string]func(w *Writer) error{
		"a path":           func(w *Writer) error { return w.Record("../spec", nil) },
		"no name":          func(w *Writer) error { return w.Section("") },
		"a long name":      func(w *Writer) error { return w.Blob(strings.Repeat("x", nameMax+1), nil) },
		"no text":          func(w *Writer) error { return w.Blob("\xff", nil) },
		"a large record":   func(w *Writer) error { return w.Record("x", make([]byte, recordMax+1)) },
		"twice":            func(w *Writer) error { return errors.Join(w.Blob("x", nil), w.Blob("x", nil)) },
		"backwards":        func(w *Writer) error { return errors.Join(w.Blob("x", nil), w.Record("x", nil)) },
		"pages of nothing": func(w *Writer) error { return w.Run(0, make([]byte, PageSize)) },
		"pages over pages": func(w *Writer) error {
			return errors.Join(w.Section("s"), w.Run(0, make([]byte, 2*PageSize)), w.Run(PageSize, make([]byte, PageSize)))
		},
		"half a page":  func(w *Writer) error { return errors.Join(w.Section("s"), w.Run(0, make([]byte, PageSize/2))) },
		"a large run":  func(w *Writer) error { return errors.Join(w.Section("s"), w.Run(0, make([]byte, RunMax+PageSize))) },
		"pages beyond": func(w *Writer) error { return errors.Join(w.Section("s"), w.Run(SectionMax, make([]byte, PageSize))) },
		"pages before": func(w *Writer) error { return errors.Join(w.Section("s"), w.Run(-PageSize, make([]byte, PageSize))) },
	} {
		w, err := NewWriter(io.Discard, testKey(), time.Now(), sample().Info)
		must(t, err)
		if err := do(w); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewWriter(io.Discard, testKey(), time.Now(), Info{Workload: "a/b", Generation: 1}); !errors.Is(err, ErrFormat) {
		t.Errorf("a workload that is a path: %v", err)
	}
}

// small is a file that can be tried bit by bit.
func small(t testing.TB) []byte {
	c := sample()
	c.Records[1].Data, c.Blobs[1].Data, c.Blobs[2].Data = []byte("x"), random(100), nil
	c.Sections[1].Runs = c.Sections[1].Runs[1:2]
	return write(t, c)
}

// TestFlips: a file of which one bit is another one is refused before anything
// in it is acted on.
func TestFlips(t *testing.T) {
	b := small(t)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := Check(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrVersion) {
			t.Fatalf("bit %d: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// TestCuts: so is one that was cut, anywhere, or has more behind it.
func TestCuts(t *testing.T) {
	b := small(t)
	for n := range len(b) {
		if _, err := Check(bytes.NewReader(b[:n]), int64(n)); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	b = append(b, 0)
	if _, err := Check(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrSignature) {
		t.Errorf("one more: %v", err)
	}
}

// TestChanged: a file that is exchanged after its signature was broken is
// noticed at the end of the reading at the latest.
func TestChanged(t *testing.T) {
	b := small(t)
	c, err := Check(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	for i := headSize; i < len(b)-ed25519.SignatureSize; i++ {
		b[i] ^= 1
		if err := c.Read(&keep{}); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("byte %d: %v", i, err)
		}
		b[i] ^= 1
	}
	b[headSize-1] ^= 1 // a header that nobody looks at again
	if err := c.Read(&keep{}); !errors.Is(err, ErrSignature) {
		t.Errorf("the header: %v", err)
	}
	b[headSize-1] ^= 1
	must(t, c.Read(&keep{}))
	if err := (&Checked{f: bytes.NewReader(b[:len(b)-70]), size: c.size, sum: c.sum}).Read(&keep{}); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSignature) {
		t.Errorf("cut meanwhile: %v", err)
	}
}

// TestSinkSays: the error of a sink ends the reading and comes back.
func TestSinkSays(t *testing.T) {
	b := small(t)
	c, err := Check(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	full := errors.New("full")
	if err := c.Read(&keep{deny: full}); !errors.Is(err, full) {
		t.Error(err)
	}
}

// frame encodes one frame, whatever it says.
func frame(kind, codec byte, size int, p []byte) []byte {
	b := []byte{kind, codec, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, p...)
}

func plain(kind byte, p []byte) []byte { return frame(kind, codecPlain, len(p), p) }

func prefixed(n uint64, p string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), p...)
}

// sign makes a file of frames whose signature is whole.
func sign(t testing.TB, frames ...[]byte) []byte {
	key := testKey()
	b := encodeHead(time.Unix(1, 2), key.Public().(ed25519.PublicKey))
	for _, f := range frames {
		b = append(b, f...)
	}
	sum := sha512.Sum512(b)
	sig, err := key.Sign(nil, sum[:], signing())
	must(t, err)
	return append(b, sig...)
}

// infoOf encodes what a file says of itself.
func infoOf(t testing.TB, i Info) []byte {
	p, err := cbor.Marshal(i)
	must(t, err)
	return p
}

// TestHostile: files whose signer lies. Each is refused by what is wrong with
// it, whatever its lengths say, and with little memory.
func TestHostile(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	must(t, err)
	info := plain(kindInfo, infoOf(t, sample().Info))
	end := plain(kindEnd, nil)
	bomb := z.EncodeAll(make([]byte, 1<<27), nil)
	for name, frames := range map[string][][]byte{
		"nothing":                 {},
		"no info":                 {end},
		"info twice":              {info, info, end},
		"no end":                  {info},
		"more behind the end":     {info, end, end},
		"an end with a payload":   {info, plain(kindEnd, []byte("x"))},
		"an unknown kind":         {info, plain(99, nil), end},
		"kind 0":                  {plain(0, nil), end},
		"an unknown codec":        {info, frame(kindSection, 2, 1, []byte("s")), end},
		"reserved bits":           {info, {kindSection, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 's'}, end},
		"a payload that is cut":   {info, plain(kindSection, []byte("section"))[:14]},
		"a length of 4 GiB":       {info, {kindSection, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}, end},
		"a bomb":                  {info, plain(kindSection, []byte("s")), frame(kindRun, codecZstd, payloadMax, bomb), end},
		"a bomb that says so":     {info, plain(kindSection, []byte("s")), frame(kindRun, codecZstd, 1<<27, bomb), end},
		"less than it says":       {info, frame(kindSection, codecZstd, 1<<20, z.EncodeAll([]byte("s"), nil)), end},
		"no Zstandard":            {info, frame(kindSection, codecZstd, 100, []byte("section")), end},
		"a record that is a path": {info, plain(kindRecord, prefixed(0, "../../etc/x")), end},
		"a workload that is one":  {plain(kindInfo, infoOf(t, Info{Workload: "../x", Generation: 1})), end},
		"info that is no map":     {plain(kindInfo, []byte{0x80}), end},
		"info with 2^32 entries":  {plain(kindInfo, []byte{0xba, 255, 255, 255, 255}), end},
		"a huge blob":             {info, plain(kindBlob, prefixed(1<<63, "b")), end},
		"a large blob, cut":       {info, plain(kindBlob, prefixed(blobMax, "b")), plain(kindPiece, make([]byte, pieceMax)), end},
		"a short piece":           {info, plain(kindBlob, prefixed(10, "b")), plain(kindPiece, make([]byte, 9)), end},
		"a long piece":            {info, plain(kindBlob, prefixed(10, "b")), plain(kindPiece, make([]byte, 11)), end},
		"a piece of nothing":      {info, plain(kindPiece, []byte("x")), end},
		"a blob without a number": {info, plain(kindBlob, []byte("short")), end},
		"blobs backwards":         {info, plain(kindBlob, prefixed(0, "b")), plain(kindBlob, prefixed(0, "a")), end},
		"a record after a blob":   {info, plain(kindBlob, prefixed(0, "b")), plain(kindRecord, prefixed(0, "r")), end},
		"pages of no section":     {info, plain(kindRun, prefixed(0, string(make([]byte, PageSize)))), end},
		"pages at the end":        {info, plain(kindSection, []byte("s")), plain(kindRun, prefixed(SectionMax, string(make([]byte, PageSize)))), end},
		"pages at -4096":          {info, plain(kindSection, []byte("s")), plain(kindRun, prefixed(1<<64-PageSize, string(make([]byte, PageSize)))), end},
		"a page between pages":    {info, plain(kindSection, []byte("s")), plain(kindRun, prefixed(1, string(make([]byte, PageSize)))), end},
		"pages in a loop": {info, plain(kindSection, []byte("s")), plain(kindRun, prefixed(PageSize, string(make([]byte, PageSize)))),
			plain(kindRun, prefixed(0, string(make([]byte, PageSize)))), end},
	} {
		b := sign(t, frames...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := read(b)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s: took %d MiB of memory", name, n>>20)
		}
	}
}

// TestHostileCounts: names without end are refused.
func TestHostileCounts(t *testing.T) {
	frames := [][]byte{plain(kindInfo, infoOf(t, sample().Info))}
	for i := range countMax + 1 {
		frames = append(frames, plain(kindBlob, prefixed(0, fmt.Sprintf("%08d", i))))
	}
	if _, _, err := read(sign(t, append(frames, plain(kindEnd, nil))...)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// TestHostileCuts cuts whole frames away and signs what is left.
func TestHostileCuts(t *testing.T) {
	b := small(t)
	frames := b[headSize : len(b)-ed25519.SignatureSize]
	for at := 0; at < len(frames); at += frameHeadSize + int(binary.LittleEndian.Uint32(frames[at+4:])) {
		if _, _, err := read(sign(t, frames[:at])); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", at, err)
		}
		if at > 0 {
			next := at + frameHeadSize + int(binary.LittleEndian.Uint32(frames[at+4:]))
			if _, _, err := read(sign(t, frames[:at], frames[at:next], frames[at:])); err == nil {
				t.Errorf("the frame at %d twice: no error", at)
			}
		}
	}
}

// counting is a sink that holds nothing.
type counting struct {
	keep
	pages int64
}

func (c *counting) Section(string) error        { return nil }
func (c *counting) Run(_ int64, p []byte) error { c.pages += int64(len(p) / PageSize); return nil }

// TestMemory: neither side holds more than a frame of what goes through it.
func TestMemory(t *testing.T) {
	const runs = 256
	pages := bytes.Repeat(random(PageSize), RunMax/PageSize)
	took := func(what string, do func()) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s %d MiB took %d MiB of memory in all", what, runs*RunMax>>20, n>>20)
		}
	}
	var out bytes.Buffer
	took("writing", func() {
		w, err := NewWriter(&out, testKey(), time.Now(), sample().Info)
		must(t, errors.Join(err, w.Section("mem")))
		for i := range runs {
			must(t, w.Run(int64(i)*RunMax, pages))
		}
		must(t, w.Close())
	})
	took("reading", func() {
		c, err := Check(bytes.NewReader(out.Bytes()), int64(out.Len()))
		must(t, err)
		var sink counting
		must(t, c.Read(&sink))
		if sink.pages != runs*RunMax/PageSize {
			t.Errorf("%d pages", sink.pages)
		}
	})
}

// FuzzBundle reads frames whose signature is whole: what is accepted is in
// order and within its limits, and can be written again as the same.
func FuzzBundle(f *testing.F) {
	for _, b := range [][]byte{small(f), write(f, content{Info: sample().Info})} {
		f.Add(b[headSize : len(b)-ed25519.SignatureSize])
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		k := &keep{}
		if readFrames(bytes.NewReader(frames), k) != nil {
			return
		}
		b := write(t, k.content)
		again := &keep{}
		must(t, readFrames(bytes.NewReader(b[headSize:len(b)-ed25519.SignatureSize]), again))
		if diff := cmp.Diff(k.content, again.content, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzHead accepts nothing that was not written.
func FuzzHead(f *testing.F) {
	f.Add(encodeHead(time.Unix(1, 2), testKey().Public().(ed25519.PublicKey)))
	f.Fuzz(func(t *testing.T, b []byte) {
		made, signer, err := decodeHead(b)
		if err == nil && !slices.Equal(encodeHead(made, signer), b[:headSize]) {
			t.Fatal("two encodings of one header")
		}
	})
}
