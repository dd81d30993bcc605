// Holds MIB megabytes that do not compress, and says after each time for which
// it did not run when it ran again: the time of day in ns, a line each.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int main(int argc, char **argv)
{
	size_t words = (size_t)atol(argv[1]) << 17;
	uint64_t *p = malloc(words * 8), x = 88172645463325252u;
	for (size_t i = 0; i < words; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = x;
	}
	dprintf(1, "ready\n");
	for (int64_t last = now();; last = now()) {
		usleep(500);
		if (now() - last > 50000000)
			dprintf(1, "%lld\n", (long long)now());
	}
}
