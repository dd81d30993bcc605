// Timers: each comes at its time, also across restores.
#include "zoo.h"
#include <sys/timerfd.h>

#define EARLY 20
#define LATE 400

static void on_time(const char *what, long at, long due) {
	look();
	if (at < due - EARLY || at > due + LATE + stalled) bad("%s came %ld ms after its time", what, at - due);
	stalled = 0;
}

static volatile int hits[65];
static void hit(int s) { hits[s]++; }
static void handle(int s) {
	struct sigaction a = {.sa_handler = hit, .sa_flags = SA_RESTART};
	MUST(sigaction(s, &a, 0) == 0);
}

static void itimer_real(void) {
	handle(SIGALRM);
	for (;;) {
		struct itimerval v = {.it_value = {0, 400000}}, now;
		long due = now_ms() + 400;
		hits[SIGALRM] = 0;
		MUST(setitimer(ITIMER_REAL, &v, 0) == 0);
		while (!hits[SIGALRM]) {
			long most = due - look();
			MUST(getitimer(ITIMER_REAL, &now) == 0);
			long left = now.it_value.tv_sec * 1000 + now.it_value.tv_usec / 1000, least = due - look();
			if (left && (left > most + LATE || left < least - LATE)) bad("%ld ms are left, not %ld to %ld", left, least, most);
			ok();
		}
		on_time("ITIMER_REAL", now_ms(), due);
	}
}
static void itimer_periodic(void) {
	handle(SIGALRM);
	struct itimerval v = {{0, 50000}, {0, 30000}};
	MUST(setitimer(ITIMER_REAL, &v, 0) == 0);
	long last = now_ms();
	for (;;) {
		int n = hits[SIGALRM];
		while (hits[SIGALRM] == n) nap(2);
		if (look() - last > 50 + LATE + stalled) bad("%ld ms between two ticks", looked - last);
		last = looked, stalled = 0;
		MUST(getitimer(ITIMER_REAL, &v) == 0);
		SAME(v.it_interval.tv_usec, 50000);
		ok();
	}
}
static void alarms(void) {
	handle(SIGALRM);
	for (;;) {
		long due = now_ms() + 1000;
		hits[SIGALRM] = 0;
		alarm(1);
		while (!hits[SIGALRM]) ok();
		on_time("alarm", now_ms(), due);
	}
}
static long cpu_ms(clockid_t c) {
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
// burn spends its time outside the kernel: ITIMER_VIRTUAL counts only that, by
// what each tick happens to find, and a loop of clock_gettime is never found there.
static void burn(int ms) {
	long until = cpu_ms(CLOCK_THREAD_CPUTIME_ID) + ms;
	while (cpu_ms(CLOCK_THREAD_CPUTIME_ID) < until)
		for (volatile int i = 0; i < 200000; i++);
}
static void itimer_cpu(void) {
	handle(SIGVTALRM);
	handle(SIGPROF);
	struct itimerval v = {{0, 20000}, {0, 20000}}, w;
	MUST(setitimer(ITIMER_VIRTUAL, &v, 0) == 0 && setitimer(ITIMER_PROF, &v, 0) == 0);
	for (;;) {
		int p = hits[SIGPROF], q = hits[SIGVTALRM];
		for (int i = 0; i < 200 && (hits[SIGPROF] == p || hits[SIGVTALRM] == q); i++) burn(2);
		CHECK(hits[SIGPROF] > p && hits[SIGVTALRM] > q);
		MUST(getitimer(ITIMER_PROF, &w) == 0);
		CHECK(w.it_interval.tv_usec >= 20000 && w.it_interval.tv_usec <= 24000);
		ok();
	}
}

static timer_t create(clockid_t c, int notify, int sig, void *value) {
	struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_ptr = value};
	if (notify == SIGEV_THREAD_ID) e._sigev_un._tid = gettid();
	int id;
	if (syscall(SYS_timer_create, c, &e, &id)) bad("timer_create");
	return (timer_t)(long)id;
}
static void settime(timer_t t, int flags, long value_ms, long every_ms) {
	struct itimerspec s = {{every_ms / 1000, every_ms % 1000 * 1000000}, {value_ms / 1000, value_ms % 1000 * 1000000}};
	if (syscall(SYS_timer_settime, (int)(long)t, flags, &s, 0)) bad("timer_settime");
}
static long left_ms(timer_t t, long *every) {
	struct itimerspec s;
	if (syscall(SYS_timer_gettime, (int)(long)t, &s)) bad("timer_gettime %d", (int)(long)t);
	if (every) *every = s.it_interval.tv_sec * 1000 + s.it_interval.tv_nsec / 1000000;
	return s.it_value.tv_sec * 1000 + s.it_value.tv_nsec / 1000000;
}

static volatile long values;
static volatile int last_tid;
static void info(int s, siginfo_t *i, void *u) {
	(void)u;
	hits[s]++;
	values = (long)i->si_value.sival_ptr;
	last_tid = gettid();
	if (i->si_code != SI_TIMER) bad("si_code %d", i->si_code);
}
static void handle_info(int s) {
	struct sigaction a = {.sa_sigaction = info, .sa_flags = SA_SIGINFO | SA_RESTART};
	MUST(sigaction(s, &a, 0) == 0);
}

static void posix(void) {
	handle_info(SIGRTMIN + 1);
	// Ids with gaps.
	timer_t t[8];
	for (int i = 0; i < 8; i++) t[i] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, (void *)(0x700000000000 + i));
	for (int i = 0; i < 8; i++) if (i != 3 && i != 6) syscall(SYS_timer_delete, (int)(long)t[i]);
	timer_t none = create(CLOCK_REALTIME, SIGEV_NONE, 0, 0);
	settime(none, 0, 3600000, 0);
	settime(t[6], 0, 7200000, 250);
	long begun = now_ms();
	for (;;) {
		long due = now_ms() + 300, every;
		hits[SIGRTMIN + 1] = 0;
		settime(t[3], 0, 300, 0);
		while (!hits[SIGRTMIN + 1]) ok();
		on_time("timer", now_ms(), due);
		SAME(values, 0x700000000003);
		long least = look() - begun, left = left_ms(t[6], &every), gone = look() - begun;
		SAME(every, 250);
		if (left > 7200000 - least + LATE || left < 7200000 - gone - LATE) bad("%ld ms are left after %ld", left, gone);
		left = left_ms(none, 0);
		CHECK(left > 3500000 && left < 3600000);
		CHECK(syscall(SYS_timer_gettime, 0, &every) == -1);
	}
}
static void *own_timer(void *p) {
	timer_t t = create(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 2, p);
	settime(t, 0, 40, 40);
	for (;;) {
		int n = hits[SIGRTMIN + 2];
		while (hits[SIGRTMIN + 2] == n) nap(3);
		if (last_tid != gettid()) bad("thread %d has the timer of %d", last_tid, gettid());
		SAME(values, (long)p);
		pulse[1]++;
		nap(10);
	}
}
static void thread_timer(void) {
	handle_info(SIGRTMIN + 2);
	pthread_t t;
	pthread_create(&t, 0, own_timer, (void *)0x1234567);
	for (;;) {
		alive(1);
		ok();
	}
}
static void cpu_timers(void) {
	handle_info(SIGRTMIN + 3);
	handle_info(SIGRTMIN + 4);
	timer_t a = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 3, 0);
	timer_t b = create(CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, SIGRTMIN + 4, 0);
	settime(a, 0, 20, 20);
	settime(b, 0, 30, 30);
	for (;;) {
		int p = hits[SIGRTMIN + 3], q = hits[SIGRTMIN + 4];
		for (int i = 0; i < 200 && (hits[SIGRTMIN + 3] == p || hits[SIGRTMIN + 4] == q); i++) burn(2);
		CHECK(hits[SIGRTMIN + 3] > p && hits[SIGRTMIN + 4] > q);
		ok();
	}
}
// A timer whose signal is pending and blocked counts its overruns.
static void overruns(void) {
	handle_info(SIGRTMIN + 5);
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN + 5);
	sigprocmask(SIG_BLOCK, &s, 0);
	timer_t t = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 5, (void *)77);
	settime(t, 0, 10, 10);
	for (;;) {
		nap(60);
		say_ok();
		nap(60);
		siginfo_t i;
		struct timespec w = {1, 0};
		MUST(sigtimedwait(&s, &i, &w) == SIGRTMIN + 5);
		SAME(i.si_code, SI_TIMER);
		SAME((long)i.si_value.sival_ptr, 77);
		MUST(sigtimedwait(&s, &i, &w) == SIGRTMIN + 5); // it goes on
	}
}

static uint64_t ticks(int f) {
	uint64_t v = 0;
	ssize_t n = read(f, &v, 8);
	if (n != 8 && errno != EAGAIN) bad("read timerfd");
	return n == 8 ? v : 0;
}
static void timerfds(void) {
	int periodic = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), once = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), off = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	struct itimerspec s = {{0, 40000000}, {0, 40000000}}, g;
	MUST(timerfd_settime(periodic, 0, &s, 0) == 0);
	long last = now_ms();
	for (;;) {
		s = (struct itimerspec){{0}, {0, 200000000}};
		long due = now_ms() + 200;
		MUST(timerfd_settime(once, 0, &s, 0) == 0);
		while (!ticks(once)) {
			if (ticks(periodic)) last = look();
			else if (look() - last > 40 + LATE + stalled) bad("%ld ms between two ticks", looked - last);
			ok();
		}
		on_time("timerfd", now_ms(), due);
		SAME(ticks(once), 0);
		SAME(ticks(off), 0);
		MUST(timerfd_gettime(periodic, &g) == 0);
		SAME(g.it_interval.tv_nsec, 40000000);
		SAME(g.it_value.tv_sec, 0);
		MUST(timerfd_gettime(once, &g) == 0);
		SAME(g.it_value.tv_sec + g.it_value.tv_nsec, 0);
		SAME(fcntl(once, F_GETFD), FD_CLOEXEC);
	}
}
// Ticks that nobody has read are still there.
static void unread(void) {
	int once = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), periodic = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	for (;;) {
		struct itimerspec s = {{0}, {0, 1000000}}, p = {{0, 30000000}, {0, 1000000}};
		long before = now_ms();
		MUST(timerfd_settime(once, 0, &s, 0) == 0 && timerfd_settime(periodic, 0, &p, 0) == 0);
		long from = now_ms();
		nap(50);
		say_ok();
		nap(50);
		SAME(ticks(once), 1);
		long least = (now_ms() - from) / 30 - 1, n = ticks(periodic), most = (now_ms() - before + LATE) / 30 + 1;
		if (n < least || n > most) bad("%ld ticks, not %ld to %ld", n, least, most);
	}
}
static void absolute(void) {
	int real = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK), mono = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	int boot = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK), cancel = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	struct itimerspec far = {{0}, {4000000000, 0}};
	MUST(timerfd_settime(cancel, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, 0) == 0);
	for (;;) {
		struct timespec t;
		long due[3];
		int fd[] = {real, mono, boot};
		clockid_t c[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
		for (int i = 0; i < 3; i++) {
			clock_gettime(c[i], &t);
			struct itimerspec s = {{0}, {t.tv_sec + 1, t.tv_nsec}};
			MUST(timerfd_settime(fd[i], TFD_TIMER_ABSTIME, &s, 0) == 0);
			due[i] = cpu_ms(c[i]) + 1000;
		}
		for (int seen = 0; seen != 7;) {
			for (int i = 0; i < 3; i++)
				if (!(seen & 1 << i) && ticks(fd[i])) {
					on_time("absolute timer", cpu_ms(c[i]), due[i]);
					seen |= 1 << i;
				} else if (!(seen & 1 << i) && cpu_ms(c[i]) > due[i] + LATE + stalled) bad("timer of clock %d does not come", c[i]);
			ok();
		}
		struct itimerspec g;
		MUST(timerfd_gettime(cancel, &g) == 0);
		clock_gettime(CLOCK_REALTIME, &t);
		long off = 4000000000 - t.tv_sec - g.it_value.tv_sec;
		CHECK(off >= -2 && off <= 2);
	}
}

// Clocks never go back, and MONOTONIC goes on without a gap.
static void clocks(void) {
	clockid_t c[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_TAI};
	enum { N = sizeof c / sizeof *c };
	struct timespec last[N], t, u;
	for (int i = 0; i < N; i++) clock_gettime(c[i], &last[i]);
	for (;;) {
		for (int i = 0; i < N; i++) {
			clock_gettime(c[i], &t);
			syscall(SYS_clock_gettime, c[i], &u);
			long d = (u.tv_sec - t.tv_sec) * 1000 + (u.tv_nsec - t.tv_nsec) / 1000000;
			if (d < -10 || d > 100) bad("clock %d is %ld ms off in the vdso", c[i], d);
			d = (t.tv_sec - last[i].tv_sec) * 1000 + (t.tv_nsec - last[i].tv_nsec) / 1000000;
			if (i < 5 && (d < 0 || d > 5000)) bad("clock %d went %ld ms", c[i], d);
			last[i] = t;
		}
		ok();
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(itimer_real), A(itimer_periodic), A(alarms), A(itimer_cpu), A(posix), A(thread_timer), A(cpu_timers), A(overruns),
	A(timerfds), A(unread), A(absolute), A(clocks), {0, 0},
};
