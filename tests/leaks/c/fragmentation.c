// As many objects as ever, each replaced by one of another size after a while. What is asked for drifts from small to
// large and back, so holes that are left do not fit: resident memory creeps up behind the objects, and then stays.
#include "pace.h"

#define SLOTS 8000
#define CHANGES_PER_S 1500.0
#define DRIFT_S 9.0

int main(void) {
    static void *slots[SLOTS];
    filled((size_t)(6 * MIB));
    double changes = 0;
    for (;;) {
        double t = tick();
        for (; changes < t * CHANGES_PER_S; changes += 1) {
            size_t slot = (size_t)(chance() * SLOTS);
            // Some objects live on and pin the pages around them.
            if (slots[slot] != NULL && slot % 16 == 0) {
                continue;
            }
            double drift = sin(changes / CHANGES_PER_S / DRIFT_S * 6.2832);
            free(slots[slot]);
            slots[slot] = filled((size_t)(400 * exp(1.2 * drift + 2 * chance())));
        }
    }
}
