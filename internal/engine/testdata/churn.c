// churn writes, maps, unmaps, moves, discards and protects memory all the
// time, so that every way in which a page can change happens.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 256
#define AREAS 16

int main(void)
{
	char *area[AREAS] = {0};
	size_t size[AREAS] = {0};
	unsigned s = 1;
	char *heap = malloc(1 << 20);
	char *shared = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned long n = 1;; n++) {
		for (int k = 0; k < 20; k++) {
			s = s * 1103515245 + 12345;
			int i = (s >> 8) % AREAS;
			size_t page = (s >> 12) % PAGES;
			switch ((s >> 20) % 10) {
			case 0:
				if (area[i])
					munmap(area[i], size[i]);
				size[i] = (1 + page) * 4096;
				area[i] = mmap(NULL, size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
				break;
			case 1:
				if (area[i])
					madvise(area[i], size[i] / 2 & ~4095UL, MADV_DONTNEED);
				break;
			case 2:
				if (area[i]) {
					size_t want = (1 + page) * 4096;
					area[i] = mremap(area[i], size[i], want, MREMAP_MAYMOVE);
					size[i] = want;
				}
				break;
			case 3:
				if (area[i]) {
					mprotect(area[i], size[i], PROT_READ);
					mprotect(area[i], size[i], PROT_READ | PROT_WRITE);
				}
				break;
			case 4:
				shared[page % 64 * 4096 + n % 4096]++;
				break;
			case 5:
				if (area[i]) // mapped over, at the same place
					mmap(area[i], size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
				break;
			case 6:
				free(heap);
				heap = malloc((1 << 17) + page * 4096);
				memset(heap, n, 5 * 4096);
				break;
			default:
				if (area[i])
					for (size_t p = page * 4096 % size[i]; p < size[i]; p += 7 * 4096)
						area[i][p + n % 4096] = n;
			}
		}
		if (n % 50 == 0) {
			printf("ok %lu\n", n);
			fflush(stdout);
		}
		usleep(200);
	}
}
