// Descriptors.
#include "zoo.h"
#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int readable(int fd) {
	struct pollfd p = {fd, POLLIN, 0};
	MUST(poll(&p, 1, 0) >= 0);
	return p.revents;
}
static int writable(int fd) {
	struct pollfd p = {fd, POLLOUT, 0};
	MUST(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static void regular(void) {
	int a = open("file", O_RDWR | O_CREAT | O_TRUNC, 0640), b = dup(a), c = open("file", O_RDONLY), d = open("file", O_WRONLY | O_APPEND | O_CLOEXEC);
	char buf[16];
	MUST(a >= 0 && b >= 0 && c >= 0 && d >= 0);
	MUST(write(a, "0123456789", 10) == 10);
	lseek(a, 3, SEEK_SET);
	lseek(c, 7, SEEK_SET);
	pid_t p = fork();
	if (p == 0) for (;;) { // shares the offset
			SAME(lseek(a, 0, SEEK_CUR) >= 3, 1);
			beat(1);
		}
	for (int round = 0;; round++) {
		SAME(lseek(a, 0, SEEK_CUR), 3);
		SAME(lseek(b, 0, SEEK_CUR), 3);
		SAME(lseek(c, 0, SEEK_CUR), 7);
		lseek(b, 5, SEEK_SET);
		SAME(lseek(a, 0, SEEK_CUR), 5);
		MUST(read(a, buf, 1) == 1 && buf[0] == '5');
		MUST(pread(c, buf, 10, 0) == 10 && !memcmp(buf, "0123456789", 10));
		lseek(a, 3, SEEK_SET);
		SAME(fcntl(d, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
		SAME(fcntl(d, F_GETFD), FD_CLOEXEC);
		SAME(fcntl(a, F_GETFD), 0);
		SAME(fcntl(a, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR);
		alive(1);
		ok();
	}
}

// Offsets moved by a child are seen by the parent.
static void shared_offset(void) {
	int f = open("numbers", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(f >= 0);
	volatile long *turn = &pulse[9];
	if (fork() == 0) for (;;) {
			while (*turn != 1) nap(1);
			long at = lseek(f, 0, SEEK_CUR);
			SAME(at, pulse[8]);
			pulse[8] = lseek(f, 13, SEEK_CUR);
			*turn = 0;
		}
	for (;;) {
		SAME(lseek(f, 0, SEEK_CUR), pulse[8]);
		*turn = 1;
		while (*turn != 0) nap(1);
		SAME(lseek(f, 0, SEEK_CUR), pulse[8]);
		ok();
	}
}

static void directory(void) {
	char name[32];
	mkdir("many", 0700);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "many/file%03d", i);
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
	DIR *d = opendir("many");
	MUST(d);
	static char seen[300];
	int n = 0;
	for (;;) {
		for (int k = 0; k < 70; k++) {
			errno = 0;
			struct dirent *e = readdir(d);
			if (!e) {
				MUST(errno == 0);
				SAME(n, 300);
				for (int i = 0; i < 300; i++) SAME(seen[i], 1);
				memset(seen, 0, sizeof seen);
				n = 0;
				rewinddir(d);
				break;
			}
			if (e->d_name[0] == '.') continue;
			int i = atoi(e->d_name + 4);
			if (seen[i]++) bad("%s was seen before", e->d_name);
			n++;
		}
		ok();
	}
}

// A directory that was read to its end, says so again, and begins anew.
static void directory_end(void) {
	char name[32];
	mkdir("read", 0700);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "read/file%03d", i);
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
	DIR *d = opendir("read");
	MUST(d);
	for (;;) {
		int n = 0;
		while (readdir(d)) n++;
		SAME(n, 302);
		ok();
		MUST(!readdir(d));
		rewinddir(d);
	}
}

static void pipes(void) {
	int p[2], q[2], full[2];
	char buf[256];
	MUST(pipe(p) == 0 && pipe2(q, O_NONBLOCK | O_CLOEXEC) == 0 && pipe2(full, O_NONBLOCK) == 0);
	fcntl(q[1], F_SETPIPE_SZ, 16384);
	MUST(write(p[1], "held in the pipe", 16) == 16);
	char page[4096];
	memset(page, 'f', sizeof page);
	while (write(full[1], page, sizeof page) > 0);
	int size;
	MUST(ioctl(full[0], FIONREAD, &size) == 0);
	int pw = dup(p[1]);
	long n = 0;
	for (;;) {
		SAME(ioctl(p[0], FIONREAD, &size), 0);
		SAME(size, 16);
		MUST(read(p[0], buf, 16) == 16 && !memcmp(buf, "held in the pipe", 16));
		MUST(write(pw, "held in the pipe", 16) == 16);
		SAME(fcntl(q[1], F_GETPIPE_SZ), 16384);
		SAME(fcntl(q[0], F_GETFL), O_NONBLOCK);
		SAME(fcntl(q[1], F_GETFL), O_NONBLOCK | O_WRONLY);
		SAME(fcntl(p[0], F_GETFL), 0);
		SAME(fcntl(q[0], F_GETFD), FD_CLOEXEC);
		if (n > 0) {
			long v[2];
			MUST(read(q[0], v, 16) == 16);
			SAME(v[1], n - 1);
		}
		MUST(read(q[0], buf, 1) == -1 && errno == EAGAIN);
		long v[2] = {1, n++};
		MUST(write(q[1], v, 16) == 16);
		MUST(write(full[1], page, 1) == -1 && errno == EAGAIN);
		ioctl(full[0], FIONREAD, &size);
		SAME(size, 65536);
		ok();
	}
}

static void packet_pipe(void) {
	int p[2];
	char buf[8192];
	MUST(pipe2(p, O_DIRECT | O_NONBLOCK) == 0);
	MUST(write(p[1], "one", 3) == 3 && write(p[1], "three", 5) == 5 && write(p[1], "x", 1) == 1);
	for (;;) {
		SAME(read(p[0], buf, sizeof buf), 3);
		SAME(read(p[0], buf, sizeof buf), 5);
		SAME(read(p[0], buf, sizeof buf), 1);
		CHECK(read(p[0], buf, sizeof buf) == -1);
		MUST(write(p[1], "one", 3) == 3 && write(p[1], "three", 5) == 5 && write(p[1], "x", 1) == 1);
		SAME(fcntl(p[1], F_GETFL) & O_DIRECT, O_DIRECT);
		ok();
	}
}

// One end is closed: what waits can be read, then comes the end.
static void half_pipe(void) {
	int p[2], q[2], r[2];
	char buf[16];
	MUST(pipe(p) == 0 && pipe(q) == 0 && pipe(r) == 0);
	signal(SIGPIPE, SIG_IGN);
	MUST(write(p[1], "rest", 4) == 4);
	close(p[1]);
	close(q[0]);
	close(r[1]);
	for (int n = 0;; n++) {
		SAME(readable(p[0]), n <= 20 ? POLLIN | POLLHUP : POLLHUP);
		if (n == 20) SAME(read(p[0], buf, 16), 4);
		if (n >= 20) SAME(read(p[0], buf, 16), 0);
		MUST(write(q[1], "x", 1) == -1 && errno == EPIPE);
		SAME(writable(q[1]), POLLOUT | POLLERR);
		SAME(read(r[0], buf, 16), 0);
		ok();
	}
}

// Processes hand a token around through pipes.
static void pipeline(void) {
	enum { N = 5 };
	int p[N][2];
	for (int i = 0; i < N; i++) MUST(pipe(p[i]) == 0);
	for (int i = 0; i + 1 < N; i++)
		if (fork() == 0) for (;;) {
				long v;
				MUST(read(p[i][0], &v, 8) == 8);
				v++;
				MUST(write(p[i + 1][1], &v, 8) == 8);
			}
	for (long v = 0, w;; v = w) {
		MUST(write(p[0][1], &v, 8) == 8);
		MUST(read(p[N - 1][0], &w, 8) == 8);
		SAME(w, v + N - 1);
		if (v % 80 == 0) ok();
	}
}

static void fifo(void) {
	char buf[64];
	unlink("fifo");
	MUST(mkfifo("fifo", 0600) == 0 && chmod("fifo", 0620) == 0);
	int both = open("fifo", O_RDWR), r = open("fifo", O_RDONLY | O_NONBLOCK), w = open("fifo", O_WRONLY);
	MUST(both >= 0 && r >= 0 && w >= 0);
	MUST(write(w, "waiting", 7) == 7);
	for (;;) {
		struct stat st;
		MUST(stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
		SAME(st.st_mode & 0777, 0620);
		MUST(read(r, buf, 64) == 7 && !memcmp(buf, "waiting", 7));
		MUST(read(r, buf, 64) == -1 && errno == EAGAIN);
		MUST(write(both, "wait", 4) == 4 && write(w, "ing", 3) == 3);
		ok();
	}
}

// A FIFO with one end in each process, opened by name again and again.
static void fifo_processes(void) {
	unlink("fifo2");
	MUST(mkfifo("fifo2", 0600) == 0);
	if (fork() == 0) {
		int w = open("fifo2", O_WRONLY);
		for (long n = 0;; n++) {
			MUST(write(w, &n, 8) == 8);
			nap(4);
		}
	}
	int r = open("fifo2", O_RDONLY);
	for (long n = 0, v;; n++) {
		MUST(read(r, &v, 8) == 8);
		SAME(v, n);
		if (n % 4 == 0) say_ok();
	}
}

static void eventfds(void) {
	int a = eventfd(42, EFD_NONBLOCK), b = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), c = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), d = eventfd(0, 0);
	uint64_t v, big = 0xfffffffffffffffeull;
	int e = eventfd(0, EFD_NONBLOCK);
	MUST(write(e, &big, 8) == 8);
	for (;;) {
		MUST(read(a, &v, 8) == 8 && v == 42);
		MUST(read(a, &v, 8) == -1 && errno == EAGAIN);
		MUST(write(a, &v, 8) == 8);
		for (int i = 0; i < 3; i++) MUST(read(b, &v, 8) == 8 && v == 1);
		MUST(read(b, &v, 8) == -1 && errno == EAGAIN);
		v = 3;
		MUST(write(b, &v, 8) == 8);
		MUST(read(c, &v, 8) == -1 && errno == EAGAIN);
		SAME(fcntl(c, F_GETFD), FD_CLOEXEC);
		SAME(fcntl(d, F_GETFL) & O_NONBLOCK, 0);
		v = 1;
		MUST(write(e, &v, 8) == -1 && errno == EAGAIN);
		ok();
	}
}

static void signalfds(void) {
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &s, 0);
	int f = signalfd(-1, &s, SFD_NONBLOCK);
	struct signalfd_siginfo i;
	long n = 0;
	union sigval v = {.sival_int = 0};
	sigqueue(getpid(), SIGRTMIN + 3, v);
	for (;;) {
		SAME(readable(f), POLLIN);
		MUST(read(f, &i, sizeof i) == sizeof i);
		SAME(i.ssi_signo, SIGRTMIN + 3);
		SAME(i.ssi_int, n);
		SAME(i.ssi_pid, getpid());
		MUST(read(f, &i, sizeof i) == -1 && errno == EAGAIN);
		v.sival_int = ++n;
		sigqueue(getpid(), SIGRTMIN + 3, v);
		ok();
	}
}

// What a life that was killed had done to the files stays done, so an event
// must come only of what this life does itself. One that waits in the freeze
// is lost, and an overflow says so; where nothing waits, nothing may come.
static void inotifies(void) {
	int f = inotify_init1(IN_NONBLOCK);
	mkdir("w1", 0700);
	mkdir("w2", 0700);
	mkdir("w3", 0700);
	close(open("w4", O_CREAT | O_WRONLY, 0600));
	int a = inotify_add_watch(f, "w1", IN_CREATE | IN_DELETE);
	int x = inotify_add_watch(f, "w2", IN_CREATE);
	int b = inotify_add_watch(f, "w3", IN_CREATE | IN_DELETE | IN_ONLYDIR);
	int c = inotify_add_watch(f, "w4", IN_ATTRIB | IN_MODIFY);
	inotify_rm_watch(f, x);
	char buf[4096];
	while (read(f, buf, sizeof buf) > 0);
	void expect(int wd, unsigned mask, const char *name) {
		ssize_t n = read(f, buf, sizeof buf);
		struct inotify_event *e = (void *)buf;
		if (n <= 0) bad("no event of %d", wd);
		SAME(n, sizeof *e + e->len);
		if (e->mask == IN_Q_OVERFLOW) return;
		SAME(e->wd, wd);
		SAME(e->mask, mask);
		if (name && strcmp(e->name, name)) bad("event of %s", e->name);
	}
	void create(int wd, const char *path) {
		int n = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
		MUST(n >= 0 || errno == EEXIST);
		if (n < 0) return;
		close(n);
		expect(wd, IN_CREATE, path + 3);
	}
	void delete(int wd, const char *path) {
		int n = unlink(path);
		MUST(n == 0 || errno == ENOENT);
		if (n == 0) expect(wd, IN_DELETE, path + 3);
	}
	for (;;) {
		if (read(f, buf, sizeof buf) != -1) bad("an event out of nothing: wd %d mask %#x", ((struct inotify_event *)buf)->wd, ((struct inotify_event *)buf)->mask);
		create(a, "w1/f");
		delete(a, "w1/f");
		close(open("w2/f", O_CREAT | O_WRONLY, 0600));
		CHECK(read(f, buf, sizeof buf) == -1);
		unlink("w2/f");
		create(b, "w3/g");
		delete(b, "w3/g");
		chmod("w4", 0600);
		expect(c, IN_ATTRIB, 0);
		SAME(inotify_add_watch(f, "w1", IN_CREATE | IN_DELETE), a);
		ok();
	}
}

// Events that nobody has read yet: they, or else an overflow, come.
static void inotify_queue(void) {
	int f = inotify_init1(IN_NONBLOCK);
	mkdir("q", 0700);
	int wd = inotify_add_watch(f, "q", IN_CREATE | IN_DELETE);
	char buf[4096];
	for (;;) {
		close(open("q/f", O_CREAT | O_WRONLY, 0600));
		unlink("q/f");
		say_ok();
		nap(20);
		ssize_t n = read(f, buf, sizeof buf);
		struct inotify_event *e = (void *)buf;
		if (n <= 0) bad("the events are lost and nothing says so");
		if (!(e->mask & IN_Q_OVERFLOW)) SAME(e->wd, wd);
		while (read(f, buf, sizeof buf) > 0);
	}
}

static void pidfds(void) {
	pid_t p = fork();
	if (p == 0) for (;;) beat(1);
	int f = syscall(SYS_pidfd_open, p, 0), self = syscall(SYS_pidfd_open, getpid(), 0);
	MUST(f >= 0 && self >= 0);
	for (;;) {
		alive(1);
		SAME(readable(f), 0);
		MUST(syscall(SYS_pidfd_send_signal, f, 0, 0, 0) == 0);
		MUST(syscall(SYS_pidfd_send_signal, self, 0, 0, 0) == 0);
		char b[512], path[64], *q;
		snprintf(path, sizeof path, "/proc/self/fdinfo/%d", f);
		slurp(path, b, sizeof b);
		MUST((q = strstr(b, "Pid:")));
		SAME(atoi(q + 4), p);
		ok();
	}
}

// A pidfd of a zombie is readable.
static void pidfd_zombie(void) {
	pid_t p = fork();
	if (p == 0) _exit(5);
	int f = syscall(SYS_pidfd_open, p, 0);
	struct pollfd pf = {f, POLLIN, 0};
	MUST(poll(&pf, 1, 2000) == 1);
	for (;;) {
		SAME(readable(f), POLLIN);
		siginfo_t si;
		MUST(waitid(3 /* P_PIDFD */, f, &si, WEXITED | WNOWAIT) == 0);
		SAME(si.si_status, 5);
		ok();
	}
}

static void pidfd_dead(void) {
	pid_t p = fork();
	if (p == 0) _exit(5);
	int f = syscall(SYS_pidfd_open, p, 0);
	MUST(waitpid(p, 0, 0) == p);
	for (;;) {
		SAME(readable(f) & POLLIN, POLLIN);
		MUST(syscall(SYS_pidfd_send_signal, f, 0, 0, 0) == -1 && errno == ESRCH);
		ok();
	}
}

static void devices(void) {
	int n = open("/dev/null", O_RDWR), z = open("/dev/zero", O_RDONLY), u = open("/dev/urandom", O_RDONLY | O_CLOEXEC), f = open("/dev/full", O_WRONLY);
	char b[64], c[64];
	for (;;) {
		SAME(write(n, b, 64), 64);
		SAME(read(n, b, 64), 0);
		memset(b, 1, 64);
		SAME(read(z, b, 64), 64);
		for (int i = 0; i < 64; i++) SAME(b[i], 0);
		SAME(read(u, b, 64), 64);
		SAME(read(u, c, 64), 64);
		CHECK(memcmp(b, c, 64) != 0);
		MUST(write(f, b, 1) == -1 && errno == ENOSPC);
		ok();
	}
}

static void path_only(void) {
	mkdir("d", 0755);
	close(open("d/x", O_CREAT | O_WRONLY, 0600));
	symlink("x", "d/link");
	int f = open("d/x", O_PATH), d = open("d", O_PATH | O_DIRECTORY), l = open("d/link", O_PATH | O_NOFOLLOW);
	char b[64];
	for (;;) {
		struct stat st;
		MUST(fstat(f, &st) == 0 && S_ISREG(st.st_mode));
		MUST(fstatat(d, "x", &st, 0) == 0);
		MUST(fstat(l, &st) == 0 && S_ISLNK(st.st_mode));
		MUST(readlinkat(l, "", b, 64) == 1 && b[0] == 'x');
		MUST(read(f, b, 1) == -1 && errno == EBADF);
		SAME(fcntl(f, F_GETFL) & O_PATH, O_PATH);
		ok();
	}
}

// Locks of every kind. A child tries what it must not get.
static int try_posix(int fd, int type, long start, long len) {
	struct flock k = {.l_type = type, .l_start = start, .l_len = len};
	MUST(fcntl(fd, F_GETLK, &k) == 0);
	return k.l_type == F_UNLCK;
}
static void locks(void) {
	int f = open("flocked", O_RDWR | O_CREAT, 0600), s = open("flocked_shared", O_RDWR | O_CREAT, 0600);
	int p = open("posix", O_RDWR | O_CREAT, 0600), o = open("ofd", O_RDWR | O_CREAT, 0600);
	MUST(flock(f, LOCK_EX) == 0 && flock(s, LOCK_SH) == 0);
	struct flock k = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5}, r = {.l_type = F_RDLCK, .l_start = 100, .l_len = 0};
	MUST(fcntl(p, F_SETLK, &k) == 0 && fcntl(p, F_SETLK, &r) == 0);
	MUST(fcntl(o, F_OFD_SETLK, &k) == 0);
	pid_t c = fork();
	if (c == 0) {
		struct flock own = {.l_type = F_WRLCK, .l_start = 50, .l_len = 1};
		MUST(fcntl(p, F_SETLK, &own) == 0); // the same description, another owner
		int f2 = open("flocked", O_RDWR), s2 = open("flocked_shared", O_RDWR), p2 = dup(p), o2 = open("ofd", O_RDWR);
		for (;;) {
			MUST(flock(f2, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
			MUST(flock(f, LOCK_EX | LOCK_NB) == 0); // the same description
			MUST(flock(s2, LOCK_SH | LOCK_NB) == 0 && flock(s2, LOCK_UN) == 0);
			MUST(flock(s2, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
			CHECK(!try_posix(p2, F_WRLCK, 12, 1));
			CHECK(!try_posix(p2, F_RDLCK, 14, 1));
			CHECK(try_posix(p2, F_WRLCK, 15, 10));
			CHECK(try_posix(p2, F_RDLCK, 1000, 1));
			CHECK(!try_posix(p2, F_WRLCK, 100000, 1));
			struct flock q = {.l_type = F_RDLCK, .l_start = 11, .l_len = 1};
			MUST(fcntl(o2, F_OFD_SETLK, &q) == -1 && errno == EAGAIN);
			MUST(fcntl(o, F_OFD_GETLK, &q) == 0 && q.l_type == F_UNLCK);
			beat(1);
		}
	}
	for (;;) {
		alive(1);
		struct flock q = {.l_type = F_WRLCK, .l_start = 50, .l_len = 1};
		MUST(fcntl(p, F_GETLK, &q) == 0);
		SAME(q.l_type, F_WRLCK);
		SAME(q.l_pid, c);
		ok();
	}
}

static void numbers(void) {
	struct rlimit l = {2000, 4000};
	MUST(setrlimit(RLIMIT_NOFILE, &l) == 0);
	int f = open("file", O_RDWR | O_CREAT, 0600);
	static const int at[] = {7, 8, 20, 63, 64, 65, 255, 1000, 1999};
	for (int i = 0; i < 9; i++) MUST(dup3(f, at[i], i % 2 ? O_CLOEXEC : 0) == at[i]);
	dup2(1, 500);
	l.rlim_cur = 1500; // lower than what is open already
	MUST(setrlimit(RLIMIT_NOFILE, &l) == 0);
	for (;;) {
		int want[2000] = {0};
		want[0] = want[1] = want[2] = want[500] = want[f] = 1;
		for (int i = 0; i < 9; i++) want[at[i]] = 1 + i % 2;
		for (int i = 0; i < 2000; i++) {
			int got = fcntl(i, F_GETFD);
			if (got != (want[i] ? want[i] - 1 : -1)) bad("fd %d has flags %d", i, got);
		}
		for (int i = 0; i < 9; i++) {
			lseek(at[i], i, SEEK_SET);
			SAME(lseek(f, 0, SEEK_CUR), i);
		}
		int n = dup(f);
		SAME(n, f + 1);
		close(n);
		ok();
	}
}

static void deleted(void) {
	int f = open("gone", O_RDWR | O_CREAT | O_TRUNC, 0641), g = open("gone", O_RDONLY);
	MUST(write(f, "contents", 8) == 8);
	MUST(ftruncate(f, 10000) == 0);
	lseek(f, 4, SEEK_SET);
	unlink("gone");
	int t = open(".", O_TMPFILE | O_RDWR, 0600);
	if (t >= 0) MUST(write(t, "temporary", 9) == 9);
	struct stat st;
	fstat(f, &st);
	int mode = st.st_mode;
	for (long n = 0;; n++) {
		char b[16];
		SAME(lseek(f, 0, SEEK_CUR), 4);
		SAME(lseek(g, 0, SEEK_CUR), 0);
		MUST(pread(g, b, 8, 0) == 8 && !memcmp(b, "contents", 8));
		MUST(fstat(f, &st) == 0);
		SAME(st.st_size, 10000);
		SAME(st.st_mode, mode);
		SAME(st.st_nlink, 0);
		if (n) {
			long v;
			MUST(pread(g, &v, 8, 5000) == 8);
			SAME(v, n - 1);
		}
		MUST(pwrite(f, &n, 8, 5000) == 8);
		MUST(access("gone", F_OK) == -1);
		if (t >= 0) MUST(pread(t, b, 9, 0) == 9 && !memcmp(b, "temporary", 9));
		ok();
	}
}

// A name was removed while another is left, or a new file took it.
static void renamed(void) {
	int a = open("one", O_RDWR | O_CREAT | O_TRUNC, 0600), b = open("two", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(write(a, "A", 1) == 1 && write(b, "B", 1) == 1);
	link("one", "uno");
	unlink("one"); // still there as uno
	int c = open("one", O_RDWR | O_CREAT | O_EXCL, 0600);
	MUST(write(c, "C", 1) == 1);
	rename("two", "due");
	struct stat st, at;
	for (;;) {
		char x;
		MUST(pread(a, &x, 1, 0) == 1 && x == 'A');
		MUST(pread(b, &x, 1, 0) == 1 && x == 'B');
		MUST(pread(c, &x, 1, 0) == 1 && x == 'C');
		MUST(fstat(a, &st) == 0 && stat("uno", &at) == 0);
		SAME(st.st_ino, at.st_ino);
		SAME(st.st_nlink, 1);
		MUST(fstat(b, &st) == 0 && stat("due", &at) == 0);
		SAME(st.st_ino, at.st_ino);
		ok();
	}
}

static void proc_files(void) {
	int f = open("/proc/self/status", O_RDONLY), d = open("/proc/self/fd", O_RDONLY | O_DIRECTORY), v = open("/proc/version", O_RDONLY);
	MUST(f >= 0 && d >= 0 && v >= 0);
	for (;;) {
		char b[4096], want[32];
		int n = pread(f, b, sizeof b - 1, 0);
		MUST(n > 0);
		b[n] = 0;
		snprintf(want, sizeof want, "\nPid:\t%d\n", getpid());
		CHECK(strstr(b, want));
		MUST(faccessat(d, "0", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
		MUST(pread(v, b, 5, 0) == 5 && !memcmp(b, "Linux", 5));
		ok();
	}
}

// Files of /proc of threads, of descriptors, and of tasks that have ended.
static volatile int proc_status, proc_tid;
static void *proc_thread(void *p) {
	proc_tid = gettid();
	proc_status = open("/proc/thread-self/status", O_RDONLY);
	while (p) nap(50);
	return 0;
}
static int proc_open(const char *form, int a, int b) {
	char path[64];
	snprintf(path, sizeof path, form, a, b);
	int f = open(path, O_RDONLY);
	if (f < 0) bad("open %s", path);
	return f;
}
static void proc_shows(int f, const char *want, long n) {
	char b[4096], line[64];
	ssize_t k = pread(f, b, sizeof b - 1, 0);
	MUST(k > 0);
	b[k] = 0;
	snprintf(line, sizeof line, want, n);
	CHECK(strstr(b, line));
}
static void proc_tasks(void) {
	pthread_t t;
	char b[64];
	MUST(pthread_create(&t, 0, proc_thread, b) == 0);
	while (proc_status == 0) nap(1);
	int status = proc_status, tid = proc_tid, dir = proc_open("/proc/self/task/%d", tid, 0);
	int data = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(write(data, "0123456789", 10) == 10 && dup2(data, 700) == 700 && lseek(data, 7, SEEK_SET) == 7);
	int info = proc_open("/proc/self/fdinfo/%d", 700, 0), of_thread = proc_open("/proc/self/task/%d/fdinfo/%d", tid, data);
	proc_status = 0;
	MUST(pthread_create(&t, 0, proc_thread, 0) == 0 && pthread_join(t, 0) == 0);
	int ended = proc_status;
	pid_t child = fork();
	if (child == 0) for (;;) pause();
	int of_child = proc_open("/proc/%d/stat", child, 0);
	MUST(kill(child, SIGKILL) == 0 && waitpid(child, 0, 0) == child);
	while (pread(ended, b, sizeof b, 0) >= 0) nap(1); // it ends a little later than it is joined
	for (;;) {
		proc_shows(status, "\nPid:\t%ld\n", tid);
		MUST(faccessat(dir, "stat", F_OK, 0) == 0);
		proc_shows(info, "pos:\t%ld\n", 7);
		proc_shows(of_thread, "pos:\t%ld\n", 7);
		CHECK(pread(ended, b, sizeof b, 0) == -1 && errno == ESRCH);
		CHECK(pread(of_child, b, sizeof b, 0) == -1 && errno == ESRCH);
		ok();
	}
}

// Another table shared by two processes (CLONE_FILES), or another cwd (CLONE_FS).
static int sharing(void *p) {
	int fd = *(int *)p;
	for (;;) {
		while (pulse[9] != 1) nap(1);
		MUST(dup2(0, fd) == fd);
		umask(077);
		MUST(chdir("/") == 0);
		pulse[9] = 2;
	}
}
static void shared_table(void) {
	static char stack[65536];
	int fd = 44;
	MUST(clone(sharing, stack + sizeof stack, CLONE_FILES | CLONE_FS | SIGCHLD, &fd) > 0);
	for (;;) {
		char b[64];
		close(fd);
		umask(022);
		MUST(chdir("/tmp") == 0);
		say_ok();
		nap(30);
		pulse[9] = 1;
		while (pulse[9] != 2) nap(1);
		MUST(fcntl(fd, F_GETFD) == 0);
		SAME(umask(022), 077);
		MUST(getcwd(b, 64) && !strcmp(b, "/"));
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(regular), A(shared_offset), A(directory), A(directory_end), A(pipes), A(packet_pipe), A(half_pipe), A(pipeline), A(fifo), A(fifo_processes),
	A(eventfds), A(signalfds), A(inotifies), A(inotify_queue), A(pidfds), A(pidfd_zombie), A(pidfd_dead), A(devices), A(path_only),
	A(locks), A(numbers), A(deleted), A(renamed), A(proc_files), A(proc_tasks), A(shared_table), {0, 0},
};
