// objects holds one of nearly everything that a process can hold, and looks
// after each of them every round: what is not as it was left ends the program
// with a line that begins with "bad:". Otherwise it prints consecutive
// numbers. It idles while the file GATE exists.
//
// Usage: objects GATE DIR TMPFS
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition, ...) do { if (!(condition)) bad(__LINE__, __VA_ARGS__); } while (0)
enum { PAGE = 4096, QUEUED = 5 };

static unsigned long n; // the round, starting at 1
static const char *gate, *dir, *tmpfs;

static void bad(int line, const char *format, ...)
{
	char text[300];
	int error = errno, len = snprintf(text, 64, "bad: line %d: ", line);
	va_list ap;

	va_start(ap, format);
	len += vsnprintf(text + len, 160, format, ap);
	va_end(ap);
	len += snprintf(text + len, 60, " (round %lu, %s)\n", n, strerror(error));
	(void)!write(1, text, len);
	_exit(3);
}

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static const char *in(const char *where, const char *name)
{
	static char paths[8][512];
	static int next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", where, name);
	return path;
}

// queue is a pair of ends that always holds QUEUED numbers in order.
struct queue { const char *name; int out, in; uint64_t head; };

static void queue_put(struct queue *q, uint64_t value)
{
	CHECK(write(q->in, &value, sizeof value) == sizeof value, "%s: write", q->name);
}

static struct queue queue_make(const char *name, int out, int in)
{
	struct queue q = { name, out, in, 1 };
	for (int i = 1; i <= QUEUED; i++)
		queue_put(&q, i);
	return q;
}

static void queue_turn(struct queue *q)
{
	uint64_t value = 0;
	CHECK(read(q->out, &value, sizeof value) == sizeof value, "%s: read", q->name);
	CHECK(value == q->head, "%s: got %lu, expected %lu", q->name, value, q->head);
	queue_put(q, q->head++ + QUEUED);
}

static struct queue queues[10];
static int queue_count;

static void add_pair(const char *name, int type)
{
	int fds[2];
	CHECK(socketpair(AF_UNIX, type, 0, fds) == 0, "%s", name);
	queues[queue_count++] = queue_make(name, fds[0], fds[1]);
}

static void make_queues(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fds[2], listener, client, fifo;

	CHECK(pipe2(fds, O_CLOEXEC) == 0, "pipe");
	CHECK(fcntl(fds[1], F_SETPIPE_SZ, 16384) > 0, "pipe size");
	queues[queue_count++] = queue_make("pipe", fds[0], fds[1]);
	CHECK(mkfifo(in(dir, "fifo"), 0640) == 0, "mkfifo");
	CHECK((fifo = open(in(dir, "fifo"), O_RDWR)) >= 0, "fifo");
	queues[queue_count++] = queue_make("fifo", fifo, fifo);
	add_pair("stream pair", SOCK_STREAM);
	add_pair("datagram pair", SOCK_DGRAM);
	add_pair("seqpacket pair", SOCK_SEQPACKET);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, in(tmpfs, "socket"));
	CHECK(bind(listener, (void *)&address, sizeof address) == 0 && listen(listener, 7) == 0, "unix listener");
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(connect(client, (void *)&address, sizeof address) == 0, "unix connect");
	queues[queue_count++] = queue_make("named stream", accept(listener, NULL, NULL), client);
}

static int flying[2]; // a socket pair with a descriptor in flight

static void send_fd(int fd)
{
	char byte = 'f', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	CHECK(sendmsg(flying[0], &message, 0) == 1, "sendmsg");
	close(fd);
}

static void turn_flying(void)
{
	char byte, text[16] = "", control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd;

	CHECK(recvmsg(flying[1], &message, 0) == 1 && CMSG_FIRSTHDR(&message) != NULL, "recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	CHECK(pread(fd, text, 10, 0) == 10 && strcmp(text, "in flight\n") == 0, "in flight: %s", text);
	send_fd(fd);
}

static int deleted, appended, positioned, memory, locked, event, semaphore, epoll, timer, far, watch, signals, path, directory;
static int tcp, mptcp, udp;

static void make_files(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 10, .l_len = 20 };
	struct flock open_lock = { .l_type = F_WRLCK, .l_start = 100, .l_len = 20 };

	CHECK((deleted = open(in(dir, "deleted"), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) >= 0, "deleted");
	CHECK(write(deleted, "in flight\n", 10) == 10 && unlink(in(dir, "deleted")) == 0, "deleted");
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, flying) == 0, "pair");
	send_fd(fcntl(deleted, F_DUPFD, 0));
	CHECK((appended = open(in(dir, "appended"), O_CREAT | O_WRONLY | O_APPEND, 0600)) >= 0, "appended");
	CHECK((positioned = open(in(dir, "positioned"), O_CREAT | O_RDWR, 0600)) >= 0, "positioned");
	CHECK((locked = open(in(dir, "locked"), O_CREAT | O_RDWR, 0600)) >= 0, "locked");
	CHECK(fcntl(locked, F_SETLK, &lock) == 0 && fcntl(locked, F_OFD_SETLK, &open_lock) == 0, "lock");
	CHECK(flock(positioned, LOCK_EX) == 0, "flock");
	CHECK((memory = memfd_create("objects", MFD_ALLOW_SEALING)) >= 0 && ftruncate(memory, 4 * PAGE) == 0, "memfd");
	CHECK(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0, "seal");
	CHECK((directory = open(dir, O_RDONLY | O_DIRECTORY)) >= 0, "directory");
	CHECK((path = open(in(dir, "locked"), O_PATH)) >= 0, "path");
}

static void turn_files(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 0, .l_len = 0 };
	char line[32];
	struct stat st;
	int len = snprintf(line, sizeof line, "%016lu\n", n);

	CHECK(write(appended, line, len) == len, "append");
	CHECK(fstat(appended, &st) == 0 && st.st_size == (long)n * 17, "appended file has %ld bytes", (long)st.st_size);
	CHECK(lseek(positioned, 0, SEEK_CUR) == (long)(n - 1) * 17, "position %ld", (long)lseek(positioned, 0, SEEK_CUR));
	CHECK(write(positioned, line, len) == len, "positioned");
	CHECK(fstat(deleted, &st) == 0 && st.st_nlink == 0 && st.st_size == 10, "deleted: %ld links", (long)st.st_nlink);
	CHECK(fcntl(locked, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 10 && lock.l_len == 20,
	      "record lock: type %d at %ld", lock.l_type, (long)lock.l_start);
	CHECK(fcntl(memory, F_GET_SEALS) == F_SEAL_SHRINK, "seals %d", fcntl(memory, F_GET_SEALS));
	CHECK(fcntl(path, F_GETFL) & O_PATH, "O_PATH");
}

static void make_events(void)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u64 = 0x123456789abcdef0 };
	struct itimerspec period = { { 0, 5000000 }, { 0, 5000000 } }, once = { { 0, 0 }, { 100000, 0 } };
	sigset_t set;

	event = eventfd(7, EFD_NONBLOCK);
	semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e) == 0, "epoll");
	e.events = EPOLLOUT, e.data.u64 = 42;
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, queues[0].in, &e) == 0, "epoll");
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), far = timerfd_create(CLOCK_BOOTTIME, 0);
	CHECK(timerfd_settime(timer, 0, &period, NULL) == 0 && timerfd_settime(far, 0, &once, NULL) == 0, "timerfd");
	sigemptyset(&set), sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK((signals = signalfd(-1, &set, SFD_NONBLOCK)) >= 0, "signalfd");
	CHECK((watch = inotify_init1(IN_NONBLOCK)) >= 0 && inotify_add_watch(watch, tmpfs, IN_CREATE | IN_ATTRIB) >= 0, "inotify");
	CHECK(inotify_add_watch(watch, dir, IN_MOVED_TO) >= 0, "inotify");
}

static void turn_events(void)
{
	struct epoll_event ready[4];
	struct itimerspec left;
	struct signalfd_siginfo info;
	struct pollfd poll_timer = { timer, POLLIN, 0 };
	char events[1024];
	uint64_t value = 0;
	int count, made;

	CHECK(read(event, &value, 8) == 8 && value == 7, "eventfd %lu", value);
	CHECK(write(event, &value, 8) == 8, "eventfd");
	for (int i = 0; i < 3; i++)
		CHECK(read(semaphore, &value, 8) == 8 && value == 1, "semaphore %lu", value);
	value = 3;
	CHECK(read(semaphore, &value, 8) < 0 && errno == EAGAIN && write(semaphore, &value, 8) == 8, "semaphore");
	count = epoll_wait(epoll, ready, 4, 0);
	CHECK(count == 2, "epoll: %d ready", count);
	CHECK(ready[0].data.u64 + ready[1].data.u64 == 0x123456789abcdef0 + 42, "epoll data");
	CHECK(poll(&poll_timer, 1, 10000) == 1 && read(timer, &value, 8) == 8 && value > 0, "timerfd stands still");
	CHECK(timerfd_gettime(far, &left) == 0 && left.it_value.tv_sec > 50000 && left.it_value.tv_sec <= 100000, "far timer %ld", left.it_value.tv_sec);
	kill(getpid(), SIGUSR2);
	CHECK(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2, "signalfd");
	CHECK((made = creat(in(tmpfs, "made"), 0600)) >= 0 && close(made) == 0 && unlink(in(tmpfs, "made")) == 0, "create");
	CHECK(read(watch, events, sizeof events) > (int)sizeof(struct inotify_event), "inotify is silent");
	while (read(watch, events, sizeof events) > 0)
		;
}

static void make_network(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	int on = 1, idle = 77, buffer = 50000, none = 0;

	tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), mptcp = socket(AF_INET, SOCK_STREAM, 262);
	if (mptcp < 0)
		mptcp = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "reuseaddr");
	CHECK(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0, "keepalive");
	CHECK(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) == 0, "keepidle");
	CHECK(setsockopt(tcp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) == 0, "rcvbuf");
	CHECK(bind(tcp, (void *)&address, sizeof address) == 0 && listen(tcp, 9) == 0, "tcp");
	CHECK(bind(mptcp, (void *)&address, sizeof address) == 0 && listen(mptcp, 9) == 0, "mptcp");
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK(setsockopt(udp, IPPROTO_IP, IP_MTU_DISCOVER, &none, sizeof none) == 0, "mtu discover");
	CHECK(bind(udp, (void *)&address, sizeof address) == 0 && getsockname(udp, (void *)&address, &size) == 0, "udp");
	CHECK(connect(udp, (void *)&address, size) == 0, "udp connect");
	queues[queue_count++] = queue_make("udp", udp, udp);
}

// reset_by_restore says whether a call failed as it must on a connection that a
// restore has reset; twice in a row it is no restore.
static int reset_by_restore(int failed)
{
	static int before;
	int reset = failed && (errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN || errno == ECONNABORTED);

	CHECK(!failed || (reset && before++ < 2), "tcp");
	if (!failed)
		before = 0;
	return reset;
}

static void turn_network(int listener)
{
	struct sockaddr_in address;
	struct pollfd waiting = { listener, POLLIN, 0 };
	socklen_t size = sizeof address;
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server = -1;
	char byte = 'x';

	CHECK(getsockname(listener, (void *)&address, &size) == 0, "getsockname");
	if (reset_by_restore(connect(client, (void *)&address, size) != 0))
		goto out;
	errno = ECONNABORTED; // what waits to be accepted is lost by a restore
	if (reset_by_restore(poll(&waiting, 1, 2000) != 1))
		goto out;
	CHECK((server = accept(listener, NULL, NULL)) >= 0, "accept");
	if (reset_by_restore(send(server, &byte, 1, MSG_NOSIGNAL) != 1) || reset_by_restore(read(client, &byte, 1) != 1))
		goto out;
	if (reset_by_restore(shutdown(client, SHUT_WR) != 0))
		goto out;
	reset_by_restore(read(server, &byte, 1) != 0);
out:
	close(client), close(server);
}

static uint64_t *areas[8];
static int area_count;

static void add_area(size_t pages, int flags, int fd, int advice)
{
	uint64_t *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(area != MAP_FAILED, "mmap");
	CHECK(advice < 0 || madvise(area, pages * PAGE, advice) == 0 || errno == EINVAL, "madvise %d", advice);
	for (size_t i = 0; i < pages; i += 2)
		((volatile uint64_t *)area)[i * PAGE / 8 + 1] = 0; // gives a private mapping pages of its own
	areas[area_count++] = area;
}

static void make_memory(void)
{
	int segment = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	char *guarded = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(ftruncate(locked, 4 * PAGE) == 0, "truncate");
	add_area(4, MAP_SHARED, memory, -1);
	add_area(4, MAP_SHARED, locked, -1);
	add_area(4, MAP_PRIVATE, locked, MADV_DONTDUMP);
	add_area(4, MAP_SHARED | MAP_ANONYMOUS, -1, -1);
	add_area(9, MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_DONTFORK);
	add_area(9, MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_NOHUGEPAGE);
	add_area(1024, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, MADV_HUGEPAGE);
	CHECK(segment >= 0 && (areas[area_count++] = shmat(segment, NULL, 0)) != (void *)-1, "shmat");
	CHECK(shmctl(segment, IPC_RMID, NULL) == 0, "shmctl");
	CHECK(mprotect(guarded + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC) == 0, "mprotect");
	mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	madvise(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE, MADV_WIPEONFORK);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, areas[5], 9 * PAGE, "objects");
}

static void turn_memory(void)
{
	for (int i = 0; i < area_count; i++) {
		CHECK(areas[i][1] == n - 1 && areas[i][2 * PAGE / 8 + 1] == (n - 1) * 31, "area %d: %lu", i, areas[i][1]);
		areas[i][1] = n, areas[i][2 * PAGE / 8 + 1] = n * 31;
	}
	CHECK(pread(memory, &(uint64_t){ 0 }, 8, 8) == 8, "memfd");
}

static pid_t zombie, grouped, sessioned, orphaned;

static pid_t child(void (*prepare)(void))
{
	pid_t pid = fork();
	CHECK(pid >= 0, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prepare();
		for (;;)
			pause();
	}
	return pid;
}

static void as_group(void)
{
	setpgid(0, 0);
	CHECK(nice(4) >= 0, "nice");
}

static void as_session(void)
{
	setsid();
	umask(077);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	CHECK(chdir("/") == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0, "setuid");
}
static void as_orphan(void)
{
	setsid();
	if (fork() != 0)
		_exit(0); // its child lives on in a session whose leader is gone
	prctl(PR_SET_NAME, "orphan");
	signal(SIGTERM, SIG_IGN);
	personality(ADDR_NO_RANDOMIZE);
}
static void as_zombie(void) { _exit(42); }

static void make_processes(void)
{
	struct rlimit limit;
	cpu_set_t cpus;

	zombie = child(as_zombie), grouped = child(as_group), sessioned = child(as_session), orphaned = child(as_orphan);
	CHECK(waitpid(orphaned, NULL, 0) == orphaned, "wait");
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0, "affinity");
	umask(027);
	CHECK(chdir(dir) == 0, "chdir");
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = 300;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
	prctl(PR_SET_TIMERSLACK, 70000), prctl(PR_SET_NAME, "all objects"), prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void turn_processes(void)
{
	siginfo_t info = { 0 };
	int slack = prctl(PR_GET_TIMERSLACK), status = 0;
	pid_t brief;

	CHECK(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0 && info.si_status == 42, "zombie: status %d", info.si_status);
	CHECK(getpgid(grouped) == grouped && getsid(sessioned) == sessioned, "groups");
	CHECK(slack == 70000, "timer slack %d", slack);
	if ((brief = vfork()) == 0)
		_exit(7);
	CHECK(waitpid(brief, &status, 0) == brief && WEXITSTATUS(status) == 7, "vfork: status %x", status);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	gate = argv[1], dir = argv[2], tmpfs = argv[3];
	make_queues(), make_files(), make_events(), make_network(), make_memory(), make_processes();
	for (;;) {
		char line[32];
		int len;

		pause_ms(5);
		if (access(gate, F_OK) == 0)
			continue;
		n++;
		for (int i = 0; i < queue_count; i++)
			queue_turn(&queues[i]);
		turn_flying(), turn_files(), turn_events(), turn_network(tcp), turn_network(mptcp), turn_memory(), turn_processes();
		len = snprintf(line, sizeof line, "%lu\n", n);
		CHECK(write(1, line, len) == len, "write");
	}
}
