// Package store keeps the generations of workloads: it knows bytes, not
// processes.
//
// A workload is a directory. A generation is a manifest in it that names
// blobs (small values) and sections (sparse arrays of 4 KiB pages). A section
// is a copy-on-write radix tree over page numbers whose leaves hold the
// identity of each page and the place where it lies; pages and tree nodes lie
// in packs, which are written once and never changed. A generation that
// inherits a section shares all of its parent's tree that it does not touch,
// so it costs what changed, and still each generation has a full index of its
// own: none needs another one to be restored.
//
//	DIR/workload      what this directory is: a record with its random id
//	DIR/lock          locked by the one writer
//	DIR/state         record: epoch, and the highest generation number tried
//	DIR/records/NAME  records of the owner's
//	DIR/packs/gN.I    pack I of generation N
//	DIR/manifests/gN  generation N
//
// The owner may keep other files in DIR. The encodings are specified in
// doc/format.md and where they are written: envelope.go (records and
// manifests), manifest.go, pack.go, node.go.
package store
