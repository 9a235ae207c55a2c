// A record of each request is kept and never freed: 0.4 MiB/s, all the time.
#include "pace.h"

// With its header of 16 bytes a record takes 512.
#define RECORD 496

int main(void) {
    filled((size_t)(6 * MIB));
    double kept = 0;
    for (;;) {
        double t = tick();
        for (; kept < 0.4 * MIB * t; kept += RECORD + 16) {
            filled(RECORD);
        }
    }
}
