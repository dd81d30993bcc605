// Interrupted calls: each must end at its time, and never with EINTR.
#include "zoo.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

#define SLEEP 900 // ms
#define EARLY 20
#define LATE 400
#define AGAIN (SLEEP + LATE) // of a socket: its time-out may begin again at a restore

static struct timespec rel(long ms) { return (struct timespec){ms / 1000, ms % 1000 * 1000000}; }

static struct timespec in(clockid_t c, long ms) {
	struct timespec t;
	clock_gettime(c, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000;
	if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
	return t;
}

static long clock_ms(clockid_t c) {
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// TIMED makes a call that must take SLEEP ms.
#define TIMED(call, good) TIMED_BY(CLOCK_MONOTONIC, LATE, call, good)
#define TIMED_BY(clock, late, call, good) do { \
		long from_ = clock_ms(clock); \
		stalled = 0; \
		errno = 0; \
		long r = (call); \
		(void)r; \
		long took_ = clock_ms(clock) - from_; \
		if (!(good)) bad("%s = %ld after %ld ms", #call, r, took_); \
		if (took_ < SLEEP - EARLY || took_ > SLEEP + (late) + stalled) bad("%s took %ld ms, not %d", #call, took_, SLEEP); \
		say_ok(); \
	} while (0)
#define FOREVER for (witness();;)

// witness looks at the clock beside the caller, so that it is known how late
// this machine is. It takes no signals.
static void *watch(void *p) {
	for (;;) nap(10);
	return p;
}
static void witness(void) {
	pthread_t t;
	sigset_t all, old;
	sigfillset(&all);
	MUST(pthread_sigmask(SIG_SETMASK, &all, &old) == 0 && pthread_create(&t, 0, watch, 0) == 0);
	MUST(pthread_sigmask(SIG_SETMASK, &old, 0) == 0);
}

static void nanosleeps(void) {
	FOREVER {
		struct timespec t = rel(SLEEP);
		TIMED(syscall(SYS_nanosleep, &t, &t), r == 0);
	}
}
static void clock_rel(void) { FOREVER { struct timespec t = rel(SLEEP); TIMED(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0), r == 0); } }
static void clock_real_rel(void) { FOREVER { struct timespec t = rel(SLEEP); TIMED(clock_nanosleep(CLOCK_REALTIME, 0, &t, 0), r == 0); } }
static void clock_abs(void) { FOREVER { struct timespec t = in(CLOCK_MONOTONIC, SLEEP); TIMED(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), r == 0); } }

static void poll_(void) { FOREVER TIMED(poll(0, 0, SLEEP), r == 0); }
static void poll_fd(void) {
	int p[2];
	MUST(pipe(p) == 0);
	FOREVER {
		struct pollfd f = {p[0], POLLIN, 0};
		TIMED(poll(&f, 1, SLEEP), r == 0);
	}
}
static void ppoll_(void) {
	sigset_t none;
	sigemptyset(&none);
	FOREVER { struct timespec t = rel(SLEEP); TIMED(ppoll(0, 0, &t, &none), r == 0); }
}
static void select_(void) { FOREVER { struct timeval t = {0, SLEEP * 1000}; TIMED(select(0, 0, 0, 0, &t), r == 0); } }
static void pselect_(void) {
	sigset_t none;
	sigemptyset(&none);
	FOREVER { struct timespec t = rel(SLEEP); TIMED(pselect(0, 0, 0, 0, &t, &none), r == 0); }
}
static int an_epoll(void) {
	int e = epoll_create1(0), p[2];
	MUST(e >= 0 && pipe(p) == 0);
	struct epoll_event v = {.events = EPOLLIN};
	MUST(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v) == 0);
	return e;
}
static void epoll_wait_(void) {
	int e = an_epoll();
	struct epoll_event v;
	FOREVER TIMED(epoll_wait(e, &v, 1, SLEEP), r == 0);
}
static void epoll_pwait_(void) {
	int e = an_epoll();
	struct epoll_event v;
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	FOREVER TIMED(epoll_pwait(e, &v, 1, SLEEP, &s), r == 0);
}
static void epoll_pwait2_(void) {
	int e = an_epoll();
	struct epoll_event v;
	FOREVER { struct timespec t = rel(SLEEP); TIMED_BY(CLOCK_MONOTONIC, AGAIN, syscall(SYS_epoll_pwait2, e, &v, 1, &t, 0, 8), r == 0); }
}
static void futex_rel(void) {
	static int word;
	FOREVER { struct timespec t = rel(SLEEP); TIMED(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, 0, 0), r == -1 && errno == ETIMEDOUT); }
}
static void futex_abs(void) {
	static int word;
	FOREVER {
		struct timespec t = in(CLOCK_MONOTONIC, SLEEP);
		TIMED(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, 0, FUTEX_BITSET_MATCH_ANY), r == -1 && errno == ETIMEDOUT);
	}
}
static void sem_timed(void) {
	sem_t s;
	sem_init(&s, 0, 0);
	FOREVER { struct timespec t = in(CLOCK_REALTIME, SLEEP); TIMED_BY(CLOCK_REALTIME, LATE, sem_timedwait(&s, &t), r == -1 && errno == ETIMEDOUT); }
}
static void sem_clock(void) {
	sem_t s;
	sem_init(&s, 1, 0);
	FOREVER { struct timespec t = in(CLOCK_MONOTONIC, SLEEP); TIMED(sem_clockwait(&s, CLOCK_MONOTONIC, &t), r == -1 && errno == ETIMEDOUT); }
}
static void cond_timed(void) {
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	pthread_mutex_lock(&m);
	FOREVER { struct timespec t = in(CLOCK_REALTIME, SLEEP); TIMED_BY(CLOCK_REALTIME, LATE, pthread_cond_timedwait(&c, &m, &t), r == ETIMEDOUT); }
}
static void mutex_timed(void) {
	static pthread_mutex_t m;
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_NORMAL);
	pthread_mutex_init(&m, &a);
	pthread_mutex_lock(&m);
	FOREVER { struct timespec t = in(CLOCK_REALTIME, SLEEP); TIMED_BY(CLOCK_REALTIME, LATE, pthread_mutex_timedlock(&m, &t), r == ETIMEDOUT); }
}
static void sigtimed(void) {
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, 0);
	FOREVER { struct timespec t = rel(SLEEP); TIMED_BY(CLOCK_MONOTONIC, AGAIN, sigtimedwait(&s, 0, &t), r == -1 && errno == EAGAIN); }
}

// A helper lets the others' calls end at their time.
static void later(void (*f)(void *), void *p) {
	pid_t me = getpid(), c = fork();
	MUST(c >= 0);
	if (c == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != me) _exit(0);
		struct timespec t = in(CLOCK_MONOTONIC, SLEEP);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == EINTR);
		f(p);
		_exit(7);
	}
}
static void reap(void) {
	int st;
	pid_t p;
	while ((p = wait(&st)) < 0 && errno == EINTR) bad("wait: EINTR");
	MUST(p > 0 && WIFEXITED(st) && WEXITSTATUS(st) == 7);
}
static void put_byte(void *p) { write(*(int *)p, "x", 1); }
static void nothing(void *p) { (void)p; }
static void read_pipe(void) {
	int p[2];
	char b;
	MUST(pipe(p) == 0);
	FOREVER {
		later(put_byte, &p[1]);
		TIMED(read(p[0], &b, 1), r == 1);
		reap();
	}
}
static void write_pipe(void) {
	int p[2];
	static char b[65536];
	MUST(pipe(p) == 0);
	MUST(write(p[1], b, sizeof b) == sizeof b);
	void take(void *q) { read(p[0], b, sizeof b); (void)q; }
	FOREVER {
		later(take, 0);
		TIMED(write(p[1], b, sizeof b), r == sizeof b);
		reap();
	}
}
static void read_eventfd(void) {
	int e = eventfd(0, 0);
	uint64_t v;
	void give(void *q) { uint64_t one = 1; write(e, &one, 8); (void)q; }
	FOREVER {
		later(give, 0);
		TIMED(read(e, &v, 8), r == 8 && v == 1);
		reap();
	}
}
static void read_timerfd(void) {
	int f = timerfd_create(CLOCK_MONOTONIC, 0);
	FOREVER {
		struct itimerspec s = {.it_value = rel(SLEEP)};
		uint64_t v;
		MUST(timerfd_settime(f, 0, &s, 0) == 0);
		TIMED(read(f, &v, 8), r == 8 && v == 1);
	}
}
static void accept_(void) {
	int l = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	MUST(bind(l, (void *)&a, n) == 0 && listen(l, 5) == 0 && getsockname(l, (void *)&a, &n) == 0);
	void dial(void *q) {
		(void)q;
		int s = socket(AF_INET, SOCK_STREAM, 0);
		connect(s, (void *)&a, sizeof a);
	}
	FOREVER {
		later(dial, 0);
		TIMED(accept(l, 0, 0), r >= 0 && close(r) == 0);
		reap();
	}
}
static void accept_unix(void) {
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = {AF_UNIX, "accepting"};
	unlink(a.sun_path);
	MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 5) == 0);
	void dial(void *q) {
		(void)q;
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		connect(s, (void *)&a, sizeof a);
	}
	FOREVER {
		later(dial, 0);
		TIMED(accept4(l, 0, 0, SOCK_CLOEXEC), r >= 0 && close(r) == 0);
		reap();
	}
}
static void recv_any(int s, int msg) {
	struct timeval t = {0, SLEEP * 1000};
	MUST(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
	char b[8];
	struct iovec v = {b, 8};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	FOREVER {
		if (msg) TIMED_BY(CLOCK_MONOTONIC, AGAIN, recvmsg(s, &m, 0), r == -1 && errno == EAGAIN);
		else TIMED_BY(CLOCK_MONOTONIC, AGAIN, recv(s, b, 8, 0), r == -1 && errno == EAGAIN);
	}
}
static int udp(void) {
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	MUST(bind(s, (void *)&a, sizeof a) == 0);
	return s;
}
static void recv_udp(void) { recv_any(udp(), 0); }
static void recvmsg_udp(void) { recv_any(udp(), 1); }
static void recv_unix(void) {
	int p[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	recv_any(p[0], 0);
}
static void recv_dgram(void) {
	int p[2];
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0);
	recv_any(p[0], 1);
}
static void read_timeo(void) {
	int p[2];
	char b;
	struct timeval t = {0, SLEEP * 1000};
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	MUST(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
	FOREVER TIMED_BY(CLOCK_MONOTONIC, AGAIN, read(p[0], &b, 1), r == -1 && errno == EAGAIN);
}
static void read_socket(void) {
	int p[2];
	char b;
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	FOREVER {
		later(put_byte, &p[1]);
		TIMED(read(p[0], &b, 1), r == 1);
		reap();
	}
}
static void wait4_(void) {
	FOREVER {
		int st;
		later(nothing, 0);
		TIMED(wait4(-1, &st, 0, 0), r > 0 && WIFEXITED(st) && WEXITSTATUS(st) == 7);
	}
}
static void waitid_(void) {
	FOREVER {
		siginfo_t i;
		later(nothing, 0);
		TIMED(waitid(P_ALL, 0, &i, WEXITED), r == 0 && i.si_status == 7);
	}
}
static volatile int hits;
static void hit(int s) { (void)s; hits++; }
static void alarm_in(long ms) {
	struct itimerval v = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	MUST(setitimer(ITIMER_REAL, &v, 0) == 0);
}
static void handler(int flags) {
	struct sigaction a = {.sa_handler = hit, .sa_flags = flags};
	MUST(sigaction(SIGALRM, &a, 0) == 0);
}
static void pause_(void) {
	handler(0);
	FOREVER {
		hits = 0;
		alarm_in(SLEEP);
		TIMED(pause(), r == -1 && errno == EINTR && hits == 1);
	}
}
static void sigsuspend_(void) {
	sigset_t s, old, none;
	handler(0);
	sigemptyset(&none);
	sigemptyset(&s);
	sigaddset(&s, SIGALRM);
	sigaddset(&s, SIGUSR2);
	sigprocmask(SIG_BLOCK, &s, 0);
	FOREVER {
		hits = 0;
		alarm_in(SLEEP);
		TIMED(sigsuspend(&none), r == -1 && errno == EINTR && hits == 1);
		sigprocmask(SIG_BLOCK, 0, &old);
		CHECK(sigismember(&old, SIGALRM) && sigismember(&old, SIGUSR2) && !sigismember(&old, SIGUSR1));
	}
}
static void sigwait_(void) {
	sigset_t s;
	int got;
	sigemptyset(&s);
	sigaddset(&s, SIGALRM);
	sigprocmask(SIG_BLOCK, &s, 0);
	FOREVER {
		alarm_in(SLEEP);
		TIMED(sigwait(&s, &got), r == 0 && got == SIGALRM);
	}
}
static void read_restart(void) {
	int p[2];
	char b;
	handler(SA_RESTART);
	MUST(pipe(p) == 0);
	FOREVER {
		hits = 0;
		alarm_in(SLEEP / 2);
		later(put_byte, &p[1]);
		TIMED(read(p[0], &b, 1), r == 1 && hits == 1);
		reap();
	}
}
static void flock_(void) {
	int f = open("lockfile", O_RDWR | O_CREAT, 0600);
	struct flock k = {.l_type = F_WRLCK, .l_len = 10};
	int p[2];
	MUST(f >= 0 && pipe(p) == 0);
	FOREVER {
		pid_t c = fork();
		if (c == 0) {
			MUST(fcntl(f, F_SETLK, &k) == 0);
			write(p[1], "x", 1);
			struct timespec t = in(CLOCK_MONOTONIC, SLEEP);
			while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == EINTR);
			_exit(7);
		}
		char b;
		MUST(read(p[0], &b, 1) == 1);
		TIMED(fcntl(f, F_SETLKW, &k), r == 0);
		struct flock u = {.l_type = F_UNLCK, .l_len = 10};
		MUST(fcntl(f, F_SETLK, &u) == 0);
		reap();
	}
}

// Patience: time-outs much longer than the time between two checkpoints. Each
// call sits in a thread of its own, must end by itself, and begins again.
#define PATIENCE 2000 // ms
enum { CALLS = 15 };
static long begun[CALLS];
static sigset_t usr1;
static struct timespec *patience; // nobody may write there
static int quiet_epoll, quiet_socket, quiet_pipe[2];
static int quiet_word;

static long patient(int k) {
	struct timespec t = *patience;
	struct epoll_event v;
	struct pollfd f = {quiet_pipe[0], POLLIN, POLLIN};
	fd_set set;
	char b[8];
	struct iovec iov = {b, 8};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
	FD_ZERO(&set);
	FD_SET(quiet_pipe[0], &set);
	switch (k) {
	case 0: return sigtimedwait(&usr1, 0, patience) == -1 && errno == EAGAIN;
	case 1: return sigtimedwait(&usr1, 0, &t) == -1 && errno == EAGAIN;
	case 2: return poll(&f, 1, PATIENCE) == 0;
	case 3: return ppoll(&f, 1, &t, 0) == 0;
	case 4: return syscall(SYS_ppoll, &f, 1, patience, 0, 8) == 0 && !f.revents;
	case 5: return pselect(quiet_pipe[0] + 1, &set, 0, 0, patience, 0) == 0;
	case 6: return syscall(SYS_pselect6, quiet_pipe[0] + 1, &set, 0, 0, patience, 0) == 0 && !FD_ISSET(quiet_pipe[0], &set);
	case 7: return clock_nanosleep(CLOCK_MONOTONIC, 0, patience, 0) == 0;
	case 8: return syscall(SYS_nanosleep, &t, &t) == 0;
	case 9: return syscall(SYS_futex, &quiet_word, FUTEX_WAIT_PRIVATE, 0, patience, 0, 0) == -1 && errno == ETIMEDOUT;
	case 10: return epoll_wait(quiet_epoll, &v, 1, PATIENCE) == 0;
	case 11: return syscall(SYS_epoll_pwait2, quiet_epoll, &v, 1, patience, 0, 8) == 0;
	case 12: return recv(quiet_socket, b, 8, 0) == -1 && errno == EAGAIN;
	case 13: return recvmmsg(quiet_socket, &m, 1, 0, 0) == -1 && errno == EAGAIN;
	}
	t = in(CLOCK_MONOTONIC, PATIENCE);
	return syscall(SYS_futex, &quiet_word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, 0, FUTEX_BITSET_MATCH_ANY) == -1 && errno == ETIMEDOUT;
}
static void *be_patient(void *p) {
	int k = (long)p;
	FOREVER {
		long from = now_ms();
		__atomic_store_n(&begun[k], from, __ATOMIC_SEQ_CST);
		errno = 0;
		long r = patient(k), took = now_ms() - from;
		if (!r) bad("patient call %d ended wrongly after %ld ms", k, took);
		if (took < PATIENCE - EARLY) bad("patient call %d took %ld ms", k, took);
	}
}
static void patience_(void) {
	struct timeval v = {PATIENCE / 1000, 0};
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, 0);
	patience = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*patience = rel(PATIENCE);
	MUST(mprotect(patience, 4096, PROT_READ) == 0);
	quiet_epoll = an_epoll();
	quiet_socket = udp();
	MUST(pipe(quiet_pipe) == 0);
	MUST(setsockopt(quiet_socket, SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v) == 0);
	pthread_t t;
	for (long k = 0; k < CALLS; k++) {
		begun[k] = now_ms();
		MUST(pthread_create(&t, 0, be_patient, (void *)k) == 0);
	}
	FOREVER {
		for (int k = 0; k < CALLS; k++) {
			long at = __atomic_load_n(&begun[k], __ATOMIC_SEQ_CST), for_ = now_ms() - at;
			if (for_ > 3 * PATIENCE) bad("patient call %d does not end: %ld ms", k, for_);
		}
		ok();
	}
}

// A thread that waits for its vfork does not stop; what the others wait in must
// not notice that a freeze gave up. The child ends without a signal.
static void *cannot_stop(void *p) {
	FOREVER {
		pid_t c = syscall(SYS_clone, CLONE_VFORK, 0, 0, 0, 0);
		if (c == 0) {
			struct timespec t = {2, 0};
			syscall(SYS_nanosleep, &t, 0);
			_exit(0);
		}
		waitpid(c, 0, __WALL);
	}
	return p;
}
static void given_up(void) {
	pthread_t t;
	MUST(pthread_create(&t, 0, cannot_stop, 0) == 0);
	epoll_wait_();
}

#define A(f) {#f, f}
struct animal animals[] = {
	{"nanosleep", nanosleeps}, A(clock_rel), A(clock_real_rel), A(clock_abs), {"poll", poll_}, A(poll_fd), {"ppoll", ppoll_},
	{"select", select_}, {"pselect", pselect_}, {"epoll_wait", epoll_wait_}, {"epoll_pwait", epoll_pwait_},
	{"epoll_pwait2", epoll_pwait2_}, A(futex_rel), A(futex_abs), A(sem_timed), A(sem_clock), A(cond_timed), A(mutex_timed),
	{"sigtimedwait", sigtimed}, A(read_pipe), A(write_pipe), A(read_eventfd), A(read_timerfd), {"accept", accept_}, A(accept_unix), A(recv_udp),
	A(recvmsg_udp), A(recv_unix), A(recv_dgram), A(read_timeo), A(read_socket), {"wait4", wait4_}, {"waitid", waitid_},
	{"pause", pause_}, {"sigsuspend", sigsuspend_}, {"sigwait", sigwait_}, A(read_restart), {"lock_wait", flock_}, {"patience", patience_}, A(given_up), {0, 0},
};
