// A cache of 24 MiB. Keys are asked for at random, so it fills with a time constant of 12 s; then it is full.
#include "pace.h"

#define SLOTS 8192
#define SLOT 3056
#define TAU 12.0

int main(void) {
    static void *slots[SLOTS];
    filled((size_t)(6 * MIB));
    double asked = 0;
    for (;;) {
        double t = tick();
        for (; asked < t * SLOTS / TAU; asked += 1) {
            size_t slot = (size_t)(chance() * SLOTS);
            if (slots[slot] == NULL) {
                slots[slot] = filled(SLOT);
            }
        }
    }
}
