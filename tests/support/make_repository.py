#!/usr/bin/env python3
"""Makes a small, valid repository from docs/FORMAT.md alone, with the age, zstd and openssl programs: an implementation that
shares nothing with the Rust code, for the tests of the restore scripts.

    python3 make_repository.py DIR [vectors]

makes DIR/repository, DIR/recovery.key (with the writer's public key), DIR/plain.key (without), DIR/stranger.key, and DIR/expected/:
what must come back, byte for byte. Points, of writer W (see DIR/writer): `app` 1 and 2 (zstd, the second of three objects, a gzip
stream and an empty one), `ledger` 1 and 2 (deduplicated streams), `docs` 1 and 2 (trees that share a pack), `misnamed` 1 (a tree with a wrong chunk id), and `app` 3, signed by a stranger, in DIR/forged, to be copied in by a test.

With `vectors`, only `ledger` is made, with bad points besides (3: chunks swapped, 4: another id, 5: beyond its pack, 6: objects
besides the index, 7: a chunk is missing): so tests/vectors/dedup was made."""
import base64, gzip, hashlib, io, json, os, random, struct, subprocess, sys, tarfile, zlib

WRITER, REPOSITORY, MIB = "00112233aabbccdd", "0123456789abcdef" * 2, 1 << 20
SOURCE = random.Random(1)  # the same data in each run; keys and names of streams differ

# --- BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), plain and keyed -------------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16


def compress(value, block, counter, length, flags):
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = list(value) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for turn in range(7):
        for number, (a, b, c, d) in enumerate(COLUMNS):
            for word, right, left in ((words[2 * number], 16, 12), (words[2 * number + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                mixed = v[d] ^ v[a]
                v[d] = (mixed >> right | mixed << (32 - right)) & 0xFFFFFFFF
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                mixed = v[b] ^ v[c]
                v[b] = (mixed >> left | mixed << (32 - left)) & 0xFFFFFFFF
        words = [words[place] for place in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3(data, key=None):
    first, base = (struct.unpack("<8I", key), KEYED) if key else (IV, 0)

    def node(start, length, root):
        if length <= 1024:
            value, blocks = first, max(1, -(-length // 64))
            for number in range(blocks):
                block = data[start + 64 * number:start + min(length, 64 * number + 64)]
                flags = base | (START if number == 0 else 0) | ((END | root) if number == blocks - 1 else 0)
                value = compress(value, block, start // 1024, len(block), flags)
            return value
        left = 1024 << (((length - 1) // 1024).bit_length() - 1)
        children = node(start, left, 0) + node(start + left, length - left, 0)
        return compress(first, struct.pack("<16I", *children), 0, 64, base | PARENT | root)

    return struct.pack("<8I", *node(0, len(data), ROOT))


assert blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
assert blake3(b"abc").hex().startswith("6437b3ac38465133ffb63b75273a8db5")

# --- containers ------------------------------------------------------------------------------------------------------------


def run(*command, data=b""):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def padme(length):
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def zstd_plaintext(data):
    pieces = [data[at:at + MIB] for at in range(0, len(data), MIB)]
    frames = [run("zstd", "-q", "-3", "--check", f"--stream-size={len(piece)}", "-c", data=piece) for piece in pieces]
    sizes = [(len(frame), len(piece)) for frame, piece in zip(frames, pieces)]
    without = sum(map(len, frames)) + 8 + 8 + 8 * (len(frames) + 1) + 9
    padding = struct.pack("<II", 0x184D2A51, padme(without) - without) + bytes(padme(without) - without)
    table = b"".join(struct.pack("<II", *size) for size in sizes + [(len(padding), 0)]) + struct.pack("<IBI", len(sizes) + 1, 0, 0x8F92EAB1)
    return b"".join(frames) + padding + struct.pack("<II", 0x184D2A5E, len(table)) + table


def gzip_plaintext(data):
    def empty(subfield, content):
        extra = subfield + struct.pack("<H", len(content)) + content
        return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra + b"\x03\0" + bytes(8)

    members = b"".join(gzip.compress(data[at:at + MIB], 6, mtime=0) for at in range(0, len(data), MIB))
    without = len(members) + len(empty(b"BP", b"")) + len(empty(b"BE", b""))
    return members + empty(b"BP", bytes(padme(without) - without)) + empty(b"BE", b"")


class Repository:
    def __init__(self, base):
        self.base, self.root = base, os.path.join(base, "repository")
        self.operator, self.epoch, self.writer = (self.identity(name) for name in ("plain.key", "epoch.key", "writer.key"))
        self.identity("stranger.key")
        self.signing_key, self.public = self.signer("writer.pem")
        with open(os.path.join(base, "plain.key")) as plain, open(os.path.join(base, "recovery.key"), "w") as file:
            file.write(plain.read() + f"# bkp-writer: {WRITER} {self.public}\n")
        self.put("repository.json", self.json(format=1, id=REPOSITORY, created="2026-01-02T03:04:05Z", store={}))
        self.put("keys/recipients.json", self.json(recipients=[dict(name="ops", role="operator", recipient=self.operator, added="2026-01-02T03:04:05Z")]))
        with open(os.path.join(base, "epoch.key")) as file:
            line = [line for line in file if line.startswith("AGE-SECRET-KEY-")][0]
        self.epoch_key = run("age", "-r", self.operator, data=line.encode())
        self.put("keys/epoch-0001.age", self.epoch_key)
        self.put(f"writers/{WRITER}.json", self.json(format=1, writer=WRITER, name="host", verify_key=self.public, recipient=self.writer, created="2026-01-02T03:04:05Z"))

    @staticmethod
    def json(**members):
        return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()

    def identity(self, name):
        path = os.path.join(self.base, name)
        subprocess.run(["age-keygen", "-o", path], check=True, stderr=subprocess.DEVNULL)
        return run("age-keygen", "-y", path).decode().strip()

    def signer(self, name):
        path = os.path.join(self.base, name)
        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", path)
        return path, "ed25519:" + base64.b64encode(run("openssl", "pkey", "-in", path, "-pubout", "-outform", "DER")[-32:]).decode()

    def put(self, key, data):
        path = os.path.join(self.root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def seal(self, folder, plaintext, *recipients, name=None):
        sealed = run("age", *(word for recipient in recipients for word in ("-r", recipient)), data=plaintext)
        digest = hashlib.sha256(sealed).hexdigest()
        key = f"w/{WRITER}/{folder}/{name or digest[:32]}"
        self.put(key, sealed)
        return dict(key=key, sha256=digest, size=len(sealed))

    def stream(self, name, codec, *parts):
        plaintext = dict(zstd=zstd_plaintext, gzip=gzip_plaintext)[codec]
        objects = [self.seal("s", plaintext(part), self.operator, self.epoch, name=os.urandom(16).hex()) for part in parts]
        data = b"".join(parts)
        return dict(name=name, codec=codec, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), objects=objects)

    def pack(self, data):
        return dict(self.seal("p", zstd_plaintext(data), self.epoch), bytes=len(data))

    def index(self, packs, tar, catalogue):
        """`tar` and `catalogue` are lists of (chunk id, number of the pack, offset, length)."""
        table = b"".join(bytes.fromhex(pack["sha256"]) + struct.pack("<QQ", pack["size"], pack["bytes"]) for pack in packs)
        chunks = b"".join(struct.pack("<32sIII", *chunk) for chunk in tar + catalogue)
        data = b"BKPIDX1\n" + struct.pack("<I", len(packs)) + table + struct.pack("<QQ", len(tar), len(catalogue)) + chunks
        return self.seal("x", zstd_plaintext(data), self.writer, self.operator, self.epoch)

    def point(self, source, number, streams=(), tree=None, chunk_id_key=None, previous=None, signing_key=None):
        body = dict(fingerprint={}, inventory={}, warnings=[], source_location="/srv", position=None, restore="Load it.", credentials=[])
        body.update(dict(chunk_id_key=base64.b64encode(chunk_id_key).decode()) if chunk_id_key else {})
        name, instant = f"2026010{number}T030000Z-0000000{number}", f"2026-01-0{number}T03:00:00Z"
        payload = self.json(
            format=1, repository=REPOSITORY, writer=WRITER, source=source, point=name, sequence=number, previous=previous,
            engine=dict(kind="sqlite", version="3", note='a "quoted", {odd}: [text] \\ with ünïcode'), started_at=instant, consistent_at=instant,
            written_at=instant, host="host", bkp="0.1.0", epoch=1, epoch_recipient=self.epoch, epoch_key=base64.b64encode(self.epoch_key).decode(), streams=list(streams),
            tree=tree, body=self.seal("b", zstd_plaintext(self.json(**body)), self.operator, self.epoch),
            bytes=sum(stream["bytes"] for stream in streams) + (tree["bytes"] if tree else 0), added=1, warnings=0, later_member=[1, {"x": None}])
        kind = "application/vnd.bkp.point+json"
        path = os.path.join(self.base, "signed")
        with open(path, "wb") as file:
            file.write(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
        signature = run("openssl", "pkeyutl", "-sign", "-inkey", signing_key or self.signing_key, "-rawin", "-in", path)
        public = base64.b64decode(self.public[len("ed25519:"):])
        envelope = self.json(payloadType=kind, payload=base64.b64encode(payload).decode(), signatures=[
            dict(keyid=hashlib.sha256(public).hexdigest()[:16], sig=base64.b64encode(signature).decode())])
        pin = self.seal(f"points/{source}", zstd_plaintext(envelope), self.writer, self.operator, self.epoch, name=name)
        return dict(point=name, sha256=pin["sha256"])

    def expect(self, name, data):
        self.put(f"../expected/{name}", data)


# --- data ------------------------------------------------------------------------------------------------------------------


def text(length):
    words = [b"insert into users values (%d, 'name %d');\n" % (number, SOURCE.randrange(10**9)) for number in range(length // 40 + 1)]
    return b"".join(words)[:length]


def entry(name, content=b"", **members):
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.size = 1767323045, 0o644, len(content)
    for member, value in members.items():
        setattr(info, member, value)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def line(path, kind, stored, **members):
    return json.dumps(dict(p=path, t=kind, m=0o644, u=0, g=0, mt=[1767323045, 0], hb=512, **(dict(s=stored) if stored else {}), **members)).encode() + b"\n"


def make_trees(repository):
    key, big, small = bytes(range(32)), SOURCE.randbytes(300_000), b"small\n"
    root = entry("./", type=tarfile.DIRTYPE, mode=0o755)
    big_header, small_entry, link = entry("big.bin", big)[:512], entry("small ñ.txt", small), entry("zlink", type=tarfile.SYMTYPE, linkname="big.bin")
    hashed = lambda data: blake3(data)[:16].hex()
    lines = [line("./", "d", 0), line("big.bin", "f", len(big), h=hashed(big)), line("small ñ.txt", "f", len(small), h=hashed(small)), line("zlink", "l", 0, l="big.bin")]
    after_big = bytes(-len(big) % 512)
    shared, trees = None, []
    for number, extra in ((1, b""), (2, b"new in the second\n")):
        last = entry("zz.txt", extra) if extra else b""
        chunks = [root + big_header, big, after_big + small_entry + link + last]
        catalogue = b"".join(lines + ([line("zz.txt", "f", len(extra), h=hashed(extra))] if extra else [])) + b'{"end":%d}\n' % (5 if extra else 4)
        ids = [blake3(chunk, key) for chunk in chunks]
        if not shared:
            unused = SOURCE.randbytes(1000)  # a pack may hold what this index does not mention
            shared = repository.pack(unused + chunks[0] + chunks[1])
        first = [(ids[0], 0, 1000, len(chunks[0])), (ids[1], 0, 1000 + len(chunks[0]), len(big))]
        own = repository.pack(chunks[2] + catalogue)
        tar = first + [(ids[2], 1, 0, len(chunks[2]))]
        index = repository.index([shared, own], tar, [(blake3(catalogue, key), 1, len(chunks[2]), len(catalogue))])
        data = b"".join(chunks)
        trees.append(dict(index=index, bytes=len(data), entries=5 if extra else 4))
        repository.expect(f"docs-{number}.tar", data)
        repository.expect(f"shared-pack", shared["key"].encode())
    first = repository.point("docs", 1, tree=trees[0], chunk_id_key=key)
    repository.point("docs", 2, tree=trees[1], chunk_id_key=key, previous=first)
    catalogue = lines[0] + b'{"end":1}\n'
    pack = repository.pack(root + catalogue)
    index = repository.index([pack], [(blake3(b"something else", key), 0, 0, len(root))], [(blake3(catalogue, key), 0, len(root), len(catalogue))])
    repository.point("misnamed", 1, tree=dict(index=index, bytes=len(root), entries=1), chunk_id_key=key)


def make_streams(repository):
    parts, roles = (text(2 * MIB + 17), SOURCE.randbytes(70_000), text(1234)), text(1_300_000)
    first = repository.point("app", 1, [repository.stream("app.db", "zstd", text(5000))])
    wanted = [repository.stream("app.db", "zstd", *parts), repository.stream("roles.sql", "gzip", roles), repository.stream("empty", "zstd", b"")]
    second = repository.point("app", 2, wanted, previous=first)
    for name, data in (("app.db", b"".join(parts)), ("roles.sql", roles), ("empty", b""), ("objects", "\n".join(pin["key"] for pin in wanted[0]["objects"]).encode())):
        repository.expect(name, data)
    forged = repository.point("app", 3, [repository.stream("app.db", "zstd", b"poison")], previous=second, signing_key=repository.signer("stranger.pem")[0])
    name = f"w/{WRITER}/points/app/{forged['point']}"
    os.makedirs(os.path.join(repository.base, "forged"))
    os.rename(os.path.join(repository.root, name), os.path.join(repository.base, "forged", forged["point"]))


def make_deduplicated(repository, bad):
    key, rows, roles = bytes(range(1, 33)), text(200_000), text(5_000)
    pieces = [rows[at:at + 50_000] for at in range(0, len(rows), 50_000)]
    changed = pieces[1].replace(b"name", b"Name", 1)
    first_pack, second_pack = repository.pack(b"unused" + b"".join(pieces) + roles), repository.pack(changed)
    # Of each chunk: its bytes, its pack, and where it lies in that.
    old = [(piece, 0, 6 + 50_000 * number) for number, piece in enumerate(pieces)]
    new, in_first = (changed, 1, 0), (roles, 0, 6 + len(rows))

    def stream(name, packs, chunks, misnamed=b"", objects=(), swap=False, beyond=0):
        data = b"".join(chunk for chunk, _, _ in chunks)
        rows = [(blake3(misnamed or chunk, key), pack, at, len(chunk) + beyond) for chunk, pack, at in chunks]
        index = repository.index(packs, rows[::-1] if swap else rows, [])
        return dict(name=name, codec="zstd", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), objects=list(objects), index=index)

    point = lambda number, *streams, **members: repository.point("ledger", number, streams, chunk_id_key=key, **members)
    first = point(1, stream("ledger.sql", [first_pack], old))
    # A chunk may come back; packs of earlier points are referred to; no data is no chunk.
    again = [old[0], new, old[2], old[3], old[0]]
    both = [first_pack, second_pack]
    wanted = [stream("ledger.sql", both, again), stream("roles.sql", [first_pack], [in_first]), stream("empty", [], [])]
    second = point(2, *wanted, previous=first)
    for name, data in (("ledger-1.sql", rows), ("ledger.sql", b"".join(chunk for chunk, _, _ in again)), ("ledger-roles.sql", roles), ("ledger-pack", first_pack["key"].encode())):
        repository.expect(name, data)
    if bad:
        whole = repository.stream("ledger.sql", "zstd", rows)
        point(3, stream("ledger.sql", [first_pack], old, swap=True), previous=second)
        point(4, stream("ledger.sql", [first_pack], old, misnamed=b"something else"), previous=second)
        point(5, stream("ledger.sql", [first_pack], old, beyond=200_000), previous=second)
        point(6, stream("ledger.sql", [first_pack], old, objects=whole["objects"]), previous=second)
        point(7, {**stream("ledger.sql", [first_pack], old[:3]), "bytes": len(rows)}, previous=second)


if __name__ == "__main__":
    made = Repository(sys.argv[1])
    if sys.argv[2:] == ["vectors"]:
        make_deduplicated(made, bad=True)
        sys.exit()
    make_streams(made)
    make_trees(made)
    make_deduplicated(made, bad=False)
    made.put("../writer", WRITER.encode())
