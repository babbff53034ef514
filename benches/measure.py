"""Runs one command and tells what it took; runs MinIO for contenders that are measured on S3."""
import datetime
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import time

ACCESS, SECRET, BUCKET = "benchmark", "benchmark-secret", "bench"


class Failed(Exception):
    pass


def run(command, environment, log):
    """Seconds of wall time and of CPU, the greatest resident size of any one process of the command in bytes, and the part
    of all processors that others took meanwhile (the kernel's own threads among them, and MinIO)."""
    with open(log, "ab") as output:
        output.write(f"\n$ {command}\n".encode())
        output.flush()
        begin, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-ec", command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy = time.monotonic() - begin, busy_seconds() - busy
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        with open(log, errors="replace") as output:
            tail = "".join(output.readlines()[-15:])
        raise Failed(f"exit status {process.returncode}: {command}\n{tail}")
    cpu = usage.ru_utime + usage.ru_stime
    others = max(0.0, busy - cpu) / seconds / os.cpu_count()
    return {"seconds": seconds, "cpu": cpu, "memory": usage.ru_maxrss * 1024, "others": others}


def busy_seconds():
    """What all processors together have worked since the machine was started."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def settle(cold):
    """Nobody is to pay for what the one before left to be written."""
    os.sync()
    if cold:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")


def warm(tree):
    """Reads the data once, so that the first contender does not fill the page cache for the others."""
    subprocess.run(["tar", "-cf", "/dev/zero", tree], check=True, stderr=subprocess.DEVNULL)


def size_of(directory):
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(directory) for name in names)


def same(tree, target, one_file):
    """Whether a restore gave back what was saved."""
    if one_file:
        name = os.path.basename(one_file)
        found = [target] if os.path.isfile(target) else [os.path.join(at, name) for at, _, names in os.walk(target) if name in names]
        return len(found) == 1 and subprocess.run(["cmp", "-s", found[0], os.path.join(tree, one_file)]).returncode == 0
    if os.path.isfile(tree):
        dump = lambda path: hashlib.sha256(subprocess.check_output(["sqlite3", "-readonly", path, ".sha3sum"])).digest()
        return dump(tree) == dump(target)
    return subprocess.run(["diff", "-rq", "--no-dereference", tree, target]).returncode == 0


class Minio:
    """A server with one empty bucket, on a free port of the loopback."""

    def __init__(self, program, directory):
        self.program, self.directory = program, directory

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        os.makedirs(self.directory)
        environment = {**os.environ, "MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"}
        command = [self.program, "server", "--quiet", "--address", self.endpoint, self.directory]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        # It tells that it lives some time before it takes requests, so the first bucket is what shows that it is ready.
        while not self.answers("PUT", f"/{BUCKET}", self.signed(f"/{BUCKET}")):
            if time.monotonic() > limit or self.process.poll() is not None:
                self.__exit__()
                raise Failed("MinIO makes no bucket")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)

    def answers(self, method, path, headers):
        connection = http.client.HTTPConnection(self.endpoint, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def signed(self, path):
        """The headers of an empty PUT, signed as S3 wants it (AWS signature version 4)."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        empty = hashlib.sha256(b"").hexdigest()
        names = "host;x-amz-content-sha256;x-amz-date"
        request = f"PUT\n{path}\n\nhost:{self.endpoint}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n\n{names}\n{empty}"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{SECRET}".encode()
        for part in [*scope.split("/"), text]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        authorization = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        return {"x-amz-content-sha256": empty, "x-amz-date": now, "Authorization": authorization}
