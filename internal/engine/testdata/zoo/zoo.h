// What the animals have in common. An animal sets something up, then checks in
// every round that all is as it must be and prints "ok N"; at the first thing
// that is not it prints "BAD: what" and ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2), noreturn, unused)) static void bad(const char *f, ...) {
	char b[512];
	int e = errno, n = snprintf(b, sizeof b, "BAD: ");
	va_list ap;
	va_start(ap, f);
	n += vsnprintf(b + n, sizeof b - n - 64, f, ap);
	n += snprintf(b + n, 64, " (errno %d %s)\n", e, strerrorname_np(e) ? strerrorname_np(e) : "");
	if (write(1, b, n) < 0) abort();
	_exit(1);
}

// CHECK says what is wrong with the numbers that are compared.
#define CHECK(c) do { errno = 0; if (!(c)) bad("%s:%d: %s", __func__, __LINE__, #c); } while (0)
#define MUST(c) do { if (!(c)) bad("%s:%d: %s", __func__, __LINE__, #c); } while (0)
#define SAME(a, b) do { errno = 0; long x_ = (long)(a), y_ = (long)(b); \
	if (x_ != y_) bad("%s:%d: %s is %ld (%#lx), not %s = %ld (%#lx)", __func__, __LINE__, #a, x_, x_, #b, y_, y_); } while (0)

__attribute__((unused)) static long now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// stalled is the longest time between two looks at the clock: on a busy machine
// nothing can be on time that the animal sees only later. Two seconds of it
// are too many for any excuse.
static long looked, stalled;
__attribute__((unused)) static long look(void) {
	long t = now_ms();
	if (looked && t - looked > stalled && t - looked < 2000) stalled = t - looked;
	return looked = t;
}

__attribute__((unused)) static void nap(long ms) {
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	look();
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR);
	look();
}

static long rounds;

__attribute__((unused)) static void say_ok(void) {
	char b[32];
	int n = snprintf(b, sizeof b, "ok %ld\n", ++rounds);
	if (write(1, b, n) != n) _exit(3);
}

// ok ends a round.
__attribute__((unused)) static void ok(void) {
	say_ok();
	nap(15);
}

// Pulses: processes and threads of an animal show here that they live.
#define PULSES 256
static volatile long *pulse;
static long last_pulse[PULSES];

__attribute__((constructor)) static void make_pulses(void) {
	pulse = mmap(0, PULSES * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pulse == MAP_FAILED) abort();
}

__attribute__((unused)) static void beat(int i) {
	__atomic_add_fetch(&pulse[i], 1, __ATOMIC_SEQ_CST);
	nap(10);
}

// alive waits until pulse i has moved since the last call.
__attribute__((unused)) static void alive(int i) {
	long until = now_ms() + 5000;
	while (pulse[i] == last_pulse[i]) {
		if (now_ms() > until) bad("pulse %d stands still", i);
		nap(2);
	}
	last_pulse[i] = pulse[i];
}

__attribute__((unused)) static void slurp(const char *path, char *b, size_t size) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) bad("open %s", path);
	size_t n = 0;
	ssize_t k;
	while (n < size - 1 && (k = read(fd, b + n, size - 1 - n)) > 0) n += k;
	b[n] = 0;
	close(fd);
}

// status_of reads a field of /proc/PID/status, "State:" for example.
__attribute__((unused)) static char *status_of(int pid, const char *field) {
	static char b[8192];
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	slurp(path, b, sizeof b);
	char *p = strstr(b, field);
	if (!p) bad("no %s in %s", field, path);
	p += strlen(field);
	while (*p == ' ' || *p == '\t') p++;
	p[strcspn(p, "\n")] = 0;
	return p;
}

struct animal { const char *name; void (*live)(void); };
extern struct animal animals[];

int main(int argc, char **argv) {
	for (struct animal *a = animals; argc == 2 && a->name; a++)
		if (!strcmp(a->name, argv[1])) {
			a->live();
			return 0;
		}
	bad("no such animal");
}
