// threads checks itself: several threads rewrite patterned pages, keep
// registers and thread-local variables, take signals and timers, and hand a
// token round, and the first thing that is not as it was left ends the program
// with a line that begins with "bad:". Otherwise it prints consecutive
// numbers. It idles while the file named by its argument exists.
#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 4, PAGES = 384, WORDS = 512 };
enum { STUCK_SECONDS = 20, QUEUE_MAX = 32, ALTSTACK = 64 * 1024 };

// What must move while the program is not idle.
enum { T_MEMORY, T_VECTOR = T_MEMORY + WRITERS, T_POSIX, T_THREADTIMER, T_ITIMER, T_TIMERFD,
       T_QUEUE, T_TOKEN_A, T_TOKEN_B, T_CLOCK, T_ALTSTACK, T_ALL };
static const char *const track_names[T_ALL] = {
	"memory 0", "memory 1", "memory 2", "memory 3", "vector", "posix timer", "thread timer", "itimer", "timerfd",
	"queued signals", "token a", "token b", "clock", "alternate stack",
};
static _Atomic uint64_t track[T_ALL];
static _Atomic int idle;
static const char *gate = "";

static __thread uint64_t tls_id, tls_count;
static __thread char tls_text[32];

static void bad(const char *format, ...)
{
	char line[256] = "bad: ";
	va_list ap;

	va_start(ap, format);
	vsnprintf(line + 5, sizeof line - 6, format, ap);
	va_end(ap);
	strcat(line, "\n");
	(void)!write(1, line, strlen(line));
	_exit(3);
}

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static void wait_while_idle(void)
{
	while (atomic_load(&idle))
		pause_ms(10);
}

static uint64_t now(clockid_t clock)
{
	struct timespec ts;
	if (clock_gettime(clock, &ts) != 0)
		bad("clock_gettime %d", clock);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

// identity is what a thread knows of itself; it must never change.
struct identity {
	pid_t pid, tid;
	pthread_t self;
	sigset_t mask;
	uint64_t id;
};

static struct identity whoami(uint64_t id)
{
	struct identity i = { .pid = getpid(), .tid = syscall(SYS_gettid), .self = pthread_self(), .id = id };

	pthread_sigmask(SIG_BLOCK, NULL, &i.mask);
	tls_id = id;
	tls_count = 0;
	snprintf(tls_text, sizeof tls_text, "thread %lu", (unsigned long)id);
	return i;
}

static void check_identity(const struct identity *i)
{
	char text[32];
	sigset_t mask;

	if (getpid() != i->pid || syscall(SYS_gettid) != i->tid || !pthread_equal(pthread_self(), i->self))
		bad("thread %lu: pid %d tid %ld, was %d %d", i->id, getpid(), syscall(SYS_gettid), i->pid, i->tid);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	for (int s = 1; s < 65; s++)
		if (s != 32 && s != 33 && sigismember(&mask, s) != sigismember(&i->mask, s))
			bad("thread %lu: mask of signal %d changed", i->id, s);
	snprintf(text, sizeof text, "thread %lu", (unsigned long)i->id);
	if (tls_id != i->id || strcmp(text, tls_text) != 0)
		bad("thread %lu: tls id %lu text %s", i->id, tls_id, tls_text);
	if ((unsigned)sched_getcpu() > 4096)
		bad("thread %lu: cpu %d", i->id, sched_getcpu());
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53u;
	return x ^ x >> 33;
}

static void fill(uint64_t *page, uint64_t id, uint64_t index, uint64_t sequence)
{
	uint64_t seed = mix(id << 48 ^ index << 32 ^ sequence);
	for (int w = 0; w < WORDS; w++)
		page[w] = seed + w * 0x9e3779b97f4a7c15u;
}

static void verify(const uint64_t *page, uint64_t id, uint64_t index, uint64_t sequence)
{
	uint64_t seed = mix(id << 48 ^ index << 32 ^ sequence);
	for (int w = 0; w < WORDS; w++)
		if (page[w] != seed + w * 0x9e3779b97f4a7c15u)
			bad("memory %lu: page %lu word %d of sequence %lu", id, index, w, sequence);
}

static void *memory_thread(void *arg)
{
	uint64_t id = (uintptr_t)arg, count = 0;
	struct identity me = whoami(id);
	uint64_t *sequences = calloc(PAGES, sizeof *sequences);
	uint64_t *area = mmap(NULL, (size_t)PAGES * WORDS * 8, PROT_READ | PROT_WRITE,
			      (id % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
	uint64_t random = id + 1;

	if (area == MAP_FAILED || sequences == NULL)
		bad("memory %lu: no memory", id);
	for (uint64_t p = 0; p < PAGES; p++)
		fill(area + p * WORDS, id, p, 0);
	for (;;) {
		uint64_t p = (random = mix(random + id + 1)) % PAGES;
		uint64_t *page = area + p * WORDS;

		verify(page, id, p, sequences[p]);
		fill(page, id, p, ++sequences[p]);
		if (random % 64 == 0 && mprotect(page, 4096, PROT_READ) == 0) {
			verify(page, id, p, sequences[p]);
			mprotect(page, 4096, PROT_READ | PROT_WRITE);
		}
		if (++tls_count != ++count)
			bad("memory %lu: tls count %lu, not %lu", id, tls_count, count);
		check_identity(&me);
		atomic_fetch_add(&track[T_MEMORY + id], 1);
		pause_ms(1);
		wait_while_idle();
	}
	return NULL;
}

// spin_vectors keeps values in all sixteen vector registers, the x87 stack
// and the integer registers over a long loop without touching memory, so that
// a freeze falls into it, and stores them again.
__attribute__((target("avx"))) static void spin_avx(const double *in, double *out, long rounds)
{
	__asm__ volatile(
		"fldpi\n vmovupd (%0),%%ymm0\n vmovupd 32(%0),%%ymm1\n vmovupd 64(%0),%%ymm7\n vmovupd 96(%0),%%ymm15\n"
		"mov $0x1122334455667788,%%r12\n mov %2,%%rcx\n1: dec %%rcx\n jnz 1b\n"
		"vmovupd %%ymm0,(%1)\n vmovupd %%ymm1,32(%1)\n vmovupd %%ymm7,64(%1)\n vmovupd %%ymm15,96(%1)\n"
		"mov %%r12,128(%1)\n fstpl 136(%1)\n"
		: : "r"(in), "r"(out), "r"(rounds) : "rcx", "r12", "memory", "xmm0", "xmm1", "xmm7", "xmm15", "st");
}

static void spin_sse(const double *in, double *out, long rounds)
{
	__asm__ volatile(
		"fldpi\n movupd (%0),%%xmm0\n movupd 16(%0),%%xmm1\n movupd 32(%0),%%xmm7\n movupd 48(%0),%%xmm15\n"
		"mov $0x1122334455667788,%%r12\n mov %2,%%rcx\n1: dec %%rcx\n jnz 1b\n"
		"movupd %%xmm0,(%1)\n movupd %%xmm1,16(%1)\n movupd %%xmm7,32(%1)\n movupd %%xmm15,48(%1)\n"
		"mov %%r12,128(%1)\n fstpl 136(%1)\n"
		: : "r"(in), "r"(out), "r"(rounds) : "rcx", "r12", "memory", "xmm0", "xmm1", "xmm7", "xmm15", "st");
}

static void *vector_thread(void *arg)
{
	struct identity me = whoami((uintptr_t)arg);
	int avx = __builtin_cpu_supports("avx");

	fesetround(FE_UPWARD);
	for (uint64_t n = 1;; n++) {
		double in[16], out[18] = { 0 };
		uint64_t r12;

		for (int i = 0; i < 16; i++)
			in[i] = n * 16 + i + 0.5;
		if (avx)
			spin_avx(in, out, 2000000);
		else
			spin_sse(in, out, 2000000);
		if (memcmp(in, out, avx ? 128 : 64) != 0)
			bad("vector: registers changed in round %lu", n);
		memcpy(&r12, out + 16, 8);
		if (r12 != 0x1122334455667788u || out[17] < 3.14159 || out[17] > 3.14160)
			bad("vector: r12 %lx, st0 %f", r12, out[17]);
		if (fegetround() != FE_UPWARD)
			bad("vector: rounding %d", fegetround());
		check_identity(&me);
		atomic_fetch_add(&track[T_VECTOR], 1);
		pause_ms(4);
		wait_while_idle();
	}
	return NULL;
}

static void on_timer(int sig, siginfo_t *info, void *context)
{
	int which = sig == SIGRTMIN + 1 ? T_POSIX : T_THREADTIMER;

	(void)context;
	if (info->si_code != SI_TIMER || info->si_value.sival_int != 4711 + which)
		bad("timer: code %d value %d", info->si_code, info->si_value.sival_int);
	atomic_fetch_add(&track[which], 1);
}

static void on_alarm(int sig)
{
	(void)sig;
	atomic_fetch_add(&track[T_ITIMER], 1);
}

static void start_timer(int which, int sig, int notify, int ms)
{
	struct itimerspec period = { { 0, ms * 1000000 }, { 0, ms * 1000000 } };
	struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = 4711 + which };
	timer_t timer;

	event._sigev_un._tid = syscall(SYS_gettid);
	sigaction(sig, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &period, NULL) != 0)
		bad("timer_create: %s", strerror(errno));
}

static void *timer_thread(void *arg)
{
	struct identity me = whoami((uintptr_t)arg);
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct itimerspec period = { { 0, 15000000 }, { 0, 15000000 } };

	start_timer(T_THREADTIMER, SIGRTMIN + 3, SIGEV_THREAD_ID, 12);
	timerfd_settime(fd, 0, &period, NULL);
	for (;;) {
		uint64_t ticks = 0;
		ssize_t n = read(fd, &ticks, sizeof ticks);

		if (n != sizeof ticks && errno != EINTR)
			bad("timerfd: read %zd: %s", n, strerror(errno));
		check_identity(&me);
		atomic_fetch_add(&track[T_TIMERFD], 1);
	}
	return NULL;
}

static _Atomic int queued, received;

static void *receive_thread(void *arg)
{
	struct timespec patience = { 0, 200000000 };
	struct identity me;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	me = whoami((uintptr_t)arg);
	for (int expect = 1;;) {
		siginfo_t info;
		int sig = sigtimedwait(&set, &info, &patience);

		check_identity(&me);
		if (sig < 0)
			continue;
		if (info.si_code != SI_QUEUE || info.si_value.sival_int != expect || info.si_pid != getpid())
			bad("queue: code %d value %d pid %d, expected %d", info.si_code, info.si_value.sival_int, info.si_pid, expect);
		atomic_store(&received, expect++);
		atomic_fetch_add(&track[T_QUEUE], 1);
	}
	return NULL;
}

static void *send_thread(void *arg)
{
	whoami((uintptr_t)arg);
	for (;;) {
		while (atomic_load(&queued) - atomic_load(&received) < QUEUE_MAX) {
			union sigval value = { .sival_int = atomic_load(&queued) + 1 };
			if (sigqueue(getpid(), SIGRTMIN + 2, value) != 0)
				break;
			atomic_fetch_add(&queued, 1);
		}
		pause_ms(3);
		wait_while_idle();
	}
	return NULL;
}

static pthread_mutex_t token_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t token_moved = PTHREAD_COND_INITIALIZER;
static uint64_t token;

static void *token_thread(void *arg)
{
	uint64_t id = (uintptr_t)arg, side = id % 2, mine = 0;
	struct identity me = whoami(id);

	for (;;) {
		pthread_mutex_lock(&token_lock);
		while (token % 2 != side)
			pthread_cond_wait(&token_moved, &token_lock);
		if (token != mine * 2 + side)
			bad("token: %lu, expected %lu", token, mine * 2 + side);
		token++, mine++;
		pthread_cond_signal(&token_moved);
		pthread_mutex_unlock(&token_lock);
		check_identity(&me);
		atomic_fetch_add(&track[side ? T_TOKEN_B : T_TOKEN_A], 1);
		if (side)
			pause_ms(1);
		wait_while_idle();
	}
	return NULL;
}

static void *clock_thread(void *arg)
{
	struct identity me = whoami((uintptr_t)arg);
	uint64_t last = now(CLOCK_MONOTONIC), boot = now(CLOCK_BOOTTIME);

	for (;;) {
		struct timespec until;
		uint64_t t, b;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 7000000;
		if (until.tv_nsec >= 1000000000)
			until.tv_sec++, until.tv_nsec -= 1000000000;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		t = now(CLOCK_MONOTONIC), b = now(CLOCK_BOOTTIME);
		if (t < last || t - last > 30000000000u)
			bad("clock: monotonic went from %lu to %lu", last, t);
		if (b < boot)
			bad("clock: boottime went from %lu to %lu", boot, b);
		last = t, boot = b;
		check_identity(&me);
		atomic_fetch_add(&track[T_CLOCK], 1);
	}
	return NULL;
}

static char altstack[ALTSTACK];

static void on_altstack(int sig)
{
	char here;
	(void)sig;
	if (&here < altstack || &here >= altstack + ALTSTACK)
		bad("alternate stack: handler ran at %p", (void *)&here);
	atomic_fetch_add(&track[T_ALTSTACK], 1);
}

static void *altstack_thread(void *arg)
{
	stack_t stack = { .ss_sp = altstack, .ss_size = ALTSTACK };
	struct sigaction action = { .sa_handler = on_altstack, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct identity me = whoami((uintptr_t)arg);

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR2, &action, NULL);
	for (;;) {
		pthread_kill(pthread_self(), SIGUSR2);
		check_identity(&me);
		pause_ms(11);
		wait_while_idle();
	}
	return NULL;
}

static void spawn(void *(*body)(void *), uint64_t id, const char *name)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, body, (void *)(uintptr_t)id) != 0)
		bad("pthread_create %s", name);
	pthread_setname_np(thread, name);
}

// watch ends the program when something that must move has not for long.
static void watch(void)
{
	static uint64_t seen[T_ALL], since[T_ALL];
	uint64_t t = now(CLOCK_MONOTONIC);

	for (int i = 0; i < T_ALL; i++) {
		uint64_t value = atomic_load(&track[i]);
		if (since[i] == 0 || value != seen[i] || atomic_load(&idle))
			seen[i] = value, since[i] = t;
		else if (t - since[i] > STUCK_SECONDS * 1000000000ull)
			bad("stuck: %s at %lu", track_names[i], value);
	}
}

static void start_threads(void)
{
	spawn(vector_thread, 10, "vector");
	spawn(timer_thread, 11, "timer");
	spawn(receive_thread, 12, "receive");
	spawn(send_thread, 13, "send");
	spawn(token_thread, 20, "token-a");
	spawn(token_thread, 21, "token-b");
	spawn(clock_thread, 14, "clock");
	spawn(altstack_thread, 15, "altstack");
	for (uint64_t i = 0; i < WRITERS; i++)
		spawn(memory_thread, i, "memory");
}

int main(int argc, char **argv)
{
	struct itimerval alarm_period = { { 0, 20000 }, { 0, 20000 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct identity me;
	sigset_t set, pending;

	if (argc > 1)
		gate = argv[1];
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	start_threads();
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_kill(pthread_self(), SIGUSR1); // stays pending for ever
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &alarm_period, NULL);
	start_timer(T_POSIX, SIGRTMIN + 1, SIGEV_SIGNAL, 10);
	me = whoami(30);
	for (unsigned long n = 0;;) {
		char line[32];
		int len;

		atomic_store(&idle, access(gate, F_OK) == 0);
		watch();
		check_identity(&me);
		if (sigpending(&pending) != 0 || !sigismember(&pending, SIGUSR1))
			bad("the pending signal is gone");
		pause_ms(4);
		if (atomic_load(&idle))
			continue;
		len = snprintf(line, sizeof line, "%lu\n", ++n);
		if (write(1, line, len) != len)
			bad("write: %s", strerror(errno));
	}
}
