"""Asks one engine what docs/fleet.md asks, and what aiops said of the same rows.

ask.py ENGINE FOLDER; FOLDER holds lake/, the stores web-1 and web-2, truth.json and queries.json.
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
SUMS = "CAST(sum(n) AS BIGINT) AS samples, CAST(sum(rss_kb * n) AS BIGINT) AS total, max(rss_kb) AS most"


def segment():
    """Process tables of one segment of a store itself."""
    tables = sorted(glob.glob(f"{work}/web-1/segments/*/process.parquet"))
    assert tables, "the store has segments"
    return tables[-1]


def duckdb():
    import duckdb as engine

    def ask(sql):
        # Not fetchall: that wants another package for times with a zone.
        return [tuple(row.values()) for row in engine.sql(sql).to_arrow_table().to_pylist()]

    files = f"read_parquet('{LAKE}mem/**/*.parquet', hive_partitioning = true)"
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

    table = table.filter(pc.is_valid(table["rss_kb"]))
    table = table.append_column("weighed", pc.multiply(table["rss_kb"], table["n"]))
    sums = table.group_by("comm").aggregate([("n", "sum"), ("weighed", "sum"), ("rss_kb", "max")])
    names = ["comm", "n_sum", "weighed_sum", "rss_kb_max"]
    return {row["comm"]: [row[name] for name in names[1:]] for row in sums.to_pylist()}


def same(what, found, wanted):
    found = {name: list(values) for name, values in found.items()}
    if found != wanted:
        names = [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)]
        for name in sorted(names)[:5]:
            print(f"{engine}: {what}: {name}: {found.get(name)} is not {wanted.get(name)}")
        sys.exit(1)
    print(f"{engine}: {what}: {len(found)} names, equal")


def check_sql(ask, files, one):
    for host, wanted in TRUTH.items():
        rows = ask(
            f"SELECT comm, {SUMS} FROM {files} "
            f"WHERE host = '{host}' AND rss_kb IS NOT NULL GROUP BY comm"
        )
        same(f"lake, {host}", {row[0]: row[1:] for row in rows}, wanted)
    averages = ask(
        f"SELECT host, comm, sum(rss_kb * n) / sum(n) AS average FROM {files} "
        "WHERE rss_kb IS NOT NULL GROUP BY host, comm"
    )
    assert len(averages) == sum(len(names) for names in TRUTH.values())
    for host, comm, average in averages:
        count, total, _ = TRUTH[host][comm]
        assert math.isclose(float(average), total / count, rel_tol=1e-9), (host, comm, average)
    print(f"{engine}: {len(averages)} averages, equal to 1e-9")
    dates = ask(f"SELECT count(DISTINCT date) AS dates, count(DISTINCT host) AS hosts FROM {files}")
    days = len(glob.glob(f"{LAKE}mem/date=*"))
    assert dates[0] == (days, 2), f"{dates}, {days} days"
    rows = ask(f"SELECT comm, {SUMS} FROM {one(segment())} WHERE rss_kb IS NOT NULL GROUP BY comm")
    import pyarrow.parquet as pq

    same("a segment of the store", {row[0]: row[1:] for row in rows}, pyarrow_rows(pq.read_table(segment())))
    for number, query in enumerate(QUERIES[engine], 1):
        rows = ask(query.strip().rstrip(";").replace("lake/", LAKE))
        assert rows, f"query {number} of docs/fleet.md: no rows"
        print(f"{engine}: query {number} of docs/fleet.md: {len(rows)} rows, first {rows[0]}")


if engine == "pyarrow":
    import pyarrow.dataset as ds

    lake = ds.dataset(f"{LAKE}mem", partitioning="hive")
    for host, wanted in TRUTH.items():
        table = lake.to_table(columns=["comm", "n", "rss_kb"], filter=ds.field("host") == host)
        same(f"lake, {host}", pyarrow_rows(table), wanted)
else:
    check_sql(*{"duckdb": duckdb, "clickhouse": clickhouse, "spark": spark}[engine]())
