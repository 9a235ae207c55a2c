"""Requests whose objects refer to each other: only the collector frees them, every 4 s. 3 MiB/s between two of its runs."""
import gc

from pace import KIB, MIB, ticks


class Request:
    def __init__(self):
        self.body = b"x" * (24 * KIB)
        self.context = {"request": self}


gc.disable()
made = 0
collected = 0
base = b"x" * (8 * MIB)
for t in ticks():
    while made < 3 * MIB * t:
        Request()
        made += 24 * KIB
    if t >= collected + 4:
        collected = t
        gc.collect()
