#!/usr/bin/env python3
"""Restores from a bkp repository without bkp: with this file, python3 (3.8 or newer), age and zstd.

    python3 restore.py -i KEY [-r REPOSITORY] list                                    the points, and whether all their objects are there
    python3 restore.py -i KEY [-r REPOSITORY] show SOURCE [POINT|latest]              all that is known about one, as JSON
    python3 restore.py -i KEY [-r REPOSITORY] stream SOURCE [POINT|latest] [STREAM] > FILE
    python3 restore.py -i KEY [-r REPOSITORY] tree SOURCE [POINT|latest] > FILE.tar   or ... -o FILE.tar

SOURCE may be written WRITER/SOURCE. Packs are decoded into $TMPDIR. Signatures are checked with openssl 3, chunk ids with b3sum, where there are any.
Exit: 0 done, 1 failed, 2 usage, 4 damaged or forged, 10 no repository, 12 wrong key. The format is explained in docs/FORMAT.md of bkp."""
import argparse, base64, glob, hashlib, json, os, re, shutil, signal, struct, subprocess, sys, tempfile
from collections import Counter, OrderedDict
from contextlib import contextmanager
from subprocess import PIPE

BLOCK, OPEN_PACKS, SAID = 1 << 20, 64, set()  # what was deduplicated over many points comes from many packs in turn
DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error)

class Problem(Exception):
    def __init__(self, text, code=4):
        super().__init__(text)
        self.code = code

def say(text):
    if text not in SAID:
        print(text, file=sys.stderr, flush=True)
    SAID.add(text)

def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()

def blocks_of(file):
    return iter(lambda: file.read(BLOCK), b"")

def succeed(process, what, output=None):
    if process.returncode:
        error = (process.stderr if isinstance(process.stderr, bytes) else process.stderr.read()).decode(errors="replace")
        raise Problem(f"cannot {what}: {(error.strip() or 'no reason given').splitlines()[0]}")
    return output

class Repository:
    def __init__(self, root, key_file, writer_key):
        self.root, self.key_file, self.writer_key, self.id, self.epochs, self.doubt = root, key_file, writer_key, None, {}, True
        try:
            about = json.loads(read(root, "repository.json"))
            self.id, form = about["id"], about["format"]
            if form != 1:
                raise Problem(f"{root} has format {form}; this script reads format 1: use the newer restore.py, or a newer bkp", 10)
        except FileNotFoundError:
            if not os.path.isdir(os.path.join(root, "w")):
                raise Problem(f"{root} is not a bkp repository: it has no repository.json; name its directory with -r", 10)
            say(f"WARNING: {root}/repository.json is missing; going on without it")
        except DAMAGE as error:
            raise Problem(f"{root}/repository.json is not that of a bkp repository ({error!r})", 10)
        name = re.compile(r".*/w/([0-9a-f]{16})/points/([A-Za-z0-9_-][A-Za-z0-9._-]*)/(\d{8}T\d{6}Z-[0-9a-f]{8})", re.S)
        names = map(name.fullmatch, glob.glob(os.path.join(glob.escape(root), "w/*/points/*/*")))
        self.points = sorted((match.groups() for match in names if match), key=lambda name: (name[2], name))
        if not self.points:
            raise Problem(f"there are no points in {root}: no backup was ever completed, or this copy is not complete", 1)
        self.unlock()

    def unlock(self):
        reason = "keys/ has no epoch-*.age"
        for path in sorted(glob.glob(os.path.join(glob.escape(self.root), "keys/epoch-*.age"))):
            try:
                self.epochs[int(re.findall(r"\d+", path)[-1])] = self.decrypt(path, alone=True)
            except Problem as problem:
                reason = str(problem)
                say(f"WARNING: {problem}")
        for name in () if self.epochs else self.points:  # perhaps the files in keys/ are lost: points carry a copy
            try:
                return self.decrypt(os.path.join(self.root, point_key(*name)))
            except Problem as problem:
                reason = str(problem)
        if not self.epochs:
            raise Problem(f"{self.key_file} does not open this repository: {reason}\nkeys/recipients.json names the keys that do", 12)

    def age(self, path, alone=False):
        """Starts age. The epoch identities go through a pipe: they are never on disk nor in a process list."""
        epochs = [] if alone or not self.epochs else ["-i", "-"]
        process = subprocess.Popen(["age", "-d", *epochs, "-i", self.key_file, path], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        if epochs:
            process.stdin.write(b"\n".join(self.epochs.values()))  # at most a few kilobytes: the pipe holds them
        process.stdin.close()
        process.stdin = None
        return process

    def decrypt(self, path, alone=False):
        process = self.age(path, alone)
        plain, process.stderr = process.communicate()
        return succeed(process, f"decrypt {os.path.relpath(path, self.root)} with {self.key_file}", plain)

    def data(self, key, output=PIPE):
        plain = self.decrypt(os.path.join(self.root, key))
        if plain[-4:] != struct.pack("<I", 0x8F92EAB1):
            raise Problem(f"{key} is cut: it has no seek table")
        done = subprocess.run(["zstd", "-dcq"], input=plain, stdout=output, stderr=PIPE)
        return succeed(done, f"decode {key}", done.stdout)

    def check(self, pin, whole=True):
        """The name of the pinned object, after a look at its size and, if `whole`, at its bytes."""
        key, path, digest = pin["key"], os.path.join(self.root, pin["key"]), hashlib.sha256()
        if not key.startswith("w/") or ".." in key.split("/"):
            raise Problem(f"{key!r} is not the name of an object")
        if not os.path.isfile(path):
            raise Problem(f"{key} is missing")
        if os.path.getsize(path) != pin["size"]:
            raise Problem(f"{key} has {os.path.getsize(path)} bytes instead of {pin['size']}")
        if whole:
            with open(path, "rb") as file:
                for block in blocks_of(file):
                    digest.update(block)
            if digest.hexdigest() != pin["sha256"]:
                raise Problem(f"{key} is damaged: its SHA-256 is not the one that is pinned")
        return key

    def trusted_key(self, writer):
        self.doubt = False
        match = re.search(rb"^# *bkp-writer: *%s +(ed25519:\S+)" % writer.encode(), read(self.key_file), re.M)
        if self.writer_key or match:
            return self.writer_key or match[1].decode()
        try:
            public = re.fullmatch("ed25519:[A-Za-z0-9+/]+=*", json.loads(read(self.root, "writers", writer + ".json"))["verify_key"])[0]
        except (OSError, *DAMAGE):
            raise Problem(f"no public key of writer {writer} is known; give it with -k")
        self.doubt = True
        say(f"WARNING: the key of writer {writer} comes from the repository itself, so whoever can write there could have forged its points.\n"
            f"WARNING: compare with your records, or give it with -k:  {public}")
        return public

    def verify(self, writer, envelope, payload):
        public = self.trusted_key(writer)
        if not shutil.which("openssl") or not re.match(rb"OpenSSL ([3-9]|\d\d)\.", subprocess.run(["openssl", "version"], capture_output=True).stdout):
            self.doubt = True
            return say("WARNING: SIGNATURES WERE NOT CHECKED: this needs OpenSSL 3 or newer.")
        kind, prefix = envelope["payloadType"].encode(), bytes.fromhex("302a300506032b6570032100")
        files = {"key": prefix + base64.b64decode(public.split(":")[-1]), "signature": base64.b64decode(envelope["signatures"][0]["sig"]),
                 "signed": b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)}
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                with open(os.path.join(scratch, name), "wb") as file:
                    file.write(content)
            command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in signed -sigfile signature"
            if subprocess.run(command.split(), cwd=scratch, capture_output=True).returncode:
                raise Problem(f"it is not signed by writer {writer} ({public}): it is forged, or the key is not that of this writer")

    def point(self, writer, source, name):
        key = point_key(writer, source, name)
        try:
            envelope = json.loads(self.data(key))
            if envelope["payloadType"] != "application/vnd.bkp.point+json":
                raise Problem(f"it is not a point but {envelope['payloadType']!r}")
            payload = base64.b64decode(envelope["payload"], validate=True)
            self.verify(writer, envelope, payload)
            point = json.loads(payload)
            if point["format"] != 1:
                raise Problem(f"it has format {point['format']}; this script reads format 1: use a newer one")
            if (point["writer"], point["source"], point["point"]) != (writer, source, name) or self.id not in (None, point["repository"]):
                raise Problem(f"it says it is another point: {[point[part] for part in ('repository', 'writer', 'source', 'point')]}")
            if point["epoch"] not in self.epochs:
                with tempfile.NamedTemporaryFile() as sealed:
                    sealed.write(base64.b64decode(point["epoch_key"]))
                    sealed.flush()
                    self.epochs[point["epoch"]] = self.decrypt(sealed.name, alone=True)
        except (Problem, *DAMAGE) as error:
            raise Problem(f"{key}: {error if isinstance(error, Problem) else 'not what a point should be: ' + repr(error)}")
        return point

    def index(self, point, pin):
        """Pins of the packs, and chunks of the tar stream, or of a stream, as (id, pack, offset, length)."""
        key = self.check(pin)
        data = self.data(key)
        try:
            packs, = struct.unpack_from("<8xI", data)
            end = 12 + packs * 48
            tar, catalogue = struct.unpack_from("<QQ", data, end)
            if data[:8] != b"BKPIDX1\n" or len(data) != end + 16 + (tar + catalogue) * 44:
                raise ValueError("wrong magic or length")
            pins = [{"key": f"w/{point['writer']}/p/{digest.hex()[:32]}", "sha256": digest.hex(), "size": size, "data": length}
                    for digest, size, length in struct.iter_unpack("<32sQQ", data[12:end])]
            chunks = list(struct.iter_unpack("<32sIII", data[end + 16:end + 16 + tar * 44]))
            if any(offset + length > pins[pack]["data"] for _, pack, offset, length in chunks):
                raise ValueError("a chunk outside its pack")
        except DAMAGE as error:
            raise Problem(f"{key} is not an index: {error!r}")
        return pins, chunks

    def pins(self, point):
        indexes = [stream["index"] for stream in point["streams"] if "index" in stream] + ([point["tree"]["index"]] if point["tree"] else [])
        packs = [pin for index in indexes for pin in self.index(point, index)[0]]
        return [point["body"], *(pin for stream in point["streams"] for pin in stream["objects"]), *indexes, *packs]

    def check_or_tell(self, pin, whole):
        """Like check; the problem names all points that need the same object."""
        try:
            return self.check(pin, whole)
        except Problem as problem:
            text = f"{problem}. These points cannot be restored completely without it:"
        for name in self.points:
            try:
                needed = "" if any(other["key"] == pin["key"] for other in self.pins(self.point(*name))) else None
            except Problem as other:
                needed = f"  (perhaps: {other})"
            text += "" if needed is None else f"\n  {name[2]}  {name[0]}/{name[1]}{needed}"
        raise Problem(text)

    def select(self, source, name):
        found = [point for point in self.points if source in (point[1], f"{point[0]}/{point[1]}")]
        writers = sorted({f"{point[0]}/{point[1]}" for point in found})
        if not found:
            raise Problem(f"there is no point of {source}; sources with points: {' '.join(sorted({f'{p[0]}/{p[1]}' for p in self.points}))}", 1)
        if len(writers) > 1:
            raise Problem(f"several writers have a source {source}; name one of: {' '.join(writers)}", 2)
        chosen = [point for point in found if name in ("latest", point[2])]
        if not chosen:
            raise Problem(f"{source} has no point {name}; it has: {' '.join(point[2] for point in found)}", 1)
        point = self.point(*chosen[-1])
        say(f"Point {point['point']} of {writers[0]}: data as of {point['consistent_at']}")
        return point

def point_key(writer, source, name):
    return f"w/{writer}/points/{source}/{name}"

@contextmanager
def output(path):
    """Standard output, or a file that gets its name only when it is complete."""
    if not path:
        if sys.stdout.isatty():
            raise Problem("this is a terminal: write to a file with > FILE or -o FILE", 2)
        yield sys.stdout.buffer
        return sys.stdout.buffer.flush()
    partial = f"{path}.partial.{os.getpid()}"
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)

def show_list(repository):
    status = 0
    for name in repository.points:
        try:
            text = f"UNREADABLE: {name[2]}"
            point = repository.point(*name)
            content = [stream["name"] for stream in point["streams"]] + (["(tree)"] if point["tree"] else [])
            text = f"no. {point['sequence']}  {point['bytes']} bytes  {' '.join(content) or 'empty'}"
            for pin in repository.pins(point):
                repository.check(pin, whole=False)
        except Problem as problem:
            text, status = f"{text}  DAMAGED: {problem}", 4
        print(f"{name[2]}  {name[0]}/{name[1]}  {text}".translate({code: "?" for code in range(32)}))
    return status

def of_objects(repository, stream):
    """The data of a stream that is stored in objects of its own, all of which are checked first."""
    decoder = {"zstd": ["zstd", "-dcq"], "gzip": ["gzip", "-dc"]}[stream["codec"]]
    for key in [repository.check_or_tell(pin, True) for pin in stream["objects"]]:
        age = repository.age(os.path.join(repository.root, key))
        decode = subprocess.Popen(decoder, stdin=age.stdout, stdout=PIPE, stderr=PIPE)
        age.stdout.close()
        yield from blocks_of(decode.stdout)
        for process in decode, age:
            process.wait()
            succeed(process, f"decode {key}")

def check_chunk(digest, chunk, key):
    with tempfile.NamedTemporaryFile() as file:
        file.write(chunk)
        file.flush()
        done = subprocess.run(["b3sum", "--keyed", "--no-names", file.name], input=key, capture_output=True)
    if succeed(done, "run b3sum", done.stdout).decode().strip() != digest.hex():
        raise Problem(f"chunk {digest.hex()} is not what its id says")

def of_chunks(repository, point, index, whole_hash=None):
    """The data of a tree, or of a deduplicated stream, whose own hash says more than the ids of its many chunks. Each pack is
    decoded when it is needed, and kept while it may be needed again."""
    (pins, chunks), body = repository.index(point, index), json.loads(repository.data(repository.check(point["body"])))
    key, packs, checker = base64.b64decode(body["chunk_id_key"]), OrderedDict(), not whole_hash and shutil.which("b3sum")
    uses = Counter(pack for _, pack, _, _ in chunks)
    for pack in uses:
        repository.check_or_tell(pins[pack], False)
    if not checker and not whole_hash:
        say("Without b3sum the ids of single chunks are not checked; the hash of each pack, which a signed point pins, is.")
    for digest, pack, offset, length in chunks:
        if pack not in packs:
            packs[pack] = tempfile.TemporaryFile()
            repository.data(repository.check_or_tell(pins[pack], True), packs[pack])
            if packs[pack].seek(0, os.SEEK_END) != pins[pack]["data"]:
                raise Problem(f"the data of {pins[pack]['key']} has not the length that the index says")
        packs[pack].seek(offset)
        chunk = packs[pack].read(length)
        if checker:
            check_chunk(digest, chunk, key)
        yield chunk
        uses[pack] -= 1
        packs.move_to_end(pack)
        if not uses[pack] or len(packs) > OPEN_PACKS:
            packs.pop(pack if not uses[pack] else next(iter(packs))).close()

def choose(repository, point, command, name):
    """The data that is wanted, and what the point says about it."""
    names = [stream["name"] for stream in point["streams"]]
    if command == "tree":
        if not point["tree"]:
            raise Problem("this point has no tree: use the command stream", 1)
        return of_chunks(repository, point, point["tree"]["index"]), point["tree"]
    if not names:
        raise Problem("this point has no streams" + (": use the command tree" if point["tree"] else ""), 1)
    if name not in names and (name or len(names) > 1):
        raise Problem(f"which stream? This point has: {' '.join(names)}", 2)
    stream = point["streams"][names.index(name) if name else 0]
    if "index" in stream:
        return of_chunks(repository, point, stream["index"], stream["sha256"]), stream
    return of_objects(repository, stream), stream

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("-i", dest="key", required=True, metavar="KEY", help="the recovery key: an age identity file or an ssh private key")
    parser.add_argument("-r", dest="root", metavar="DIR", default=here if os.path.exists(os.path.join(here, "repository.json")) else ".",
                        help="the repository as a directory; copy a bucket first: aws s3 sync s3://BUCKET/PREFIX DIR")
    parser.add_argument("-o", dest="out", metavar="FILE", help="a new file, which appears only when it is complete")
    parser.add_argument("-k", dest="writer_key", metavar="ed25519:BASE64", help="public key of the writer, when KEY has no line '# bkp-writer: …'")
    parser.add_argument("command", choices=["list", "show", "stream", "tree"])
    for name, default in ("source", None), ("point", "latest"), ("stream", None):
        parser.add_argument(name, nargs="?", default=default)
    wanted = parser.parse_intermixed_args()
    if wanted.command != "list" and not wanted.source:
        parser.error("name a source")
    if not os.access(wanted.key, os.R_OK):
        raise Problem(f"cannot read the key file {wanted.key}", 12)
    for tool in "age", "zstd":
        if not shutil.which(tool):
            raise Problem(f"{tool} is missing; on Debian: apt-get install {tool}", 1)
    if wanted.out and os.path.lexists(wanted.out):
        raise Problem(f"{wanted.out} exists already; nothing was written", 1)
    repository = Repository(wanted.root, wanted.key, wanted.writer_key)
    if wanted.command == "list":
        return show_list(repository)
    point = repository.select(wanted.source, wanted.point)
    if wanted.command == "show":
        del point["epoch_key"]
        point["body"]["content"] = json.loads(repository.data(repository.check(point["body"])))
        point["body"]["content"].pop("chunk_id_key", None)
        print(json.dumps(point, indent=2))
        return 0
    with output(wanted.out) as out:
        (data, said), digest, count = choose(repository, point, wanted.command, wanted.stream), hashlib.sha256(), 0
        for block in data:
            digest.update(block)
            count += out.write(block)
        if (count, digest.hexdigest()) != (said["bytes"], said.get("sha256", digest.hexdigest())):
            raise Problem(f"the data is not what the point says: {count} bytes, SHA-256 {digest.hexdigest()}")
    say("Complete, but NOT VERIFIED: see the warnings above" if repository.doubt else "Complete and verified.")
    return 0

if __name__ == "__main__":
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Problem as problem:
        print(f"restore.py: {problem}", file=sys.stderr)
        sys.exit(problem.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, *DAMAGE) as error:
        print(f"restore.py: {error if isinstance(error, OSError) else repr(error)}: do not use what was written", file=sys.stderr)
        sys.exit(1)
