// steady checks in every round that its registers, signal mask, alternate
// stack, descriptor table and sleeps are what they must be, in two threads.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void bad(const char *what)
{
	printf("BAD: %s (errno %d)\n", what, errno);
	fflush(stdout);
	_exit(1);
}

// registers holds known values in the registers for a while and compares.
static void registers(unsigned long seed)
{
	unsigned long out[6], n = 200000;
	double d;
	__asm__ volatile(
		"mov %[s], %%rbx\n lea 1(%[s]), %%r12\n lea 2(%[s]), %%r13\n lea 3(%[s]), %%r14\n lea 4(%[s]), %%r15\n"
		"movq %[s], %%xmm7\n mov %[n], %%rcx\n"
		"1: dec %%rcx\n jnz 1b\n"
		"mov %%rbx, 0(%[o])\n mov %%r12, 8(%[o])\n mov %%r13, 16(%[o])\n mov %%r14, 24(%[o])\n mov %%r15, 32(%[o])\n"
		"movq %%xmm7, 40(%[o])\n"
		:: [s] "r"(seed), [n] "r"(n), [o] "r"(out)
		: "rbx", "r12", "r13", "r14", "r15", "rcx", "xmm7", "memory", "cc");
	for (int i = 0; i < 5; i++)
		if (out[i] != seed + i)
			bad("general registers");
	if (out[5] != seed)
		bad("xmm7");
	d = (double)seed * 1.5;
	if (d / 1.5 != (double)seed)
		bad("floating point");
}

static int descriptors(void)
{
	int n = 0;
	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0 ? fd + 1 : 0;
	return n;
}

static void round_(unsigned long seed, sigset_t *want, int fds, char *alt)
{
	sigset_t now;
	stack_t st;
	struct timespec ts = {0, 2000000}, a, b;
	registers(seed);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	if (memcmp(&now, want, 8))
		bad("signal mask");
	sigaltstack(NULL, &st);
	if (st.ss_sp != alt)
		bad("alternate stack");
	if (descriptors() != fds) { // a tape that its dead keeper left is at its end in a moment
		usleep(20000);
		if (descriptors() != fds)
			bad("descriptor table");
	}
	clock_gettime(CLOCK_MONOTONIC, &a);
	if (nanosleep(&ts, NULL))
		bad("nanosleep was interrupted");
	clock_gettime(CLOCK_MONOTONIC, &b);
	if ((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec < 2000000)
		bad("nanosleep was too short");
}

struct arg { int sig, fds; };

static void *second(void *p)
{
	struct arg *g = p;
	sigset_t s;
	char *alt = malloc(65536);
	stack_t st = {.ss_sp = alt, .ss_size = 65536};
	sigemptyset(&s);
	sigaddset(&s, g->sig);
	sigaddset(&s, SIGRTMIN + 3);
	pthread_sigmask(SIG_SETMASK, &s, NULL);
	sigaltstack(&st, NULL);
	for (unsigned long n = 1000000;; n++)
		round_(n, &s, g->fds, alt);
	return NULL;
}

static void nothing(int sig) { (void)sig; }

int main(void)
{
	sigset_t s;
	char *alt = malloc(65536);
	stack_t st = {.ss_sp = alt, .ss_size = 65536};
	struct sigaction sa = {.sa_handler = SIG_IGN};
	pthread_t t;
	struct arg g;
	eventfd(0, 0);
	dup2(1, 77);
	sigaction(SIGTRAP, &sa, NULL); // a tracer that steps would reset this
	sa.sa_handler = nothing;
	sigaction(SIGUSR2, &sa, NULL);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_SETMASK, &s, NULL);
	sigaltstack(&st, NULL);
	g.sig = SIGUSR2;
	g.fds = descriptors();
	pthread_create(&t, NULL, second, &g);
	for (unsigned long n = 1;; n++) {
		round_(n, &s, g.fds, alt);
		sigaction(SIGTRAP, NULL, &sa);
		if (sa.sa_handler != SIG_IGN)
			bad("SIGTRAP is no longer ignored");
		if (n % 10 == 0) {
			printf("ok %lu\n", n);
			fflush(stdout);
		}
	}
}
