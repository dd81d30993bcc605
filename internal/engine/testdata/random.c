// random draws from the vdso's getrandom (since 6.11) all the time, as a C
// library does: with a state of its own when the vdso knows one. Where there
// is none it makes the system call. No two draws may be the same.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef ssize_t getrandom_t(void *, size_t, unsigned, void *, size_t);

static ssize_t plain(void *p, size_t n, unsigned flags, void *state, size_t len)
{
	if (len == ~0UL) {
		return -ENOSYS;
	}
	return syscall(SYS_getrandom, p, n, flags);
}

// function finds a function of the vdso by its dynamic symbols.
static getrandom_t *function(const char *name)
{
	char *base = (char *)getauxval(AT_SYSINFO_EHDR);
	Elf64_Ehdr *h = (Elf64_Ehdr *)base;
	Elf64_Phdr *p = (Elf64_Phdr *)(base + h->e_phoff);
	Elf64_Sym *sym = NULL;
	char *str = NULL;
	for (int i = 0; i < h->e_phnum; i++) {
		Elf64_Dyn *d = (Elf64_Dyn *)(base + p[i].p_vaddr);
		for (; p[i].p_type == PT_DYNAMIC && d->d_tag != DT_NULL; d++) {
			if (d->d_tag == DT_SYMTAB)
				sym = (Elf64_Sym *)(base + d->d_un.d_ptr);
			if (d->d_tag == DT_STRTAB)
				str = base + d->d_un.d_ptr;
		}
	}
	for (; sym && (char *)sym < str; sym++) {
		if (!strcmp(str + sym->st_name, name) && sym->st_shndx)
			return (getrandom_t *)(base + sym->st_value);
	}
	return plain;
}

int main(void)
{
	struct {
		unsigned size, prot, flags, reserved[13];
	} ask = {0};
	getrandom_t *draw = function("__vdso_getrandom");
	void *state = NULL;
	size_t size = 0;
	ssize_t r = draw(NULL, 0, 0, &ask, ~0UL);
	if (r == 0) {
		size = ask.size;
		state = mmap(NULL, 4096, ask.prot, ask.flags, -1, 0);
	}
	if ((r && r != -ENOSYS) || state == MAP_FAILED) {
		printf("BAD: the state: %zd, %p\n", r, state);
		return 1;
	}
	unsigned char last[16] = {0}, now[16];
	for (unsigned long n = 1;; n++) {
		memset(now, 0, sizeof now);
		r = draw(now, sizeof now, 0, state, size);
		if (r != sizeof now || !memcmp(last, now, sizeof now)) {
			printf("BAD: draw %lu gave %zd\n", n, r);
			return 1;
		}
		r = draw(NULL, 0, 0, &ask, ~0UL); // a library that is loaded later asks again
		if (r && r != -ENOSYS) {
			printf("BAD: asked for the state again it says %zd\n", r);
			return 1;
		}
		memcpy(last, now, sizeof now);
		for (volatile int i = 0; i < 2000; i++)
			;
		if (n % 5000 == 0) {
			printf("ok %lu %s\n", n, r ? "plain" : "of its own");
			fflush(stdout);
		}
	}
}
