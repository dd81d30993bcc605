// A server of timers with a clock of its own. A line "tick US" moves the clock
// and lets what is due fire, and is answered by the clock; "spoil US" plants a
// timer whose text is a wild pointer, which ends it when that timer fires.
// Usage: wheel PORT
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct timer {
	uint64_t at;
	char *text;
	struct timer *next;
};

static uint64_t now, fired;
static struct timer *first;

static void plant(uint64_t at, char *text) {
	struct timer *t = malloc(sizeof *t), **p = &first;
	if (!t)
		abort();
	while (*p && (*p)->at <= at)
		p = &(*p)->next;
	*t = (struct timer){at, text, *p};
	*p = t;
}

static void tick(uint64_t us) {
	now += us;
	while (first && first->at <= now) {
		struct timer *t = first;
		first = t->next;
		fired += strlen(t->text); // the wild one ends here
		free(t->text);
		free(t);
		plant(now + 1000000 + fired % 1000, strdup("again"));
	}
}

int main(int argc, char **argv) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(s, (void *)&a, sizeof a) || listen(s, 8))
		return perror("listen"), 1;
	for (int i = 0; i < 100; i++)
		plant(i * 10000, strdup("first"));
	for (;;) {
		int c = accept(s, 0, 0);
		FILE *f = c < 0 ? 0 : fdopen(c, "r");
		char line[100], word[10];
		uint64_t us;
		while (f && fgets(line, sizeof line, f) && sscanf(line, "%9s %lu", word, &us) == 2) {
			if (!strcmp(word, "spoil"))
				plant(now + us, (char *)16);
			else
				tick(us);
			dprintf(c, "%lu\n", now);
		}
		if (f)
			fclose(f);
	}
}
