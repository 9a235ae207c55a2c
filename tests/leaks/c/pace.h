// The clock of a program under test. LEAKS_SCALE stretches its time: at 50 all of it takes fifty times as long.
// What a program does hangs on this time and not on how often it was woken, so a busy machine changes no rate.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIB 1024.0
#define MIB (1024.0 * KIB)

static double scale(void) {
    const char *text = getenv("LEAKS_SCALE");
    return text ? atof(text) : 1.0;
}

static double wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Sleeps a tick, and gives seconds of the program's time since the first call.
static double tick(void) {
    static double begun = -1;
    if (begun < 0) {
        begun = wall();
        return 0;
    }
    double pause = 0.04 * scale();
    usleep((useconds_t)(1e6 * (pause < 0.5 ? pause : 0.5)));
    return (wall() - begun) / scale();
}

// 0 to 1, always the same row of numbers.
__attribute__((unused)) static double chance(void) {
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

// Memory that is really there: not zeroes, which need no page.
static void *filled(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL) {
        abort();
    }
    return memset(memory, 0x5a, bytes);
}
