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
DATA = {"mixed": "A tree of mixed files", "small": "A tree of small files", "sqlite": "A SQLite database"}
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
]
MOST_MEMORY = 256 << 20


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
    head, medians = heads[0], collect(records)
    date = head.get("date") or datetime.date.today().isoformat()
    counts = sorted({m["rounds"] for m in medians.values()})
    rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [f"Measured {date} on {head['machine']}. Medians of {rounds} rounds; the page cache was {'cold' if head['cold'] else 'warm'}."]
    # Long measurements only: a tick of the clock is a large part of a short one.
    others = [r["others"] for r in records if r.get("store") == "local" and r.get("seconds", 0) > 1 and "others" in r]
    if others and statistics.median(others) > 0.1:
        lines[0] += f" **Other programs took {statistics.median(others):.0%} of the processors meanwhile.**"
    versions = {name: version for one in heads for name, version in one["versions"].items()}
    lines += ["", "Versions: " + "; ".join(f"{name}: {version}" for name, version in versions.items()) + ".", ""]
    lines += goals(medians)
    for kind, title in DATA.items():
        about = next((r for r in records if r.get("data") == kind), None)
        if about:
            lines += [f"### {title}: {about['files']:,} {'file' if about['files'] == 1 else 'files'}, {human(about['bytes'])}", ""]
            for store in STORES:
                lines += table(medians, kind, store)
    failures = [r for r in records if "failed" in r]
    if failures:
        lines += ["Failed:", ""] + [f"- {r['contender']}, {r['kind']}, {r['store']}: `{r['failed'].splitlines()[0]}`" for r in failures]
    return "\n".join(lines).rstrip() + "\n"


def collect(records):
    """(kind, store, contender, operation) → the median of each thing measured, and the spread of the seconds."""
    groups = {}
    for record in records:
        if "operation" in record:
            groups.setdefault(tuple(record[k] for k in ("kind", "store", "contender", "operation")), []).append(record)
    medians = {}
    for key, group in groups.items():
        of = lambda what: statistics.median(r[what] for r in group)
        medians[key] = {what: of(what) for what in ("seconds", "cpu", "memory", "size") if what in group[0]}
        medians[key]["memory"] = max(r["memory"] for r in group)
        medians[key]["rounds"] = len(group)
        medians[key]["spread"] = (min(r["seconds"] for r in group), max(r["seconds"] for r in group))
    return medians


def table(medians, kind, store):
    operations = [o for o in TITLES if any(key[0] == kind and key[1] == store and key[3] == o for key in medians)]
    if not operations:
        return []
    base = "restic" if kind != "sqlite" else "sqlite3 + zstd + age"
    lines = [f"**{STORES[store]}** (ratios: to {base})", ""]
    lines += ["| | | wall time | min–max | ratio | CPU | peak memory | repository | ratio |", "|---|---|---|---|---|---|---|---|---|"]
    for operation in operations:
        against = medians.get((kind, store, base, operation))
        title = TITLES[operation]
        for name in contenders.CONTENDERS[kind]:
            one = medians.get((kind, store, name, operation))
            if one:
                lines.append(f"| {title} | {name} | " + " | ".join(cells(one, against)) + " |")
                title = ""
    return lines + [""]


def cells(one, against):
    ratio = lambda what: f"{one[what] / against[what]:.2f} ×" if against and against.get(what) and what in one else ""
    # What holds no repository has no size to compare.
    size = human(one["size"]) if one.get("size") else ""
    low, high = one["spread"]
    return [
        f"{one['seconds']:.2f} s",
        f"{low:.2f}–{high:.2f}",
        ratio("seconds"),
        f"{one['cpu']:.2f} s",
        human(one["memory"]),
        size,
        ratio("size") if size else "",
    ]


def goals(medians):
    lines = []
    for title, what, kind, operation, against, most in GOALS:
        one, other = medians.get((kind, "local", "bkp", operation)), medians.get((kind, "local", against, operation))
        if one and other:
            ratio = one[what] / other[what]
            lines.append(f"| {title} | ≤ {most:g} × {against} | {ratio:.2f} × | {'met' if ratio <= most else 'missed'} |")
    memory = [m["memory"] for key, m in medians.items() if key[2] == "bkp"]
    if memory:
        verdict = "met" if max(memory) <= MOST_MEMORY else "missed"
        lines.append(f"| peak memory, all of the below | ≤ {human(MOST_MEMORY)} | {human(max(memory))} | {verdict} |")
    return ["| goal (local directory) | | measured | |", "|---|---|---|---|", *lines, ""] if lines else []


def write(path, text):
    with open(path) as file:
        page = file.read()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    with open(path, "w") as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
