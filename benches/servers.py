"""Database servers in containers, their data, and who dumps and restores it.

Every server runs as its image starts it, with the options that a stock server has. The commands find in their environment
also CONTAINER, and SECRET: a file with the administrator's password. What a restore makes is called `restored`; it is
compared with what was dumped, and dropped after every measurement.
"""
import json
import multiprocessing
import os
import random
import shlex
import shutil
import subprocess
import time
import uuid

import data

PASSWORD = "benchmark"
TABLES = 4
ROWS = 300_000
KEYS = 1_000_000
DOCUMENTS = 200_000
VERSION = 1  # raised with every change of what is made

# --- data ---


def prepare(kind, directory, scale):
    """Makes what is put into a server, as files; answers where they are and what they hold."""
    make = MAKERS[kind]
    home = os.path.join(directory, f"{make.__name__}-{scale:g}-v{VERSION}")
    if not os.path.exists(os.path.join(home, "description.json")):
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        jobs = [(home, number, scale) for number in range(1, TABLES + 1)]
        with multiprocessing.Pool() as pool:
            rows = sum(pool.starmap(make, jobs))
        size = sum(os.path.getsize(os.path.join(home, name)) for name in os.listdir(home))
        data.describe(home, files=rows, bytes=size)
    with open(os.path.join(home, "description.json")) as file:
        return home, json.load(file)


def record(rng, words, at):
    """What an order has: an identifier, a customer, a state, a price, a time, some text."""
    return {
        "reference": f"{rng.getrandbits(104):026x}",
        "customer": rng.randint(1, 50_000),
        "state": rng.choice(["new", "paid", "sent", "returned"]),
        "total": f"{rng.random() * 1000:.2f}",
        "created": f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00",
        "note": " ".join(words[at : at + rng.randint(10, 50)]),
    }


def records(seed, count):
    rng = random.Random(seed)
    for number in range(count):
        if number % 1000 == 0:
            words = rng.choices(data.WORDS[0], cum_weights=data.WORDS[1], k=20_050)
        yield number + 1, record(rng, words, number % 1000 * 20)


def tables(home, number, scale):
    count = int(ROWS * scale)
    with open(os.path.join(home, f"orders_{number}"), "w") as file:
        for key, one in records(f"orders {number}", count):
            file.write("\t".join([str(key), *map(str, one.values())]) + "\n")
    return count


def documents(home, number, scale):
    """Commands for DocumentDB, which FerretDB stands on: a thousand documents in each."""
    count, batch = int(DOCUMENTS // TABLES * scale), []
    with open(os.path.join(home, f"orders_{number}"), "w") as file:
        for key, one in records(f"documents {number}", count):
            batch.append({"_id": key, **one, "customer": {"number": one["customer"], "tags": one["note"].split()[:4]}})
            if len(batch) == 1000 or key == count:
                command = json.dumps({"insert": f"orders_{number}", "documents": batch}).replace("'", "''")
                file.write(f"SELECT count(documentdb_api.insert('bench', '{command}'));\n")
                batch = []
    return count


def keys(home, number, scale):
    """Redis's own protocol: strings, and a hash in every ten."""
    count = int(KEYS // TABLES * scale)
    with open(os.path.join(home, f"keys_{number}"), "wb") as file:
        for key, one in records(f"keys {number}", count):
            name = f"order:{number}:{key}"
            words = ["HSET", name, *(str(part) for pair in one.items() for part in pair)] if key % 10 == 0 else ["SET", name, json.dumps(one)]
            file.write(f"*{len(words)}\r\n".encode())
            for word in words:
                file.write(f"${len(word)}\r\n{word}\r\n".encode())
    return count


MAKERS = {"mysql": tables, "mariadb": tables, "postgres": tables, "mongo": documents, "redis": keys}

# --- servers ---

COLUMNS = """id BIGINT PRIMARY KEY {serial}, reference CHAR(26) NOT NULL, customer INT NOT NULL, state VARCHAR(12) NOT NULL,
total DECIMAL(10,2) NOT NULL, created {time} NOT NULL, note TEXT NOT NULL"""
SQL = "docker exec -i -e MYSQL_PWD=$PASSWORD $CONTAINER {client} -uroot"
DOCUMENTDB = "docker exec -i $CONTAINER psql -XAtqU root postgres"
PSQL = "docker exec -i $CONTAINER psql -XAtqU postgres"


def fill_mysql(client):
    def commands(home):
        sql = SQL.replace("{client}", client)
        table = COLUMNS.format(serial="AUTO_INCREMENT", time="DATETIME")
        indexes = "UNIQUE KEY reference (reference), KEY customer (customer, created), KEY state (state, created)"
        yield f'{sql} -e "CREATE DATABASE bench"'
        for number in range(1, TABLES + 1):
            name = f"orders_{number}"
            yield f'{sql} bench -e "CREATE TABLE {name} ({table}, {indexes})"'
            yield f"{sql} --local-infile=1 bench -e \"LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE {name}\" < {home}/{name}"
            yield f'{sql} bench -e "ANALYZE TABLE {name}" > /dev/null'

    return commands


def fill_postgres(home):
    yield f'{PSQL} -c "CREATE DATABASE bench"'
    table = COLUMNS.format(serial="", time="TIMESTAMP")
    for number in range(1, TABLES + 1):
        name = f"orders_{number}"
        yield f'{PSQL} bench -c "CREATE TABLE {name} ({table})"'
        yield f'{PSQL} bench -c "COPY {name} FROM STDIN" < {home}/{name}'
        yield (
            f'{PSQL} bench -c "CREATE UNIQUE INDEX ON {name} (reference); CREATE INDEX ON {name} (customer, created); '
            f'CREATE INDEX ON {name} (state, created); ANALYZE {name}"'
        )


def fill_mongo(home):
    roles = '[{"role": "readWriteAnyDatabase", "db": "admin"}, {"role": "clusterAdmin", "db": "admin"}]'
    user = f'{{"createUser": "app", "pwd": "{PASSWORD}-app", "roles": {roles}}}'
    create = f"SELECT documentdb_api.create_user('{user}')"
    yield f"{DOCUMENTDB} > /dev/null <<< {shlex.quote(create)}"
    for number in range(1, TABLES + 1):
        yield f"{DOCUMENTDB} < {home}/orders_{number} > /dev/null"


def fill_redis(home):
    for number in range(1, TABLES + 1):
        yield f"docker exec -i -e REDISCLI_AUTH=$PASSWORD $CONTAINER redis-cli --pipe < {home}/keys_{number} > /dev/null"


SERVERS = {
    "mysql": {"image": "mysql", "arguments": ["--local-infile=1"], "password": "MYSQL_ROOT_PASSWORD", "fill": fill_mysql("mysql")},
    "mariadb": {"image": "mariadb", "arguments": ["--local-infile=1"], "password": "MYSQL_ROOT_PASSWORD", "fill": fill_mysql("mariadb")},
    "postgres": {"image": "postgres", "arguments": [], "password": "POSTGRES_PASSWORD", "fill": fill_postgres},
    "mongo": {"image": "ferretdb", "arguments": [], "password": "MONGO_INITDB_ROOT_PASSWORD", "fill": fill_mongo},
    "redis": {"image": "redis", "arguments": [], "password": "REDIS_PASSWORD", "fill": fill_redis},
}


class Server:
    """One server with the data of its kind, for as long as the block lasts."""

    def __init__(self, kind, home, tag):
        self.kind, self.home, self.tag = kind, home, tag
        self.name = f"bkp-bench-{kind}-{uuid.uuid4().hex[:8]}"
        self.environment = {**os.environ, "CONTAINER": self.name, "PASSWORD": PASSWORD}

    def __enter__(self):
        how = SERVERS[self.kind]
        variable = how["password"]
        options = ["--label", "bkp-test=1", "--name", self.name, "-e", variable, "-e", "MONGO_INITDB_ROOT_USERNAME=root"]
        subprocess.run(
            ["docker", "run", "-d", *options, f"bkp-test/{how['image']}:{self.tag}", *how["arguments"]],
            env={**os.environ, variable: PASSWORD},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        try:
            limit = time.monotonic() + 120
            while self.health() != "healthy":
                if time.monotonic() > limit:
                    raise SystemExit(f"the server of {self.kind} does not become healthy")
                time.sleep(0.2)
            for command in how["fill"](self.home):
                subprocess.run(["bash", "-o", "pipefail", "-ec", command], env=self.environment, stdin=subprocess.DEVNULL, check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["docker", "rm", "-fv", self.name], stdout=subprocess.DEVNULL)

    def health(self):
        words = ["docker", "inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{end}}", self.name]
        return subprocess.run(words, text=True, stdout=subprocess.PIPE).stdout.strip()


# --- contenders ---

BKP = {
    "version": "bkp --version",
    "environment": {"BKP_STATE_DIR": "$WORK/state", "BKP_CACHE_DIR": "$WORK/cache"},
    "environment local": {"BKP_REPO": "$REPO"},
    "init local": 'bkp init --recovery-key "$WORK/recovery.key"',
}
PIPE = {"init local": 'mkdir "$REPO" && age-keygen -o "$WORK/key" 2> /dev/null && age-keygen -y "$WORK/key" > "$WORK/recipient"'}
SEAL = 'zstd -q -T2 | age -R "$WORK/recipient" > "$REPO/dump.zst.age"'
OPEN = 'age -d -i "$WORK/key" "$REPO/dump.zst.age" | zstd -q -d'


def bkp(kind, restored=True):
    user = "user=root," if kind in ("mysql", "mongo") else ""
    source = f'--source "bench={kind}:container=$CONTAINER,{user}password_file=$SECRET"'
    commands = {**BKP, "backup": f"bkp backup {source}"}
    if restored:
        commands["restore"] = f'bkp restore {source} --database bench --as restored --identity "$WORK/recovery.key"'
    return commands


def mysql(client, dump):
    sql, dump = (SQL.replace("{client}", program) for program in (client, dump))
    options = "--single-transaction --quick --routines --events --triggers --hex-blob"
    if client == "mysql":
        options += " --set-gtid-purged=OFF"
    create = f'{sql} -e "DROP DATABASE IF EXISTS restored; CREATE DATABASE restored"'
    checksum = f"{sql} -BNe 'CHECKSUM TABLE " + ", ".join(f"%.orders_{n}" for n in range(1, TABLES + 1)) + "' | cut -f2"
    own = {
        "forget": f'{sql} -e "DROP DATABASE IF EXISTS restored"',
        "compare": f"cmp <({checksum.replace('%', 'bench')}) <({checksum.replace('%', 'restored')})",
    }
    return {
        "bkp": {**bkp("mysql"), **own},
        f"{dump.split()[-2]} + zstd -T2 + age": {
            **PIPE,
            **own,
            "backup": f"{dump} {options} bench | {SEAL}",
            "restore": f"{create} && {OPEN} | {sql} restored",
        },
        f"{client} < dump": {
            "reference": True,
            "init local": 'mkdir "$REPO"',
            **own,
            "before restore": f'{dump} {options} bench > "$WORK/dump.sql"',
            "restore": f'{create} && {sql} restored < "$WORK/dump.sql"',
        },
    }


def postgres():
    digest = "SELECT " + ", ".join(f"(SELECT count(*)::text || sum(hashtext(t::text)) FROM orders_{n} t)" for n in range(1, TABLES + 1))
    own = {
        "forget": f'{PSQL} -c "DROP DATABASE IF EXISTS restored WITH (FORCE)"',
        "compare": f'cmp <({PSQL} bench -c "{digest}") <({PSQL} restored -c "{digest}")',
    }
    dump, restore = "docker exec $CONTAINER pg_dump -U postgres -Fc -Z0 bench", "pg_restore -U postgres -d restored --exit-on-error"
    create = f'{PSQL} -c "DROP DATABASE IF EXISTS restored" -c "CREATE DATABASE restored"'
    return {
        "bkp": {**bkp("postgres"), **own},
        "pg_dump + zstd -T2 + age": {
            **PIPE,
            **own,
            "backup": f"{dump} | {SEAL}",
            "restore": f"{create} && {OPEN} | docker exec -i $CONTAINER {restore}",
        },
        "pg_restore -j2": {
            "reference": True,
            "init local": 'mkdir "$REPO"',
            **own,
            "before restore": f'{dump} > "$WORK/dump" && docker cp "$WORK/dump" $CONTAINER:/tmp/dump',
            "restore": f"{create} && docker exec $CONTAINER {restore} -j2 /tmp/dump",
        },
    }


CONTENDERS = {
    "mysql": mysql("mysql", "mysqldump"),
    "mariadb": mysql("mariadb", "mariadb-dump"),
    "postgres": postgres(),
    # Nobody has packaged MongoDB's tools for this: bkp is alone.
    "mongo": {
        "bkp": {
            **bkp("mongo"),
            "forget": f"{DOCUMENTDB} -c \"SELECT documentdb_api.drop_database('restored')\" > /dev/null",
        }
    },
    "redis": {
        "bkp": bkp("redis", restored=False),
        "redis-cli --rdb + zstd -T2 + age": {
            **PIPE,
            "backup": f"docker exec -e REDISCLI_AUTH=$PASSWORD $CONTAINER redis-cli --rdb - | {SEAL}",
        },
    },
}
