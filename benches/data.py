"""The data of the benchmarks: made from a seed, so that everybody measures the same bytes.

Nothing is repeated on purpose: deduplication finds only what a changed file shares with its former self.
"""
import json
import math
import multiprocessing
import os
import random
import shutil
import sqlite3
import string

VERSION = 1  # raised with every change of what is made
MIB = 1 << 20
MTIME = 1_700_000_000


def prepare(kind, directory, scale):
    """Makes the data of one kind unless it is there; answers where it is and what it is."""
    home = os.path.join(directory, f"{kind}-{scale:g}-v{VERSION}")
    description = os.path.join(home, "description.json")
    # A run that was killed may have left the tree changed.
    if not os.path.exists(description) or os.path.exists(os.path.join(home, Change.SAVED)):
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        # In a process of its own: what a child of a big process needs at its peak cannot be told from its parent's.
        maker = multiprocessing.Process(target=MAKERS[kind], args=(home, scale))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit(f"the data of {kind} could not be made in {home}")
    with open(description) as file:
        return os.path.join(home, "data"), json.load(file)


def describe(home, **fields):
    with open(os.path.join(home, "description.json"), "w") as file:
        json.dump(fields, file)


# --- trees ---


def mixed_files(scale):
    """2 GiB: many small, some large, two of 200 MiB; 40 % text, 20 % binaries, 40 % that no compression makes smaller."""
    rng = random.Random("mixed")
    sizes = [int(size * MIB * scale) for size in (200, 200, 96, 96, 64, 64)]
    left = int(2048 * MIB * scale) - sum(sizes)
    while left > 0:
        sizes.append(min(left, int(2 ** rng.uniform(10, 25 if rng.random() < 0.02 else 22))))
        left -= sizes[-1]
    kinds = ["photo", "log", "binary", "photo", "text", "json", "source", "photo", "binary", "photo"]
    extensions = {"photo": "jpg", "log": "log", "binary": "bin", "text": "txt", "json": "json", "source": "rs"}
    for number, size in enumerate(sizes):
        kind = kinds[number % len(kinds)] if number < 20 else rng.choice(kinds)
        yield f"d{number % 40:02}/s{number // 40 % 12:02}/{kind}-{number}.{extensions[kind]}", kind, size


def small_files(scale):
    """100,000 files of 0.5 to 16 KiB, as source trees and mail stores have them."""
    rng = random.Random("small")
    for number in range(int(100_000 * scale)):
        kind = rng.choices(["source", "mail", "photo"], [60, 30, 10])[0]
        extension = {"source": "rs", "mail": "eml", "photo": "png"}[kind]
        size = int(2 ** rng.uniform(9, 14))
        yield f"p{number % 100:02}/m{number // 100 % 25:02}/{kind}-{number}.{extension}", kind, size


def make_tree(home, files):
    root = os.path.join(home, "data")
    files = list(files)
    for directory in sorted({os.path.dirname(path) for path, _, _ in files}):
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    with multiprocessing.Pool() as pool:
        pool.starmap(write_file, ((root, *file) for file in files), chunksize=64)
    sizes = sorted(size for _, _, size in files)
    median = next(path for path, _, size in files if size == sizes[len(sizes) // 2])
    describe(home, files=len(files), bytes=sum(sizes), one_file=median)


def write_file(root, path, kind, size, edition=0):
    rng = random.Random(f"{path} {edition}")
    with open(os.path.join(root, path), "wb") as file:
        left = size
        while left > 0:
            piece = PIECES[kind](rng, left)[:left]
            file.write(piece)
            left -= len(piece)
    os.utime(os.path.join(root, path), (MTIME + edition, MTIME + edition))


class Change:
    """About 1 % of a tree rewritten: whole files, and a block in the middle of large ones. Undone at the end."""

    SAVED = "before-the-change"

    def __init__(self, root, description):
        self.root, self.saved = root, os.path.join(os.path.dirname(root), self.SAVED)
        rng = random.Random("change")
        paths = sorted(os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names)
        rng.shuffle(paths)
        self.blocks, left = [], description["bytes"] // 100
        for path in paths:
            size = os.path.getsize(os.path.join(root, path))
            length = min(size, 4 * MIB)
            if length <= left and path != description["one_file"]:
                self.blocks.append((path, (size - length) // 2, length))
                left -= length
            if left <= 0 or len(self.blocks) >= max(1, len(paths) // 100):
                break

    def __enter__(self):
        os.makedirs(self.saved)
        for number, (path, offset, length) in enumerate(self.blocks):
            kind = os.path.basename(path).split("-")[0]
            rng = random.Random(f"{path} changed")
            with open(os.path.join(self.root, path), "r+b") as file:
                file.seek(offset)
                with open(os.path.join(self.saved, str(number)), "wb") as saved:
                    saved.write(file.read(length))
                file.seek(offset)
                left = length
                while left > 0:
                    left -= file.write(PIECES[kind](rng, left)[:left])

    def __exit__(self, *_):
        for number, (path, offset, _) in enumerate(self.blocks):
            whole = os.path.join(self.root, path)
            with open(os.path.join(self.saved, str(number)), "rb") as saved, open(whole, "r+b") as file:
                file.seek(offset)
                file.write(saved.read())
            os.utime(whole, (MTIME, MTIME))
        shutil.rmtree(self.saved)


# --- content ---


def vocabulary(seed, count, longest):
    rng = random.Random(seed)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, longest))) for _ in range(count)]
    weights, total = [], 0.0
    for rank in range(count):  # Zipf's law, as in languages
        total += 1 / (rank + 2)
        weights.append(total)
    return words, weights


WORDS = vocabulary("words", 20_000, 11)
NAMES = vocabulary("names", 3_000, 18)
SIGNS = [" ", " ", " ", "(", ") ", ", ", ";\n    ", " {\n        ", "\n    }\n\n", ".", "::", " = ", " -> ", "&"]


# Each makes a piece of its kind, at best no longer than `want`.


def some(rng, vocabulary, want, most):
    words, weights = vocabulary
    return rng.choices(words, cum_weights=weights, k=4 * min(most // 4, want // 20 + 2))


def text(rng, want):
    words = some(rng, WORDS, want, 4000)
    return "\n".join(" ".join(words[at : at + 13]) for at in range(0, len(words), 13)).encode()


def source(rng, want):
    names = some(rng, NAMES, want, 2000)
    signs = rng.choices(SIGNS, k=len(names))
    return "".join(part for pair in zip(names, signs) for part in pair).encode()


def log(rng, want):
    names = some(rng, WORDS, want // 3, 1200)
    lines = []
    for at in range(0, len(names), 4):
        lines.append(
            f"2026-03-{rng.randint(10, 28)}T{rng.randint(10, 23)}:{rng.randint(10, 59)}:{rng.randint(10, 59)}.{rng.randint(0, 999):03}Z "
            f"INFO request method=GET path=/{names[at]}/{names[at + 1]} status=200 bytes={rng.randint(0, 99999)} user={names[at + 2]}\n"
        )
    return "".join(lines).encode()


def record(rng, want):
    names = some(rng, WORDS, want // 3, 1200)
    lines = []
    for at in range(0, len(names), 4):
        lines.append(
            f'{{"id": {rng.getrandbits(48)}, "name": "{names[at]} {names[at + 1]}", "price": {rng.random():.6f}, '
            f'"tags": ["{names[at + 2]}", "{names[at + 3]}"], "active": true}}\n'
        )
    return "".join(lines).encode()


def mail(rng, want):
    head = f"From: {rng.choice(NAMES[0])}@example.org\nMessage-ID: <{rng.getrandbits(128):032x}@example.org>\nSubject: "
    return head.encode() + text(rng, rng.randint(400, 6000)) + b"\n\n" + photo(rng, 600).hex().encode() + b"\n"


def photo(rng, want):
    return rng.randbytes(min(want, 256 * 1024))


def binary(rng, want):
    """Half machine code and tables, half noise."""
    table = b"".join(number.to_bytes(4, "little") + rng.randbytes(2) + bytes(10) for number in range(min(1024, want // 32 + 1)))
    return table + rng.randbytes(len(table))


PIECES = {"text": text, "source": source, "log": log, "json": record, "mail": mail, "photo": photo, "binary": binary}


# --- SQLite ---


def make_database(home, scale):
    path = os.path.join(home, "data")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, note TEXT, total REAL, receipt BLOB)")
    rng, target, rows = random.Random("database"), int(1024 * MIB * scale), 0
    while os.path.getsize(path) < target:
        words = rng.choices(WORDS[0], cum_weights=WORDS[1], k=160_000)
        connection.executemany(
            "INSERT INTO orders (customer, note, total, receipt) VALUES (?, ?, ?, ?)",
            ((words[at], " ".join(words[at : at + 40]), rng.random() * 1000, rng.randbytes(120)) for at in range(0, 160_000, 40)),
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows += 4000
    connection.execute("CREATE INDEX orders_by_customer ON orders (customer)")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    describe(home, files=1, bytes=os.path.getsize(path), rows=rows)


MAKERS = {
    "mixed": lambda home, scale: make_tree(home, mixed_files(scale)),
    "small": lambda home, scale: make_tree(home, small_files(scale)),
    "sqlite": make_database,
}


def human(count):
    if count < 1024:
        return f"{count} B"
    power = min(4, int(math.log(count, 1024)))
    return f"{count / 1024**power:.3g} {'  KMGT'[power + 1]}iB"
