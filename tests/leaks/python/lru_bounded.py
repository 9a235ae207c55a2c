"""A cache of the 4,000 keys that were asked for last, each with 4 KiB: it fills in 20 s, then an old one goes for each new one."""
import random
from collections import OrderedDict

from pace import KIB, ticks

KEYS = 4000
cache = OrderedDict()
asked = 0
for t in ticks():
    while asked < 220 * t:
        asked += 1
        key = random.randrange(1_000_000)
        cache[key] = bytes([key % 251 + 1]) * (4 * KIB)
        cache.move_to_end(key)
        if len(cache) > KEYS:
            cache.popitem(last=False)
