// spawner creates about 200 children a second, by fork and by vfork and exec,
// and reaps them; it says how many there were and that every one ended well.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	for (unsigned long n = 1;; n++) {
		int st;
		pid_t p = n % 2 ? vfork() : fork();
		if (p < 0) {
			printf("BAD: fork %d\n", errno);
			return 1;
		}
		if (p == 0) {
			if (n % 2) {
				execl("/bin/true", "true", NULL);
				_exit(9);
			}
			struct timespec ts = {0, 3000000};
			nanosleep(&ts, NULL);
			_exit(0);
		}
		if (n % 3 == 0) { // some are left for a while as zombies
			struct timespec ts = {0, 1000000};
			nanosleep(&ts, NULL);
		}
		if (waitpid(p, &st, 0) != p || st != 0) {
			printf("BAD: child %d ended with %#x (errno %d)\n", p, st, errno);
			return 1;
		}
		if (n % 20 == 0) {
			printf("ok %lu\n", n);
			fflush(stdout);
		}
	}
}
