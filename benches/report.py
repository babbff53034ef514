"""Medians, ratios and goals as Markdown."""
import datetime
import os
import platform
import statistics
import subprocess

import contenders
from data import human

BEGIN, END = "<!-- results: written by benches/run --write -->", "<!-- end of results -->"
TITLES = {
    "first": "first backup",
    "unchanged": "second run, nothing changed",
    "changed": "second run, 1 % changed",
    "restore": "full restore",
    "one": "restore of one file",
}
DATA = {
    "mixed": "A tree of mixed files",
    "small": "A tree of small files",
    "sqlite": "A SQLite database",
    "mysql": "A MySQL server in a container, four equal tables with three indexes each",
    "mariadb": "A MariaDB server in a container, four equal tables with three indexes each",
    "postgres": "A PostgreSQL server in a container, four equal tables with three indexes each",
    "mongo": "A server that speaks MongoDB's protocol (FerretDB) in a container",
    "redis": "A Redis server in a container",
}
COUNTED = {"mixed": "file", "small": "file", "sqlite": "file", "mongo": "document", "redis": "key"}
STORES = {"local": "local directory", "s3": "MinIO on the same machine"}

# What is measured of bkp, against what: (title, what, data, operation, against, most allowed).
GOALS = [
    ("first backup, mixed files", "seconds", "mixed", "first", "restic", 0.5),
    ("first backup, mixed files", "seconds", "mixed", "first", "tar + zstd -T2", 1.25),
    ("repository, mixed files", "size", "mixed", "first", "restic", 1.0),
    ("first backup, small files", "seconds", "small", "first", "restic", 0.5),
    ("repository, small files", "size", "small", "first", "restic", 0.65),
    ("unchanged, mixed files", "seconds", "mixed", "unchanged", "restic", 0.35),
    ("unchanged, small files", "seconds", "small", "unchanged", "restic", 0.35),
    ("full restore, mixed files", "seconds", "mixed", "restore", "parallel cp", 1.1),
    ("full restore, small files", "seconds", "small", "restore", "parallel cp", 1.1),
    ("pipeline: first backup, mixed files", "seconds", "mixed", "first", "zstd -T2 alone", 1.25),
    # 0.9 of the throughput.
    ("dump of MySQL", "seconds", "mysql", "first", "mysqldump + zstd -T2 + age", 1.11),
    ("dump of MariaDB", "seconds", "mariadb", "first", "mariadb-dump + zstd -T2 + age", 1.11),
    ("dump of PostgreSQL", "seconds", "postgres", "first", "pg_dump + zstd -T2 + age", 1.11),
    ("dump of Redis", "seconds", "redis", "first", "redis-cli --rdb + zstd -T2 + age", 1.11),
    ("restore of MySQL", "seconds", "mysql", "restore", "mysql < dump", 0.333),
    ("restore of MariaDB", "seconds", "mariadb", "restore", "mariadb < dump", 0.333),
]
MOST_MEMORY, MOST_MEMORY_OF_DUMPS = 256 << 20, 128 << 20


def machine(directory):
    read = lambda path: open(path).read()
    processor = next((l.split(":")[1].strip() for l in read("/proc/cpuinfo").splitlines() if l.startswith("model name")), platform.machine())
    memory = int(read("/proc/meminfo").split()[1]) * 1024
    filesystem = subprocess.run(["stat", "-f", "-c", "%T", directory], text=True, stdout=subprocess.PIPE).stdout.strip()
    system = next((l.split("=")[1].strip('"') for l in read("/etc/os-release").splitlines() if l.startswith("PRETTY_NAME")), "")
    return f"{len(os.sched_getaffinity(0))} × {processor}, {human(memory)} of memory, {filesystem}, {system}, Linux {platform.release()}"


def versions(names):
    found = {}
    for programs in contenders.CONTENDERS.values():
        for name, commands in programs.items():
            if name in names and "version" in commands:
                run = subprocess.run(["bash", "-c", commands["version"]], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                found[name] = run.stdout.strip()
    return found


def tables(records):
    heads = [r for r in records if "machine" in r]
    head, groups = heads[0], collect(records)
    date = head.get("date") or datetime.date.today().isoformat()
    counts = sorted({len(group) for group in groups.values()}) or [0]
    rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        f"Measured {date} on {head['machine']}. Medians of {rounds} rounds, ratios too: each is of two measurements of one round. "
        f"The page cache was {'cold' if head['cold'] else 'warm'}."
    ]
    versions = {name: version for one in heads for name, version in one["versions"].items()}
    lines += ["", "Versions: " + "; ".join(f"{name}: {version}" for name, version in versions.items()) + ".", ""]
    lines += goals(groups)
    for kind, title in DATA.items():
        about = next((r for r in records if r.get("data") == kind), None)
        if about:
            counted = COUNTED.get(kind, "row") + ("" if about["files"] == 1 else "s")
            lines += [f"### {title}: {about['files']:,} {counted}, {human(about['bytes'])}", ""]
            for store in STORES:
                lines += table(groups, kind, store)
    failures = [r for r in records if "failed" in r]
    if failures:
        lines += ["Failed:", ""] + [f"- {r['contender']}, {r['kind']}, {r['store']}: `{r['failed'].splitlines()[0]}`" for r in failures]
    return "\n".join(lines).rstrip() + "\n"


def collect(records):
    """(kind, store, contender, operation) → what was measured of it, by results file and round."""
    groups, results = {}, 0
    for record in records:
        results += "machine" in record
        if "operation" in record:
            key = tuple(record[k] for k in ("kind", "store", "contender", "operation"))
            groups.setdefault(key, {})[results, record["turn"]] = record
    return groups


def median(group, what):
    values = [record[what] for record in group.values() if what in record]
    return statistics.median(values) if values else None


def ratio(one, other, what):
    """The median over the rounds in which both were measured: others on the machine disturb both."""
    ratios = [record[what] / other[turn][what] for turn, record in one.items() if turn in other and other[turn].get(what) and what in record]
    return statistics.median(ratios) if ratios else None


def table(groups, kind, store):
    operations = [o for o in TITLES if any(key[0] == kind and key[1] == store and key[3] == o for key in groups)]
    if not operations:
        return []
    contestants = list(contenders.CONTENDERS[kind])
    base = "restic" if "restic" in contestants else contestants[min(1, len(contestants) - 1)]
    lines = [f"**{STORES[store]}** (ratios: to {base})", ""] if len(contestants) > 1 else [f"**{STORES[store]}**", ""]
    lines += ["| | | wall time | min–max | ratio | CPU | others | peak memory | repository | ratio |", "|---|---|---|---|---|---|---|---|---|---|"]
    for operation in operations:
        against = groups.get((kind, store, base, operation), {}) if len(contestants) > 1 else {}
        title = TITLES[operation]
        for name in contestants:
            one = groups.get((kind, store, name, operation))
            if one:
                lines.append(f"| {title} | {name} | " + " | ".join(cells(one, against)) + " |")
                title = ""
    return lines + [""]


def cells(one, against):
    times = lambda what: "" if (found := ratio(one, against, what)) is None else f"{found:.2f} ×"
    # What holds no repository has no size to compare.
    size = median(one, "size")
    seconds = [record["seconds"] for record in one.values()]
    # A tick of the clock is a large part of a short measurement.
    others = median(one, "others") if min(seconds) > 1 else None
    return [
        f"{median(one, 'seconds'):.2f} s",
        f"{min(seconds):.2f}–{max(seconds):.2f}",
        times("seconds"),
        f"{median(one, 'cpu'):.2f} s",
        "" if others is None else f"{others:.0%}",
        human(most(one)),
        human(int(size)) if size else "",
        times("size") if size else "",
    ]


def most(group):
    return max(record["memory"] for record in group.values())


def goals(groups):
    lines = []
    for title, what, kind, operation, against, limit in GOALS:
        one, other = groups.get((kind, "local", "bkp", operation)), groups.get((kind, "local", against, operation))
        found = ratio(one, other, what) if one and other else None
        if found is not None:
            lines.append(f"| {title} | ≤ {limit:g} × {against} | {found:.2f} × | {'met' if found <= limit else 'missed'} |")
    memory = {key: most(group) for key, group in groups.items() if key[2] == "bkp"}
    dumps = [most for key, most in memory.items() if key[0] not in ("mixed", "small", "sqlite") and key[3] == "first"]
    for title, found, limit in [("of dumps", dumps, MOST_MEMORY_OF_DUMPS), ("of all of the below", list(memory.values()), MOST_MEMORY)]:
        if found:
            lines.append(f"| peak memory {title} | ≤ {human(limit)} | {human(max(found))} | {'met' if max(found) <= limit else 'missed'} |")
    return ["| goal (local directory) | | measured | |", "|---|---|---|---|", *lines, ""] if lines else []


def write(path, text):
    with open(path) as file:
        page = file.read()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    with open(path, "w") as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
