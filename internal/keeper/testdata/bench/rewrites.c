// Writes all of its memory again and again, with what cannot be compressed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
	size_t n = strtoull(argv[1], 0, 10) << 17;
	uint64_t *p = malloc(n * 8), x = 88172645463325252ull;
	for (int round = 0;; round++) {
		for (size_t i = 0; i < n; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			p[i] = x;
		}
		printf("%d\n", round);
		fflush(stdout);
		usleep(10000);
	}
}
