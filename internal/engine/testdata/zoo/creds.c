// Who a process is, what it may do, and how it runs. Each animal makes itself
// something and notes all that can be asked about it; in every round the
// answers must be the same.
#include "zoo.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/resource.h>

// facts is what a thread can ask about itself.
struct facts {
	char status[4096], text[8][256];
	long number[64];
	struct rlimit limit[16];
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t runtime, deadline, period; } sched;
	cpu_set_t cpus;
	unsigned long nodes[16];
	int mode;
};

static const char *lines[] = {"Name:", "Umask:", "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
	"NoNewPrivs:", "THP_enabled:", "Speculation_Store_Bypass:", "SpeculationIndirectBranch:", "Cpus_allowed:", "SigIgn:", 0};

static void ask(struct facts *f) {
	static __thread char b[8192];
	memset(f, 0, sizeof *f);
	slurp("/proc/thread-self/status", b, sizeof b);
	for (const char **l = lines; *l; l++) {
		char *p = strstr(b, *l);
		if (p) strncat(f->status, p, strcspn(p, "\n") + 1);
	}
	int i = 0;
	for (const char **p = (const char *[]){"comm", "personality", "oom_score_adj", "coredump_filter", "timerslack_ns", "autogroup", 0}; *p; p++, i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/thread-self/%s", *p);
		int fd = open(path, O_RDONLY);
		if (fd < 0) {
			snprintf(path, sizeof path, "/proc/self/%s", *p);
			fd = open(path, O_RDONLY);
		}
		if (fd < 0) continue; // it may not
		read(fd, f->text[i], sizeof f->text[i] - 1);
		close(fd);
		if (!strcmp(*p, "autogroup")) strcpy(f->text[i], strstr(f->text[i], "nice") ? strstr(f->text[i], "nice") : "");
	}
	readlink("/proc/self/root", f->text[i++], 255);
	getcwd(f->text[i], 255);
	int v = 0, n = 0;
	long *a = f->number;
	a[n++] = prctl(PR_GET_SECUREBITS);
	a[n++] = prctl(PR_GET_KEEPCAPS);
	a[n++] = prctl(PR_GET_DUMPABLE);
	a[n++] = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	a[n++] = prctl(PR_GET_CHILD_SUBREAPER, &v) ? -1 : v;
	a[n++] = prctl(PR_GET_PDEATHSIG, &v) ? -1 : v;
	a[n++] = prctl(PR_GET_TSC, &v) ? -1 : v;
	a[n++] = prctl(PR_GET_TIMERSLACK);
	a[n++] = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	a[n++] = prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0);
	a[n++] = prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0);
	for (int k = 0; k < 3; k++) a[n++] = prctl(PR_GET_SPECULATION_CTRL, k, 0, 0, 0);
	a[n++] = syscall(SYS_membarrier, 512 /* GET_REGISTRATIONS */, 0, 0);
	a[n++] = syscall(SYS_ioprio_get, 1, 0);
	a[n++] = getpriority(PRIO_PROCESS, gettid());
	a[n++] = setfsuid(-1);
	a[n++] = setfsgid(-1);
	a[n++] = personality(0xffffffff);
	for (int k = 0; k < 16; k++) getrlimit(k, &f->limit[k]);
	MUST(syscall(SYS_sched_getattr, 0, &f->sched, sizeof f->sched, 0) == 0);
	f->sched.runtime = f->sched.policy == SCHED_DEADLINE ? f->sched.runtime : 0;
	MUST(syscall(SYS_sched_getaffinity, 0, sizeof f->cpus, &f->cpus) > 0);
	syscall(SYS_get_mempolicy, &f->mode, f->nodes, 1024, 0, 0);
}

// same says where two lists of facts differ.
static void same(struct facts *a, struct facts *b) {
	errno = 0;
	for (char *p = a->status, *q = b->status; *p || *q; p += strcspn(p, "\n") + 1, q += strcspn(q, "\n") + 1)
		if (strncmp(p, q, strcspn(p, "\n") + 1)) bad("%.*s now, not %.*s", (int)strcspn(q, "\n"), q, (int)strcspn(p, "\n"), p);
	for (int i = 0; i < 8; i++) if (strcmp(a->text[i], b->text[i])) bad("text %d is now %s, not %s", i, b->text[i], a->text[i]);
	for (int i = 0; i < 64; i++) if (a->number[i] != b->number[i]) bad("number %d is now %ld, not %ld", i, b->number[i], a->number[i]);
	for (int i = 0; i < 16; i++) if (memcmp(&a->limit[i], &b->limit[i], sizeof a->limit[i])) bad("limit %d", i);
	if (memcmp(&a->sched, &b->sched, sizeof a->sched)) bad("scheduling: policy %u nice %d", b->sched.policy, b->sched.nice);
	if (memcmp(&a->cpus, &b->cpus, sizeof a->cpus)) bad("affinity");
	if (memcmp(a->nodes, b->nodes, sizeof a->nodes) || a->mode != b->mode) bad("memory policy is now %d, not %d", b->mode, a->mode);
}

static __attribute__((noreturn)) void stay(void) {
	static struct facts was, now;
	ask(&was);
	for (;;) {
		ask(&now);
		same(&was, &now);
		ok();
	}
}

// Raw calls change one thread only; libc's would change all.
static void ids(int r, int e, int s) { MUST(syscall(SYS_setresgid, r + 1, e + 1, s + 1) == 0 && syscall(SYS_setresuid, r, e, s) == 0); }
static void caps(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{effective, permitted, inheritable}, {effective >> 32, permitted >> 32, inheritable >> 32}};
	MUST(syscall(SYS_capset, &h, d) == 0);
}
#define CAP(x) (1ull << (x))

static void plain(void) { stay(); }
static void user(void) {
	gid_t g[] = {5, 6, 70000};
	MUST(setgroups(3, g) == 0);
	ids(12345, 12345, 12345);
	stay();
}
static void no_groups(void) { MUST(setgroups(0, 0) == 0); ids(7, 7, 7); stay(); }
static void saved_user(void) { ids(12345, 12346, 0); stay(); } // may become root again
static void back_to_root(void) {
	ids(12345, 12346, 0);
	static struct facts was, now;
	ask(&was);
	for (;;) {
		ask(&now);
		same(&was, &now);
		ok();
		MUST(syscall(SYS_setresuid, -1, 0, -1) == 0);
		MUST(geteuid() == 0 && chown(".", 0, 0) == 0);
		ok();
		MUST(syscall(SYS_setresuid, -1, 12346, -1) == 0);
		SAME(chown(".", 5, 5), -1);
	}
}
static void fs_user(void) {
	setfsgid(4321);
	setfsuid(4321);
	SAME(setfsuid(-1), 4321);
	stay();
}
static void some_caps(void) {
	caps(CAP(CAP_CHOWN) | CAP(CAP_NET_RAW) | CAP(CAP_SETUID) | CAP(CAP_SYS_PTRACE), CAP(CAP_CHOWN), CAP(CAP_NET_RAW));
	stay();
}
static void no_caps(void) { caps(0, 0, 0); stay(); } // of root
static void ambient(void) {
	MUST(prctl(PR_SET_KEEPCAPS, 1) == 0);
	ids(12345, 12345, 12345);
	caps(CAP(CAP_CHOWN) | CAP(CAP_NET_RAW), CAP(CAP_CHOWN), CAP(CAP_CHOWN) | CAP(CAP_NET_RAW));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
	stay();
}
static void bounding(void) {
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN) == 0 && prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN) == 0);
	stay();
}
static void securebits(void) {
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED) == 0);
	ids(12345, 12345, 12345);
	stay();
}
static void keepcaps(void) { MUST(prctl(PR_SET_KEEPCAPS, 1) == 0); stay(); }
static void no_new_privs(void) { ids(9, 9, 9); MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); stay(); }
static void undumpable(void) { MUST(prctl(PR_SET_DUMPABLE, 0) == 0); stay(); }
static void undumpable_user(void) { ids(9, 9, 9); SAME(prctl(PR_GET_DUMPABLE), 0); for (;;) { SAME(prctl(PR_GET_DUMPABLE), 0); SAME(getuid(), 9); ok(); } }
static void dumpable_user(void) { ids(9, 9, 9); MUST(prctl(PR_SET_DUMPABLE, 1) == 0); stay(); }

// Threads each with their own.
static void *one(void *p) {
	static struct facts was[8], now[8];
	long i = (long)p;
	switch (i) {
	case 0: ids(100, 101, 102); break;
	case 1: setfsuid(77); break;
	case 2: caps(CAP(CAP_KILL), CAP(CAP_KILL), 0); break;
	case 3: MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); break;
	case 4: MUST(setpriority(PRIO_PROCESS, gettid(), 7) == 0); break;
	case 5: {
		cpu_set_t c;
		CPU_ZERO(&c);
		CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &c);
		MUST(syscall(SYS_sched_setaffinity, 0, sizeof c, &c) == 0);
		MUST(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}) == 0);
		break;
	}
	case 6:
		MUST(prctl(PR_SET_TIMERSLACK, 123456) == 0);
		MUST(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
		break;
	case 7: MUST(prctl(PR_SET_NAME, "\n\\\t\x01 \xff(x) R") == 0); break;
	}
	__atomic_add_fetch(&pulse[8], 1, __ATOMIC_SEQ_CST);
	while (pulse[8] < 8) nap(1); // what one does to itself may concern the process
	ask(&was[i]);
	for (;;) {
		ask(&now[i]);
		same(&was[i], &now[i]);
		beat(i);
	}
}
static void threads(void) {
	pthread_t t;
	for (long i = 0; i < 8; i++) MUST(pthread_create(&t, 0, one, (void *)i) == 0);
	static struct facts was, now;
	while (pulse[8] < 8) nap(1);
	ask(&was);
	for (;;) {
		for (int i = 0; i < 8; i++) alive(i);
		ask(&now);
		same(&was, &now);
		ok();
	}
}

// How it runs.
static void name(void) { MUST(prctl(PR_SET_NAME, "a)\n\\n b\x80\"'") == 0); stay(); }
static void no_name(void) { MUST(prctl(PR_SET_NAME, "") == 0); stay(); }
static void limits(int user) {
	struct rlimit l[16];
	for (int k = 0; k < 16; k++) MUST(getrlimit(k, &l[k]) == 0);
	for (int k = 0; k < 16; k++) {
		struct rlimit m = l[k];
		if (k == RLIMIT_AS || k == RLIMIT_DATA) m.rlim_cur = m.rlim_max = 8ull << 30;
		else if (k == RLIMIT_CPU) m.rlim_cur = 5000, m.rlim_max = 6000;
		else if (k == RLIMIT_CORE || k == RLIMIT_FSIZE) m.rlim_cur = 1 << 20;
		else if (k == RLIMIT_NOFILE) m.rlim_cur = 100, m.rlim_max = 200;
		else if (k == RLIMIT_NPROC) m.rlim_cur = 3000, m.rlim_max = 4000;
		else if (k == RLIMIT_STACK) m.rlim_cur = 1 << 20, m.rlim_max = 1 << 22;
		else m.rlim_cur = m.rlim_cur > 1 ? m.rlim_cur / 2 : m.rlim_cur;
		MUST(setrlimit(k, &m) == 0);
	}
	if (user) ids(12345, 12345, 12345);
	stay();
}
static void limits_root(void) { limits(0); }
static void limits_user(void) { limits(1); }
static void few_processes(void) { // fewer than there are
	ids(12345, 12345, 12345);
	struct rlimit m = {1, 1};
	MUST(setrlimit(RLIMIT_NPROC, &m) == 0);
	stay();
}
static void policy(int p, int prio) { MUST(sched_setscheduler(0, p, &(struct sched_param){prio}) == 0); stay(); }
static void fifo(void) { policy(SCHED_FIFO, 3); }
static void rr(void) { policy(SCHED_RR | SCHED_RESET_ON_FORK, 9); }
static void batch(void) { MUST(nice(5) == 5); policy(SCHED_BATCH, 0); }
static void idle(void) { policy(SCHED_IDLE, 0); }
static void nice_user(void) { MUST(nice(-5) == -5); ids(12345, 12345, 12345); stay(); }
static void deadline(void) {
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t runtime, deadline, period; } a =
		{sizeof a, SCHED_DEADLINE, 0, 0, 0, 10000000, 90000000, 100000000};
	MUST(syscall(SYS_sched_setattr, 0, &a, 0) == 0);
	stay();
}
static void affinity(void) {
	cpu_set_t c;
	CPU_ZERO(&c);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &c);
	MUST(sched_setaffinity(0, sizeof c, &c) == 0);
	stay();
}
static void io_priority(void) { MUST(syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 3) == 0); stay(); }
static void io_idle(void) { MUST(syscall(SYS_ioprio_set, 1, 0, 3 << 13) == 0); ids(9, 9, 9); stay(); }
static void slack(void) { MUST(prctl(PR_SET_TIMERSLACK, 1) == 0); stay(); }
static void persona(void) { MUST(personality(ADDR_NO_RANDOMIZE | UNAME26 | READ_IMPLIES_EXEC) >= 0); stay(); }
static void put(const char *path, const char *s) {
	int fd = open(path, O_WRONLY);
	MUST(fd >= 0 && write(fd, s, strlen(s)) > 0);
	close(fd);
}
static void oom(void) { put("/proc/self/oom_score_adj", "321"); stay(); }
static void core_filter(void) { put("/proc/self/coredump_filter", "0x7f"); stay(); }
static void no_thp(void) { MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0); stay(); }
static void thp_advised(void) { if (prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0)) MUST(errno == EINVAL); stay(); } // since 6.18
static void reaper(void) { MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); stay(); }
static void mask(void) { umask(0137); SAME(umask(0137), 0137); stay(); }
static void autogroup(void) { put("/proc/self/autogroup", "4"); stay(); }
static void no_tsc(void) { // rdtsc, and with it the clocks of the vdso, would be SIGSEGV
	static struct facts was, now;
	MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
	ask(&was);
	for (;;) {
		ask(&now);
		same(&was, &now);
		say_ok();
		struct timespec t = {0, 15000000};
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, 0);
	}
}
static void mce(void) { MUST(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0); stay(); }
static void no_exec_gain(void) { // memory that is never both written and executed
	if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0)) MUST(errno == EINVAL);
	else MUST(mmap(0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	stay();
}
static void merge(void) { if (prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0)) MUST(errno == EINVAL); stay(); }
static void speculation(void) {
	for (int k = 0; k < 3; k++) {
		long v = prctl(PR_GET_SPECULATION_CTRL, k, 0, 0, 0);
		if (v > 0 && v & PR_SPEC_PRCTL) prctl(PR_SET_SPECULATION_CTRL, k, k == 2 ? PR_SPEC_ENABLE : PR_SPEC_DISABLE, 0, 0);
	}
	stay();
}
static void barrier(void) {
	int all = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0), commands[] = {
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ};
	for (int i = 0; i < 4; i++) if (all & commands[i]) MUST(syscall(SYS_membarrier, commands[i], 0, 0) == 0);
	static struct facts was, now;
	ask(&was);
	for (;;) {
		MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
		ask(&now);
		same(&was, &now);
		ok();
	}
}
static void one_node(void) {
	unsigned long nodes = 1;
	MUST(syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 64) == 0);
	stay();
}

// Where it is.
static void changed_root(int inside) {
	MUST(mkdir("jail", 0755) == 0 && mkdir("jail/in", 0755) == 0 && mkdir("jail/proc", 0755) == 0);
	char was[4096], now[4096];
	struct stat r, w, n;
	int proc = open("/proc", O_PATH | O_DIRECTORY); // stays reachable
	MUST(proc >= 0);
	if (inside) MUST(chdir("jail/in") == 0 && chroot("..") == 0);
	else MUST(chroot("jail") == 0); // and stays outside
	MUST(stat("/", &r) == 0 && stat(".", &w) == 0);
	long len = syscall(SYS_getcwd, was, sizeof was);
	for (;;) {
		MUST(stat("/", &n) == 0);
		SAME(n.st_ino, r.st_ino);
		MUST(stat(".", &n) == 0);
		SAME(n.st_ino, w.st_ino);
		SAME(syscall(SYS_getcwd, now, sizeof now), len);
		CHECK(!memcmp(was, now, len));
		ok();
	}
}
static void jailed(void) { changed_root(1); }
static void half_jailed(void) { changed_root(0); }
static void at_the_root(void) { MUST(chdir("/") == 0); int d = open("/", O_RDONLY | O_DIRECTORY); stay(); (void)d; }

// A child whose parent's end it hears of, as who it is.
static void parent_death(void) {
	for (;;) {
		int p[2];
		MUST(pipe(p) == 0);
		pid_t c = fork();
		if (c == 0) {
			if (fork() == 0) {
				sigset_t s;
				siginfo_t i;
				sigemptyset(&s);
				sigaddset(&s, SIGUSR2);
				sigprocmask(SIG_BLOCK, &s, 0);
				ids(4, 4, 4);
				MUST(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
				write(p[1], "r", 1);
				MUST(sigwaitinfo(&s, &i) == SIGUSR2);
				write(p[1], "d", 1);
				_exit(0);
			}
			pause();
		}
		char b;
		MUST(read(p[0], &b, 1) == 1 && b == 'r');
		for (int k = 0; k < 5; k++) ok();
		kill(c, SIGKILL);
		waitpid(c, 0, 0);
		MUST(read(p[0], &b, 1) == 1 && b == 'd');
		close(p[0]), close(p[1]);
	}
}

#define A(n) {#n, n}
struct animal animals[] = {
	A(plain), A(user), A(no_groups), A(saved_user), A(back_to_root), A(fs_user), A(some_caps), A(no_caps), A(ambient),
	A(bounding), A(securebits), A(keepcaps), A(no_new_privs), A(undumpable), A(undumpable_user), A(dumpable_user),
	A(threads), A(name), A(no_name), A(limits_root), A(limits_user), A(few_processes), A(fifo), A(rr), A(batch), A(idle),
	A(nice_user), A(deadline), A(affinity), A(io_priority), A(io_idle), A(slack), A(persona), A(oom), A(core_filter),
	A(no_thp), A(thp_advised), A(reaper), A(mask), A(autogroup), A(no_tsc), A(mce), A(no_exec_gain), A(merge),
	A(speculation), A(barrier), A(one_node), A(jailed), A(half_jailed), A(at_the_root), A(parent_death), {0}};
