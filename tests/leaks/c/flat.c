// Memory comes and goes with each request, and nothing stays.
#include "pace.h"

int main(void) {
    char *base = filled((size_t)(16 * MIB));
    for (;;) {
        tick();
        base[(size_t)(chance() * 16 * MIB)] += 1;
        void *request = filled((size_t)(64 * KIB + chance() * 900 * KIB));
        void *answer = filled((size_t)(1 * KIB + chance() * 60 * KIB));
        free(request);
        free(answer);
    }
}
