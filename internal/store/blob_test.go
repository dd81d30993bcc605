package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// TestBlobByContent puts a line into a long list: what follows it has moved,
// and is not stored again.
func TestBlobByContent(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	var list []byte
	for i := range 100_000 {
		list = fmt.Appendf(list, "line %d %x\n", i, i*i*i)
	}
	longer := append([]byte("one more\n"), list...)
	parent := Generation(0)
	var sizes []int64
	for _, data := range [][]byte{list, longer, longer[:20], list} {
		d, err := w.Begin(parent)
		must(t, err)
		must(t, d.Blob("list", data))
		info, err := d.Commit(context.Background(), CommitInfo{})
		must(t, err)
		parent, sizes = info.Generation, append(sizes, info.NewBytes)
		r, err := w.OpenGeneration(parent)
		must(t, err)
		got, err := r.Blob("list")
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%v: the blob differs", parent)
		}
		must(t, r.Close())
	}
	if sizes[1] > sizes[0]/5 {
		t.Errorf("one more line takes %d, the list took %d", sizes[1], sizes[0])
	}
	if sizes[3] < sizes[0]/2 {
		t.Errorf("the list takes %d where nothing is known of it", sizes[3])
	}
}

// TestBlobTwice stores what lies in a blob twice once, as the images of
// processes that were forked do, and counts it once.
func TestBlobTwice(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	half := bytes.Repeat(page(2), 1)
	for i := range 500 {
		half = append(half, page(2*i)...)
	}
	data := slices.Concat(half, half, half)
	for parent := range Generation(3) {
		d, err := w.Begin(parent)
		must(t, err)
		must(t, d.Blob("tree", data))
		info, err := d.Commit(context.Background(), CommitInfo{})
		must(t, err)
		if info.NewBytes > int64(len(half)+len(half)/2) {
			t.Errorf("%v: %d bytes are stored of %d that come thrice", info.Generation, info.NewBytes, len(half))
		}
		r, err := w.OpenGeneration(info.Generation)
		must(t, err)
		got, err := r.Blob("tree")
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%v: the blob differs", info.Generation)
		}
		must(t, r.Close())
	}
}
