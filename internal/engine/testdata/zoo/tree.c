// Process trees: who is whose child, sessions, groups, zombies, stopped ones.
#include "zoo.h"
#include <spawn.h>

static pid_t grow(void (*f)(int), int i) {
	pid_t p = fork();
	MUST(p >= 0);
	if (p == 0) {
		f(i);
		_exit(0);
	}
	return p;
}

static void leaf(int i) {
	pid_t me = getpid(), parent = getppid(), g = getpgrp(), s = getsid(0);
	for (;;) {
		SAME(getpid(), me);
		SAME(getppid(), parent);
		SAME(getpgrp(), g);
		SAME(getsid(0), s);
		beat(i);
	}
}

static pid_t kids[16];
static void branch(int i) {
	for (int k = 0; k < 3; k++) kids[k] = grow(leaf, i * 10 + k + 1);
	for (;;) {
		CHECK(waitpid(-1, 0, WNOHANG) == 0);
		beat(i * 10);
	}
}
static void grandchildren(void) {
	for (int k = 0; k < 4; k++) grow(branch, k + 1);
	for (;;) {
		for (int k = 1; k <= 4; k++)
			for (int j = 0; j <= 3; j++) alive(k * 10 + j);
		CHECK(waitpid(-1, 0, WNOHANG) == 0);
		ok();
	}
}

// An orphan belongs to the init.
static void orphan_leaf(int i) {
	while (getppid() != 1) nap(1);
	leaf(i);
}
static void middle(int i) {
	grow(orphan_leaf, i);
	grow(orphan_leaf, i + 1);
}
static void orphans(void) {
	waitpid(grow(middle, 1), 0, 0);
	waitpid(grow(middle, 3), 0, 0);
	for (;;) {
		for (int i = 1; i <= 4; i++) alive(i);
		CHECK(waitpid(-1, 0, WNOHANG) == -1);
		ok();
	}
}

// A daemon: the command itself ends, its grandchild in a session of its own lives on.
static void daemonised(void) {
	if (fork()) _exit(0);
	MUST(setsid() > 0);
	if (fork()) _exit(0);
	pid_t sid = getsid(0);
	CHECK(sid != getpid());
	while (kill(sid, 0) == 0) nap(1);
	for (;;) {
		SAME(getsid(0), sid);
		SAME(getppid(), 1);
		CHECK(kill(sid, 0) == -1);
		ok();
	}
}

// A session whose leader is dead, with members that are each other's relatives or not.
static void session_member(int i) {
	pid_t sid = getsid(0);
	if (i == 3) setpgid(0, 0);
	if (i == 2) grow(leaf, 4);
	while (kill(sid, 0) == 0) nap(1);
	for (;;) {
		SAME(getsid(0), sid);
		SAME(getppid(), 1);
		SAME(getpgrp(), i == 3 ? getpid() : sid);
		CHECK(kill(sid, 0) == -1 && errno == ESRCH);
		beat(i);
	}
}
static void session_leader(int i) {
	setsid();
	for (int k = 1; k <= 3; k++) grow(session_member, k);
	(void)i;
}
static void dead_session(void) {
	waitpid(grow(session_leader, 0), 0, 0);
	for (;;) {
		for (int i = 1; i <= 4; i++) alive(i);
		ok();
	}
}

// A group whose leader is dead, in a session whose leader lives.
static void gang_member(int i) {
	while (getppid() != 1) nap(1);
	leaf(i);
}
static void group_leader(int i) {
	setpgid(0, 0);
	grow(gang_member, i);
	grow(gang_member, i + 1);
}
static void group_zombie(int i) {
	setpgid(0, 0);
	grow(gang_member, i);
	_exit(3);
}
static void dead_group(void) {
	pid_t g = grow(group_leader, 1);
	waitpid(g, 0, 0);
	pid_t z = grow(group_zombie, 3); // its leader stays a zombie
	for (;;) {
		for (int i = 1; i <= 3; i++) alive(i);
		CHECK(kill(-g, 0) == 0);
		CHECK(kill(-z, 0) == 0);
		ok();
	}
}

// Born in the old session, before the parent began its own.
static void old_session(void) {
	pid_t s = getsid(0), p = grow(leaf, 1);
	if (fork()) for (;;) { // the command stays the leader of the old one
			alive(1);
			alive(2);
			alive(3);
			SAME(getsid(0), s);
			ok();
		}
	pid_t q = grow(leaf, 2);
	MUST(setsid() > 0);
	pid_t r = grow(leaf, 3);
	for (;;) {
		SAME(getsid(p), s);
		SAME(getsid(q), s);
		SAME(getsid(r), getpid());
		nap(10);
	}
}

// A subreaper has the orphans of another session.
static void sub_member(int i) {
	pid_t sid = getsid(0);
	while (getppid() == sid) nap(1);
	pid_t reaper = getppid();
	for (;;) {
		SAME(getsid(0), sid);
		SAME(getppid(), reaper);
		beat(i);
	}
}
static void sub_session(int i) {
	setsid();
	grow(sub_member, i);
	grow(sub_member, i + 1);
}
static void subreaper(void) {
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	waitpid(grow(sub_session, 1), 0, 0);
	pid_t live = grow(sub_session, 3);
	waitpid(live, 0, 0);
	for (;;) {
		int is = 0;
		prctl(PR_GET_CHILD_SUBREAPER, &is);
		SAME(is, 1);
		for (int i = 1; i <= 4; i++) alive(i);
		CHECK(waitpid(-1, 0, WNOHANG) == 0);
		ok();
	}
}

// Zombies keep their status until they are waited for.
static void ends(int i) {
	if (i < 100) _exit(i);
	signal(i - 100, SIG_DFL);
	raise(i - 100);
	pause();
}
static volatile int chlds;
static void on_chld(int s) { (void)s; chlds++; }
static void zombies(void) {
	static const int how[] = {0, 7, 255 - 200, 100 + SIGKILL, 100 + SIGSEGV, 100 + SIGTERM, 100 + SIGUSR1};
	enum { N = sizeof how / sizeof *how };
	pid_t p[N];
	signal(SIGCHLD, on_chld);
	for (int round = 0;; round++) {
		if (round % 16 == 0) {
			chlds = 0;
			for (int i = 0; i < N; i++) p[i] = grow(ends, how[i]);
			for (int i = 0; i < N; i++) {
				siginfo_t si;
				while (waitid(P_PID, p[i], &si, WEXITED | WNOWAIT) < 0) MUST(errno == EINTR);
			}
			nap(5);
			chlds = 0;
		}
		for (int i = 0; i < N; i++) {
			char state = *status_of(p[i], "State:");
			if (state != 'Z') bad("child %d is %c", i, state);
		}
		if (round % 16 == 15)
			for (int i = 0; i < N; i++) {
				int st;
				struct rusage {long x[32];} ru;
				MUST(syscall(SYS_wait4, p[i], &st, 0, &ru) == p[i]);
				if (how[i] < 100) CHECK(WIFEXITED(st) && WEXITSTATUS(st) == how[i]);
				else SAME(st & 0x7f, how[i] - 100);
			}
		SAME(chlds, 0);
		ok();
	}
}

// Stopped children, continued later.
static char state(pid_t p) { return *status_of(p, "State:"); }
static void await_state(pid_t p, char want) {
	for (int i = 0; i < 400 && state(p) != want; i++) nap(5);
	if (state(p) != want) bad("state %c, not %c", state(p), want);
}
static void *beating(void *p) {
	for (;;) beat((long)p);
}
static void threaded_leaf(int i) {
	setpgid(0, 0); // not an orphaned group: stops by a terminal would be ignored
	pthread_t t;
	pthread_create(&t, 0, beating, (void *)(long)(i + 1));
	leaf(i);
}
static void stopped(void) {
	static const int sigs[] = {SIGSTOP, SIGTSTP, SIGTTIN};
	for (int k = 0; k < 3; k++) kids[k] = grow(threaded_leaf, 1 + 2 * k);
	for (int round = 0;; round++) {
		for (int k = 0; k < 3; k++) {
			int st;
			if (round % 12 == 0) {
				nap(20);
				kill(kids[k], sigs[k]);
				MUST(waitpid(kids[k], &st, WUNTRACED) == kids[k] && WIFSTOPPED(st));
				SAME(WSTOPSIG(st), sigs[k]);
				last_pulse[1 + 2 * k] = pulse[1 + 2 * k];
				last_pulse[2 + 2 * k] = pulse[2 + 2 * k];
			}
			if (round % 12 < 8) {
				await_state(kids[k], 'T');
				SAME(pulse[1 + 2 * k], last_pulse[1 + 2 * k]);
				SAME(pulse[2 + 2 * k], last_pulse[2 + 2 * k]);
				pid_t w = waitpid(kids[k], &st, WUNTRACED | WNOHANG);
				if (w) bad("a stop was reported again: %d, %#x in round %d", w, st, round);
			}
			if (round % 12 == 8) {
				kill(kids[k], SIGCONT);
				MUST(waitpid(kids[k], &st, WCONTINUED) == kids[k] && WIFCONTINUED(st));
			}
			if (round % 12 > 8) alive(1 + 2 * k), alive(2 + 2 * k);
		}
		ok();
	}
}

// A stop that the parent has not heard of yet.
static void stopped_unheard(void) {
	pid_t p = 0;
	for (int round = 0;; round++) {
		if (round % 10 == 0) {
			p = grow(leaf, 1);
			nap(20);
			kill(p, SIGSTOP);
		}
		await_state(p, 'T');
		if (round % 10 == 9) {
			int st;
			MUST(waitpid(p, &st, WUNTRACED | WNOHANG) == p && WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
			MUST(waitpid(p, &st, WUNTRACED | WNOHANG) == 0);
			kill(p, SIGKILL);
			MUST(waitpid(p, &st, 0) == p && WIFSIGNALED(st));
		}
		ok();
	}
}

// The parent of a vfork waits until its child executes.
static void vforks(void) {
	char *argv[] = {"/bin/true", 0}, *env[] = {0};
	for (;;) {
		for (int i = 0; i < 5; i++) {
			pid_t p;
			int st;
			MUST(posix_spawn(&p, argv[0], 0, 0, argv, env) == 0);
			MUST(waitpid(p, &st, 0) == p && WIFEXITED(st) && WEXITSTATUS(st) == 0);
		}
		say_ok();
	}
}
static void slow_vfork(void) {
	for (;;) {
		pid_t p = vfork();
		if (p == 0) {
			struct timespec t = {0, 60000000};
			syscall(SYS_nanosleep, &t, 0);
			_exit(9);
		}
		int st;
		MUST(waitpid(p, &st, 0) == p && WIFEXITED(st) && WEXITSTATUS(st) == 9);
		say_ok();
	}
}

// Children come and go all the time.
static void brief(int i) { nap(i); _exit(i); }
static void bustle(void) {
	for (int n = 0;; n++) {
		for (int i = 0; i < 8; i++) grow(brief, i);
		for (int i = 0, sum = 0; i < 8; i++) {
			int st;
			pid_t p = waitpid(-1, &st, 0);
			MUST(p > 0 && WIFEXITED(st));
			sum += WEXITSTATUS(st);
			if (i == 7) SAME(sum, 28);
		}
		if (n % 3 == 0) say_ok();
	}
}

// A child with another exit signal, or none (clone).
static void odd_signals(void) {
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, 0);
	for (int round = 0;; round++) {
		static pid_t p, q;
		if (round % 10 == 0) {
			p = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
			if (p == 0) leaf(1);
			q = syscall(SYS_clone, 0, 0, 0, 0, 0);
			if (q == 0) leaf(2);
		}
		alive(1);
		alive(2);
		MUST(waitpid(-1, 0, WNOHANG) == -1 && errno == ECHILD);
		if (round % 10 == 9) {
			kill(p, SIGKILL);
			kill(q, SIGKILL);
			MUST(waitpid(p, 0, __WALL) == p);
			MUST(waitpid(q, 0, __WALL) == q);
			struct timespec none = {0};
			MUST(sigtimedwait(&s, 0, &none) == SIGUSR1);
		}
		ok();
	}
}

// The first thread has ended, others run.
static void *go_on(void *p) {
	(void)p;
	nap(50);
	for (;;) ok();
}
static void leaderless(void) {
	pthread_t t;
	pthread_create(&t, 0, go_on, 0);
	pthread_exit(0);
}

static void traced_child(void) {
	pid_t p = grow(leaf, 1);
	nap(20);
	MUST(syscall(SYS_ptrace, 0x4206, p, 0, 0) == 0); // PTRACE_SEIZE
	for (;;) {
		alive(1);
		ok();
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(grandchildren), A(orphans), A(daemonised), A(dead_session), A(dead_group), A(old_session), A(subreaper), A(zombies),
	A(stopped), A(stopped_unheard), A(vforks), A(slow_vfork), A(bustle), A(odd_signals), A(leaderless), A(traced_child), {0, 0},
};
