//! The units on a real systemd: a machine in a container, with the Debian package installed on it.

use crate::cli::eventually;
use crate::images::{machine, require};
use crate::support::docker::engine::docker;
use crate::support::supervisor::Supervisor;
use crate::support::wait_for_every;
use crate::{block, finished, project, succeeded};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const PART: &str = "the units of systemd";

/// What `scripts/debian-package` makes of the program of this run.
fn package() -> PathBuf {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let built = PathBuf::from(env!("CARGO_BIN_EXE_bkp"));
        let target = built.parent().and_then(|profile| profile.parent()).unwrap();
        let mut command = Command::new(project("scripts/debian-package"));
        command.arg("dev").arg(directory.path()).env("CARGO_TARGET_DIR", target);
        let path = succeeded(&mut command).lines().last().unwrap().into();
        (directory, path)
    });
    path.clone()
}

struct Machine {
    name: String,
    _removal: Supervisor,
}

impl Machine {
    /// With the package beside it.
    fn bare() -> Machine {
        let name = format!("bkp-test-machine-{}", bkp::durable::random_hex(4));
        let removal = Supervisor::new("docker rm -fv \"$1\"", &[OsStr::new(&name)]);
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &name, "--hostname", "shop-1", "--label", "bkp-test=1"]);
        // What systemd wants of a container; it need not be privileged.
        command.args(["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]);
        command.args(["--security-opt", "apparmor=unconfined", "--tmpfs", "/run:exec", "--tmpfs", "/run/lock"]);
        command.args(["--tmpfs", "/tmp", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:ro", machine()]);
        succeeded(&mut command);
        let machine = Machine { name, _removal: removal };
        eventually("the machine is up", || {
            matches!(machine.try_shell("systemctl is-system-running").1.as_str(), "running" | "degraded")
        });
        // systemd does that itself, but not in a container; credentials come through such mounts.
        machine.shell("mount --make-rshared /");
        docker(&["cp", package().to_str().unwrap(), &format!("{}:/root/", machine.name)]);
        machine
    }

    /// With the package installed.
    fn boot() -> Machine {
        let machine = Machine::bare();
        machine.shell("dpkg --install /root/bkp_*.deb");
        machine
    }

    fn try_shell(&self, script: &str) -> (i32, String, String) {
        finished(Command::new("docker").args(["exec", &self.name, "sh", "-c", script]))
    }

    #[track_caller]
    fn shell(&self, script: &str) -> String {
        let (code, stdout, stderr) = self.try_shell(script);
        assert_eq!(code, 0, "{script}:\n{stdout}\n{stderr}\n{}", self.journal());
        stdout
    }

    fn journal(&self) -> String {
        self.try_shell("journalctl --no-pager --lines 60").1
    }

    fn write(&self, path: &str, content: &str) {
        let local = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(local.path(), content).unwrap();
        docker(&["cp", local.path().to_str().unwrap(), &format!("{}:{path}", self.name)]);
        // It comes with the mode of the temporary file.
        self.shell(&format!("chown root:root {path} && chmod 644 {path}"));
    }
}

#[test]
fn the_package_puts_everything_in_its_place_and_the_units_are_tight() {
    let Some(()) = require(PART) else { return };
    let machine = Machine::boot();
    assert_eq!(machine.shell("bkp --version"), format!("bkp {}", env!("CARGO_PKG_VERSION")));
    let files = machine.shell("dpkg --listfiles bkp");
    for expected in [
        "/lib/systemd/system/bkp.service",
        "/lib/systemd/system/bkp-restore@.service",
        "/lib/systemd/system/bkp-backup@.service",
        "/lib/systemd/system/bkp-backup@.timer",
        "/usr/share/man/man1/bkp.1.gz",
        "/usr/share/man/man1/bkp-restore.1.gz",
        "/usr/share/bash-completion/completions/bkp",
        "/usr/share/zsh/vendor-completions/_bkp",
        "/usr/share/fish/vendor_completions.d/bkp.fish",
        "/usr/share/doc/bkp/copyright",
        "/usr/share/doc/bkp/changelog.gz",
        "/usr/share/doc/bkp/DEPLOYMENT.md",
        "/usr/share/doc/bkp/examples/policies/flask-sqlite.yaml",
        "/usr/share/doc/bkp/examples/drop-ins/credentials.conf",
    ] {
        assert!(files.lines().any(|line| line == expected), "{expected} is missing:\n{files}");
    }
    assert_eq!(machine.shell("cat /var/lib/dpkg/info/bkp.conffiles"), "/etc/bkp/bkp.yaml");
    assert_eq!(
        machine.shell("stat -c '%a %U %G' /etc/bkp /var/lib/bkp /var/cache/bkp"),
        "750 root bkp\n700 bkp bkp\n700 bkp bkp"
    );
    assert_eq!(machine.shell("bkp config check 2>&1"), "no problem in 1 file: 0 policies, 0 sources");

    machine.shell(
        "systemd-analyze verify --man=no bkp.service bkp-restore@x.service bkp-backup@x.service bkp-backup@x.timer",
    );
    // The number is the exposure times ten.
    for (unit, limit) in [("bkp.service", 15), ("bkp-backup@.service", 15), ("bkp-restore@.service", 26)] {
        machine.shell(&format!(
            "systemd-analyze security --no-pager --offline=true --threshold={limit} /lib/systemd/system/{unit}"
        ));
    }
    // The drop-ins hold too, and say what they cost.
    for (drop_in, limit) in [("credentials", 15), ("directory-repository", 15), ("docker", 17), ("read-everything", 20)]
    {
        machine.shell(&format!(
            "d=$(mktemp -d) && cp /lib/systemd/system/bkp.service $d && \
             sed '/^#/d' /usr/share/doc/bkp/examples/drop-ins/{drop_in}.conf >> $d/bkp.service && \
             systemd-analyze security --no-pager --offline=true --threshold={limit} $d/bkp.service"
        ));
    }
    machine.shell("dpkg --purge bkp && test -d /var/lib/bkp && ! test -e /var/cache/bkp && ! test -e /lib/systemd/system/bkp.service");
}

const POLICY: &str =
    "policy: shop\nschedule: \"* * * * *\"\nsources: { documents: { volume: { path: /srv/documents } } }\n";

/// A machine with something on it, and a repository that root made.
fn shop() -> Machine {
    let machine = Machine::boot();
    machine.shell("mkdir -m 755 /srv/documents && echo dear > /srv/documents/letter.txt && chown 1234:1234 /srv/documents/letter.txt");
    machine.write("/etc/bkp/bkp.yaml", "repository: { url: file:///var/lib/bkp/repository }\n");
    machine.write("/etc/bkp/policies.d/shop.yaml", POLICY);
    machine.shell("bkp init --recovery-key /root/recovery-key.txt && bkp backup");
    machine
}

#[test]
fn what_root_does_leaves_the_daemon_its_directories_and_the_unit_restores_owners() {
    let Some(()) = require(PART) else { return };
    let machine = shop();
    assert_eq!(machine.shell("find /var/lib/bkp ! -user bkp"), "", "what root made belongs to the daemon");
    let user = "setpriv --reuid=bkp --regid=bkp --init-groups env BKP_CONFIG=/etc/bkp/bkp.yaml BKP_STATE_DIR=/var/lib/bkp BKP_CACHE_DIR=/var/cache/bkp";
    machine.shell(&format!("{user} bkp backup"));

    machine.shell("rm -r /srv/documents");
    let script = block("docs/DEPLOYMENT.md", "sh", "bkp-restore/identity").replace("/media/safe/", "/root/");
    machine.shell(&format!("set -e\n{script}"));
    assert_eq!(
        machine.shell("stat -c '%u %g' /srv/documents/letter.txt; cat /srv/documents/letter.txt"),
        "1234 1234\ndear"
    );
    machine.shell("! test -e /run/bkp-restore/identity");
    assert_eq!(machine.shell("find /var/lib/bkp ! -user bkp"), "", "what the unit made belongs to the daemon too");
    // Without the key it does not even begin.
    assert_ne!(machine.try_shell("systemctl start bkp-restore@documents").0, 0);
}

impl Machine {
    fn points(&self, source: &str) -> usize {
        let listed = self.shell(&format!("bkp points --all --json --source {source}"));
        serde_json::from_str::<serde_json::Value>(&listed).unwrap()["points"].as_array().unwrap().len()
    }

    #[track_caller]
    fn backs_up_again(&self) {
        let before = self.points("documents");
        wait_for_every(500, "one more backup by the daemon", 120, || (self.points("documents") > before).then_some(()));
    }
}

#[test]
fn the_service_takes_five_commands() {
    let Some(()) = require(PART) else { return };
    let machine = Machine::bare();
    machine.shell("mkdir -m 755 /srv/documents && echo dear > /srv/documents/letter.txt");
    // Somebody who types the two files.
    let files = format!(
        "#!/bin/sh\nprintf 'repository: {{ url: file:///var/lib/bkp/repository }}\\n' > \"$1\"\ncat > \"$2\" <<'END'\n{POLICY}END\n"
    );
    machine.write("/usr/local/bin/editor", &files);
    machine.shell("chmod +x /usr/local/bin/editor");
    let script = block("README.md", "sh", "systemctl enable --now bkp");
    assert_eq!(script.lines().count(), 5);
    let said = machine.shell(&format!("set -e; cd /root\n{script}"));
    assert!(said.contains("active (running)"), "{said}");
    machine.backs_up_again();
    eventually("its configuration is kept", || machine.points("bkp-configuration") == 1);
    assert_eq!(machine.shell("find /var/lib/bkp ! -user bkp"), "");

    // What is wrong is refused aloud, and changes nothing.
    machine.shell("systemctl reload bkp");
    machine.shell("cp /etc/bkp/policies.d/shop.yaml /root/ && echo 'shedule: x' >> /etc/bkp/policies.d/shop.yaml");
    assert_ne!(machine.try_shell("systemctl reload bkp").0, 0, "a wrong configuration is refused");
    assert_eq!(machine.shell("systemctl is-active bkp"), "active");
    machine.shell("cp /root/shop.yaml /etc/bkp/policies.d/ && systemctl reload bkp");

    // It may not become more than it is.
    let main = "$(systemctl show --property MainPID --value bkp)";
    assert_eq!(
        machine.shell(&format!("awk '/^(CapEff|CapBnd|NoNewPrivs|Seccomp):/ {{ print $2 }}' /proc/{main}/status")),
        "0000000000000000\n0000000000000000\n1\n2"
    );
    // Killed, it comes back; asked, it ends.
    let before = machine.shell(&format!("echo {main}"));
    machine.shell(&format!("kill -KILL {main}"));
    eventually("it is started again", || {
        machine.try_shell("systemctl is-active bkp").1 == "active" && machine.shell(&format!("echo {main}")) != before
    });
    machine.backs_up_again();
    machine.shell("systemctl stop bkp && test \"$(systemctl show --property Result --value bkp)\" = success");

    // The same without the daemon.
    let before = machine.points("documents");
    wait_for_every(3000, "a backup by the timer's unit, once the policy is due", 60, || {
        machine.shell("systemctl start bkp-backup@shop");
        (machine.points("documents") > before).then_some(())
    });
    machine.shell("systemctl start bkp-backup@shop.timer && systemctl is-active bkp-backup@shop.timer");
    machine.shell("bkp check && bkp journal verify");
}

#[test]
fn secrets_come_to_the_daemon_as_credentials_that_it_could_not_read_itself() {
    let Some(()) = require(PART) else { return };
    let machine = shop();
    machine.shell(
        "install -d -m 700 /etc/bkp/secrets /etc/credstore.encrypted && cd /etc/bkp/secrets && umask 077 && \
         printf a-token-that-came-from-a-file-0123 > s3_access_key && printf a-token-that-came-encrypted-456789 | \
         systemd-creds encrypt --with-key=host --name=s3_secret_key - /etc/credstore.encrypted/s3_secret_key",
    );
    machine.shell("! grep -rqa came-encrypted /etc/credstore.encrypted && ! setpriv --reuid=bkp --regid=bkp --init-groups cat /etc/bkp/secrets/s3_access_key");
    // The drop-in as it is shipped.
    machine.shell(
        "install -D -m 644 -t /etc/systemd/system/bkp.service.d /usr/share/doc/bkp/examples/drop-ins/credentials.conf && systemctl daemon-reload",
    );
    let asked = |token: &str| {
        let request = format!(
            "GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {token}\\r\\nConnection: close\\r\\n\\r\\n"
        );
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/9427; printf '{request}' >&3; head -n 1 <&3");
        machine.try_shell(&format!("bash -c \"{script}\"")).1
    };
    for (credential, secret) in [
        ("s3_access_key", "a-token-that-came-from-a-file-0123"),
        ("s3_secret_key", "a-token-that-came-encrypted-456789"),
    ] {
        machine.write(
            "/etc/bkp/bkp.yaml",
            &format!(
                "repository: {{ url: file:///var/lib/bkp/repository }}\n\
                 http: {{ listen: 127.0.0.1:9427, token: \"ref+cred://{credential}\" }}\n"
            ),
        );
        machine.shell("systemctl restart bkp");
        eventually("the daemon has read its credential", || asked(secret).contains(" 200 "));
        assert!(asked("guessed").contains(" 401 "), "{}", asked("guessed"));
        let main = "$(systemctl show --property MainPID --value bkp)";
        machine.shell(&format!("! tr '\\0' '\\n' < /proc/{main}/environ | grep -q {secret}"));
        assert!(!machine.journal().contains(secret));
    }
}
