// Package sockdiag asks the kernel for what /proc does not say of its sockets.
package sockdiag

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// UnixTable is what sock_diag(7) says of the UNIX sockets of this
// network namespace, by inode.
type UnixTable struct {
	Peer     map[uint64]uint64
	Waiting  map[uint64][]uint64 // listening: connections not yet accepted
	Backlog  map[uint64]int      // of listening sockets
	Shutdown map[uint64]int      // 1 receiving, 2 sending, 3 both
	File     map[uint64]uint64   // inode of the file that a socket is bound to, the low 32 bits
}

// Constants of include/uapi/linux/unix_diag.h.
const (
	sockDiagByFamily = 20
	udiagShowVFS     = 0x2
	udiagShowPeer    = 0x4
	udiagShowIcons   = 0x8
	udiagShowRqlen   = 0x10
	unixDiagVFS      = 1
	unixDiagPeer     = 2
	unixDiagIcons    = 3
	unixDiagRqlen    = 4
	unixDiagShutdown = 6
)

// Unix asks the kernel for all UNIX sockets.
func Unix() (*UnixTable, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer conn.Close()
	req := make([]byte, 24) // struct unix_diag_req
	req[0] = unix.AF_UNIX
	binary.LittleEndian.PutUint32(req[4:], 0xffffffff)
	binary.LittleEndian.PutUint32(req[12:], udiagShowVFS|udiagShowPeer|udiagShowIcons|udiagShowRqlen)
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: req})
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	t := &UnixTable{Peer: map[uint64]uint64{}, Waiting: map[uint64][]uint64{}, Backlog: map[uint64]int{}, Shutdown: map[uint64]int{},
		File: map[uint64]uint64{}}
	for _, m := range msgs {
		if len(m.Data) >= 16 { // struct unix_diag_msg
			t.add(uint64(binary.LittleEndian.Uint32(m.Data[4:])), m.Data[16:])
		}
	}
	return t, nil
}

func (t *UnixTable) add(ino uint64, attrs []byte) {
	ad, err := netlink.NewAttributeDecoder(attrs)
	if err != nil {
		return
	}
	for ad.Next() {
		switch b := ad.Bytes(); ad.Type() {
		case unixDiagVFS: // struct unix_diag_vfs: inode, device
			if len(b) >= 8 {
				t.File[ino] = uint64(binary.LittleEndian.Uint32(b))
			}
		case unixDiagPeer:
			if len(b) >= 4 {
				t.Peer[ino] = uint64(binary.LittleEndian.Uint32(b))
			}
		case unixDiagIcons:
			for ; len(b) >= 4; b = b[4:] {
				t.Waiting[ino] = append(t.Waiting[ino], uint64(binary.LittleEndian.Uint32(b)))
			}
		case unixDiagRqlen:
			if len(b) >= 8 {
				t.Backlog[ino] = int(binary.LittleEndian.Uint32(b[4:]))
			}
		case unixDiagShutdown:
			if len(b) >= 1 {
				t.Shutdown[ino] = int(b[0])
			}
		}
	}
}
