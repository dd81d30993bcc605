package vmtest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The NBD protocol, as far as QEMU speaks it to a disk: fixed newstyle
// negotiation and simple replies. See doc/proto.md of
// github.com/NetworkBlockDevice/nbd. All numbers are big endian.
const (
	nbdMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOption      = 0x49484156454f5054 // "IHAVEOPT"
	nbdOptionReply = 0x3e889045565a9
	nbdRequest     = 0x25609513
	nbdReply       = 0x67446698

	nbdFixed, nbdNoZeroes             = 1, 2    // flags of the server
	nbdHasFlags, nbdHasFlush, nbdFUAs = 1, 4, 8 // flags of the disk
	nbdFUA                            = 1       // flag of a request

	nbdOptAbort, nbdOptInfo, nbdOptGo  = 2, 6, 7
	nbdAck, nbdInfo, nbdUnsupported    = 1, 3, 1<<31 + 1
	nbdInfoExport, nbdInfoBlock        = 0, 3
	nbdRead, nbdWrite, nbdEnd, nbdSync = 0, 1, 2, 3

	nbdOptionMax  = 4 << 10
	nbdRequestMax = 32 << 20

	nbdEIO = 5
)

// outlet is where a disk is plugged in: a socket, until it is pulled.
type outlet struct {
	disk     *Disk
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	pulled bool
	err    error // the first that the machine did not cause
}

// plug serves the disk on a UNIX socket.
func (d *Disk) plug(socket string) (*outlet, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	o := &outlet{disk: d, listener: l, conns: map[net.Conn]bool{}}
	o.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.done.Go(func() { o.serve(c) })
		}
	})
	return o, nil
}

// pull ends the service; afterwards the disk does nothing more.
func (o *outlet) pull() error {
	o.listener.Close()
	o.mu.Lock()
	o.pulled = true
	for c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.done.Wait()
	return o.err
}

func (o *outlet) serve(c net.Conn) {
	defer c.Close()
	o.mu.Lock()
	o.conns[c] = true
	if o.pulled {
		c.Close()
	}
	o.mu.Unlock()
	s := session{disk: o.disk, r: bufio.NewReaderSize(c, 1<<20), w: c}
	err := s.greet()
	for err == nil {
		err = s.next()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var netErr net.Error
	gone := o.pulled || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr)
	if o.err == nil && !gone {
		o.err = fmt.Errorf("nbd: %w", err)
	}
}

// session is one connection.
type session struct {
	disk *Disk
	r    *bufio.Reader
	w    io.Writer
}

func (s *session) send(fields ...any) error {
	var p []byte
	for _, f := range fields {
		p, _ = binary.Append(p, binary.BigEndian, f) // fixed sizes
	}
	_, err := s.w.Write(p)
	return err
}

func (s *session) receive(v any) error { return binary.Read(s.r, binary.BigEndian, v) }

// greet goes through the negotiation until the client asks for the disk.
func (s *session) greet() error {
	if err := s.send(uint64(nbdMagic), uint64(nbdOption), uint16(nbdFixed|nbdNoZeroes)); err != nil {
		return err
	}
	var flags uint32
	if err := s.receive(&flags); err != nil {
		return err
	}
	for {
		var head struct {
			Magic        uint64
			Option, Size uint32
		}
		if err := s.receive(&head); err != nil {
			return err
		}
		if head.Magic != nbdOption || head.Size > nbdOptionMax {
			return fmt.Errorf("option %+v", head)
		}
		if _, err := s.r.Discard(int(head.Size)); err != nil {
			return err
		}
		done, err := s.answer(head.Option)
		if done || err != nil {
			return err
		}
	}
}

// answer answers one option; done says that requests follow.
func (s *session) answer(option uint32) (done bool, err error) {
	reply := func(kind uint32, fields ...any) error {
		size := 0
		for _, f := range fields {
			size += binary.Size(f)
		}
		return s.send(append([]any{uint64(nbdOptionReply), option, kind, uint32(size)}, fields...)...)
	}
	switch option {
	case nbdOptInfo, nbdOptGo:
		disk := uint16(nbdHasFlags | nbdHasFlush | nbdFUAs)
		return option == nbdOptGo, errors.Join(
			reply(nbdInfo, uint16(nbdInfoExport), uint64(s.disk.size), disk),
			reply(nbdInfo, uint16(nbdInfoBlock), uint32(sectorSize), uint32(4096), uint32(nbdRequestMax)),
			reply(nbdAck))
	case nbdOptAbort:
		return false, errors.Join(reply(nbdAck), io.EOF)
	}
	return false, reply(nbdUnsupported)
}

// next serves one request. The next one waits: a disk that has stopped at one
// stays so.
func (s *session) next() error {
	var q struct {
		Magic       uint32
		Flags, Type uint16
		Cookie      uint64
		Offset      uint64
		Size        uint32
	}
	if err := s.receive(&q); err != nil {
		return err
	}
	at, size := int64(q.Offset), int64(q.Size)
	if q.Magic != nbdRequest || size > nbdRequestMax || at%sectorSize != 0 || size%sectorSize != 0 || at < 0 || at > s.disk.size-size {
		return fmt.Errorf("request %+v", q)
	}
	ok, fault, data := true, uint32(0), []byte(nil)
	switch q.Type {
	case nbdEnd:
		return io.EOF
	case nbdRead:
		data = make([]byte, size)
		if err := s.disk.read(data, at); err != nil {
			data, fault = nil, nbdEIO
		}
	case nbdWrite:
		p := make([]byte, size)
		if _, err := io.ReadFull(s.r, p); err != nil {
			return err
		}
		ok = s.disk.write(p, at, q.Flags&nbdFUA != 0)
	case nbdSync:
		ok = s.disk.flush()
	default:
		return fmt.Errorf("request %+v", q)
	}
	if !ok {
		_, err := io.Copy(io.Discard, s.r) // until the machine is gone
		return errors.Join(err, io.EOF)
	}
	return s.send(uint32(nbdReply), fault, q.Cookie, data)
}
