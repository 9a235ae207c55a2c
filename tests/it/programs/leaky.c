/* cache_insert takes 256 KiB 40 times a second and keeps it; handle_ok takes 1 MiB and gives it back, to
 * the kernel: what an allocator hands out again was touched by other code. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *volatile kept;

__attribute__((noipa)) static void cache_insert(size_t size)
{
	kept = memset(malloc(size), 1, size);
}

__attribute__((noipa)) static void handle_ok(size_t size)
{
	char *memory = memset(malloc(size), 1, size);
	kept = memory;
	free(memory);
}

__attribute__((noipa)) static void parse_request(size_t size)
{
	handle_ok(4 * size);
	cache_insert(size);
	kept = NULL;
}

int main(void)
{
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	/* At most 1 GiB. */
	for (int request = 0; request < 4000; request++) {
		parse_request(256 << 10);
		usleep(25000);
	}
	return 0;
}
