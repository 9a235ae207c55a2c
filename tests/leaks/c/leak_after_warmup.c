// A cache that fills with a time constant of 6 s, and 0.3 MiB/s that are lost beside it.
#include "pace.h"

#define RECORD 496
#define SLOTS 4096
#define SLOT 3056
#define TAU 6.0

int main(void) {
    static void *slots[SLOTS];
    filled((size_t)(6 * MIB));
    double kept = 0, asked = 0;
    for (;;) {
        double t = tick();
        for (; asked < t * SLOTS / TAU; asked += 1) {
            size_t slot = (size_t)(chance() * SLOTS);
            if (slots[slot] == NULL) {
                slots[slot] = filled(SLOT);
            }
        }
        for (; kept < 0.3 * MIB * t; kept += RECORD + 16) {
            filled(RECORD);
        }
    }
}
