package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// raftEngine is one node of hashicorp/raft on raft-wal, whose state is a map.
type raftEngine struct {
	node *raft.Raft
	log  *wal.WAL
	meta *metadb.BoltMetaDB // of the log, which does not close it
	fsm  *raftMap
}

func openRaft(dir string, _ int) (engine, error) {
	c := raft.DefaultConfig()
	c.LocalID, c.LogOutput, c.Logger = "one", io.Discard, hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 10*time.Millisecond, 10*time.Millisecond, 10*time.Millisecond
	c.BatchApplyCh, c.MaxAppendEntries = true, 1024
	c.SnapshotThreshold, c.SnapshotInterval = 1<<40, time.Hour // only when it is asked to
	c.NoLegacyTelemetry = true

	logDir := filepath.Join(dir, "log")
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, err
	}
	meta := &metadb.BoltMetaDB{}
	log, err := wal.Open(logDir, wal.WithLogger(hclog.NewNullLogger()), wal.WithMetaStore(meta))
	if err != nil {
		return nil, err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	addr, transport := raft.NewInmemTransport("one")
	known, err := raft.HasExistingState(log, log, snaps)
	if err == nil && !known {
		err = raft.BootstrapCluster(c, log, log, snaps, transport,
			raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}})
	}
	if err != nil {
		return nil, err
	}
	r := &raftEngine{log: log, meta: meta, fsm: &raftMap{items: map[string][]byte{}}}
	if r.node, err = raft.NewRaft(c, r.fsm, log, log, snaps, transport); err != nil {
		return nil, err
	}
	for lead := range r.node.LeaderCh() {
		if lead {
			break
		}
	}
	return r, r.node.Barrier(0).Error() // the log is applied
}

func (r *raftEngine) Put(key string, value []byte) error {
	return r.node.Apply(appendPair(nil, key, value), 0).Error()
}

func (r *raftEngine) Get(key string) ([]byte, error) {
	r.fsm.mu.RLock()
	defer r.fsm.mu.RUnlock()
	return r.fsm.items[key], nil
}

func (r *raftEngine) Load(pairs iter.Seq2[string, []byte]) error {
	for list := range batches(pairs, 1000) {
		var command []byte
		for _, p := range list {
			command = appendPair(command, p.key, p.value)
		}
		if err := r.node.Apply(command, 0).Error(); err != nil {
			return err
		}
	}
	return nil
}

func (r *raftEngine) Scan() (int, error) {
	r.fsm.mu.RLock()
	defer r.fsm.mu.RUnlock()
	return len(r.fsm.items), nil
}

func (r *raftEngine) Checkpoint() error { return r.node.Snapshot().Error() }

func (r *raftEngine) Close() error {
	return errors.Join(r.node.Shutdown().Error(), r.log.Close(), r.meta.Close())
}

// raftMap is the state machine.
type raftMap struct {
	mu    sync.RWMutex // of items
	items map[string][]byte
}

// appendPair adds one change to a command.
func appendPair(b []byte, key string, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// put obeys a command, whose memory it keeps.
func (m *raftMap) put(command []byte) {
	next := func() []byte {
		n, w := binary.Uvarint(command)
		field := command[w : w+int(n)]
		command = command[w+int(n):]
		return field
	}
	for len(command) > 0 {
		key := string(next())
		m.items[key] = next()
	}
}

func (m *raftMap) Apply(l *raft.Log) any {
	return m.ApplyBatch([]*raft.Log{l})[0]
}

func (m *raftMap) ApplyBatch(logs []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			m.put(l.Data)
		}
	}
	return make([]any, len(logs))
}

// Snapshot copies the map: what it refers to is never changed.
func (m *raftMap) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return raftSnapshot(maps.Clone(m.items)), nil
}

// Restore reads commands, each with its length before it.
func (m *raftMap) Restore(r io.ReadCloser) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = map[string][]byte{}
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return r.Close()
		} else if err != nil {
			return err
		}
		command := make([]byte, binary.LittleEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, command); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		m.put(command)
	}
}

type raftSnapshot map[string][]byte

func (s raftSnapshot) Persist(sink raft.SnapshotSink) error {
	command := make([]byte, 4, 1<<20)
	flush := func() error {
		binary.LittleEndian.PutUint32(command, uint32(len(command)-4))
		_, err := sink.Write(command)
		command = command[:4]
		return err
	}
	for k, v := range s {
		if command = appendPair(command, k, v); len(command) > 1<<19 {
			if err := flush(); err != nil {
				return errors.Join(err, sink.Cancel())
			}
		}
	}
	if err := flush(); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (raftSnapshot) Release() {}
