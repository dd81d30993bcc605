// clocks asks the vdso for the time all the time: the clocks must go on, and
// CLOCK_MONOTONIC must never go back or leap.
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec last = {0, 0}, now, wall;
	struct timeval tv;
	for (unsigned long n = 1;; n++) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		clock_gettime(CLOCK_REALTIME, &wall);
		gettimeofday(&tv, NULL);
		long d = (now.tv_sec - last.tv_sec) * 1000000000L + now.tv_nsec - last.tv_nsec;
		if (last.tv_sec && (d < 0 || d > 2000000000L)) {
			printf("BAD: CLOCK_MONOTONIC moved by %ld ns\n", d);
			return 1;
		}
		if (tv.tv_sec < wall.tv_sec || tv.tv_sec > wall.tv_sec + 2) {
			printf("BAD: gettimeofday says %ld, clock_gettime %ld\n", (long)tv.tv_sec, (long)wall.tv_sec);
			return 1;
		}
		last = now;
		for (volatile int i = 0; i < 2000; i++)
			;
		if (n % 20000 == 0) {
			printf("ok %lu\n", n);
			fflush(stdout);
		}
	}
}
