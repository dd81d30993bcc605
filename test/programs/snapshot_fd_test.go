//go:build linux

package programs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kcmp's types, see kcmp(2). KCMP_IO is left out: contexts of I/O come into
// being when a disk is first read, and none equals none.
var shareKinds = []struct {
	name string
	kind uintptr
}{{"vm", 1}, {"files", 2}, {"fs", 3}, {"sighand", 4}, {"sysvsem", 6}}

const kcmpFile = 0

// kcmp compares a resource of two processes or threads: 0 is the same, 1 and 2
// are an order, which holds until the next boot.
func kcmp(a, b int, kind, x, y uintptr) (int, error) {
	result, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kind, x, y, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(result), nil
}

// sharing takes down who shares what: tables among processes and among the
// threads of each, open file descriptions among all descriptors.
func (c *collector) sharing(processes []process) {
	for i, p := range processes {
		for _, k := range shareKinds {
			c.shares(strconv.Itoa(p.nspid), k.name, k.kind, p, processes[:i])
			for _, tid := range threads(p.pid) {
				if same, err := kcmp(p.pid, tid, k.kind, 0, 0); err == nil && same != 0 {
					c.add(fmt.Sprintf("%d:%d", p.nspid, c.inside[tid]), "share/"+k.name, "not with its leader")
				}
			}
		}
	}
	c.descriptions(processes)
}

func (c *collector) shares(who, name string, kind uintptr, p process, others []process) {
	for _, other := range others {
		if same, err := kcmp(p.pid, other.pid, kind, 0, 0); err == nil && same == 0 {
			c.add(who, "share/"+name, "with "+strconv.Itoa(other.nspid))
			return
		}
	}
}

// slot is one descriptor of one process.
type slot struct {
	process
	fd int
}

func (s slot) String() string { return fmt.Sprintf("%d/%d", s.nspid, s.fd) }

// descriptions names for every descriptor the first one that has the same open
// file description.
func (c *collector) descriptions(processes []process) {
	var slots []slot
	for _, p := range processes {
		for _, fd := range numbers(proc(p.pid, "fd")) {
			slots = append(slots, slot{p, fd})
		}
	}
	compare := func(a, b slot) int {
		order, err := kcmp(a.pid, b.pid, kcmpFile, uintptr(a.fd), uintptr(b.fd))
		switch {
		case err != nil || order == 0:
			return 0
		case order == 1:
			return -1
		}
		return 1
	}
	slices.SortStableFunc(slots, compare)
	for i := 0; i < len(slots); {
		j := i + 1
		for j < len(slots) && compare(slots[i], slots[j]) == 0 {
			j++
		}
		first := slices.MinFunc(slots[i:j], func(a, b slot) int {
			return (a.nspid-b.nspid)*1000000 + a.fd - b.fd
		})
		for _, s := range slots[i:j] {
			c.add(strconv.Itoa(s.nspid), fmt.Sprintf("fd/%d/same as", s.fd), first.String())
		}
		i = j
	}
}

// descriptors takes down every descriptor of a process: where it leads, its
// fdinfo, and what can be asked of a duplicate of it.
func (c *collector) descriptors(who string, pid int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		c.add(who, "fd", said(err))
		return
	}
	defer unix.Close(pidfd)
	for _, fd := range numbers(proc(pid, "fd")) {
		number := strconv.Itoa(fd)
		link, err := os.Readlink(proc(pid, "fd", number))
		if err != nil {
			continue // closed meanwhile: a later snapshot will tell
		}
		c.add(who, "fd/"+number, c.target(pid, number, link))
		c.fdinfo(who, pid, number)
		if own, err := unix.PidfdGetfd(pidfd, fd, 0); err == nil {
			c.ask(who, "fd/"+number, own)
			unix.Close(own)
		}
	}
}

// target is where a descriptor leads; what has no name of its own by identity.
func (c *collector) target(pid int, fd, link string) string {
	if kind, inode, ok := strings.Cut(link, ":["); ok && !strings.HasPrefix(link, "/") {
		if kind == "anon_inode" {
			return link
		}
		return c.class(kind, inode)
	}
	if strings.HasSuffix(link, " (deleted)") {
		var st unix.Stat_t
		if unix.Stat(proc(pid, "fd", fd), &st) == nil {
			link += " " + c.class("object", fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino))
		}
	}
	return link
}

// fdinfo takes down /proc/PID/fdinfo/FD, see proc_pid_fdinfo(5).
func (c *collector) fdinfo(who string, pid int, fd string) {
	text, err := os.ReadFile(proc(pid, "fdinfo", fd))
	if err != nil {
		return
	}
	what := "fdinfo/" + fd + "/"
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		key, value := strings.TrimSuffix(fields[0], ":"), strings.Join(fields[1:], " ")
		switch key {
		case "tfd": // tfd: 5 events: 19 data: 5 pos:0 ino:61 sdev:7
			key, value = "tfd "+fields[1], withoutInodes(fields[2:])
		case "inotify": // inotify wd:1 ino:2 sdev:3 mask:100 ignored_mask:0 fhandle-...
			key, value = "inotify "+fields[1], withoutInodes(fields[2:])
		case "lock": // lock: 1: POSIX ADVISORY WRITE 4711 fe:00:99 10 29
			if len(fields) == 9 {
				key, value = "lock "+strings.Join(append(fields[2:5:5], fields[7:]...), " "), c.translate(fields[5])
			}
		case "Pid":
			value = c.translate(value)
		case "NSpid":
			value = strconv.Itoa(innermost(value))
		}
		c.add(who, what+key, value)
	}
}

// withoutInodes drops the fields that are numbers of inodes or hold them.
func withoutInodes(fields []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(fields), func(f string) bool {
		return strings.HasPrefix(f, "ino:") || strings.HasPrefix(f, "sdev:") || strings.HasPrefix(f, "fhandle-") ||
			strings.HasPrefix(f, "f_handle:")
	}), " ")
}

// ask takes down what a duplicate of a descriptor answers to.
func (c *collector) ask(who, what string, fd int) {
	for _, q := range []struct {
		name    string
		command int
	}{{"owner", unix.F_GETOWN}, {"signal", unix.F_GETSIG}, {"lease", unix.F_GETLEASE}, {"pipe size", unix.F_GETPIPE_SZ}, {"seals", unix.F_GET_SEALS}} {
		n, err := unix.FcntlInt(uintptr(fd), q.command, 0)
		if err != nil {
			continue
		}
		value := strconv.Itoa(n)
		if q.command == unix.F_GETOWN {
			value = c.translate(value)
		}
		c.add(who, what+"/"+q.name, value)
	}
	var st unix.Stat_t // of a regular file it is only what lies behind its position
	regular := unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
	if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && !regular {
		c.add(who, what+"/readable", strconv.Itoa(n))
	}
	if termios, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		c.add(who, what+"/termios", fmt.Sprintf("%+v", *termios))
	}
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
		c.add(who, what+"/window", fmt.Sprintf("%+v", *size))
	}
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
		c.add(who, what+"/foreground", c.translate(strconv.Itoa(group)))
	}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil {
		c.socket(who, what, fd, domain)
	}
}

// option is a socket option whose value is an int.
type option struct {
	name         string
	level, value int
}

var socketOptions = []option{
	{"SO_TYPE", unix.SOL_SOCKET, unix.SO_TYPE}, {"SO_PROTOCOL", unix.SOL_SOCKET, unix.SO_PROTOCOL},
	{"SO_ACCEPTCONN", unix.SOL_SOCKET, unix.SO_ACCEPTCONN}, {"SO_BROADCAST", unix.SOL_SOCKET, unix.SO_BROADCAST},
	{"SO_DEBUG", unix.SOL_SOCKET, unix.SO_DEBUG}, {"SO_DONTROUTE", unix.SOL_SOCKET, unix.SO_DONTROUTE},
	{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK},
	{"SO_NO_CHECK", unix.SOL_SOCKET, unix.SO_NO_CHECK}, {"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE},
	{"SO_PASSCRED", unix.SOL_SOCKET, unix.SO_PASSCRED}, {"SO_PASSSEC", unix.SOL_SOCKET, unix.SO_PASSSEC},
	{"SO_PEEK_OFF", unix.SOL_SOCKET, unix.SO_PEEK_OFF}, {"SO_PRIORITY", unix.SOL_SOCKET, unix.SO_PRIORITY},
	{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF}, {"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT},
	{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR}, {"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT},
	{"SO_RXQ_OVFL", unix.SOL_SOCKET, unix.SO_RXQ_OVFL}, {"SO_SELECT_ERR_QUEUE", unix.SOL_SOCKET, unix.SO_SELECT_ERR_QUEUE},
	{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF}, {"SO_TIMESTAMP", unix.SOL_SOCKET, unix.SO_TIMESTAMP},
	{"SO_TIMESTAMPNS", unix.SOL_SOCKET, unix.SO_TIMESTAMPNS}, {"SO_WIFI_STATUS", unix.SOL_SOCKET, unix.SO_WIFI_STATUS},
	{"SO_ZEROCOPY", unix.SOL_SOCKET, unix.SO_ZEROCOPY}, {"SO_BUSY_POLL", unix.SOL_SOCKET, unix.SO_BUSY_POLL},
	{"SO_LOCK_FILTER", unix.SOL_SOCKET, unix.SO_LOCK_FILTER}, {"SO_BUF_LOCK", unix.SOL_SOCKET, unix.SO_BUF_LOCK},
	{"SO_TXREHASH", unix.SOL_SOCKET, unix.SO_TXREHASH}, {"SO_RESERVE_MEM", unix.SOL_SOCKET, unix.SO_RESERVE_MEM},
}

var inetOptions = []option{
	{"IP_TOS", unix.IPPROTO_IP, unix.IP_TOS}, {"IP_TTL", unix.IPPROTO_IP, unix.IP_TTL},
	{"IP_FREEBIND", unix.IPPROTO_IP, unix.IP_FREEBIND}, {"IP_TRANSPARENT", unix.IPPROTO_IP, unix.IP_TRANSPARENT},
	{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}, {"IP_RECVERR", unix.IPPROTO_IP, unix.IP_RECVERR},
	{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO}, {"IP_RECVTOS", unix.IPPROTO_IP, unix.IP_RECVTOS},
	{"IP_RECVTTL", unix.IPPROTO_IP, unix.IP_RECVTTL}, {"IP_MINTTL", unix.IPPROTO_IP, unix.IP_MINTTL},
	{"IP_BIND_ADDRESS_NO_PORT", unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT},
	{"IP_MULTICAST_TTL", unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}, {"IP_MULTICAST_LOOP", unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP},
	{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, {"IPV6_UNICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, {"IPV6_TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	{"IPV6_FREEBIND", unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}, {"IPV6_DONTFRAG", unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG},
	{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY}, {"TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG},
	{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK}, {"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	{"TCP_SYNCNT", unix.IPPROTO_TCP, unix.TCP_SYNCNT}, {"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2},
	{"TCP_DEFER_ACCEPT", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}, {"TCP_WINDOW_CLAMP", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP},
	{"TCP_QUICKACK", unix.IPPROTO_TCP, unix.TCP_QUICKACK}, {"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{"TCP_FASTOPEN", unix.IPPROTO_TCP, unix.TCP_FASTOPEN}, {"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
	{"TCP_SAVE_SYN", unix.IPPROTO_TCP, unix.TCP_SAVE_SYN}, {"TCP_THIN_LINEAR_TIMEOUTS", unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS},
	{"UDP_CORK", unix.IPPROTO_UDP, 1}, {"UDP_SEGMENT", unix.IPPROTO_UDP, unix.UDP_SEGMENT}, {"UDP_GRO", unix.IPPROTO_UDP, unix.UDP_GRO},
}

// socket takes down a socket's addresses and every option that it knows.
func (c *collector) socket(who, what string, fd, domain int) {
	c.add(who, what+"/domain", strconv.Itoa(domain))
	options := socketOptions
	if domain == unix.AF_INET || domain == unix.AF_INET6 {
		options = append(slices.Clone(options), inetOptions...)
	}
	for _, o := range options {
		if n, err := unix.GetsockoptInt(fd, o.level, o.value); err == nil {
			c.add(who, what+"/"+o.name, strconv.Itoa(n))
		}
	}
	for name, number := range map[string]int{"SO_RCVTIMEO": unix.SO_RCVTIMEO, "SO_SNDTIMEO": unix.SO_SNDTIMEO} {
		if limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, number); err == nil {
			c.add(who, what+"/"+name, fmt.Sprint(*limit))
		}
	}
	if device, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil {
		c.add(who, what+"/SO_BINDTODEVICE", device)
	}
	if name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err == nil {
		c.add(who, what+"/TCP_CONGESTION", name)
	}
	if peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && domain == unix.AF_UNIX {
		c.add(who, what+"/SO_PEERCRED", fmt.Sprintf("pid %s uid %d gid %d", c.translate(strconv.Itoa(int(peer.Pid))), peer.Uid, peer.Gid))
	}
	if name, err := unix.Getsockname(fd); err == nil {
		c.add(who, what+"/name", address(name))
	}
	if name, err := unix.Getpeername(fd); err == nil {
		c.add(who, what+"/peer", address(name))
	}
}

func address(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%v:%d", sa.Addr, sa.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%x]:%d", sa.Addr, sa.Port)
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return fmt.Sprintf("%T", sa)
}
