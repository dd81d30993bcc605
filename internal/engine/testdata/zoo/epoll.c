// Event queues.
#include "zoo.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int waits(int e, struct epoll_event *v, int n) {
	int k = epoll_wait(e, v, n, 0);
	MUST(k >= 0);
	return k;
}
static void add(int e, int fd, unsigned events, uint64_t data) {
	struct epoll_event v = {.events = events, .data.u64 = data};
	MUST(epoll_ctl(e, EPOLL_CTL_ADD, fd, &v) == 0);
}
static void put(int fd) { uint64_t one = 1; MUST(write(fd, &one, 8) == 8); }
static void take(int fd) { uint64_t v; MUST(read(fd, &v, 8) == 8); }

static void level(void) {
	int e = epoll_create1(EPOLL_CLOEXEC), a = eventfd(0, 0), b = eventfd(5, 0), p[2];
	MUST(pipe(p) == 0);
	add(e, a, EPOLLIN, 0x1122334455667788ull);
	add(e, b, EPOLLIN | EPOLLPRI, 0xffffffff00000001ull);
	add(e, p[1], EPOLLOUT, 3);
	add(e, p[0], EPOLLIN, 4);
	struct epoll_event v[8];
	for (;;) {
		SAME(fcntl(e, F_GETFD), FD_CLOEXEC);
		SAME(waits(e, v, 8), 2);
		int seen = 0;
		for (int i = 0; i < 2; i++) {
			if (v[i].data.u64 == 0xffffffff00000001ull) seen |= 1;
			if (v[i].data.u64 == 3 && v[i].events == EPOLLOUT) seen |= 2;
		}
		SAME(seen, 3);
		put(a);
		SAME(waits(e, v, 8), 3);
		take(a);
		struct epoll_event m = {.events = 0, .data.u64 = 9};
		MUST(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &m) == 0);
		m.events = EPOLLIN, m.data.u64 = 4;
		MUST(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &m) == 0);
		MUST(epoll_ctl(e, EPOLL_CTL_ADD, a, &m) == -1 && errno == EEXIST);
		ok();
	}
}

// An edge that was seen does not come again, one that was not does.
static void edge(void) {
	int e = epoll_create1(0), a = eventfd(0, 0), b = eventfd(0, 0);
	add(e, a, EPOLLIN | EPOLLET, 1);
	add(e, b, EPOLLIN | EPOLLET, 2);
	struct epoll_event v[8];
	for (;;) {
		put(a);
		SAME(waits(e, v, 8), 1);
		SAME(v[0].data.u64, 1);
		put(b);
		say_ok();
		nap(30);
		int n = waits(e, v, 8), seen = 0;
		for (int i = 0; i < n; i++) seen |= v[i].data.u64;
		if (!(seen & 2)) bad("an edge is lost");
		take(a);
		take(b);
		SAME(waits(e, v, 8), 0);
	}
}

// A one-shot that has fired is silent until it is armed again.
static void oneshot(void) {
	int e = epoll_create1(0), a = eventfd(1, 0), b = eventfd(1, 0);
	add(e, a, EPOLLIN | EPOLLONESHOT, 1);
	struct epoll_event v[8];
	for (;;) {
		SAME(waits(e, v, 8), 1);
		SAME(waits(e, v, 8), 0);
		add(e, b, EPOLLIN | EPOLLONESHOT, 2);
		say_ok();
		nap(30);
		SAME(waits(e, v, 8), 1);
		SAME(v[0].data.u64, 2);
		SAME(waits(e, v, 8), 0);
		MUST(epoll_ctl(e, EPOLL_CTL_DEL, b, 0) == 0);
		struct epoll_event m = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 1};
		MUST(epoll_ctl(e, EPOLL_CTL_MOD, a, &m) == 0);
	}
}

static void exclusive(void) {
	int e = epoll_create1(0), f = epoll_create1(0), a = eventfd(0, 0);
	add(e, a, EPOLLIN | EPOLLEXCLUSIVE, 1);
	add(f, a, EPOLLIN | EPOLLEXCLUSIVE, 2);
	struct epoll_event v[2], m = {.events = EPOLLIN};
	for (;;) {
		put(a);
		SAME(waits(e, v, 2), 1);
		SAME(waits(f, v, 2), 1);
		SAME(v[0].data.u64, 2);
		take(a);
		MUST(epoll_ctl(e, EPOLL_CTL_MOD, a, &m) == -1 && errno == EINVAL); // only of exclusive ones
		ok();
	}
}

static void nested(void) {
	int outer = epoll_create1(0), middle = epoll_create1(0), inner = epoll_create1(0), a = eventfd(0, 0);
	add(outer, middle, EPOLLIN, 1);
	add(middle, inner, EPOLLIN, 2);
	add(inner, a, EPOLLIN, 3);
	struct epoll_event v[2];
	for (;;) {
		SAME(waits(outer, v, 2), 0);
		put(a);
		SAME(waits(outer, v, 2), 1);
		SAME(v[0].data.u64, 1);
		SAME(waits(middle, v, 2), 1);
		SAME(v[0].data.u64, 2);
		SAME(waits(inner, v, 2), 1);
		SAME(v[0].data.u64, 3);
		take(a);
		SAME(waits(outer, v, 2), 0);
		ok();
	}
}

// A descriptor was duplicated after it was registered, and another number of
// the same file registered too.
static void duplicates(void) {
	int e = epoll_create1(0), a = eventfd(0, 0), b = dup(a), c;
	add(e, a, EPOLLIN, 1);
	add(e, b, EPOLLIN, 2);
	c = dup(a);
	struct epoll_event v[4];
	for (;;) {
		put(c);
		SAME(waits(e, v, 4), 2);
		SAME(v[0].data.u64 + v[1].data.u64, 3);
		take(b);
		SAME(waits(e, v, 4), 0);
		ok();
	}
}

// The number under which it was registered was closed, or means another file
// now, while a duplicate keeps the registration alive.
static void orphaned(void) {
	int e = epoll_create1(0), a = eventfd(0, 0), b = dup(a), x = eventfd(0, 0), y = dup(x);
	add(e, a, EPOLLIN, 1);
	add(e, x, EPOLLIN, 2);
	close(a);
	MUST(dup2(0, x) == x); // now another file
	struct epoll_event v[4];
	for (;;) {
		put(b);
		SAME(waits(e, v, 4), 1);
		SAME(v[0].data.u64, 1);
		take(b);
		put(y);
		SAME(waits(e, v, 4), 1);
		SAME(v[0].data.u64, 2);
		take(y);
		SAME(fcntl(a, F_GETFD), -1);
		ok();
	}
}

// An epoll and what it watches, shared with a child.
static void inherited(void) {
	int e = epoll_create1(0), a = eventfd(0, 0);
	add(e, a, EPOLLIN, 7);
	if (fork() == 0) for (;;) {
			struct epoll_event v;
			while (epoll_wait(e, &v, 1, 2000) != 1) if (errno) bad("child: epoll_wait");
			SAME(v.data.u64, 7);
			take(a);
			pulse[1]++;
		}
	for (;;) {
		long n = pulse[1];
		put(a);
		while (pulse[1] == n) nap(1);
		ok();
	}
}

// Many descriptors, and a thread that blocks for ever in epoll_wait.
static int deep, wake;
static void *blocked(void *p) {
	struct epoll_event v;
	for (;;) {
		int n = epoll_wait(deep, &v, 1, -1);
		if (n != 1) bad("epoll_wait for ever gives %d", n);
		SAME(v.data.u64, 4242);
		take(wake);
		pulse[1]++;
	}
	return p;
}
static void many(void) {
	int e = epoll_create1(0), fd[300];
	for (int i = 0; i < 300; i++) {
		MUST((fd[i] = eventfd(0, EFD_NONBLOCK)) >= 0);
		add(e, fd[i], EPOLLIN, i);
	}
	deep = epoll_create1(0);
	wake = eventfd(0, 0);
	add(deep, wake, EPOLLIN, 4242);
	pthread_t t;
	pthread_create(&t, 0, blocked, 0);
	struct epoll_event v[300];
	for (int n = 0;; n = (n + 7) % 300) {
		put(fd[n]);
		SAME(waits(e, v, 300), 1);
		SAME(v[0].data.u64, n);
		take(fd[n]);
		long was = pulse[1];
		put(wake);
		while (pulse[1] == was) nap(1);
		ok();
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(level), A(edge), A(oneshot), A(exclusive), A(nested), A(duplicates), A(orphaned), A(inherited), A(many), {0, 0},
};
