package durable

// memory is what transactions are made in, used again from one to the next.
type memory struct {
	arena  []byte    // for what is put
	pieces []changes // of it
	buffer []byte    // for the record
	list   changes   // what is in the record
}

// memoryMax is the largest that is kept for the next transaction, in bytes.
const memoryMax = 1 << 20

// lend gives a transaction what it may use until it has ended.
func (m *memory) lend(tx *Tx) {
	tx.arena, tx.writes.pieces = m.arena[:0], m.pieces[:0]
	m.arena, m.pieces = nil, nil
}

// back takes it back: others have copies of all that was put.
func (m *memory) back(tx *Tx) {
	if cap(tx.arena) > memoryMax {
		m.buffer, m.list = nil, nil
		return
	}
	m.arena = tx.arena
	if m.pieces = tx.writes.pieces; len(m.pieces) > 0 {
		m.pieces = m.pieces[:1]
		m.pieces[0] = m.pieces[0][:0]
	}
}

// record makes the log's record of all changes, and a list of them. Both are good
// until the next one.
func (m *memory) record(w *writes) ([]byte, changes) {
	m.buffer, m.list = append(m.buffer[:0], recordChanges), m.list[:0]
	for _, piece := range w.pieces {
		for _, c := range piece {
			m.buffer = appendChange(m.buffer, c)
		}
		m.list = append(m.list, piece...)
	}
	return m.buffer, m.list
}

// parse reads a record. The list is good until the next one; what is in it is a
// part of the record.
func (m *memory) parse(record []byte) (changes, error) {
	m.list = m.list[:0]
	err := parseRecord(record, func(c change) { m.list = append(m.list, c) })
	return m.list, err
}
