"""Asks one engine what docs/fleet.md asks, and what `aiops query memory` said of the same processes.

ask.py ENGINE FOLDER; FOLDER holds lake/, texts/, the stores web-1 and web-2, truth.json and queries.json.
"""

import glob
import json
import math
import sys

engine, work = sys.argv[1], sys.argv[2]
with open(f"{work}/truth.json") as file:
    TRUTH = json.load(file)
with open(f"{work}/queries.json") as file:
    QUERIES = json.load(file)
LAKE = f"{work}/lake/"
# The average of runs is weighed by their samples, of those that know the figure.
SUMS = (
    "pid, start, CAST(sum(n) AS BIGINT) AS samples, "
    "sum(rss_kb * n) / sum(CASE WHEN rss_kb IS NOT NULL THEN n END) AS average, max(rss_kb) AS most"
)
BY = "GROUP BY pid, start"


def segment(name):
    """The processes of a segment of the store itself."""
    return f"{work}/web-1/segments/{name}/process.parquet"


def duckdb():
    import duckdb as engine

    def ask(sql):
        # Not fetchall: that wants another package for times with a zone.
        return [tuple(row.values()) for row in engine.sql(sql).to_arrow_table().to_pylist()]

    files = f"read_parquet('{LAKE}mem/**/*.parquet', hive_partitioning = true)"
    texts = {"csv": f"read_csv('{work}/texts/process.csv')", "jsonl": f"read_json('{work}/texts/process.jsonl')"}
    for kind, files_of in texts.items():
        same(f"{kind} of web-1", ask(f"SELECT {SUMS} FROM {files_of} {BY}"), TRUTH["hosts"]["web-1"])
    # Partitions are found without being told.
    assert ask(f"SELECT count(DISTINCT host) AS hosts FROM '{LAKE}mem/*/*/*.parquet'") == [(2,)]
    return ask, files, lambda path: f"read_parquet('{path}')"


def clickhouse():
    from chdb import session

    own = session.Session()
    own.query("SET use_hive_partitioning = 1")

    def ask(sql):
        text = str(own.query(sql, "JSONCompactEachRowWithNames"))
        rows = [json.loads(line) for line in text.splitlines()][1:]
        whole = lambda value: int(value) if str(value).lstrip("-").isdigit() else value
        return [tuple(whole(value) for value in row) for row in rows]

    return ask, f"file('{LAKE}mem/**/*.parquet')", lambda path: f"file('{path}')"


def spark():
    from pyspark.sql import SparkSession

    own = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    own.sparkContext.setLogLevel("ERROR")

    def ask(sql):
        return [tuple(row) for row in own.sql(sql).collect()]

    return ask, f"parquet.`{LAKE}mem`", lambda path: f"parquet.`{path}`"


def pyarrow_rows(table):
    """Sums by hand: pyarrow brings rows, not SQL."""
    import pyarrow.compute as pc

    table = table.append_column("weighed", pc.multiply(table["rss_kb"], table["n"]))
    known = pc.if_else(pc.is_valid(table["rss_kb"]), table["n"], 0)
    table = table.append_column("known", known)
    sums = table.group_by(["pid", "start"]).aggregate(
        [("n", "sum"), ("weighed", "sum"), ("known", "sum"), ("rss_kb", "max")]
    )
    for row in sums.to_pylist():
        average = row["weighed_sum"] / row["known_sum"] if row["known_sum"] else None
        yield row["pid"], row["start"], row["n_sum"], average, row["rss_kb_max"]


def same(what, rows, wanted):
    """Rows of pid, start, samples, average, most, against those of aiops query."""
    found = {f"{pid} {start}": figures for pid, start, *figures in rows}
    assert found.keys() == wanted.keys(), f"{what}: processes {found.keys() ^ wanted.keys()}"
    close = lambda a, b: a == b if a is None or b is None else math.isclose(float(a), b, rel_tol=1e-12)
    for who, (samples, average, most) in found.items():
        if [samples, most] != [wanted[who][0], wanted[who][2]] or not close(average, wanted[who][1]):
            sys.exit(f"{engine}: {what}: {who}: {samples, average, most} is not {wanted[who]}")
    samples = sum(figures[0] for figures in found.values())
    print(f"{engine}: {what}: {len(found)} processes, {samples} samples: equal to aiops query")


def check_sql(ask, files, one):
    for host, wanted in TRUTH["hosts"].items():
        same(f"lake, {host}", ask(f"SELECT {SUMS} FROM {files} WHERE host = '{host}' {BY}"), wanted)
    dates = ask(f"SELECT count(DISTINCT date) AS dates, count(DISTINCT host) AS hosts FROM {files}")
    days = len(glob.glob(f"{LAKE}mem/date=*"))
    assert dates[0] == (days, 2), f"{dates}, {days} days"
    for name, wanted in TRUTH["segments"].items():
        same(f"segment {name}", ask(f"SELECT {SUMS} FROM {one(segment(name))} {BY}"), wanted)
    for number, query in enumerate(QUERIES[engine], 1):
        rows = ask(query.strip().rstrip(";").replace("lake/", LAKE))
        assert rows, f"query {number} of docs/fleet.md: no rows"
        print(f"{engine}: query {number} of docs/fleet.md: {len(rows)} rows, first {rows[0]}")


if engine == "pyarrow":
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.dataset as ds
    import pyarrow.json
    import pyarrow.parquet as pq

    # Neither is told how the folders are named, or is.
    for way, table in {
        "read_table": pq.read_table(f"{LAKE}mem"),
        "dataset": ds.dataset(f"{LAKE}mem", partitioning="hive").to_table(),
    }.items():
        for host, wanted in TRUTH["hosts"].items():
            own = table.filter(pc.equal(table["host"].cast("string"), host))
            same(f"lake by {way}, {host}", pyarrow_rows(own), wanted)
    for name, wanted in TRUTH["segments"].items():
        same(f"segment {name}", pyarrow_rows(pq.read_table(segment(name))), wanted)
    for kind, table in {
        "csv": pyarrow.csv.read_csv(f"{work}/texts/process.csv"),
        "jsonl": pyarrow.json.read_json(f"{work}/texts/process.jsonl"),
    }.items():
        same(f"{kind} of web-1", pyarrow_rows(table), TRUTH["hosts"]["web-1"])
else:
    check_sql(*{"duckdb": duckdb, "clickhouse": clickhouse, "spark": spark}[engine]())
