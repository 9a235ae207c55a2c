// Each job leaves its results behind: 0.6 MiB at once, a job every 1 to 2 s.
#include "pace.h"

#define RECORD 496

int main(void) {
    filled((size_t)(6 * MIB));
    double next = 1;
    for (;;) {
        double t = tick();
        while (t >= next) {
            for (double kept = 0; kept < 0.6 * MIB; kept += RECORD + 16) {
                filled(RECORD);
            }
            next += 1 + chance();
        }
    }
}
