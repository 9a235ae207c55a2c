"""The clock of a program under test: see ../c/pace.h."""
import os
import random
import time

KIB = 1024
MIB = 1024 * KIB
SCALE = float(os.environ.get("LEAKS_SCALE", "1"))
BEGUN = time.monotonic()

random.seed(1)


def ticks():
    """Sleeps between ticks, and gives seconds of the program's time since the start."""
    while True:
        yield (time.monotonic() - BEGUN) / SCALE
        time.sleep(min(0.05 * SCALE, 0.5))
