"""The question of `cargo xtask bench query`, put to DuckDB or SQLite over the same rows.

    query.py duckdb|sqlite STORE FROM_MS TO_MS ROUNDS OURS.json [DATABASE]

Prints one JSON object: times of each round (ms, in a warm process, without its start), peak RSS, and how the
answer differs from ours, process by process.
"""

import glob
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time

COLUMNS = "pid, start, ts, n, rss_kb"
# Averages weighted by `n` are exact: the range is cut at full hours, where every run ends.
QUESTION = """
    SELECT pid, start, sum(n) AS samples, max(rss_kb) AS most, sum(rss_kb * n) AS total,
           sum(rss_kb * n) * 1.0 / sum(n) AS average
    FROM {table} WHERE ts >= {begin} AND ts < {end}
    GROUP BY pid, start ORDER BY average DESC {limit}
"""


def times(ask, rounds):
    """Asks for the first twenty, as ours does, and takes the time; then for all."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask("LIMIT 20")
        taken.append((time.perf_counter() - began) * 1e3)
    # Of the question alone: all rows of the answer as Python's objects would be another one.
    rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return taken, rss_kb, ask("")


def sources(store):
    return sorted(glob.glob(os.path.join(store, "segments", "[0-9]*", "process.parquet")))


def parquet(files):
    return "read_parquet([" + ", ".join(f"'{file}'" for file in files) + "])"


def duck(store, begin, end, rounds):
    import duckdb

    table = parquet(sources(store))
    one = duckdb.connect()
    one.execute("SET TimeZone = 'UTC'")

    def ask(limit):
        return one.execute(
            QUESTION.format(
                table=table, limit=limit, begin=f"epoch_ms({begin})", end=f"epoch_ms({end})"
            )
        ).fetchall()

    return times(ask, rounds)


def load(store, begin, end, database):
    import duckdb

    base = sqlite3.connect(database)
    base.execute("PRAGMA journal_mode = OFF")
    base.execute("PRAGMA synchronous = OFF")
    base.execute("CREATE TABLE process (pid INT, start INT, ts INT, n INT, rss_kb INT)")
    rows = duckdb.connect().execute(
        "SELECT pid, start, epoch_ms(ts), n, rss_kb FROM " + parquet(sources(store))
        + f" WHERE ts >= epoch_ms({begin}) AND ts < epoch_ms({end})"
    )
    while batch := rows.fetchmany(100_000):
        base.executemany("INSERT INTO process VALUES (?, ?, ?, ?, ?)", batch)
    base.commit()


def lite(store, begin, end, rounds, database):
    # In a process of its own, so that what loading takes is not counted.
    loading = [sys.executable, sys.argv[0], "load", store, begin, end, database]
    subprocess.run([str(part) for part in loading], check=True)
    base = sqlite3.connect(database)

    def ask(limit):
        question = QUESTION.format(table="process", limit=limit, begin=begin, end=end)
        return base.execute(question).fetchall()

    return times(ask, rounds)


def main():
    if sys.argv[1] == "load":
        load(*sys.argv[2:6])
        return
    engine, store, begin, end, rounds, ours = sys.argv[1:7]
    if engine == "duckdb":
        taken, rss_kb, rows = duck(store, int(begin), int(end), int(rounds))
    else:
        taken, rss_kb, rows = lite(store, int(begin), int(end), int(rounds), sys.argv[7])
    theirs = {(row[0], row[1]): (int(row[2]), int(row[3]), int(row[4])) for row in rows}
    with open(ours, encoding="utf-8") as file:
        said = {tuple(key): tuple(value) for key, value in json.load(file)}
    different = [key for key in theirs.keys() | said.keys() if theirs.get(key) != said.get(key)]
    example = None
    if different:
        key = different[0]
        example = f"{key}: {theirs.get(key)} and not {said.get(key)}"
    answer = {
        "ms": taken,
        "rss_kb": rss_kb,
        "processes": len(theirs),
        "different": len(different),
        "example": example,
    }
    print(json.dumps(answer))


main()
