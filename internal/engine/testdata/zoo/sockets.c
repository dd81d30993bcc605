// Sockets within the tree and to outside.
#include "zoo.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <linux/netlink.h>

static int ready(int fd, int what) {
	struct pollfd p = {fd, what, 0};
	MUST(poll(&p, 1, 0) >= 0);
	return p.revents;
}
static void sure_send(int fd, const void *b, size_t n) { MUST(send(fd, b, n, MSG_NOSIGNAL) == (ssize_t)n); }
static void sure_recv(int fd, const char *want) {
	char b[4096];
	ssize_t n = recv(fd, b, sizeof b, MSG_DONTWAIT);
	if (n != (ssize_t)strlen(want) || memcmp(b, want, n)) bad("received %zd bytes, not %s", n, want);
}
static void nothing(int fd) {
	char b[16];
	MUST(recv(fd, b, 16, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static void send_fds(int s, const char *text, int n, const int *fds) {
	char c[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec v = {(void *)text, strlen(text)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(h), fds, n * sizeof(int));
	MUST(sendmsg(s, &m, 0) == (ssize_t)strlen(text));
}
static int recv_fds(int s, const char *text, int *fds) {
	char c[CMSG_SPACE(16 * sizeof(int))], b[256];
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	ssize_t n = recvmsg(s, &m, MSG_DONTWAIT);
	if (n != (ssize_t)strlen(text) || memcmp(b, text, n)) bad("received %zd bytes, not %s", n, text);
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	if (!h) return 0;
	int k = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(h), k * sizeof(int));
	return k;
}

static void pairs(int type, int stream) {
	int p[2], q[2];
	MUST(socketpair(AF_UNIX, type, 0, p) == 0 && socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, q) == 0);
	sure_send(p[0], "to one", 6);
	sure_send(p[0], " and more", 9);
	sure_send(p[1], "to zero", 7);
	if (fork() == 0) for (;;) {
			char b[8];
			MUST(read(q[1], b, 8) == -1 && errno == EAGAIN);
			beat(1);
		}
	for (;;) {
		if (stream) sure_recv(p[1], "to one and more");
		else sure_recv(p[1], "to one"), sure_recv(p[1], " and more");
		sure_recv(p[0], "to zero");
		nothing(p[0]);
		nothing(p[1]);
		sure_send(p[0], "to one", 6);
		sure_send(p[0], " and more", 9);
		sure_send(p[1], "to zero", 7);
		SAME(fcntl(q[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		SAME(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
		SAME(fcntl(q[0], F_GETFD), FD_CLOEXEC);
		SAME(ready(q[0], POLLIN | POLLOUT), POLLOUT);
		alive(1);
		ok();
	}
}
static void stream_pair(void) { pairs(SOCK_STREAM, 1); }
static void dgram_pair(void) { pairs(SOCK_DGRAM, 0); }
static void seqpacket_pair(void) { pairs(SOCK_SEQPACKET, 0); }

// A full queue stays full, byte by byte.
static void full_pair(void) {
	int p[2];
	static char out[1 << 20], in[1 << 20];
	for (size_t i = 0; i < sizeof out; i++) out[i] = i * 7 + (i >> 8);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0);
	int big = 300000;
	setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
	for (;;) {
		ssize_t n = 0, k;
		while ((k = send(p[0], out + n, sizeof out - n < 5000 ? sizeof out - n : 5000, 0)) > 0) n += k;
		nap(30);
		say_ok();
		nap(30);
		ssize_t got = 0;
		while ((k = recv(p[1], in + got, sizeof in - got, 0)) > 0) got += k;
		SAME(got, n);
		CHECK(!memcmp(in, out, n));
	}
}

// Descriptors travel: a file, a pipe, a socket that is nowhere else.
static void in_flight(void) {
	int s[2], f[2], p[2], t[2], g[16];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	for (;;) {
		f[0] = open("travelling", O_RDWR | O_CREAT | O_TRUNC, 0600);
		MUST(write(f[0], "cargo", 5) == 5);
		lseek(f[0], 2, SEEK_SET);
		MUST(pipe(p) == 0 && write(p[1], "piped", 5) == 5);
		MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, t) == 0);
		sure_send(t[0], "nested", 6);
		send_fds(s[0], "first", 2, (int[]){f[0], p[0]});
		send_fds(s[0], "second", 1, (int[]){t[1]});
		close(f[0]);
		close(p[0]);
		close(t[1]);
		nap(20);
		say_ok();
		nap(30);
		SAME(recv_fds(s[1], "first", g), 2);
		SAME(lseek(g[0], 0, SEEK_CUR), 2);
		char b[16];
		MUST(read(g[0], b, 16) == 3 && !memcmp(b, "rgo", 3));
		MUST(read(g[1], b, 16) == 5 && !memcmp(b, "piped", 5));
		SAME(recv_fds(s[1], "second", g + 2), 1);
		sure_recv(g[2], "nested");
		sure_send(g[2], "back", 4);
		sure_recv(t[0], "back");
		MUST(write(p[1], "again", 5) == 5 && read(g[1], b, 16) == 5);
		for (int i = 0; i < 3; i++) close(g[i]);
		close(p[1]);
		close(t[0]);
		nothing(s[1]);
	}
}

// A socket travels through itself.
static void in_flight_deep(void) {
	for (;;) {
		int a[2], b[2], g[16];
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, b) == 0);
		send_fds(b[0], "inner", 1, (int[]){1});
		send_fds(a[0], "outer", 2, (int[]){b[1], b[0]});
		close(b[0]);
		close(b[1]);
		nap(20);
		say_ok();
		nap(30);
		SAME(recv_fds(a[1], "outer", g), 2);
		SAME(recv_fds(g[0], "inner", g + 2), 1);
		sure_send(g[1], "x", 1);
		sure_recv(g[0], "x");
		for (int i = 0; i < 3; i++) close(g[i]);
		close(a[0]);
		close(a[1]);
	}
}

static struct sockaddr_un address(const char *path) {
	struct sockaddr_un a = {AF_UNIX};
	strcpy(a.sun_path, path);
	return a;
}
static void check_name(int fd, int peer, const char *path, int abstract) {
	struct sockaddr_un a;
	socklen_t n = sizeof a;
	MUST((peer ? getpeername : getsockname)(fd, (void *)&a, &n) == 0);
	int len = strlen(path) + 1;
	SAME(n, offsetof(struct sockaddr_un, sun_path) + len);
	CHECK(!memcmp(a.sun_path + abstract, path, len - 1));
}
static void dial_round(int l, struct sockaddr_un *a, socklen_t n) {
	int c = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(c, (void *)a, n)) bad("connect %s", a->sun_path);
	int s = accept(l, 0, 0);
	MUST(s >= 0);
	sure_send(c, "hello", 5);
	sure_recv(s, "hello");
	close(c);
	close(s);
}

// Listening, with a connection that was made before.
static void listener(const char *path, int abstract) {
	struct sockaddr_un a = address(path);
	socklen_t n = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
	if (abstract) a.sun_path[0] = 0, memcpy(a.sun_path + 1, path, strlen(path));
	else unlink(path);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	umask(0);
	MUST(bind(l, (void *)&a, n) == 0 && listen(l, 7) == 0);
	if (!abstract) chmod(path, 0751);
	MUST(connect(c, (void *)&a, n) == 0);
	int s = accept(l, 0, 0);
	int later = socket(AF_UNIX, SOCK_STREAM, 0), later2 = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(connect(later, (void *)&a, n) == 0);
	MUST(connect(later2, (void *)&a, n) == 0);
	for (;;) {
		sure_send(c, "there", 5);
		sure_send(s, "back", 4);
		sure_recv(s, "there");
		sure_recv(c, "back");
		check_name(l, 0, path, abstract);
		check_name(s, 0, path, abstract);
		check_name(c, 1, path, abstract);
		int on;
		socklen_t k = sizeof on;
		MUST(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &on, &k) == 0 && on == 1);
		struct ucred u;
		k = sizeof u;
		MUST(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &k) == 0);
		SAME(u.pid, getpid());
		SAME(u.uid, 0);
		if (!abstract) {
			struct stat st;
			MUST(stat(path, &st) == 0);
			SAME(st.st_mode, S_IFSOCK | 0751);
		}
		nap(20);
		SAME(ready(l, POLLIN), POLLIN);
		int t = accept(l, 0, 0);
		sure_send(t, "accepted", 8);
		sure_recv(later, "accepted");
		check_name(later, 1, path, abstract);
		check_name(t, 0, path, abstract);
		close(t);
		close(later);
		later = later2;
		later2 = socket(AF_UNIX, SOCK_STREAM, 0);
		MUST(connect(later2, (void *)&a, n) == 0);
		say_ok();
	}
}
// Something was sent before the connection is accepted: nobody can see it.
static void unaccepted_data(void) {
	struct sockaddr_un a = address("early.sock");
	unlink(a.sun_path);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0 && connect(c, (void *)&a, sizeof a) == 0);
	sure_send(c, "early", 5);
	for (;;) ok();
}
static void listen_path(void) {
	char p[100];
	getcwd(p, 80);
	strcat(p, "/dir");
	mkdir(p, 0711);
	strcat(p, "/sock");
	listener(p, 0);
}
static void listen_relative(void) { listener("relative.sock", 0); }
static void listen_abstract(void) {
	char p[64];
	snprintf(p, sizeof p, "zoo-%ld", now_ms());
	listener(p, 1);
}
static void listen_seqpacket(void) {
	struct sockaddr_un a = address("seq.sock");
	unlink(a.sun_path);
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0 && connect(c, (void *)&a, sizeof a) == 0);
	int s = accept(l, 0, 0);
	for (;;) {
		sure_send(c, "one", 3);
		sure_send(c, "two", 3);
		nap(10);
		sure_recv(s, "one");
		sure_recv(s, "two");
		ok();
	}
}

// Its file was removed, or another server took its place.
static void unlinked(void) {
	struct sockaddr_un a = address("taken.sock");
	unlink(a.sun_path);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), l2 = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0 && connect(c, (void *)&a, sizeof a) == 0);
	int s = accept(l, 0, 0);
	unlink(a.sun_path);
	MUST(bind(l2, (void *)&a, sizeof a) == 0 && listen(l2, 3) == 0);
	for (;;) {
		check_name(l, 0, "taken.sock", 0);
		sure_send(c, "on", 2);
		sure_recv(s, "on");
		dial_round(l2, &a, sizeof a);
		SAME(ready(l, POLLIN), 0);
		ok();
	}
}

static void dgram_bound(void) {
	struct sockaddr_un a = address("dgram.sock"), b = address("dgram2.sock"), from;
	socklen_t n = sizeof from;
	char buf[64];
	unlink(a.sun_path);
	unlink(b.sun_path);
	int s = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0), anon = socket(AF_UNIX, SOCK_DGRAM, 0);
	MUST(bind(s, (void *)&a, sizeof a) == 0 && bind(c, (void *)&b, sizeof b) == 0 && connect(c, (void *)&a, sizeof a) == 0);
	MUST(connect(anon, (void *)&a, sizeof a) == 0);
	for (;;) {
		sure_send(c, "named", 5);
		sure_send(anon, "nameless", 8);
		nap(20);
		n = sizeof from;
		SAME(recvfrom(s, buf, 64, MSG_DONTWAIT, (void *)&from, &n), 5);
		CHECK(!strcmp(from.sun_path, "dgram2.sock"));
		MUST(sendto(s, "reply", 5, 0, (void *)&from, n) == 5);
		sure_recv(c, "reply");
		sure_recv(s, "nameless");
		MUST(sendto(c, "to", 2, 0, 0, 0) == 2);
		sure_recv(s, "to");
		ok();
	}
}

static void shutdowns(void) {
	int p[2], q[2], r[2];
	char b[8];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, q) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, r) == 0);
	sure_send(p[0], "last words", 10);
	shutdown(p[0], SHUT_WR);
	shutdown(q[0], SHUT_RD);
	shutdown(r[0], SHUT_RDWR);
	for (int i = 0;; i++) {
		if (i == 30) sure_recv(p[1], "last words");
		if (i >= 30) SAME(recv(p[1], b, 8, 0), 0);
		MUST(send(p[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
		sure_send(p[1], "up", 2);
		sure_recv(p[0], "up");
		SAME(recv(q[0], b, 8, 0), 0);
		MUST(send(q[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
		sure_send(q[0], "down", 4);
		sure_recv(q[1], "down");
		SAME(recv(r[1], b, 8, 0), 0);
		MUST(send(r[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
		ok();
	}
}

// The other end was closed: what waits can be read, then the end.
static void hung_up(void) {
	int p[2], q[2], n;
	char b[16];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, q) == 0);
	sure_send(p[0], "legacy", 6);
	sure_send(q[0], "le", 2);
	sure_send(q[0], "gacy", 4);
	close(p[0]);
	close(q[0]);
	for (n = 0;; n++) {
		if (n < 20) {
			SAME(ready(p[1], POLLIN | POLLRDHUP), POLLIN | POLLHUP | POLLRDHUP);
			int k;
			MUST(ioctl(p[1], FIONREAD, &k) == 0);
			SAME(k, 6);
		} else if (n == 20) {
			sure_recv(p[1], "legacy");
			sure_recv(q[1], "le");
			sure_recv(q[1], "gacy");
		} else {
			SAME(recv(p[1], b, 16, 0), 0);
			SAME(recv(q[1], b, 16, 0), 0);
		}
		MUST(send(p[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
		ok();
	}
}

// Who the peer was when it connected.
static void peer_creds(void) {
	int p[2];
	struct sockaddr_un a = address("creds.sock");
	unlink(a.sun_path);
	umask(0);
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0 && pipe(p) == 0);
	pid_t c = fork();
	if (c == 0) {
		MUST(setresgid(12, 12, 12) == 0 && setresuid(34, 34, 34) == 0);
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		MUST(connect(s, (void *)&a, sizeof a) == 0);
		for (;;) {
			struct ucred u;
			socklen_t n = sizeof u;
			MUST(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0);
			SAME(u.pid, getppid());
			SAME(u.uid, 0);
			beat(1);
		}
	}
	int s = accept(l, 0, 0), on = 1;
	MUST(s >= 0);
	setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	for (;;) {
		struct ucred u;
		socklen_t n = sizeof u;
		MUST(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0);
		SAME(u.pid, c);
		SAME(u.uid, 34);
		SAME(u.gid, 12);
		on = 0;
		n = sizeof on;
		MUST(getsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, &n) == 0);
		SAME(on, 1);
		alive(1);
		ok();
	}
}

// A pair has one end in each of two processes, and a third holds nothing of it.
static void pair_processes(void) {
	int p[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	if (fork() == 0) {
		close(p[0]);
		for (;;) {
			long v;
			if (read(p[1], &v, 8) != 8) bad("child: read");
			v++;
			if (write(p[1], &v, 8) != 8) bad("child: write");
		}
	}
	close(p[1]);
	for (long v = 0;; v++) {
		long w = v;
		MUST(write(p[0], &w, 8) == 8);
		MUST(read(p[0], &w, 8) == 8);
		SAME(w, v + 1);
		if (v % 200 == 0) ok();
	}
}

// --- TCP and UDP

static int get(int fd, int level, int name) {
	int v = -12345;
	socklen_t n = sizeof v;
	if (getsockopt(fd, level, name, &v, &n)) bad("option %d/%d", level, name);
	return v;
}
static void set(int fd, int level, int name, int v) {
	if (setsockopt(fd, level, name, &v, sizeof v)) bad("set option %d/%d", level, name);
}
static int tcp_listen(int family, int proto, int reuse, int v6only, struct sockaddr_storage *ss) {
	int l = socket(family, SOCK_STREAM, proto);
	if (l < 0) bad("socket");
	memset(ss, 0, sizeof *ss);
	ss->ss_family = family;
	socklen_t n = sizeof *ss;
	if (family == AF_INET) ((struct sockaddr_in *)ss)->sin_addr.s_addr = htonl(v6only == 2 ? INADDR_ANY : INADDR_LOOPBACK), n = sizeof(struct sockaddr_in);
	else if (v6only < 0) ((struct sockaddr_in6 *)ss)->sin6_addr = in6addr_any;
	else ((struct sockaddr_in6 *)ss)->sin6_addr = in6addr_loopback;
	if (reuse) set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	if (family == AF_INET6) set(l, IPPROTO_IPV6, IPV6_V6ONLY, v6only > 0);
	MUST(bind(l, (void *)ss, n) == 0 && listen(l, 17) == 0);
	n = sizeof *ss;
	MUST(getsockname(l, (void *)ss, &n) == 0);
	return l;
}
static socklen_t length(struct sockaddr_storage *ss) { return ss->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6); }
static void tcp_round(int l, struct sockaddr_storage *ss) {
	int c = socket(ss->ss_family, SOCK_STREAM, 0);
	if (connect(c, (void *)ss, length(ss))) bad("connect");
	int s = accept(l, 0, 0);
	MUST(s >= 0);
	send(c, "over tcp", 8, MSG_NOSIGNAL);
	nap(1);
	char b[16];
	ssize_t r = recv(s, b, 16, 0);
	MUST(r == 8 || (r == -1 && errno == ECONNRESET)); // what is established comes back reset
	close(c);
	close(s);
	struct sockaddr_storage now;
	socklen_t n = sizeof now;
	MUST(getsockname(l, (void *)&now, &n) == 0);
	CHECK(!memcmp(&now, ss, n));
}
static void tcp_listeners(void) {
	struct sockaddr_storage a, b, c, d;
	int l4 = tcp_listen(AF_INET, 0, 1, 0, &a), l6 = tcp_listen(AF_INET6, 0, 0, 1, &b), lm = tcp_listen(AF_INET6, 0, 1, -1, &c), lp = tcp_listen(AF_INET, 0, 0, 0, &d);
	set(l4, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(l4, IPPROTO_TCP, TCP_NODELAY, 1);
	set(l4, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	set(l4, IPPROTO_TCP, TCP_KEEPINTVL, 11);
	set(l4, IPPROTO_TCP, TCP_KEEPCNT, 5);
	set(l4, IPPROTO_TCP, TCP_USER_TIMEOUT, 9000);
	set(l4, SOL_SOCKET, SO_RCVBUF, 50000);
	set(l4, SOL_SOCKET, SO_SNDBUF, 60000);
	set(l4, IPPROTO_IP, IP_TOS, 16);
	set(l4, SOL_SOCKET, SO_PRIORITY, 3);
	set(l4, SOL_SOCKET, SO_RCVLOWAT, 3);
	struct linger g = {1, 7};
	setsockopt(l4, SOL_SOCKET, SO_LINGER, &g, sizeof g);
	set(lm, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	fcntl(l4, F_SETFL, O_NONBLOCK);
	fcntl(l6, F_SETFL, O_NONBLOCK);
	int rcv = get(l4, SOL_SOCKET, SO_RCVBUF), snd = get(l4, SOL_SOCKET, SO_SNDBUF);
	for (;;) {
		SAME(get(l4, SOL_SOCKET, SO_KEEPALIVE), 1);
		SAME(get(l4, IPPROTO_TCP, TCP_NODELAY), 1);
		SAME(get(l4, IPPROTO_TCP, TCP_KEEPIDLE), 77);
		SAME(get(l4, IPPROTO_TCP, TCP_KEEPINTVL), 11);
		SAME(get(l4, IPPROTO_TCP, TCP_KEEPCNT), 5);
		SAME(get(l4, IPPROTO_TCP, TCP_USER_TIMEOUT), 9000);
		SAME(get(l4, SOL_SOCKET, SO_RCVBUF), rcv);
		SAME(get(l4, SOL_SOCKET, SO_SNDBUF), snd);
		SAME(get(l4, SOL_SOCKET, SO_PRIORITY), 3);
		SAME(get(l4, SOL_SOCKET, SO_RCVLOWAT), 3);
		SAME(get(l4, IPPROTO_IP, IP_TOS), 16);
		SAME(get(l4, SOL_SOCKET, SO_REUSEADDR), 1);
		SAME(get(l6, SOL_SOCKET, SO_REUSEADDR), 0);
		SAME(get(lp, SOL_SOCKET, SO_REUSEADDR), 0);
		SAME(get(l6, IPPROTO_IPV6, IPV6_V6ONLY), 1);
		SAME(get(lm, IPPROTO_IPV6, IPV6_V6ONLY), 0);
		SAME(get(l4, SOL_SOCKET, SO_ACCEPTCONN), 1);
		SAME(get(l4, SOL_SOCKET, SO_REUSEPORT), 0);
		SAME(get(lm, IPPROTO_IP, IP_FREEBIND), 0);
		struct tcp_info i;
		socklen_t n = sizeof i;
		MUST(getsockopt(l4, IPPROTO_TCP, TCP_INFO, &i, &n) == 0);
		SAME(i.tcpi_sacked, 17);
		tcp_round(l4, &a);
		tcp_round(l6, &b);
		c.ss_family = AF_INET6;
		tcp_round(lm, &c);
		tcp_round(lp, &d);
		ok();
	}
}
static void reuseport(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int l[4];
	for (int i = 0; i < 4; i++) {
		l[i] = socket(AF_INET, SOCK_STREAM, 0);
		set(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		socklen_t n = sizeof a;
		MUST(bind(l[i], (void *)&a, n) == 0 && listen(l[i], 5) == 0);
		getsockname(l[i], (void *)&a, &n);
	}
	for (;;) {
		for (int i = 0; i < 4; i++) SAME(get(l[i], SOL_SOCKET, SO_REUSEPORT), 1);
		int c = socket(AF_INET, SOCK_STREAM, 0);
		MUST(connect(c, (void *)&a, sizeof a) == 0);
		struct pollfd p[4];
		for (int i = 0; i < 4; i++) p[i] = (struct pollfd){l[i], POLLIN, 0};
		MUST(poll(p, 4, 2000) == 1);
		for (int i = 0; i < 4; i++) if (p[i].revents) close(accept(l[i], 0, 0));
		close(c);
		ok();
	}
}
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
static void mptcp(void) {
	struct sockaddr_storage a;
	int l = tcp_listen(AF_INET6, IPPROTO_MPTCP, 1, -1, &a);
	for (;;) {
		SAME(get(l, SOL_SOCKET, SO_PROTOCOL), IPPROTO_MPTCP);
		tcp_round(l, &a);
		ok();
	}
}
// Sockets that are not connected yet, or bound only.
static void raw_state(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b;
	socklen_t n = sizeof a;
	int fresh = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), bound = socket(AF_INET, SOCK_STREAM, 0);
	MUST(bind(bound, (void *)&a, sizeof a) == 0 && getsockname(bound, (void *)&a, &n) == 0);
	for (;;) {
		n = sizeof b;
		MUST(getsockname(bound, (void *)&b, &n) == 0);
		CHECK(!memcmp(&a, &b, sizeof a));
		MUST(getpeername(fresh, (void *)&b, &n) == -1 && errno == ENOTCONN);
		SAME(ready(fresh, POLLIN | POLLOUT), POLLOUT | POLLHUP);
		ok();
	}
}

static void udp(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b = a, from;
	socklen_t n = sizeof a;
	char buf[64];
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	MUST(bind(s, (void *)&a, n) == 0 && bind(c, (void *)&b, n) == 0 && getsockname(s, (void *)&a, &n) == 0 && getsockname(c, (void *)&b, &n) == 0);
	MUST(connect(c, (void *)&a, n) == 0);
	set(s, SOL_SOCKET, SO_BROADCAST, 1);
	set(s, IPPROTO_IP, IP_PKTINFO, 1);
	set(s, IPPROTO_IP, IP_TTL, 33);
	set(s, IPPROTO_IP, IP_MULTICAST_TTL, 5);
	set(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	set(s, IPPROTO_IP, IP_RECVERR, 1);
	set(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	sure_send(c, "queued", 6);
	sure_send(c, "up", 2);
	for (;;) {
		nap(10);
		n = sizeof from;
		SAME(recvfrom(s, buf, 64, MSG_DONTWAIT, (void *)&from, &n), 6);
		CHECK(!memcmp(&from, &b, sizeof b));
		sure_recv(s, "up");
		nothing(s);
		MUST(sendto(s, "answer", 6, 0, (void *)&from, n) == 6);
		nap(1);
		sure_recv(c, "answer");
		SAME(get(s, SOL_SOCKET, SO_BROADCAST), 1);
		SAME(get(s, IPPROTO_IP, IP_PKTINFO), 1);
		SAME(get(s, IPPROTO_IP, IP_TTL), 33);
		SAME(get(s, IPPROTO_IP, IP_MULTICAST_TTL), 5);
		SAME(get(s, IPPROTO_IP, IP_MULTICAST_LOOP), 0);
		SAME(get(s, IPPROTO_IP, IP_RECVERR), 1);
		SAME(get(s, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO);
		SAME(get(s, SOL_SOCKET, SO_REUSEADDR), 0);
		sure_send(c, "queued", 6);
		sure_send(c, "up", 2);
		ok();
	}
}
static void udp6(void) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback}, b;
	socklen_t n = sizeof a;
	int s = socket(AF_INET6, SOCK_DGRAM, 0), c = socket(AF_INET6, SOCK_DGRAM, 0);
	MUST(bind(s, (void *)&a, n) == 0 && getsockname(s, (void *)&a, &n) == 0 && connect(c, (void *)&a, n) == 0);
	set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
	set(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set(s, IPPROTO_IPV6, IPV6_TCLASS, 8);
	for (;;) {
		n = sizeof b;
		MUST(getpeername(c, (void *)&b, &n) == 0);
		CHECK(!memcmp(&a, &b, sizeof a));
		sure_send(c, "six", 3);
		nap(1);
		sure_recv(s, "six");
		SAME(get(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 9);
		SAME(get(s, IPPROTO_IPV6, IPV6_RECVPKTINFO), 1);
		SAME(get(s, IPPROTO_IPV6, IPV6_TCLASS), 8);
		ok();
	}
}

// An established connection works until it comes back reset: reading says so
// once, writing then gives EPIPE, and poll and epoll tell.
struct conn { int c, s; };
static struct conn connected(struct sockaddr_storage *a, int l) {
	struct conn k = {socket(a->ss_family, SOCK_STREAM, 0)};
	MUST(connect(k.c, (void *)a, length(a)) == 0);
	k.s = accept(l, 0, 0);
	MUST(k.s >= 0);
	return k;
}
static int try_talk(int from, int to) {
	char b[16];
	if (send(from, "talk", 4, MSG_NOSIGNAL) != 4) return 0;
	struct pollfd p = {to, POLLIN, 0};
	if (poll(&p, 1, 2000) != 1) bad("nothing comes");
	return recv(to, b, 16, 0) == 4;
}
static int resets;
static void saw_reset(int fd, int e) {
	char b[16];
	struct epoll_event v = {0};
	SAME(epoll_wait(e, &v, 1, 1000), 1);
	SAME(v.data.fd, fd);
	SAME(v.events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP), EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP);
	ssize_t n = recv(fd, b, 16, 0);
	if (n != -1 || errno != ECONNRESET) bad("recv gives %zd", n);
	SAME(recv(fd, b, 16, 0), 0);
	MUST(send(fd, b, 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	resets++;
}
static void established(int family, int proto) {
	struct sockaddr_storage a;
	int l = tcp_listen(family, 0, 1, 0, &a);
	(void)proto;
	for (;;) {
		struct conn k = connected(&a, l);
		int e = epoll_create1(0), f = epoll_create1(0);
		struct epoll_event v = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = k.c};
		MUST(epoll_ctl(e, EPOLL_CTL_ADD, k.c, &v) == 0);
		v.data.fd = k.s;
		v.events |= EPOLLET;
		MUST(epoll_ctl(f, EPOLL_CTL_ADD, k.s, &v) == 0);
		SAME(epoll_wait(e, &v, 1, 0), 0);
		for (;;) {
			say_ok();
			nap(10);
			if (ready(k.c, POLLRDHUP | POLLIN)) break;
			if (!try_talk(k.c, k.s) || !try_talk(k.s, k.c)) bad("it is broken, and poll does not tell");
			while (epoll_wait(f, &v, 1, 0) == 1) SAME(v.events, EPOLLIN);
		}
		saw_reset(k.c, e);
		saw_reset(k.s, f);
		close(k.c);
		close(k.s);
		close(e);
		close(f);
	}
}
static void tcp4(void) { established(AF_INET, 0); }
static void tcp6(void) { established(AF_INET6, 0); }

// A reader that blocks in recv gets ECONNRESET.
static void tcp_blocked(void) {
	struct sockaddr_storage a;
	int l = tcp_listen(AF_INET, 0, 1, 0, &a);
	if (fork() == 0)
		for (;;) {
			int c = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(c, (void *)&a, length(&a))) bad("connect");
			char b[16];
			ssize_t n = recv(c, b, 16, 0);
			if (n != -1 || errno != ECONNRESET) bad("child: recv gives %zd", n);
			close(c);
		}
	for (;;) {
		int s = accept(l, 0, 0);
		MUST(s >= 0);
		while (!ready(s, POLLIN)) ok();
		char b[16];
		MUST(recv(s, b, 16, 0) == -1 && errno == ECONNRESET);
		close(s);
	}
}
// Connections that wait to be accepted, and such as are half closed.
static void tcp_unaccepted(void) {
	struct sockaddr_storage a;
	int l = tcp_listen(AF_INET, 0, 1, 0, &a);
	for (;;) {
		int c = socket(AF_INET, SOCK_STREAM, 0);
		MUST(connect(c, (void *)&a, length(&a)) == 0);
		sure_send(c, "early", 5);
		nap(15);
		say_ok();
		nap(15);
		char b[16];
		if (ready(c, POLLIN)) { // restored in between
			MUST(recv(c, b, 16, 0) == -1 && errno == ECONNRESET);
		} else {
			SAME(ready(l, POLLIN), POLLIN);
			int s = accept(l, 0, 0);
			MUST(recv(s, b, 16, 0) == 5);
			shutdown(c, SHUT_WR);
			nap(15);
			say_ok();
			ssize_t n = recv(s, b, 16, 0);
			if (n > 0) bad("recv gives %zd", n);
			close(s);
		}
		close(c);
	}
}
// Connections that ended before: everything was read and closed.
static void tcp_ended(void) {
	struct sockaddr_storage a;
	int l = tcp_listen(AF_INET, 0, 1, 0, &a);
	struct conn k = connected(&a, l);
	char b[16];
	close(k.s);
	MUST(recv(k.c, b, 16, 0) == 0);
	int refused = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in none = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(1)};
	MUST(connect(refused, (void *)&none, sizeof none) == -1 && errno == ECONNREFUSED);
	for (;;) {
		ssize_t n = recv(k.c, b, 16, 0);
		if (n > 0) bad("recv gives %zd", n);
		CHECK(ready(k.c, POLLIN) & POLLIN);
		ok();
	}
}

static void netlinks(void) {
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = 1}, b;
	MUST(bind(s, (void *)&a, sizeof a) == 0);
	for (;;) {
		socklen_t n = sizeof b;
		MUST(getsockname(s, (void *)&b, &n) == 0);
		SAME(b.nl_groups, 1);
		struct { struct nlmsghdr h; char g[32]; } q = {{.nlmsg_len = sizeof q, .nlmsg_type = 18, .nlmsg_flags = 0x301}}; // RTM_GETLINK, dump
		static char buf[65536];
		MUST(send(s, &q, sizeof q, 0) == sizeof q);
		for (;;) {
			ssize_t k = recv(s, buf, sizeof buf, 0);
			MUST(k > 0);
			if (((struct nlmsghdr *)buf)->nlmsg_type == NLMSG_DONE) break;
		}
		ok();
	}
}

#define A(f) {#f, f}
struct animal animals[] = {
	A(stream_pair), A(dgram_pair), A(seqpacket_pair), A(full_pair), A(in_flight), A(in_flight_deep),
	A(listen_path), A(listen_relative), A(listen_abstract), A(listen_seqpacket), A(unlinked), A(dgram_bound), A(shutdowns),
	A(hung_up), A(unaccepted_data), A(peer_creds), A(pair_processes), A(tcp_listeners), A(reuseport), A(mptcp), A(raw_state), A(udp), A(udp6),
	A(tcp4), A(tcp6), A(tcp_blocked), A(tcp_unaccepted), A(tcp_ended), A(netlinks), {0, 0},
};
