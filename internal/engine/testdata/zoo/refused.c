// What cannot be saved: an animal for each refusal. It is refused by name and
// goes on, with what it has unharmed.
#include "zoo.h"
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/syscall.h>

static __attribute__((noreturn)) void go_on(void) { for (;;) ok(); }

// fd_of goes on with a descriptor that must stay what it is.
static __attribute__((noreturn)) void fd_of(int fd) {
	struct stat was, now;
	MUST(fd >= 0 && fstat(fd, &was) == 0);
	for (;;) {
		MUST(fstat(fd, &now) == 0);
		SAME(now.st_ino, was.st_ino);
		ok();
	}
}

static void io_uring(void) { char p[120] = {0}; fd_of(syscall(SYS_io_uring_setup, 4, p)); }
static void uffd(void) { fd_of(syscall(SYS_userfaultfd, O_CLOEXEC | 1)); }
static void fanotify(void) { fd_of(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY)); }
static void perf(void) {
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK};
	fd_of(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}
static void bpf(void) {
	union bpf_attr a = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	fd_of(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a));
}
static void landlock(void) {
	struct landlock_ruleset_attr a = {.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE};
	fd_of(syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0));
}
static void fs_context(void) { fd_of(fsopen("tmpfs", 0)); }
static void raw(void) { fd_of(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }
static void packet(void) { fd_of(socket(AF_PACKET, SOCK_RAW, 0)); }
static void vsock(void) { fd_of(socket(AF_VSOCK, SOCK_STREAM, 0)); }
static void netlink_family(void) { fd_of(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)); }
static void netlink_unread(void) {
	struct { struct nlmsghdr h; struct rtgenmsg g; } q = {{sizeof q, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {AF_UNSPEC}};
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	MUST(fd >= 0 && send(fd, &q, sizeof q, 0) == sizeof q);
	struct pollfd p = {fd, POLLIN, 0};
	for (;;) {
		struct nlmsghdr h;
		SAME(poll(&p, 1, 5000), 1);
		MUST(recv(fd, &h, sizeof h, MSG_PEEK) == sizeof h);
		SAME(h.nlmsg_seq, 7);
		ok();
	}
}
static void pty_master(void) {
	int m = posix_openpt(O_RDWR | O_NOCTTY), n = 0;
	MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
	int s = open(ptsname(m), O_RDWR | O_NOCTTY);
	MUST(s >= 0);
	for (;; n++) {
		char b[16], got[16] = {0};
		int k = snprintf(b, sizeof b, "%d\n", n);
		MUST(write(m, b, k) == k && read(s, got, sizeof got) == k);
		CHECK(!strcmp(b, got));
		MUST(read(m, got, k + 1) == k + 1); // the echo
		ok();
	}
}
static void pty_slave(void) { // of which nobody in the tree has the master
	int m = posix_openpt(O_RDWR | O_NOCTTY);
	MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
	int s = open(ptsname(m), O_RDWR | O_NOCTTY);
	close(m);
	fd_of(s);
}
static void device(void) { fd_of(open("/dev/kmsg", O_RDONLY)); }
static void mqueue(void) {
	char name[32];
	snprintf(name, sizeof name, "/zoo-%d", getpid());
	mqd_t q = mq_open(name, O_CREAT | O_RDWR | O_EXCL, 0600, 0);
	MUST(q >= 0 && mq_unlink(name) == 0 && mq_send(q, "x", 1, 0) == 0);
	for (;;) {
		struct mq_attr a;
		MUST(mq_getattr(q, &a) == 0);
		SAME(a.mq_curmsgs, 1);
		ok();
	}
}
static void sem(void) {
	int id = semget(IPC_PRIVATE, 1, 0600);
	MUST(id >= 0 && semctl(id, 0, SETVAL, 5) == 0);
	for (;;) { SAME(semctl(id, 0, GETVAL), 5); ok(); }
}
static void msg(void) {
	int id = msgget(IPC_PRIVATE, 0600);
	struct { long t; char c; } m = {1, 'x'};
	MUST(id >= 0 && msgsnd(id, &m, 1, 0) == 0);
	for (;;) {
		struct msqid_ds d;
		MUST(msgctl(id, IPC_STAT, &d) == 0);
		SAME(d.msg_qnum, 1);
		ok();
	}
}
static void lease(void) {
	int fd = open("leased", O_RDONLY | O_CREAT, 0600);
	MUST(fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
	for (;;) { SAME(fcntl(fd, F_GETLEASE), F_RDLCK); ok(); }
}
static void pidfd_init(void) { fd_of(syscall(SYS_pidfd_open, 1, 0)); }
static void proc_init(void) { fd_of(open("/proc/1/status", O_RDONLY)); }
static void removed_directory(void) {
	MUST(mkdir("gone", 0700) == 0);
	int fd = open("gone", O_RDONLY | O_DIRECTORY);
	MUST(rmdir("gone") == 0);
	fd_of(fd);
}
static void removed_fifo(void) {
	MUST(mkfifo("fifo", 0600) == 0);
	int fd = open("fifo", O_RDWR);
	MUST(unlink("fifo") == 0);
	fd_of(fd);
}
static void removed_cwd(void) {
	char b[4096];
	MUST(mkdir("gone", 0700) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0);
	for (;;) {
		SAME(syscall(SYS_getcwd, b, sizeof b), -1);
		ok();
	}
}
static void renamed(void) { // its name in this directory is gone, another has it
	MUST(mkdir("other", 0700) == 0);
	int fd = open("moved", O_RDWR | O_CREAT, 0600);
	MUST(link("moved", "other/moved") == 0 && unlink("moved") == 0);
	fd_of(fd);
}
static void inotify_gone(void) {
	int f = open("watched", O_RDWR | O_CREAT, 0600), fd = inotify_init1(IN_NONBLOCK);
	MUST(inotify_add_watch(fd, "watched", IN_MODIFY) == 1 && unlink("watched") == 0);
	char b[4096];
	while (read(fd, b, sizeof b) > 0);
	for (;;) {
		MUST(write(f, "x", 1) == 1);
		MUST(read(fd, b, sizeof b) == sizeof(struct inotify_event));
		ok();
	}
}
// send_fd puts a descriptor into a message that nobody takes, and closes it.
static void send_fd(int fd) {
	int s[2];
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	char c[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(int));
	MUST(sendmsg(s[0], &m, 0) == 1 && close(fd) == 0);
}
static void epoll_sent(void) {
	int e = epoll_create1(0), p[2];
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 9};
	MUST(pipe(p) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev) == 0);
	send_fd(e);
	go_on();
}
static void epoll_closed(void) { // what it watches is in a message only
	int e = epoll_create1(0), p[2];
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 9}, got;
	MUST(pipe(p) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev) == 0 && write(p[1], "x", 1) == 1);
	send_fd(p[0]);
	for (;;) { SAME(epoll_wait(e, &got, 1, 0), 1); ok(); }
}
static void big_message(void) {
	static char b[400 << 10];
	int s[2], size = 1 << 20;
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) == 0);
	MUST(send(s[0], b, sizeof b, 0) == sizeof b);
	for (;;) { SAME(recv(s[1], b, 1, MSG_PEEK | MSG_TRUNC), sizeof b); ok(); }
}

// Memory.
static void of_memory(volatile char *p) {
	MUST((void *)p != MAP_FAILED);
	for (;;) { char c = *p; (void)c; ok(); }
}
static void hugetlb(void) { // needs no page, only the mapping
	char *p = mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	MUST(p != MAP_FAILED);
	go_on();
}
static void aio(void) {
	aio_context_t c = 0;
	MUST(syscall(SYS_io_setup, 4, &c) == 0);
	struct io_event e;
	struct timespec none = {0, 0};
	for (;;) { SAME(syscall(SYS_io_getevents, c, 0, 1, &e, &none), 0); ok(); }
}
static void sealed(void) {
	char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(syscall(462, p, 4096, 0) == 0);
	of_memory(p);
}
static void secret(void) {
	int fd = syscall(SYS_memfd_secret, 0);
	MUST(fd >= 0 && ftruncate(fd, 4096) == 0);
	volatile char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(p != MAP_FAILED);
	*p = 42;
	for (;;) { SAME(*p, 42); ok(); }
}
static void mapped_socket(void) {
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct tpacket_req r = {4096, 1, 2048, 2};
	MUST(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &r, sizeof r) == 0);
	char *p = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	of_memory(p);
}

// Confinement.
static void allow_all(int flags) {
	struct sock_filter f = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
	struct sock_fprog p = {1, &f};
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p) == 0);
}
static void seccomp(void) { allow_all(0); go_on(); }
static void *one_allowed(void *p) { allow_all(0); pulse[0] = 1; for (;;) pause(); }
static void seccomp_thread(void) { // of one thread only
	pthread_t t;
	MUST(pthread_create(&t, 0, one_allowed, 0) == 0);
	while (!pulse[0]) nap(1);
	go_on();
}
// Syscall user dispatch: calls from outside of libc become SIGSYS while the
// selector says so.
static volatile char selector;
static volatile int dispatched;
static void on_sys(int s, siginfo_t *i, void *u) { dispatched++; }
static void dispatch(void) {
	unsigned long from = 0, to = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof line, f) && !to)
		if (strstr(line, "r-xp") && strstr(line, "/libc")) sscanf(line, "%lx-%lx", &from, &to);
	fclose(f);
	struct sigaction h = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
	MUST(to && sigaction(SIGSYS, &h, 0) == 0);
	MUST(prctl(59, 1, from, to - from, &selector) == 0);
	for (int n = 1;; n++) {
		long r = SYS_getpid;
		selector = 1;
		__asm__ volatile("syscall" : "+a"(r) : : "rcx", "r11", "memory");
		SAME(dispatched, n);
		ok();
		selector = 0;
	}
}
static void namespace_of(int flag) { MUST(unshare(flag) == 0); go_on(); }
static void ns_net(void) { namespace_of(CLONE_NEWNET); }
static void ns_uts(void) { namespace_of(CLONE_NEWUTS); }
static void ns_ipc(void) { namespace_of(CLONE_NEWIPC); }
static void ns_mnt(void) { namespace_of(CLONE_NEWNS); }
static void ns_user(void) { namespace_of(CLONE_NEWUSER); }
static void ns_cgroup(void) { namespace_of(CLONE_NEWCGROUP); }
static void ns_child(int flag) { // a namespace that only children enter
	MUST(unshare(flag) == 0);
	pid_t c = fork();
	if (c == 0) for (;;) beat(0);
	for (;;) { alive(0); ok(); }
}
static void ns_pid(void) { ns_child(CLONE_NEWPID); }
static void ns_time(void) { ns_child(0x80); }
static void ns_pid_empty(void) { namespace_of(CLONE_NEWPID); } // for its children to come
static void mounted(void) {
	MUST(mkdir("mnt", 0700) == 0 && mount("none", "mnt", "tmpfs", 0, 0) == 0);
	MUST(open("mnt/file", O_CREAT | O_RDWR, 0600) >= 0);
	for (;;) { MUST(access("mnt/file", F_OK) == 0); ok(); }
}

// What processes share, and who looks at them.
static char stack[2][65536];
static int beats(void *p) { for (;;) beat((int)(long)p); }
static void sharing(int flags) {
	MUST(clone(beats, stack[0] + sizeof stack[0], flags | SIGCHLD, (void *)0) > 0);
	for (;;) { alive(0); ok(); }
}
static void share_vm(void) { sharing(CLONE_VM); }
static void share_files(void) { sharing(CLONE_FILES); }
static void share_fs(void) { sharing(CLONE_FS); }
static void *unshares(void *p) { MUST(unshare((int)(long)p) == 0); pulse[9] = 1; for (;;) beat(0); }
static void thread_alone(int what) {
	pthread_t t;
	MUST(pthread_create(&t, 0, unshares, (void *)(long)what) == 0);
	while (!pulse[9]) nap(1);
	for (;;) { alive(0); ok(); }
}
static void thread_files(void) { thread_alone(CLONE_FILES); }
static void thread_fs(void) { thread_alone(CLONE_FS); }
static void traced(void) {
	pid_t c = fork();
	if (c == 0) {
		MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		for (;;) beat(0);
	}
	for (;;) { alive(0); ok(); }
}
static void *remains(void *p) { go_on(); }
static void leaderless(void) {
	pthread_t t;
	MUST(pthread_create(&t, 0, remains, 0) == 0);
	pthread_exit(0);
}
static void cpu_timer(void) { // of another process
	pid_t c = fork();
	if (c == 0) for (;;) beat(0);
	clockid_t clock;
	timer_t t;
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	MUST(clock_getcpuclockid(c, &clock) == 0 && timer_create(clock, &e, &t) == 0);
	for (;;) { alive(0); ok(); }
}

static void key_in(int ring) {
	long k = syscall(SYS_add_key, "user", "zoo", "secret", 6, ring);
	MUST(k > 0);
	for (;;) {
		char b[16];
		SAME(syscall(SYS_keyctl, 11 /* KEYCTL_READ */, k, b, sizeof b), 6);
		ok();
	}
}
static void keyring(void) { key_in(-2); }
static void *with_key(void *p) { key_in(-1); }
static void keyring_thread(void) {
	pthread_t t;
	MUST(pthread_create(&t, 0, with_key, 0) == 0);
	for (;;) pause();
}

// many has several at once, in two processes.
static void many(void) {
	char p[120] = {0};
	int a = syscall(SYS_io_uring_setup, 4, p), b = socket(AF_PACKET, SOCK_RAW, 0), c = open("/dev/kmsg", O_RDONLY);
	MUST(a >= 0 && b >= 0 && c >= 0 && semget(IPC_PRIVATE, 1, 0600) >= 0 && msgget(IPC_PRIVATE, 0600) >= 0);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(syscall(462, m, 4096, 0) == 0);
	MUST(mkdir("gone", 0700) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0);
	if (fork() == 0) {
		MUST(unshare(CLONE_NEWUTS) == 0);
		MUST(fcntl(syscall(SYS_pidfd_open, 1, 0), F_GETFD) >= 0);
		allow_all(0);
		for (;;) beat(0);
	}
	if (fork() == 0) {
		MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		for (;;) beat(1);
	}
	for (;;) { alive(0); alive(1); ok(); }
}

// held goes on with what it was given; the other end lies outside.
static void held(void) {
	for (;;) {
		MUST(write(7, "x", 1) == 1);
		ok();
	}
}
static void outsider(void) { // a pidfd of its parent, which lies outside
	fd_of(syscall(SYS_pidfd_open, getppid(), 0));
}

#define A(n) {#n, n}
struct animal animals[] = {
	A(io_uring), A(uffd), A(fanotify), A(perf), A(bpf), A(landlock), A(fs_context), A(raw), A(packet), A(vsock),
	A(netlink_family), A(netlink_unread), A(pty_master), A(pty_slave), A(device), A(mqueue), A(sem), A(msg), A(lease),
	A(pidfd_init), A(proc_init), A(removed_directory), A(removed_fifo), A(removed_cwd), A(renamed), A(inotify_gone),
	A(epoll_sent), A(epoll_closed), A(big_message), A(hugetlb), A(aio), A(sealed), A(secret), A(mapped_socket), A(seccomp),
	A(seccomp_thread), A(dispatch), A(ns_net), A(ns_uts), A(ns_ipc), A(ns_mnt), A(ns_user), A(ns_cgroup), A(ns_pid),
	A(ns_time), A(ns_pid_empty), A(mounted), A(share_vm), A(share_files), A(share_fs), A(thread_files), A(thread_fs),
	A(traced), A(leaderless), A(cpu_timer), A(keyring), A(keyring_thread), A(many), A(held), A(outsider), {0}};
