"""Times the Python prototype of the leak detector: leak.py FOLDER ROUNDS < names of series, a line each.

Prints `name,milliseconds` for each: the least of the rounds of one call, without reading."""
import csv, sys, time
import numpy
import det2

folder, rounds = sys.argv[1], int(sys.argv[2])
for name in sys.stdin.read().split():
    with open(f"{folder}/{name}") as file:
        rows = list(csv.DictReader(file))
    column = lambda key: numpy.array([float(row[key]) for row in rows]) if rows[0][key] else None
    columns = [column(key) for key in ("ts", "bytes", "load", "start")]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        det2.analyse(*columns)
        times.append((time.perf_counter() - began) * 1e3)
    print(f"{name},{min(times)}")
