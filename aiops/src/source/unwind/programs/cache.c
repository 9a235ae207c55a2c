/* main > serve > parse_request > cache_insert > memset of the C library, which faults. With an argument the
 * work is done by a thread; `deep` calls itself that often first. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

void *untouchable(size_t size);
static volatile size_t length = 8000;
static char *volatile kept;

__attribute__((noinline)) static void cache_insert(char *memory)
{
	memset(memory, 1, length);
	kept = memory;
}

__attribute__((noinline)) static int parse_request(int depth)
{
	volatile char line[200];
	line[depth & 63] = 1;
	if (depth > 0)
		return parse_request(depth - 1) + line[depth & 63];
	cache_insert(untouchable(length));
	return line[0] + 1;
}

__attribute__((noinline)) static void *serve(void *depth)
{
	volatile int done = parse_request(*(int *)depth);
	(void)done;
	return NULL;
}

int main(int count, char **arguments)
{
	int depth = count > 2 ? atoi(arguments[2]) : 0;
	if (count > 1 && arguments[1][0] == 't') {
		pthread_t thread;
		pthread_create(&thread, NULL, serve, &depth);
		pthread_join(thread, NULL);
	}
	serve(&depth);
	return 0;
}
