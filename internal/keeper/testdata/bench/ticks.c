// ticks FILE MIB [idle]: holds MIB mebibytes of memory that does not compress,
// reads the clock all the time and remembers the largest gap between two
// readings. With idle it only waits for questions.
//
// It is spoken to through FILE, one page that both sides see at once: the
// other side writes the arguments and then a new number to `asked`; the answer
// is there when `answered` is that number. It is a shared mapping, so that
// neither question nor answer dirties the memory that is measured.
//
// Page p holds its version v, mix(p, v), and words that depend on p alone. The
// sum of all mix(p, v) is kept beside, so that CHECK finds a page that is
// damaged and also one that is whole but of another time.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, SCRATCH_MAX = 256 << 20 };

enum { GAP = 1, DIRTY, CHECK, FORK, COPY };

// The words of FILE, 8 bytes each, in the host's order. bench_program_test.go
// has the same list.
struct control {
	volatile uint64_t asked, op, argument;
	volatile uint64_t answered, result;
	volatile uint64_t life;  // the other side counts restores in it
	volatile uint64_t first; // CLOCK_REALTIME, ns, of the first tick of this life
};

static struct control *ctl;
static uint64_t *memory;
static uint64_t pages, step, sum, largest, last, life;

static uint64_t now(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// mix is the finalizer of splitmix64.
static uint64_t mix(uint64_t page, uint64_t n) {
	uint64_t x = page * 0x9e3779b97f4a7c15 + n * 0xd1342543de82ef95 + 1;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

// scattered is a permutation of the pages (their number is a power of two), so
// that steps in a row name different pages without a pattern.
static uint64_t scattered(uint64_t n) {
	uint64_t mask = pages - 1, half = (uint64_t)__builtin_ctzll(pages) / 2, x = n & mask;
	for (int i = 0; i < 4; i++) {
		x = (x * 0x9e3779b97f4a7c15 + 0x7f4a7c15) & mask;
		x ^= x >> half;
	}
	return x;
}

static void dirty(uint64_t count) {
	for (uint64_t i = 0; i < count; i++) {
		uint64_t p = scattered(step++), *w = memory + p * WORDS;
		sum -= w[1];
		w[1] = mix(p, ++w[0]);
		sum += w[1];
	}
}

// check returns the number of pages that are wrong.
static uint64_t check(void) {
	uint64_t wrong = 0, total = 0;
	for (uint64_t p = 0; p < pages; p++) {
		uint64_t *w = memory + p * WORDS, bad = w[1] ^ mix(p, w[0]);
		uint64_t x = p + 1;
		for (int i = 2; i < WORDS; i++) {
			x = x * 6364136223846793005 + 1442695040888963407;
			bad |= w[i] ^ x;
		}
		wrong += bad != 0;
		total += w[1];
	}
	return wrong ? wrong : total != sum;
}

static void fill(void) {
	for (uint64_t p = 0; p < pages; p++) {
		uint64_t *w = memory + p * WORDS, x = p + 1;
		w[0] = 0;
		sum += w[1] = mix(p, 0);
		for (int i = 2; i < WORDS; i++)
			w[i] = x = x * 6364136223846793005 + 1442695040888963407;
	}
}

static void *map(size_t size) {
	void *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		_exit(3);
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

// copy returns how long it takes to copy count pages, scattered unless it is
// all of them; ns. The target exists before, and is given back afterwards.
static uint64_t copy(uint64_t count) {
	size_t room = count * PAGE < SCRATCH_MAX ? count * PAGE : SCRATCH_MAX;
	if (room == 0)
		return 0;
	char *to = map(room);
	memset(to, 1, room);
	uint64_t start = now(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t p = count == pages ? i : scattered(step++);
		memcpy(to + i * PAGE % room, memory + p * WORDS, PAGE);
	}
	uint64_t took = now(CLOCK_MONOTONIC) - start;
	munmap(to, room);
	return took;
}

// forked returns how long fork keeps its caller, ns.
static uint64_t forked(void) {
	uint64_t start = now(CLOCK_MONOTONIC);
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	uint64_t took = now(CLOCK_MONOTONIC) - start;
	if (pid < 0)
		_exit(4);
	waitpid(pid, 0, 0);
	return took;
}

static void answer(void) {
	switch (ctl->op) {
	case GAP: ctl->result = largest; break;
	case DIRTY: dirty(ctl->argument); break;
	case CHECK: ctl->result = check(); break;
	case FORK: ctl->result = forked(); break;
	case COPY: ctl->result = copy(ctl->argument); break;
	}
	largest = 0;
	ctl->answered = ctl->asked;
	last = now(CLOCK_MONOTONIC);
}

int main(int argc, char **argv) {
	int idle = argc == 4;
	if (argc != 3 && !idle)
		return 2;
	int fd = open(argv[1], O_RDWR);
	pages = strtoull(argv[2], 0, 10) << 20 >> 12;
	ctl = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || ctl == MAP_FAILED || pages == 0 || pages & (pages - 1))
		return 2;
	close(fd);
	memory = map(pages * PAGE);
	fill();
	for (last = now(CLOCK_MONOTONIC);;) {
		uint64_t t = now(CLOCK_MONOTONIC);
		if (t - last > largest)
			largest = t - last;
		last = t;
		if (ctl->life != life) {
			ctl->first = now(CLOCK_REALTIME);
			life = ctl->life;
		}
		if (ctl->asked != ctl->answered)
			answer();
		else if (idle)
			usleep(200);
	}
}
