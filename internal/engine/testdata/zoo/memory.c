// Memory.
#include "zoo.h"
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>

#define P 4096ul
static char *map(size_t n, int prot, int flags) {
	char *p = mmap(0, n, prot, flags, flags & MAP_ANONYMOUS ? -1 : 0, 0);
	if (p == MAP_FAILED) bad("mmap %zu", n);
	return p;
}
static char *anon(size_t n) { return map(n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS); }
static void fill(char *p, size_t n, unsigned seed) {
	for (size_t i = 0; i < n; i += 8) *(uint64_t *)(p + i) = (seed + i / 8) * 0x9e3779b97f4a7c15ull;
}
static void same(const char *p, size_t n, unsigned seed) {
	for (size_t i = 0; i < n; i += 8)
		if (*(uint64_t *)(p + i) != (seed + i / 8) * 0x9e3779b97f4a7c15ull) bad("byte %zu of %p is wrong", i, p);
}
static void zero(const char *p, size_t n) {
	for (size_t i = 0; i < n; i += 8) if (*(uint64_t *)(p + i)) bad("byte %zu of %p is not zero", i, p);
}
static int vm_flag(const void *at, const char *flag) {
	static char b[1 << 18];
	slurp("/proc/self/smaps", b, sizeof b);
	for (char *p = b, *e; p && *p; p = e ? e + 1 : 0) {
		unsigned long from, to;
		e = strchr(p, '\n');
		if (sscanf(p, "%lx-%lx ", &from, &to) != 2 || (unsigned long)at < from || (unsigned long)at >= to) continue;
		char *f = strstr(p, "VmFlags:"), *end = strchr(f, '\n');
		char line[256], want[8];
		snprintf(line, sizeof line, "%.*s ", (int)(end - f), f);
		snprintf(want, sizeof want, " %s ", flag);
		return strstr(line, want) != 0;
	}
	bad("no mapping at %p", at);
}

static void private(void) {
	size_t n = 64 * P;
	char *p = anon(n);
	unsigned seed[64];
	for (int i = 0; i < 64; i++) fill(p + i * P, P, seed[i] = i);
	for (unsigned r = 1;; r++) {
		for (int i = 0; i < 64; i++) same(p + i * P, P, seed[i]);
		for (int k = 0; k < 5; k++) {
			int i = (r * 13 + k * 7) % 64;
			fill(p + i * P, P, seed[i] = r * 100 + k);
		}
		ok();
	}
}
// After fork the two go apart.
static void copy_on_write(void) {
	char *p = anon(16 * P);
	fill(p, 16 * P, 1);
	for (;;) {
		pulse[1] = 0;
		pid_t c = fork();
		if (c == 0) {
			for (int i = 0; i < 16; i += 2) fill(p + i * P, P, 500 + i);
			for (;;) {
				for (int i = 0; i < 16; i += 2) same(p + i * P, P, 500 + i);
				for (int i = 1; i < 16; i += 2) same(p + i * P, P, 1 + i * P / 8);
				beat(1);
			}
		}
		for (int i = 0; i < 10; i++) {
			same(p, 16 * P, 1);
			alive(1);
			ok();
		}
		kill(c, SIGKILL);
		waitpid(c, 0, 0);
	}
}
static void shared_anonymous(void) {
	char *p = map(8 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS), *q = map(4 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	volatile long *a = (void *)p, *b = (void *)(p + 5 * P);
	fill(q, 4 * P, 3);
	if (fork() == 0) {
		mprotect(q, 4 * P, PROT_READ);
		munmap(q, P); // sees only a part
		for (;;) {
			if (*a > *b) (*b)++;
			same(q + P, 3 * P, 3 + P / 8);
			if (getppid() == 1) _exit(0);
		}
	}
	for (long n = 1;; n++) {
		(*a)++;
		while (*b != n) ;
		same(q, 4 * P, 3);
		ok();
	}
}
static void files(void) {
	int f = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600), g = open("readonly", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char buf[4 * P];
	fill(buf, sizeof buf, 9);
	MUST(write(f, buf, sizeof buf) == sizeof buf && write(g, buf, sizeof buf) == sizeof buf);
	char *s = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), *s2 = mmap(0, P, PROT_READ, MAP_SHARED, f, 2 * P);
	char *v = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, g, 0), *r = mmap(0, 2 * P, PROT_READ, MAP_PRIVATE, g, P);
	MUST(s != MAP_FAILED && s2 != MAP_FAILED && v != MAP_FAILED && r != MAP_FAILED);
	fill(v + P, P, 77); // a page of our own
	for (unsigned n = 1;; n++) {
		same(v, P, 9);
		same(v + P, P, 77);
		same(v + 2 * P, 2 * P, 9 + 2 * P / 8);
		same(r, 2 * P, 9 + P / 8);
		same(s, P, n > 1 ? n - 1 : 9);
		fill(s, P, n);
		fill(s + 2 * P, P, n * 3);
		same(s2, P, n * 3);
		MUST(pread(f, buf, P, 0) == P);
		same(buf, P, n);
		MUST(pread(g, buf, P, P) == P);
		same(buf, P, 9 + P / 8);
		fill(v + 3 * P, P, n);
		same(v + 3 * P, P, n);
		fill(v + 3 * P, P, 9 + 3 * P / 8);
		ok();
	}
}
// A mapping that reaches beyond the end of its file.
static void short_file(void) {
	int f = open("short", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(ftruncate(f, 100) == 0 && pwrite(f, "tail", 4, 96) == 4);
	char *s = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), *v = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0);
	strcpy(v + 200, "behind the end");
	for (;;) {
		CHECK(!memcmp(s + 96, "tail", 4));
		CHECK(!strcmp(v + 200, "behind the end"));
		struct stat st;
		MUST(fstat(f, &st) == 0);
		SAME(st.st_size, 100);
		ok();
	}
}
static void memfds(void) {
	int f = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING), g = memfd_create("plain", 0), h = memfd_create("unmapped", MFD_ALLOW_SEALING), w = memfd_create("future", MFD_ALLOW_SEALING);
	MUST(ftruncate(f, 4 * P) == 0 && ftruncate(g, 3 * P) == 0 && ftruncate(w, P) == 0);
	char *p = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), *q = mmap(0, 3 * P, PROT_READ | PROT_WRITE, MAP_SHARED, g, 0), *v = mmap(0, P, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, P);
	char *x = mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED, w, 0);
	fill(p, 4 * P, 4);
	fill(q, 3 * P, 5);
	fill(v, P, 6);
	MUST(write(h, "never mapped", 12) == 12);
	MUST(fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	MUST(fcntl(h, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0);
	MUST(fcntl(w, F_ADD_SEALS, 0x10) == 0); // F_SEAL_FUTURE_WRITE
	for (unsigned n = 0;; n++) {
		same(p + P, 3 * P, 4 + P / 8);
		same(p, P, n ? n : 4);
		fill(p, P, n + 1);
		same(q, 3 * P, 5);
		same(v, P, 6);
		*(unsigned *)x = n;
		char b[16];
		MUST(pread(h, b, 12, 0) == 12 && !memcmp(b, "never mapped", 12));
		SAME(lseek(h, 0, SEEK_CUR), 12);
		SAME(fcntl(f, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
		SAME(fcntl(g, F_GET_SEALS), F_SEAL_SEAL);
		SAME(fcntl(h, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SEAL);
		SAME(fcntl(w, F_GET_SEALS), 0x10);
		MUST(ftruncate(f, P) == -1 && errno == EPERM);
		MUST(write(h, "x", 1) == -1 && errno == EPERM);
		MUST(write(w, "x", 1) == -1 && errno == EPERM);
		unsigned k;
		MUST(pread(w, &k, 4, 0) == 4 && k == n);
		MUST(pread(f, b, 8, 0) == 8);
		same(b, 8, n + 1);
		char link[64], path[64];
		snprintf(path, sizeof path, "/proc/self/fd/%d", f);
		ssize_t l = readlink(path, link, 63);
		link[l] = 0;
		CHECK(!strcmp(link, "/memfd:sealed (deleted)"));
		ok();
	}
}
static void deleted(void) {
	int f = open("gone", O_RDWR | O_CREAT | O_TRUNC, 0600), g = open("gone2", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(ftruncate(f, 2 * P) == 0 && ftruncate(g, 2 * P) == 0);
	char *p = mmap(0, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), *v, *r;
	fill(p, 2 * P, 11);
	char b[2 * P];
	fill(b, 2 * P, 12);
	MUST(write(g, b, 2 * P) == 2 * P);
	v = mmap(0, 2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, g, 0);
	r = mmap(0, 2 * P, PROT_READ, MAP_SHARED, g, 0);
	fill(v, P, 13);
	unlink("gone");
	unlink("gone2");
	close(g);
	for (unsigned n = 0;; n++) {
		same(p, P, 11);
		same(p + P, P, n ? n : 11 + P / 8);
		fill(p + P, P, n + 1);
		MUST(pread(f, b, P, P) == P);
		same(b, P, n + 1);
		same(v, P, 13);
		same(v + P, P, 12 + P / 8);
		same(r, 2 * P, 12);
		ok();
	}
}
static int down(int n, volatile char *last) {
	volatile unsigned char a[2048];
	memset((char *)a, n, sizeof a);
	(void)last;
	if (n > 0) return down(n - 1, a) + a[5] - n;
	return 0;
}
static void stacks(void) {
	char *g = map(4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN);
	fill(g, 4 * P, 2);
	for (int n = 0;; n++) {
		same(g, 4 * P, 2);
		SAME(vm_flag(g, "gd"), 1);
		SAME(vm_flag(&n, "gd"), 1);
		SAME(down(20 + n % 100 * 2, 0), 0); // grows below what was there
		ok();
	}
}
static void advised(void) {
	char *p = anon(64 * P);
	static const struct { int advice; const char *flag; int optional; } a[] = {
		{MADV_DONTFORK, "dc", 0}, {MADV_DONTDUMP, "dd", 0}, {MADV_HUGEPAGE, "hg", 1}, {MADV_NOHUGEPAGE, "nh", 1},
		{MADV_MERGEABLE, "mg", 1}, {MADV_SEQUENTIAL, "sr", 0}, {MADV_RANDOM, "rr", 0},
	};
	enum { N = sizeof a / sizeof *a };
	int set[N];
	for (int i = 0; i < N; i++) {
		int r = madvise(p + 4 * i * P, 2 * P, a[i].advice);
		set[i] = r == 0;
		if (r && !a[i].optional) bad("madvise %d", a[i].advice);
		fill(p + 4 * i * P, 2 * P, i);
	}
	for (;;) {
		for (int i = 0; i < N; i++) {
			same(p + 4 * i * P, 2 * P, i);
			SAME(vm_flag(p + 4 * i * P, a[i].flag), set[i]);
			SAME(vm_flag(p + (4 * i + 2) * P, a[i].flag), 0);
		}
		ok();
	}
}
// Wiped for a child, droppable: after a restore as after a fork, zeros.
static void wiped(void) {
	char *p = anon(2 * P), *d = mmap(0, 2 * P, PROT_READ | PROT_WRITE, 0x08 | MAP_ANONYMOUS, -1, 0);
	MUST(madvise(p, 2 * P, MADV_WIPEONFORK) == 0);
	for (;;) {
		SAME(vm_flag(p, "wf"), 1);
		if (d != MAP_FAILED) SAME(vm_flag(d, "dp"), 1);
		fill(p, 2 * P, 5);
		ok();
		if (*(long *)p == 0) zero(p, 2 * P);
		else same(p, 2 * P, 5);
		if (d == MAP_FAILED) continue;
		zero(d, d[0] ? 0 : 2 * P);
		memset(d, 1, 2 * P);
		ok();
		if (d[0] && d[2 * P - 1] != 1) bad("half of the droppable memory is gone");
		memset(d, 0, 2 * P);
	}
}
static void protections(void) {
	static const int prot[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC, PROT_EXEC};
	char *p = anon(12 * P);
	for (int i = 0; i < 6; i++) {
		fill(p + 2 * i * P, P, i);
		mprotect(p + 2 * i * P, P, prot[i]);
		mprotect(p + (2 * i + 1) * P, P, PROT_NONE);
	}
	for (;;) {
		for (int i = 0; i < 6; i++) {
			SAME(vm_flag(p + 2 * i * P, "rd"), !!(prot[i] & PROT_READ));
			SAME(vm_flag(p + 2 * i * P, "wr"), !!(prot[i] & PROT_WRITE));
			SAME(vm_flag(p + 2 * i * P, "ex"), !!(prot[i] & PROT_EXEC));
			mprotect(p + 2 * i * P, P, PROT_READ);
			same(p + 2 * i * P, P, i);
			mprotect(p + 2 * i * P, P, prot[i]);
		}
		ok();
	}
}
static void locked(void) {
	char *p = anon(8 * P);
	fill(p, 8 * P, 1);
	MUST(mlock(p + P, 2 * P) == 0);
	MUST(syscall(SYS_mlock2, p + 5 * P, 2 * P, 1) == 0);
	for (;;) {
		same(p, 8 * P, 1);
		SAME(vm_flag(p + P, "lo"), 1);
		SAME(vm_flag(p + 3 * P, "lo"), 0);
		SAME(vm_flag(p + 5 * P, "lf"), 1);
		SAME(atoi(status_of(getpid(), "VmLck:")), 16);
		ok();
	}
}
// What is mapped from now on is locked too.
static void locked_future(void) {
	MUST(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
	for (;;) {
		char *p = anon(2 * P);
		SAME(vm_flag(p, "lo"), 1);
		munmap(p, 2 * P);
		ok();
	}
}
static void breaks(void) {
	char *b = sbrk(0);
	MUST(brk(b + 100000 + 123) == 0);
	fill((char *)(((long)b + 15) & ~15), 96000, 8);
	char *top = sbrk(0);
	for (;;) {
		CHECK(sbrk(0) == top);
		CHECK((long)syscall(SYS_brk, 0) == (long)top);
		same((char *)(((long)b + 15) & ~15), 96000, 8);
		MUST(brk(top + 50000) == 0);
		zero((char *)(((long)top + 4095) & ~4095), 40000);
		memset(top, 1, 40000);
		MUST(brk(top) == 0);
		ok();
	}
}
// Pages that were given back are zero, also between two checkpoints.
static void holes(void) {
	char *p = anon(64 * P);
	fill(p, 64 * P, 1);
	for (int n = 0;; n++) {
		int k = n % 60;
		MUST(madvise(p + k * P, 3 * P, MADV_DONTNEED) == 0);
		ok();
		zero(p + k * P, 3 * P);
		ok();
		fill(p + k * P, 3 * P, 1 + k * P / 8);
		same(p, 64 * P, 1);
	}
}
static void moved(void) {
	char *p = anon(16 * P);
	fill(p, 16 * P, 1);
	for (int n = 0;; n++) {
		char *to = anon(16 * P);
		p = mremap(p, 16 * P, 16 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		MUST(p == to);
		ok();
		same(p, 16 * P, 1);
		p = mremap(p, 16 * P, 8 * P, 0);
		ok();
		p = mremap(p, 8 * P, 16 * P, MREMAP_MAYMOVE);
		MUST(p != MAP_FAILED);
		same(p, 8 * P, 1);
		zero(p + 8 * P, 8 * P);
		fill(p + 8 * P, 8 * P, 1 + 8 * P / 8);
	}
}
static sig_atomic_t faults;
static void on_fault(int s, siginfo_t *i, void *u) {
	(void)s, (void)u;
	faults++;
	mprotect((void *)((long)i->si_addr & ~(P - 1)), P, PROT_READ | PROT_WRITE);
	madvise((void *)((long)i->si_addr & ~(P - 1)), P, 103); // MADV_GUARD_REMOVE
}
static void guards(void) {
	struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &a, 0);
	char *p = anon(4 * P);
	fill(p, 4 * P, 1);
	mprotect(p + P, P, PROT_NONE);
	for (int n = 1;; n++) {
		ok();
		same(p, P, 1);
		((volatile char *)p)[P + 5];
		SAME(faults, n);
		same(p, 4 * P, 1);
		mprotect(p + P, P, PROT_NONE);
	}
}
static void guarded(const char *p) {
	static int f[2];
	if (!f[0]) MUST(pipe(f) == 0);
	if (write(f[1], p, 1) != -1 || errno != EFAULT) bad("%p has no guard", p);
}
static void guard_regions(void) {
	struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &a, 0);
	int f = open("guarded", O_RDWR | O_CREAT, 0600);
	MUST(f >= 0 && ftruncate(f, 4 * P) == 0);
	char *p = anon(4 * P), *kept[] = {anon(4 * P), map(4 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS), anon(4 * P),
		mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0), mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0)};
	enum { KEPT = sizeof kept / sizeof *kept };
	for (int i = 0; i < KEPT; i++) {
		fill(kept[i], P, i);
		if (i != 3) fill(kept[i] + 3 * P, P, i); // the file's page
		MUST(madvise(kept[i] + P, 2 * P, 102) == 0); // MADV_GUARD_INSTALL
		SAME(i == 2 ? mlock(kept[i], 4 * P) : -1, -1); // it locks and says that it could not fill
	}
	for (int n = 1;; n++) {
		fill(p, 4 * P, 1);
		MUST(madvise(p + P, P, 102) == 0);
		ok();
		for (int i = 0; i < KEPT; i++) {
			same(kept[i], P, i == 3 ? 3 : i);
			if (i != 3) same(kept[i] + 3 * P, P, i);
			guarded(kept[i] + P);
			guarded(kept[i] + 3 * P - 1);
			SAME(vm_flag(kept[i], "lo"), i == 2);
		}
		same(p, P, 1);
		((volatile char *)p)[P + 5];
		SAME(faults, n);
		zero(p + P, P);
	}
}
static void sparse(void) {
	size_t n = 100ul << 30;
	char *p = map(n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), *r = map(64ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	for (int i = 0; i < 20; i++) fill(p + i * (5ul << 30), P, i);
	MUST(mprotect(r + (1ul << 30), 4 * P, PROT_READ | PROT_WRITE) == 0);
	fill(r + (1ul << 30), 4 * P, 3);
	// Pages that come, go and come again, far from each other.
	enum { LATER = 50 };
	unsigned seed[LATER] = {0};
	for (unsigned k = 0;; k++) {
		for (int i = 0; i < 20; i++) {
			same(p + i * (5ul << 30), P, i);
			zero(p + i * (5ul << 30) + P, P);
			madvise(p + i * (5ul << 30) + P, P, MADV_DONTNEED);
		}
		same(r + (1ul << 30), 4 * P, 3);
		for (int i = 0; i < LATER; i++) {
			char *q = p + (2 * i + 1) * (1ul << 30) + i * 7 * P;
			if (seed[i]) same(q, P, seed[i]);
			else zero(q, P);
			if ((k + i) % 7 == 0) madvise(q, P, MADV_DONTNEED), seed[i] = 0;
			if ((k + i) % 5 == 0) fill(q, P, seed[i] = 1000 + k * 100 + i);
		}
		SAME(vm_flag(p, "nr"), 1);
		CHECK(atol(status_of(getpid(), "VmPTE:")) < 8000); // kB: no page tables for what is not there
		ok();
	}
}
static void names(void) {
	char *p = anon(4 * P), b[1 << 16], want[64];
	int kernel_has_them = prctl(0x53564d41, 0, p, 2 * P, "a name of its own") == 0;
	if (!kernel_has_them) for (;;) ok();
	for (;;) {
		slurp("/proc/self/maps", b, sizeof b);
		snprintf(want, sizeof want, "%lx-%lx ", (long)p, (long)p + 2 * P);
		char *l = strstr(b, want);
		if (!l) bad("no mapping %s", want);
		l[strcspn(l, "\n")] = 0;
		CHECK(strstr(l, "[anon:a name of its own]"));
		ok();
	}
}
// Large pages, split and whole.
static void huge(void) {
	size_t h = 2ul << 20;
	char *p = (char *)(((long)anon(4 * h) + h - 1) & ~(h - 1));
	madvise(p, 3 * h, MADV_HUGEPAGE);
	fill(p, 2 * h, 1);
	for (unsigned n = 0;; n++) {
		same(p, h, 1);
		same(p + h, P, n ? n : 1 + h / 8);
		fill(p + h, P, n + 1);
		same(p + h + P, h - P, 1 + (h + P) / 8);
		zero(p + 2 * h, P);
		ok();
	}
}
// The areas are exactly those that were there: none more, none fewer.
static void same_maps(void) {
	static char a[1 << 16], b[1 << 16];
	anon(3 * P);
	map(P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	int first = 1;
	for (;;) {
		slurp("/proc/self/maps", b, sizeof b);
		// The pad of a checkpoint may come, once.
		char *pad = strstr(b, "/dev/zero (deleted)"), *q = b;
		(void)pad;
		char out[1 << 16], *o = out;
		for (char *e; (e = strchr(q, '\n')); q = e + 1) {
			unsigned long from, to;
			sscanf(q, "%lx-%lx", &from, &to);
			if (to - from == 0x11000 && memmem(q, e - q, "/dev/zero", 9)) continue;
			// Shared memory gets another inode; neighbours that differ only in
			// how they were accounted for become one.
			static unsigned long end;
			static char prot[5], now[5], file[200], was[200];
			char line[512];
			snprintf(line, sizeof line, "%.*s", (int)(e - q), q);
			file[0] = 0;
			sscanf(line, "%*s %4s %*s %*s %*s %199[^\n]", now, file);
			if (o > out && from == end && !strcmp(prot, now) && file[0] == '/' && !strcmp(file, was)) {
				while (o[-1] != ' ') o--;
				o += sprintf(o, "%lx\n", to);
			} else o += sprintf(o, "%lx %s %s to %lx\n", from, now, file, to);
			end = to;
			strcpy(prot, now);
			strcpy(was, file);
		}
		if (!first && strcmp(a, out)) {
			char *x = a, *y = out;
			while (*x == *y) x++, y++;
			while (x > a && x[-1] != '\n') x--, y--;
			x[strcspn(x, "\n")] = y[strcspn(y, "\n")] = 0;
			bad("a mapping is\n%s\nand was\n%s", y, x);
		}
		strcpy(a, out);
		first = 0;
		ok();
	}
}

// --- System V

static void sysv(void) {
	int a = shmget(IPC_PRIVATE, 3 * P, 0640 | IPC_CREAT), b = shmget(0x5eed, P, 0600 | IPC_CREAT), c = shmget(IPC_PRIVATE, 2 * P, 0600), d = shmget(0x777, 5000, 0600 | IPC_CREAT);
	MUST(a >= 0 && b >= 0 && c >= 0 && d >= 0);
	char *pa = shmat(a, 0, 0), *pa2 = shmat(a, 0, SHM_RDONLY), *pc = shmat(c, 0, 0), *pd = shmat(d, 0, 0);
	fill(pa, 3 * P, 1);
	fill(pc, 2 * P, 2);
	strcpy(pd, "not attached");
	shmdt(pd);
	shmctl(c, IPC_RMID, 0);
	pid_t k = fork();
	if (k == 0) for (;;) {
			same(pa, 3 * P, 1);
			(*(long *)pc)++;
			beat(1);
		}
	long last = 0;
	for (;;) {
		struct shmid_ds s;
		MUST(shmctl(a, IPC_STAT, &s) == 0);
		SAME(s.shm_nattch, 4);
		SAME(s.shm_segsz, 3 * P);
		SAME(s.shm_perm.mode, 0640);
		same(pa2, 3 * P, 1);
		SAME(shmget(0x5eed, P, 0), b);
		MUST(shmctl(b, IPC_STAT, &s) == 0 && s.shm_nattch == 0);
		MUST(shmctl(c, IPC_STAT, &s) == 0);
		SAME(s.shm_perm.mode & 01000, 01000);
		pd = shmat(d, 0, 0);
		CHECK(!strcmp(pd, "not attached"));
		shmdt(pd);
		same(pc + P, P, 2 + P / 8);
		CHECK(*(long *)pc >= last);
		last = *(long *)pc;
		alive(1);
		ok();
	}
}

// --- what is executed and has no name any more

// copy_self copies this program into a file.
static void copy_self(int to) {
	char b[1 << 16];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	while ((n = read(from, b, sizeof b)) > 0) MUST(write(to, b, n) == n);
	close(from);
}

// executes says what /proc/self/exe is called, and executes it again.
static void executes(const char *name) {
	for (;;) {
		char link[300], head[4];
		ssize_t n = readlink("/proc/self/exe", link, sizeof link - 1);
		link[n] = 0;
		CHECK(n > 10 && !strcmp(link + n - 10, " (deleted)"));
		int f = open("/proc/self/exe", O_RDONLY), status;
		MUST(read(f, head, 4) == 4 && !memcmp(head, "\177ELF", 4));
		close(f);
		MUST(open("/proc/self/exe", O_WRONLY) == -1);
		pid_t k = fork();
		if (k == 0) {
			setenv("ZOO_EXECUTED", "once more", 1);
			execl("/proc/self/exe", "again", name, (char *)0);
			_exit(3);
		}
		MUST(waitpid(k, &status, 0) == k);
		SAME(status, 7 << 8);
		ok();
	}
}

static void replaced(void) {
	const char *how = getenv("ZOO_EXECUTED");
	if (how && !strcmp(how, "once more")) _exit(7);
	if (how) {
		unlink("copy");
		executes("replaced");
	}
	int f = open("copy", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	copy_self(f);
	close(f);
	setenv("ZOO_EXECUTED", "a copy", 1);
	execl("./copy", "copy", "replaced", (char *)0);
	bad("exec");
}

static void executed_memfd(void) {
	const char *how = getenv("ZOO_EXECUTED");
	if (how && !strcmp(how, "once more")) _exit(7);
	if (how) executes("executed_memfd");
	int f = memfd_create("program", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	copy_self(f);
	MUST(fcntl(f, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	setenv("ZOO_EXECUTED", "a memfd", 1);
	char path[64], *argv[] = {"program", "executed_memfd", 0};
	snprintf(path, sizeof path, "/proc/self/fd/%d", f);
	execve(path, argv, environ);
	bad("exec");
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(private), A(copy_on_write), A(shared_anonymous), A(files), A(short_file), A(memfds), A(deleted), A(stacks), A(advised),
	A(wiped), A(protections), A(locked), A(locked_future), A(breaks), A(holes), A(moved), A(guards), A(guard_regions), A(sparse),
	A(names), A(huge), A(same_maps), A(sysv),
	A(replaced), A(executed_memfd), {0, 0},
};
