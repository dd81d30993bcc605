package durable

// memory is what changes are kept in, and what is used again from one transaction
// to the next. Records and entries are cut of larger pieces: they are small, there
// are many of them, and all of a time go with one checkpoint.
type memory struct {
	records []byte    // what is left of a piece
	entries []entry   // what is left of a piece
	arena   []byte    // for what a transaction puts
	pieces  []changes // for its changes
}

const (
	recordsPiece = 8 << 10 // bytes
	entriesPiece = 32
	arenaMax     = 1 << 20 // of what is kept for the next transaction, in bytes
)

// lend gives a transaction what it may use until it has ended.
func (m *memory) lend(tx *Tx) {
	tx.arena, tx.writes.pieces = m.arena[:0], m.pieces[:0]
	m.arena, m.pieces = nil, nil
}

// back takes it back. The record has a copy of what was put.
func (m *memory) back(tx *Tx) {
	if cap(tx.arena) > arenaMax {
		return
	}
	m.arena = tx.arena
	if m.pieces = tx.writes.pieces; len(m.pieces) > 0 {
		m.pieces = m.pieces[:1]
		clear(m.pieces[0])
		m.pieces[0] = m.pieces[0][:0]
	}
}

// record makes the log's record of all changes, and entries in its memory.
func (m *memory) record(w *writes) (record []byte, entries []entry) {
	n := 1 + w.bytes
	alone := n > recordsPiece/2
	switch {
	case alone:
		record = make([]byte, 0, n)
	case n > cap(m.records):
		record = make([]byte, 0, recordsPiece)
	default:
		record = m.records[:0]
	}
	record = append(record, recordChanges)
	entries = m.some()
	for _, piece := range w.pieces {
		for _, c := range piece {
			at := len(record)
			record = appendChange(record, c)
			c.key, c.value = within(record[at:], c)
			entries = append(entries, entry{change: c})
		}
	}
	if n := len(record); !alone {
		m.records, record = record[n:], record[:n:n]
	}
	return record, m.took(entries)
}

// parse reads a record. The entries are parts of it.
func (m *memory) parse(record []byte) ([]entry, error) {
	entries := m.some()
	err := parseRecord(record, func(c change) { entries = append(entries, entry{change: c}) })
	return m.took(entries), err
}

// some is an empty list of entries, with room for some.
func (m *memory) some() []entry {
	if cap(m.entries) == 0 {
		m.entries = make([]entry, 0, entriesPiece)
	}
	return m.entries
}

// took sets a list apart, if it had room.
func (m *memory) took(list []entry) []entry {
	if n := len(list); n <= cap(m.entries) {
		m.entries, list = list[n:n:cap(list)], list[:n:n]
	}
	return list
}
