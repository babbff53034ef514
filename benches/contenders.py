"""Who is compared, with which commands, and where the programs come from.

All of it compresses with zstd at its default level and encrypts, except what is marked as a reference. The commands run
in bash with `pipefail`, and find in their environment:

  TREE    the data: a directory, or the database file      REPO    the repository: a directory, or on S3 see ENDPOINT
  TARGET  a path where nothing is yet, to restore to       ENDPOINT, BUCKET   host:port of MinIO and the bucket's name
  FILE    the one file to restore, relative to TREE        WORK    a private directory: caches, state, keys
  TAR     the tree as one tar file (for references)
"""
import os
import subprocess

import servers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get("BKP_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bkp-ci"
)

TREES = {
    "bkp": {
        "version": "bkp --version",
        "environment": {"BKP_STATE_DIR": "$WORK/state", "BKP_CACHE_DIR": "$WORK/cache"},
        "environment local": {"BKP_REPO": "$REPO"},
        "environment s3": {"BKP_REPO": "s3://$BUCKET/bkp", "BKP_ENDPOINT": "http://$ENDPOINT"},
        "init local": 'bkp init --recovery-key "$WORK/recovery.key"',
        "init s3": 'bkp init --recovery-key "$WORK/recovery.key"',
        "backup": 'bkp backup --source "bench=volume:$TREE"',
        "restore": 'bkp restore --source bench --to "$TARGET" --identity "$WORK/recovery.key"',
        "one": 'bkp restore --source bench --path "$FILE" --to "$TARGET" --identity "$WORK/recovery.key"',
    },
    "restic": {
        "version": "restic version",
        "environment": {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": "$WORK/cache"},
        "environment local": {"RESTIC_REPOSITORY": "$REPO"},
        "environment s3": {"RESTIC_REPOSITORY": "s3:http://$ENDPOINT/$BUCKET/restic"},
        "init local": "restic init",
        "init s3": "restic init",
        "backup": 'cd "$TREE" && restic backup --quiet .',
        "restore": 'restic restore --quiet latest --target "$TARGET"',
        "one": 'restic restore --quiet latest --include "/$FILE" --target "$TARGET"',
    },
    "kopia": {
        "version": "kopia --version | cut -d' ' -f1",
        "environment": {
            "KOPIA_PASSWORD": "benchmark",
            "KOPIA_CONFIG_PATH": "$WORK/kopia.config",
            "KOPIA_CACHE_DIRECTORY": "$WORK/cache",
            "KOPIA_LOG_DIR": "$WORK/log",
            "KOPIA_CHECK_FOR_UPDATES": "false",
        },
        # It does not compress unless it is told to.
        "init local": 'kopia repository create filesystem --path "$REPO" && kopia policy set --global --compression=zstd',
        "init s3": 'kopia repository create s3 --bucket "$BUCKET" --endpoint "$ENDPOINT" --disable-tls --access-key "$AWS_ACCESS_KEY_ID"'
        ' --secret-access-key "$AWS_SECRET_ACCESS_KEY" && kopia policy set --global --compression=zstd',
        "backup": 'kopia snapshot create --no-progress "$TREE"',
        "restore": 'kopia restore --no-progress "$TREE" "$TARGET"',
        "one": 'kopia restore --no-progress "$TREE/$FILE" "$TARGET"',
    },
    "borg": {
        "version": "borg --version",
        "environment": {"BORG_PASSPHRASE": "benchmark", "BORG_BASE_DIR": "$WORK", "BORG_REPO": "$REPO"},
        "init local": "borg init --encryption=repokey-blake2",
        "backup": 'cd "$TREE" && borg create --compression zstd,3 "::$(date +%s%N)" .',
        "restore": 'mkdir "$TARGET" && cd "$TARGET" && borg extract "::$(borg list --last 1 --short)"',
        "one": 'mkdir "$TARGET" && cd "$TARGET" && borg extract "::$(borg list --last 1 --short)" "$FILE"',
    },
    # References: what the machine can do at best, without encryption or deduplication.
    "tar + zstd -T2": {
        "reference": True,
        "version": "zstd --version | grep -o 'v[0-9.]*' | head -n 1",
        "init local": 'mkdir "$REPO"',
        "backup": 'tar -C "$TREE" -cf - . | zstd -q -f -T2 -3 -o "$REPO/tree.tar.zst"',
        "restore": 'mkdir "$TARGET" && zstd -q -d -c "$REPO/tree.tar.zst" | tar -C "$TARGET" -xf -',
    },
    "zstd -T2 alone": {
        "reference": True,
        "init local": 'mkdir "$REPO"',
        "backup": 'zstd -q -T2 -3 -c "$TAR" > /dev/null',
    },
    "parallel cp": {
        "reference": True,
        "init local": 'mkdir "$REPO"',
        "restore": 'mkdir "$TARGET" && cd "$TREE" && find . -mindepth 1 -maxdepth 1 -print0 | xargs -0 -P2 -n1 cp -a -t "$TARGET"',
    },
}

DATABASES = {
    "bkp": {
        **TREES["bkp"],
        "backup": 'bkp backup --source "bench=sqlite:$TREE"',
        "one": None,
    },
    "sqlite3 + zstd + age": {
        "version": "age --version",
        "init local": 'mkdir "$REPO" && age-keygen -o "$WORK/key" 2> /dev/null && age-keygen -y "$WORK/key" > "$WORK/recipient"',
        "backup": "sqlite3 \"$TREE\" \".backup '$WORK/copy'\" && zstd -q -c \"$WORK/copy\" | age -R \"$WORK/recipient\" > \"$REPO/copy.zst.age\""
        ' && rm "$WORK/copy"',
        "restore": 'age -d -i "$WORK/key" "$REPO/copy.zst.age" | zstd -q -d > "$TARGET"',
    },
    "sqlite3 + zstd -T2 + age": {
        "init local": 'mkdir "$REPO" && age-keygen -o "$WORK/key" 2> /dev/null && age-keygen -y "$WORK/key" > "$WORK/recipient"',
        "backup": "sqlite3 \"$TREE\" \".backup '$WORK/copy'\" && zstd -q -T2 -c \"$WORK/copy\" | age -R \"$WORK/recipient\" > \"$REPO/copy.zst.age\""
        ' && rm "$WORK/copy"',
        "restore": 'age -d -i "$WORK/key" "$REPO/copy.zst.age" | zstd -q -d > "$TARGET"',
    },
}

CONTENDERS = {"mixed": TREES, "small": TREES, "sqlite": DATABASES, **servers.CONTENDERS}

# Neither can be installed with `go install PATH@VERSION`: their go.mod replaces modules.
GO_MODULES = {
    "restic": ("v0.18.1", "github.com/restic/restic/cmd/restic"),
    "kopia": ("v0.22.3", "github.com/kopia/kopia"),
}


def install(names, stores, kinds):
    """Puts the programs of these contenders in front of PATH; answers where MinIO is, and the tag of the servers' images."""
    run = lambda *command: subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    needed = ["tar", "zstd", "age", "sqlite3"] + (["borg"] if "borg" in names else [])
    run("scripts/require-commands", *needed)
    directories = []
    if "bkp" in names:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
        directories.append(os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release"))
    for name in sorted(names & GO_MODULES.keys()):
        directories.append(build_go_module(name, run("scripts/go-toolchain")))
    os.environ["PATH"] = os.pathsep.join(directories + [os.environ["PATH"]])
    minio = run("scripts/minio") if "s3" in stores else None
    if not servers.SERVERS.keys() & kinds:
        return minio, None
    run("scripts/docker-engine")
    return minio, run("scripts/test-images").splitlines()[0]


def build_go_module(name, go):
    version, package = GO_MODULES[name]
    compiler = subprocess.check_output([go, "env", "GOVERSION"], text=True, env={**os.environ, "GOTOOLCHAIN": "local"}).strip()
    directory = os.path.join(CACHE, f"{name}-{version}-{compiler}")
    if not os.path.exists(os.path.join(directory, name)):
        print(f"Building {name} {version} into {directory}", flush=True)
        scratch = directory + ".new"
        os.makedirs(scratch, exist_ok=True)
        if not os.path.exists(os.path.join(scratch, "go.mod")):
            subprocess.run([go, "mod", "init", "scratch"], cwd=scratch, check=True)
        subprocess.run([go, "get", f"{package}@{version}"], cwd=scratch, check=True)
        subprocess.run([go, "build", "-o", name, package], cwd=scratch, check=True)
        os.makedirs(directory, exist_ok=True)
        os.rename(os.path.join(scratch, name), os.path.join(directory, name))
    return directory
