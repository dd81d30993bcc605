// counter counts: one number a line, a thousand a second, its count in
// registers, on its stack and in static memory at once. It stops counting
// while the file named by its argument exists.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long mirror;

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	while (nanosleep(&ts, &ts) != 0)
		;
}

int main(int argc, char **argv)
{
	const char *gate = argc > 1 ? argv[1] : "";
	unsigned long n = 0;

	for (;;) {
		char line[32];
		int len;

		while (access(gate, F_OK) == 0)
			pause_ms(20);
		if (mirror != n) {
			printf("bad: mirror %lu, count %lu\n", mirror, n);
			return 1;
		}
		mirror = ++n;
		len = snprintf(line, sizeof line, "%lu\n", n);
		if (write(1, line, len) != len)
			return 1;
		pause_ms(1);
	}
}
