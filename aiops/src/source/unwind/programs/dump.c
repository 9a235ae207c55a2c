/* Ends a test program at its first fault: registers and the top of the stack go to standard output, as the
 * kernel would copy them, and the process waits to be looked at. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static void on_fault(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	uint64_t head[4];
	const size_t sizes[] = { 8192, 2048, 512, 0 };
	static char copy[8192];
	int pipes[2];
	size_t size = 0;
	(void)number;
	(void)info;
	head[0] = at->uc_mcontext.gregs[REG_RIP];
	head[1] = at->uc_mcontext.gregs[REG_RSP];
	head[2] = at->uc_mcontext.gregs[REG_RBP];
	/* The kernel refuses to read beyond the stack's top: so does a pipe. */
	if (pipe(pipes))
		_exit(3);
	for (int i = 0; sizes[i]; i++) {
		ssize_t done = write(pipes[1], (void *)head[1], sizes[i]);
		ssize_t got = done > 0 ? read(pipes[0], copy, (size_t)done) : 0;
		if (done == (ssize_t)sizes[i] && got == done) {
			size = sizes[i];
			break;
		}
	}
	head[3] = size;
	if (write(1, head, sizeof head) != sizeof head || write(1, copy, size) != (ssize_t)size)
		_exit(4);
	for (;;)
		pause();
}

/* Memory that faults when it is written to. */
void *untouchable(size_t size)
{
	static char other[65536];
	stack_t stack = { .ss_sp = other, .ss_size = sizeof other };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &action, NULL);
	return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
