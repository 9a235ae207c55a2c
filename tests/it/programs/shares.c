/* Touches memory from two places, three to one, and waits to be told to end: `shares ROUNDS MIB`. Each round
 * takes 4 * MIB. Huge pages are declined, so that every page is one fault. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *volatile kept;

__attribute__((noinline)) static void take(size_t mib)
{
	size_t size = mib << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		_exit(3);
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
	kept = memory;
	munmap(memory, size);
}

__attribute__((noipa)) static void parse_request(size_t mib)
{
	take(3 * mib);
	kept = NULL;
}

__attribute__((noipa)) static void write_answer(size_t mib)
{
	take(mib);
	kept = NULL;
}

int main(int count, char **arguments)
{
	char line[8];
	if (count < 3)
		return 2;
	/* The tracer is there when the first line comes. */
	if (!fgets(line, sizeof line, stdin))
		return 2;
	for (int round = 0; round < atoi(arguments[1]); round++) {
		parse_request((size_t)atoi(arguments[2]));
		write_answer((size_t)atoi(arguments[2]));
	}
	puts("done");
	fflush(stdout);
	return fgets(line, sizeof line, stdin) == NULL;
}
