package main

// savedRow is a line of README's table of what can be saved, and a Python
// program that shows it: it makes the thing, calls cut(), and looks whether
// the thing is still what it was.
type savedRow struct {
	what    string // in the table
	how     string // in the table: what comes back, or what to do instead
	refused string // empty: it is saved; else what the refusal says
	program string
}

// savedPrelude begins every program. cut() returns when the program has been
// killed and brought back, or, for what cannot be saved, was refused. C is the
// C library.
const savedPrelude = `
import ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, struct, sys, threading, time
C = ctypes.CDLL(None, use_errno=True)
def cut():
    print("ready", flush=True)
    while not os.path.exists("gate"): time.sleep(0.01)
def same(what, was, now):
    assert was == now, (what, was, now)
`

var savedRows = []savedRow{
	{what: "process trees with their PIDs, sessions and groups, also zombies", how: "the same numbers", program: `
kid = os.fork()
if kid == 0:
    os.setsid()
    while not os.path.exists("gate"): time.sleep(0.01)
    os._exit(7 if os.getsid(0) == os.getpid() else 1)
zombie = os.fork()
if zombie == 0: os._exit(5)
while "\tZ" not in [l for l in open(f"/proc/{zombie}/status") if l.startswith("State")][0]: pass
me = os.getpid()
cut()
same("pid", me, os.getpid())
same("child", 7, os.waitstatus_to_exitcode(os.waitpid(kid, 0)[1]))
same("zombie", 5, os.waitstatus_to_exitcode(os.waitpid(zombie, 0)[1]))
`},
	{what: "threads, locks and thread-local storage", how: "the same TIDs", program: `
local, lock, tids, back = threading.local(), threading.Lock(), [], []
lock.acquire()
def work():
    local.x = threading.get_native_id()
    tids.append(local.x)
    with lock: back.append(local.x == threading.get_native_id())
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
while len(tids) < 8: time.sleep(0.01)
cut()
lock.release()
for t in threads: t.join()
same("threads", [True]*8, back)
`},
	{what: "memory: private, shared, of files, memfd; registers", how: "to the byte", program: `
import hashlib
private = bytearray(os.urandom(8 << 20))
shared = mmap.mmap(-1, 1 << 20)
shared[:] = os.urandom(1 << 20)
fd = os.memfd_create("x")
os.ftruncate(fd, 1 << 20)
mem = mmap.mmap(fd, 1 << 20)
mem[:] = os.urandom(1 << 20)
open("file", "wb").write(os.urandom(1 << 20))
of = open("file", "r+b")
mapped = mmap.mmap(of.fileno(), 1 << 20)
mapped[:4096] = os.urandom(4096)
kid = os.fork()
def sums(): return [hashlib.sha256(bytes(x)).hexdigest() for x in (private, shared, mem, mapped)]
was = sums()
if kid == 0:
    while not os.path.exists("gate"): time.sleep(0.01)
    shared[0] ^= 255
    os._exit(0)
cut()
os.waitpid(kid, 0)
shared[0] ^= 255
same("sums", was, sums())
`},
	{what: "signals: handlers, masks, what is pending", how: "as they were", program: `
got = []
signal.signal(signal.SIGUSR1, lambda s, f: got.append(s))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR1)
cut()
same("pending", {signal.SIGUSR1}, signal.sigpending())
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
same("got", [signal.SIGUSR1], got)
`},
	{what: "timers and sleeping calls", how: "they wake at their time; the time off does not count, but to a timer descriptor that waits for a time of day", program: `
fired = []
signal.signal(signal.SIGALRM, lambda s, f: fired.append(s))
begin = time.monotonic()
signal.setitimer(signal.ITIMER_REAL, 0.5)
slept = []
def nap():
    time.sleep(0.5)
    slept.append(time.monotonic() - begin)
t = threading.Thread(target=nap)
t.start()
cut()
t.join()
time.sleep(0.3)
assert fired and 0.49 < slept[0] < 20, (fired, slept)
`},
	{what: "open files, their positions, deleted files, directories", how: "files open for writing and --data directories have the generation's contents", program: `
f = open("kept", "w+")
f.write("before")
f.flush()
gone = open("gone", "w+")
gone.write("deleted")
gone.flush()
os.unlink("gone")
d = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
print("ready", flush=True)
while not os.path.exists("gate"):
    f.write("x") # goes on after the checkpoint; a restore takes it back
    f.flush()
    time.sleep(0.01)
same("position", os.stat("kept").st_size, f.tell())
same("contents", "before" + "x" * (f.tell() - 6), open("kept").read())
gone.seek(0)
same("deleted", "deleted", gone.read())
assert "kept" in os.listdir(d)
`},
	{what: "files that were written and closed, renamed too", how: "they have the generation's contents, if they were written before it", program: `
n = 0
def step():
    global n
    n += 1
    open("closed", "w").write(str(n))
    open("new", "w").write(str(n))
    os.rename("new", "replaced")
    open("journal", "w").write(str(n))
    os.unlink("journal")
step()
print("ready", flush=True)
while not os.path.exists("gate"):
    step() # goes on after the checkpoint; a restore takes it back
    for i in range(20):
        time.sleep(0.001)
        same("closed", str(n), open("closed").read())
        same("renamed", str(n), open("replaced").read())
        same("deleted", False, os.path.exists("journal"))
`},
	{what: "executables, libraries, files that are only read", how: "kept by content: they come back where the host has others by then, or none", program: `
import shutil
open("read", "w").write("was read")
f = open("read")
shutil.copy(os.path.realpath("/proc/self/exe"), "other")
libc = [l.split()[-1] for l in open("/proc/self/maps") if "libc.so" in l or "libc-" in l][0]
shutil.copy(libc, "library.so")
library = ctypes.CDLL("./library.so", use_errno=True)
print("ready", flush=True)
while not os.path.exists("gate"):
    try:
        os.unlink("read") # after the checkpoint, as an upgrade does it
        os.rename("other", "library.so")
    except FileNotFoundError: pass
    time.sleep(0.01)
same("read", "was read", f.read())
same("library", os.getpid(), library.getpid())
`},
	{what: "file locks (flock, POSIX, open file description)", how: "held again", program: `
a, b, c = (open(n, "w") for n in "abc")
fcntl.flock(a, fcntl.LOCK_EX)
fcntl.lockf(b, fcntl.LOCK_EX)
fcntl.fcntl(c, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
cut()
kid = os.fork()
if kid == 0:
    bad = 0
    for n, take in (("a", lambda f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)), ("b", lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)),
                    ("c", lambda f: fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)))):
        try:
            take(open(n, "w"))
            bad += 1
        except OSError: pass
    os._exit(bad)
same("free locks", 0, os.waitstatus_to_exitcode(os.waitpid(kid, 0)[1]))
`},
	{what: "pipes and FIFOs", how: "with what is in them", program: `
r, w = os.pipe()
os.write(w, b"in the pipe")
os.mkfifo("fifo")
f = os.open("fifo", os.O_RDWR)
os.write(f, b"in the fifo")
cut()
same("pipe", b"in the pipe", os.read(r, 100))
same("fifo", b"in the fifo", os.read(f, 100))
`},
	{what: "UNIX sockets within the workload", how: "with their queues and descriptors in flight", program: `
l = socket.socket(socket.AF_UNIX)
l.bind("sock")
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect("sock")
s, _ = l.accept()
c.send(b"stream")
p, q = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
r, w = os.pipe()
os.write(w, b"through")
socket.send_fds(p, [b"fd"], [r])
os.close(r)
cut()
same("stream", b"stream", s.recv(100))
msg, fds, _, _ = socket.recv_fds(q, 100, 1)
same("in flight", b"through", os.read(fds[0], 100))
again = socket.socket(socket.AF_UNIX)
again.connect("sock")
l.accept()
`},
	{what: "listening TCP and UDP sockets", how: "they listen again", program: `
t = socket.create_server(("127.0.0.1", 0))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("127.0.0.1", 0))
cut()
socket.create_connection(t.getsockname())
t.accept()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hi", u.getsockname())
same("datagram", b"hi", u.recv(100))
`},
	{what: "established TCP connections", how: "reset (ECONNRESET): the peer has seen bytes that the older state has not sent", program: `
t = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(t.getsockname())
s, _ = t.accept()
c.send(b"x")
s.recv(1)
cut()
for end in (c, s):
    try:
        assert end.recv(1) == b"never", "not reset"
    except ConnectionResetError: pass
`},
	{what: "UNIX connections to programs outside", how: "reset, as by a program that has ended", program: `
s = socket.socket(socket.AF_UNIX)
s.connect("../outside")
cut()
try: same("the other end", b"", s.recv(1))
except ConnectionResetError: pass
`},
	{what: "epoll, eventfd, timerfd, signalfd, inotify", how: "with what they watch and hold", program: `
e = select.epoll()
r, w = os.pipe()
e.register(r, select.EPOLLIN)
ev = os.eventfd(41)
i = C.inotify_init1(os.O_NONBLOCK)
assert C.inotify_add_watch(i, b".", 0x100) >= 0
tf = C.timerfd_create(1, os.O_NONBLOCK)
C.timerfd_settime(tf, 0, struct.pack("qqqq", 0, 0, 0, 200000000), None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sf = C.signalfd(-1, (ctypes.c_ulong * 16)(1 << (signal.SIGUSR1 - 1)), os.O_NONBLOCK)
cut()
os.write(w, b"x")
same("epoll", [(r, select.EPOLLIN)], e.poll(5))
same("eventfd", 41, os.eventfd_read(ev))
os.mkdir("new")
assert b"new" in os.read(i, 4096)
time.sleep(0.3)
same("timerfd", 8, len(os.read(tf, 8)))
os.kill(os.getpid(), signal.SIGUSR1)
same("signalfd", signal.SIGUSR1, os.read(sf, 128)[0])
`},
	{what: "System V shared memory", how: "also after a boot", program: `
id = C.shmget(4711, 1 << 16, 0o1600)
C.shmat.restype = ctypes.c_void_p
at = C.shmat(id, None, 0)
ctypes.memmove(at, b"shared", 6)
cut()
same("contents", b"shared", ctypes.string_at(at, 6))
same("id", id, C.shmget(4711, 1 << 16, 0))
`},
	{what: "directory, umask, limits, scheduling, affinity, credentials, what prctl(2) sets", how: "as they were, never more", program: `
def facts(): return (os.getcwd(), os.umask(0o27), os.umask(0o27), resource.getrlimit(resource.RLIMIT_NOFILE), os.nice(0), os.sched_getaffinity(0), os.getresuid(), os.getgroups(), C.prctl(42, 0, 0, 0, 0), C.prctl(34, 0, 0, 0, 0), os.sched_getscheduler(0),
                     [l for l in open("/proc/self/status") if l.startswith(("Cap", "NoNewPrivs"))])
os.umask(0o27)
resource.setrlimit(resource.RLIMIT_NOFILE, (500, 1000))
os.nice(3)
os.sched_setaffinity(0, [0])
assert C.prctl(41, 1, 0, 0, 0) == 0 # PR_SET_THP_DISABLE
assert C.prctl(33, 1, 1, 0, 0) == 0 # PR_MCE_KILL
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.setgroups([5, 6])
os.setresuid(12345, 12345, 12345)
was = facts()
cut()
same("facts", was, facts())
`},
	{what: "clocks", how: "CLOCK_MONOTONIC goes on where it was, CLOCK_BOOTTIME adds the time off", program: `
def clocks(): return [time.clock_gettime(c) for c in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)]
was = clocks()
cut()
mono, boot, real = [now - then for now, then in zip(clocks(), was)]
assert 0 <= mono <= boot + 0.1 and abs(boot - real) < 1, (mono, boot, real)
`},

	{what: "io_uring", how: "start the program without it (node: UV_USE_IO_URING=0)", refused: "io_uring", program: `
assert C.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0
cut()
`},
	{what: "terminals that the program makes itself (tmux, sshd, script)", how: "run the program inside them", refused: "terminal", program: `
import pty
m, s = pty.openpty()
cut()
`},
	{what: "seccomp filters", how: "start it without its sandbox", refused: "seccomp", program: `
assert C.prctl(38, 1, 0, 0, 0) == 0
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
prog = struct.pack("H6xQ", 1, ctypes.addressof(code))
assert C.prctl(22, 2, prog, 0, 0) == 0
cut()
`},
	{what: "programs that dispatch their own system calls (Wine)", how: "run it without Wakepoint", refused: "dispatches its own", program: `
selector = ctypes.create_string_buffer(1)
assert C.prctl(59, 1, 0, 0, selector) == 0
cut()
`},
	{what: "POSIX message queues", how: "let it close them", refused: "POSIX message queue", program: `
R = ctypes.CDLL("librt.so.1", use_errno=True)
name = ("/wakepoint-%d" % os.getpid()).encode()
assert R.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, 0) >= 0
assert R.mq_unlink(name) == 0
cut()
`},
	{what: "namespaces that a program makes itself (unshare, containers, browsers' sandboxes)", how: "run it without them", refused: "namespace of its own", program: `
assert C.unshare(0x40000000) == 0 # CLONE_NEWNET
cut()
`},
	{what: "mounts that a program makes itself", how: "mount it on the host: it appears inside", refused: "was made inside the workload", program: `
os.mkdir("mnt")
assert C.mount(b"none", b"mnt", b"tmpfs", 0, None) == 0
cut()
`},
	{what: "raw, packet and vsock sockets", how: "let it close them", refused: "raw socket", program: `
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
cut()
`},
	{what: "descriptors of userfaultfd, fanotify, perf events, BPF, Landlock", how: "let it close them", refused: "fanotify", program: `
assert C.fanotify_init(0, 0) >= 0
cut()
`},
	{what: "Linux AIO", how: "start it without (MySQL: innodb_use_native_aio=0)", refused: "(/[aio])", program: `
context = ctypes.c_ulong(0)
assert C.syscall(206, 4, ctypes.byref(context)) == 0
cut()
`},
	{what: "hugetlb, sealed (mseal) and secret memory", how: "transparent huge pages can be saved", refused: "hugetlb", program: `
C.mmap.restype = ctypes.c_void_p
assert C.mmap(None, ctypes.c_size_t(2 << 20), 3, 0x44022, -1, ctypes.c_long(0)) != 2**64 - 1 # MAP_HUGETLB|MAP_NORESERVE
cut()
`},
	{what: "file leases", how: "let it give them back", refused: "LEASE", program: `
f = open("leased", "w")
f.close()
f = open("leased")
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)
cut()
`},
	{what: "keyrings of a thread or process", how: "let it use the session's keyring", refused: "keyring of its own", program: `
assert C.syscall(248, b"user", b"name", b"secret", ctypes.c_size_t(6), -2) > 0 # KEY_SPEC_PROCESS_KEYRING
cut()
`},
	{what: "processes that share memory or descriptors and are no threads (CLONE_VM, CLONE_FILES)", how: "-", refused: "share a descriptor table", program: `
kid = C.syscall(56, 0x400 | 17, 0, 0, 0, 0)
if kid == 0:
    while not os.path.exists("gate"): time.sleep(0.01)
    os._exit(0)
cut()
os.waitpid(kid, 0)
`},
	{what: "System V semaphores and message queues", how: "ipcrm removes those that nobody uses any more", refused: "System V semaphore", program: `
assert C.semget(0, 1, 0o1600) >= 0
cut()
`},
	{what: "devices, except null, zero, full, random, urandom", how: "let it close them", refused: "device", program: `
f = os.open("/dev/kmsg", os.O_RDONLY)
cut()
`},
	{what: "a program that is being traced", how: "let its debugger go first", refused: "traced", program: `
r, w = os.pipe()
kid = os.fork()
if kid == 0:
    while C.ptrace(0, 0, None, None) != 0: pass # refused while a freeze holds it
    os.write(w, b"x")
    while not os.path.exists("gate"): time.sleep(0.01)
    os._exit(0)
os.read(r, 1)
cut()
os.waitpid(kid, 0)
`},
}
