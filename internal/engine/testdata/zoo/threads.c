// Threads, signals and registers.
#include "zoo.h"
#include <linux/rseq.h>
#include <immintrin.h>
#include <sys/rseq.h>
#include <sys/ucontext.h>

static __thread long tls = 17;
static __thread char tls_name[32];

#define N 100
struct mine { int i; void *alt; };
static void *one_of_many(void *p) {
	struct mine *m = p;
	sigset_t s, now;
	char name[32], got[32];
	snprintf(name, sizeof name, "thread-%d", m->i);
	prctl(PR_SET_NAME, name);
	strcpy(tls_name, name);
	tls = m->i * 31;
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN + 1 + m->i % 20);
	if (m->i % 3 == 0) sigaddset(&s, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &s, 0);
	stack_t a = {malloc(16384), 0, 16384}, b;
	a.ss_sp = m->alt;
	MUST(sigaltstack(&a, 0) == 0);
	pid_t tid = gettid();
	void *self = (void *)pthread_self();
	for (;;) {
		SAME(gettid(), tid);
		SAME(syscall(SYS_gettid), tid);
		CHECK((void *)pthread_self() == self);
		SAME(tls, m->i * 31);
		CHECK(!strcmp(tls_name, name));
		prctl(PR_GET_NAME, got);
		CHECK(!strcmp(got, name));
		pthread_sigmask(SIG_SETMASK, 0, &now);
		for (int k = 1; k < 64; k++) SAME(sigismember(&now, k) == 1, sigismember(&s, k) == 1);
		MUST(sigaltstack(0, &b) == 0);
		CHECK(b.ss_sp == m->alt);
		SAME(b.ss_size, 16384);
		SAME(b.ss_flags, 0);
		__atomic_add_fetch(&pulse[m->i], 1, __ATOMIC_SEQ_CST);
		nap(40);
	}
}
static void hundred(void) {
	pthread_t t[N];
	pthread_attr_t at;
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, 65536);
	static struct mine m[N];
	for (int i = 0; i < N; i++) {
		m[i] = (struct mine){i, mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
		MUST(pthread_create(&t[i], &at, one_of_many, &m[i]) == 0);
	}
	for (;;) {
		for (int i = 0; i < N; i++) alive(i);
		ok();
	}
}

// Threads come and go.
static void *brief(void *p) { nap((long)p); return p; }
static void coming_and_going(void) {
	for (;;) {
		pthread_t t[6];
		for (long i = 0; i < 6; i++) MUST(pthread_create(&t[i], 0, brief, (void *)i) == 0);
		for (long i = 0; i < 6; i++) {
			void *r;
			MUST(pthread_join(t[i], &r) == 0);
			SAME(r, i);
		}
		say_ok();
	}
}

// While a handler runs on the alternate stack.
static char alt[65536];
static volatile int handled;
static void on_alt(int s, siginfo_t *i, void *u) {
	stack_t now;
	(void)u;
	for (int n = 0; n < 12; n++) {
		char here;
		CHECK(&here > alt && &here < alt + sizeof alt);
		MUST(sigaltstack(0, &now) == 0);
		SAME(now.ss_flags & SS_ONSTACK, SS_ONSTACK);
		CHECK(now.ss_sp == (void *)alt);
		sigset_t m;
		sigprocmask(SIG_BLOCK, 0, &m);
		SAME(sigismember(&m, s), 1);
		SAME(i->si_value.sival_int, 99);
		ok();
	}
	handled++;
}
static void altstack(void) {
	stack_t a = {alt, 0, sizeof alt}, now;
	struct sigaction h = {.sa_sigaction = on_alt, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	MUST(sigaltstack(&a, 0) == 0 && sigaction(SIGUSR1, &h, 0) == 0);
	for (int n = 0;; n++) {
		union sigval v = {.sival_int = 99};
		sigqueue(getpid(), SIGUSR1, v);
		SAME(handled, n + 1);
		MUST(sigaltstack(0, &now) == 0);
		SAME(now.ss_flags, 0);
		ok();
	}
}

// Robust mutexes: who dies holding one leaves it to be noticed.
static void robust(void) {
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutex_init(m, &a);
	for (;;) {
		pulse[1] = 0;
		pid_t c = fork();
		if (c == 0) {
			MUST(pthread_mutex_lock(m) == 0);
			pulse[1] = 1;
			for (;;) nap(1000);
		}
		while (!pulse[1]) nap(1);
		for (int i = 0; i < 8; i++) {
			SAME(pthread_mutex_trylock(m), EBUSY);
			ok();
		}
		kill(c, SIGKILL);
		waitpid(c, 0, 0);
		SAME(pthread_mutex_lock(m), EOWNERDEAD);
		MUST(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
	}
}

// Priority inheritance: the kernel knows of the waiters.
static pthread_mutex_t pi, plain;
static pthread_cond_t cond;
static void *contender(void *p) {
	for (;;) {
		MUST(pthread_mutex_lock(&pi) == 0);
		pulse[(long)p]++;
		nap(5);
		MUST(pthread_mutex_unlock(&pi) == 0);
		sched_yield();
	}
}
static void inheritance(void) {
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&pi, &a);
	pthread_t t;
	for (long i = 1; i <= 3; i++) pthread_create(&t, 0, contender, (void *)i);
	for (;;) {
		alive(1);
		alive(2);
		alive(3);
		ok();
	}
}
static volatile int turn;
static void *ponger(void *p) {
	pthread_mutex_lock(&plain);
	for (;;) {
		while (turn != 1) pthread_cond_wait(&cond, &plain);
		turn = 0;
		pthread_cond_broadcast(&cond);
	}
	return p;
}
static void condition(void) {
	pthread_t t;
	pthread_create(&t, 0, ponger, 0);
	for (;;) {
		pthread_mutex_lock(&plain);
		for (int i = 0; i < 50; i++) {
			turn = 1;
			pthread_cond_broadcast(&cond);
			while (turn != 0) pthread_cond_wait(&cond, &plain);
		}
		pthread_mutex_unlock(&plain);
		ok();
	}
}
static pthread_barrier_t barrier;
static void *at_barrier(void *p) {
	for (;;) {
		pthread_barrier_wait(&barrier);
		pulse[(long)p]++;
	}
}
static void barriers(void) {
	pthread_t t;
	pthread_barrier_init(&barrier, 0, 4);
	for (long i = 1; i <= 3; i++) pthread_create(&t, 0, at_barrier, (void *)i);
	for (long n = 1;; n++) {
		pthread_barrier_wait(&barrier);
		ok();
		for (int i = 1; i <= 3; i++) {
			for (int k = 0; pulse[i] < n && k < 1000; k++) nap(5); // let go, it has yet to run
			if (pulse[i] != n) bad("thread %d is at %ld, not %ld", i, pulse[i], n);
		}
	}
}

// The kernel writes the CPU into the area of restartable sequences.
static void rseq_(void) {
	volatile struct rseq *r = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	CHECK(__rseq_size > 0);
	int n = sysconf(_SC_NPROCESSORS_ONLN);
	for (int i = 0;; i++) {
		cpu_set_t s;
		CPU_ZERO(&s);
		CPU_SET(i % n, &s);
		MUST(sched_setaffinity(0, sizeof s, &s) == 0);
		sched_yield();
		SAME(r->cpu_id, i % n);
		SAME(sched_getcpu(), i % n);
		ok();
	}
}

// --- signals

static void pending(void) {
	sigset_t s, p;
	sigemptyset(&s);
	for (int i = 0; i < 5; i++) sigaddset(&s, SIGRTMIN + 5 + i);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGUSR2);
	sigprocmask(SIG_BLOCK, &s, 0);
	for (;;) {
		union sigval v;
		for (int k = 0; k < 3; k++)
			for (int i = 0; i < 5; i++) {
				v.sival_int = 1000 * i + k;
				sigqueue(getpid(), SIGRTMIN + 5 + i, v);
			}
		raise(SIGUSR1); // to the thread
		kill(getpid(), SIGUSR2);
		v.sival_int = 555;
		pthread_sigqueue(pthread_self(), SIGRTMIN + 5, v);
		for (int n = 0; n < 6; n++) {
			MUST(sigpending(&p) == 0);
			for (int i = 1; i < 64; i++) SAME(sigismember(&p, i) == 1, sigismember(&s, i) == 1);
			ok();
		}
		siginfo_t in;
		struct timespec none = {0};
		int thread_seen = 0;
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < (i ? 3 : 4); k++) {
				sigset_t one;
				sigemptyset(&one);
				sigaddset(&one, SIGRTMIN + 5 + i);
				MUST(sigtimedwait(&one, &in, &none) == SIGRTMIN + 5 + i);
				SAME(in.si_code, SI_QUEUE);
				SAME(in.si_pid, getpid());
				if (i == 0 && in.si_value.sival_int == 555) thread_seen++;
				else SAME(in.si_value.sival_int, 1000 * i + k - (i == 0 ? thread_seen : 0));
			}
		SAME(thread_seen, 1);
		SAME(sigtimedwait(&s, &in, &none), SIGUSR1);
		SAME(in.si_code, SI_USER); // glibc makes it so
		SAME(sigtimedwait(&s, &in, &none), SIGUSR2);
		SAME(in.si_code, SI_USER);
		SAME(in.si_pid, getpid());
		MUST(sigtimedwait(&s, &in, &none) == -1);
	}
}

static volatile int count[65], infos;
static void plain_handler(int s) { count[s]++; }
static void info_handler(int s, siginfo_t *i, void *u) {
	count[s]++;
	infos += i->si_signo == s && ((ucontext_t *)u)->uc_mcontext.gregs[REG_RIP] != 0;
}
static void handlers(void) {
	struct sigaction a[6] = {
		{.sa_handler = plain_handler, .sa_flags = SA_RESTART},
		{.sa_sigaction = info_handler, .sa_flags = SA_SIGINFO | SA_NODEFER},
		{.sa_handler = plain_handler, .sa_flags = SA_RESETHAND},
		{.sa_handler = SIG_IGN},
		{.sa_handler = plain_handler, .sa_flags = SA_ONSTACK | SA_NOCLDSTOP | SA_NOCLDWAIT},
		{.sa_handler = plain_handler},
	}, now;
	int sig[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGPIPE, SIGCHLD, SIGRTMAX};
	sigaddset(&a[0].sa_mask, SIGTERM);
	sigaddset(&a[5].sa_mask, SIGRTMIN + 7);
	for (int i = 0; i < 6; i++) MUST(sigaction(sig[i], &a[i], 0) == 0);
	for (int n = 1;; n++) {
		for (int i = 0; i < 6; i++) {
			MUST(sigaction(sig[i], 0, &now) == 0);
			CHECK(now.sa_handler == a[i].sa_handler);
			SAME(now.sa_flags & ~0x04000000, a[i].sa_flags);
			for (int k = 1; k < 64; k++) SAME(sigismember(&now.sa_mask, k), sigismember(&a[i].sa_mask, k));
		}
		raise(SIGUSR1);
		raise(SIGUSR2);
		raise(SIGPIPE);
		SAME(count[SIGUSR1], n);
		SAME(infos, n);
		if (n % 7 == 0) {
			raise(SIGHUP);
			MUST(sigaction(SIGHUP, 0, &now) == 0 && now.sa_handler == SIG_DFL);
			MUST(sigaction(SIGHUP, &a[2], 0) == 0);
		}
		SAME(count[SIGHUP], n / 7);
		MUST(sigaction(SIGTERM, 0, &now) == 0 && now.sa_handler == SIG_DFL);
		ok();
	}
}

// A storm of signals between processes: none of the queued ones is lost.
static volatile long got;
static void counted(int s, siginfo_t *i, void *u) {
	(void)s, (void)u;
	if (i->si_value.sival_int != got) bad("signal %d comes instead of %ld", i->si_value.sival_int, got);
	got++;
}
static void storm(void) {
	struct sigaction a = {.sa_sigaction = counted, .sa_flags = SA_SIGINFO | SA_RESTART};
	MUST(sigaction(SIGRTMIN, &a, 0) == 0);
	pid_t me = getpid();
	if (fork() == 0)
		for (int n = 0;; n++) {
			union sigval v = {.sival_int = n};
			while (sigqueue(me, SIGRTMIN, v)) {
				if (errno != EAGAIN) _exit(0);
				nap(1);
			}
			if (n % 20 == 0) nap(1);
		}
	for (;;) {
		long was = got;
		while (got < was + 200) nap(1);
		say_ok();
	}
}

// --- registers

static void avx(void) {
	long seed = 1;
	for (;;) {
		long until = now_ms() + 25, bad_ones = 0;
		do {
			__asm__ volatile(
				"vmovq %[seed], %%xmm0\n vpbroadcastq %%xmm0, %%ymm0\n"
				"vmovdqa %%ymm0, %%ymm7\n vmovdqa %%ymm0, %%ymm15\n"
				"mov %[seed], %%r12\n mov %[seed], %%r13\n mov %[seed], %%rbx\n"
				"mov $200000, %%ecx\n"
				"1: vpaddq %%ymm0, %%ymm7, %%ymm7\n vpsubq %%ymm0, %%ymm7, %%ymm7\n"
				"add %%r12, %%r13\n sub %%r12, %%r13\n"
				"dec %%ecx\n jnz 1b\n"
				"vpcmpeqq %%ymm0, %%ymm7, %%ymm1\n vpcmpeqq %%ymm0, %%ymm15, %%ymm2\n vpand %%ymm1, %%ymm2, %%ymm1\n"
				"vmovmskpd %%ymm1, %%eax\n xor $15, %%eax\n movslq %%eax, %%rax\n add %%rax, %[bad]\n"
				"sub %%r12, %%r13\n or %%r13, %[bad]\n sub %%r12, %%rbx\n or %%rbx, %[bad]\n"
				: [bad] "+r"(bad_ones) : [seed] "r"(seed) : "rax", "rbx", "rcx", "r12", "r13", "xmm0", "xmm1", "xmm2", "xmm7", "xmm15", "cc", "memory");
			if (bad_ones) bad("registers have changed");
			seed += 0x123456789;
		} while (now_ms() < until);
		say_ok();
	}
}
__attribute__((target("avx512f"))) static void avx512(void) {
	long seed = 1;
	for (;;) {
		long until = now_ms() + 25, bad_ones = 0;
		do {
			__asm__ volatile(
				"vpbroadcastq %[seed], %%zmm31\n vmovdqa64 %%zmm31, %%zmm17\n mov $0x5a, %%eax\n kmovw %%eax, %%k3\n"
				"mov $200000, %%ecx\n"
				"1: vpaddq %%zmm31, %%zmm17, %%zmm17\n vpsubq %%zmm31, %%zmm17, %%zmm17\n dec %%ecx\n jnz 1b\n"
				"vpcmpeqq %%zmm31, %%zmm17, %%k1\n kmovw %%k1, %%eax\n xor $255, %%eax\n movslq %%eax, %%rax\n or %%rax, %[bad]\n"
				"kmovw %%k3, %%eax\n xor $0x5a, %%eax\n movslq %%eax, %%rax\n or %%rax, %[bad]\n"
				: [bad] "+r"(bad_ones) : [seed] "r"(seed) : "rax", "rcx", "xmm17", "xmm31", "k1", "k3", "cc", "memory");
			if (bad_ones) bad("registers have changed");
			seed += 0x123456789;
		} while (now_ms() < until);
		say_ok();
	}
}
static void control_words(void) {
	unsigned short cw = 0x0c7f, now; // rounds to zero
	unsigned mx = 0x9fc0, mxnow;
	__asm__ volatile("fldcw %0" ::"m"(cw));
	__asm__ volatile("ldmxcsr %0" ::"m"(mx));
	__asm__ volatile("fldpi\n fldl2e");
	static long area;
	syscall(SYS_arch_prctl, 0x1001, &area); // ARCH_SET_GS
	for (;;) {
		__asm__ volatile("fnstcw %0" : "=m"(now));
		__asm__ volatile("stmxcsr %0" : "=m"(mxnow));
		SAME(now, cw);
		SAME(mxnow & 0xffc0, mx);
		long double a, b;
		__asm__ volatile("fstpt %0\n fstpt %1\n fldt %1\n fldt %0" : "=m"(a), "=m"(b));
		CHECK(a == 1.442695040888963407279231565549793L || (a > 1.44L && a < 1.45L));
		CHECK(b > 3.14159L && b < 3.14160L);
		unsigned long gs;
		syscall(SYS_arch_prctl, 0x1004, &gs);
		SAME(gs, &area);
		ok();
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(hundred), A(coming_and_going), A(altstack), A(robust), A(inheritance), A(condition), A(barriers), {"rseq", rseq_},
	A(pending), A(handlers), A(storm), A(avx), A(avx512), A(control_words), {0, 0},
};
