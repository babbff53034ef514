//! The password of a mail account, which a person changes at its provider: a real server whose passwords the test changes.

use super::kills;
use super::support::host::Host;
use super::support::vault::Vault;
use super::support::{Server, free_port, require, wait_for};
use super::world::Ends;
use bkp::durable::random_hex;
use lettre::SmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use serde_json::json;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const AIOSMTPD: Server =
    Server { program: "aiosmtpd", variable: "BKP_TEST_AIOSMTPD", install: "apt-get install python3-aiosmtpd" };

/// Lets in whoever has one of the passwords that a file lists at that moment, until its standard input ends.
const SERVER: &str = r#"
import sys
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult
passwords, port = sys.argv[1], int(sys.argv[2])
def let_in(server, session, envelope, mechanism, data):
    known = open(passwords).read().split()
    return AuthResult(success=data.login == b'shop' and data.password.decode() in known, handled=False)
Controller(Sink(), hostname='127.0.0.1', port=port, authenticator=let_in, auth_required=True, auth_require_tls=False).start()
print('ready', flush=True)
sys.stdin.read()
"#;

pub struct Provider {
    process: Child,
    port: u16,
    passwords: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Provider {
    pub fn start() -> Option<Provider> {
        let program = require("passwords of mail accounts", &AIOSMTPD)?;
        // The interpreter that has the module.
        let text = fs::read_to_string(program).unwrap();
        let python = text.lines().next().unwrap().trim_start_matches("#!").trim().to_owned();
        let directory = tempfile::tempdir().unwrap();
        let (port, passwords) = (free_port(), directory.path().join("passwords"));
        fs::write(&passwords, "").unwrap();
        let mut words = python.split_whitespace();
        let process = Command::new(words.next().unwrap())
            .args(words)
            .args(["-c", SERVER])
            .arg(&passwords)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let connects = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        wait_for("the mail server", 60, connects);
        Some(Provider { process, port, passwords, _directory: directory })
    }

    /// What a person does at the provider.
    pub fn knows(&self, passwords: &[&str]) {
        let next = self.passwords.with_extension("next");
        fs::write(&next, passwords.join("\n")).unwrap();
        fs::rename(next, &self.passwords).unwrap();
    }

    /// As a program that sends mail does.
    pub fn log_in(&self, password: &str) -> Result<(), String> {
        let transport = SmtpTransport::builder_dangerous("127.0.0.1")
            .port(self.port)
            .credentials(Credentials::new("shop".into(), password.into()))
            .build();
        transport
            .test_connection()
            .map_err(|error| error.to_string())
            .and_then(|is| is.then_some(()).ok_or("ended".into()))
    }
}

pub struct Shop {
    pub host: Host,
    vault: &'static Vault,
    name: String,
    pub old: String,
    new: String,
}

pub fn shop(vault: &'static Vault, provider: &Provider) -> Shop {
    let host = Host::new();
    let (name, old, new) =
        (format!("mail-{}", random_hex(4)), format!("old-{}", random_hex(8)), format!("new-{}", random_hex(8)));
    provider.knows(&[&old]);
    vault.write(&name, json!({ "password": old }));
    fs::write(host.path("token"), vault.root_token()).unwrap();
    fs::write(host.path("new-password"), format!("{new}\n")).unwrap();
    fs::write(host.path("mail.env"), format!("SMTP_PASSWORD={old}\n")).unwrap();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\ntimezone: UTC\nvault: {{ address: \"{}\", token_file: {} }}\nrotate: {{ vault_path: kv/bkp/{name} }}\n",
        host.url,
        vault.address(),
        host.text("token"),
    ));
    let policy = format!(
        "policy: shop\nsources:\n  docs: {{ volume: {{ path: /srv }} }}\nrotate:\n  mail:\n    smtp: {{ server: \"smtp+plain://127.0.0.1:{}\" }}\n    account: shop\n    published: ref+vault://kv/{name}#/password\n    distance: 1s\n    consumers:\n      web: {{ env_file: {}, variable: SMTP_PASSWORD, command: [sh, -c, \"echo moved >> {}\"] }}\n",
        provider.port,
        host.text("mail.env"),
        host.text("moved")
    );
    fs::write(host.path("etc/policies.d/shop.yaml"), policy).unwrap();
    Shop { host, vault, name, old, new }
}

impl Shop {
    pub fn published(&self) -> String {
        self.vault.get(&format!("kv/data/{}", self.name))["data"]["password"].as_str().unwrap().to_owned()
    }

    pub fn told(&self) -> String {
        fs::read_to_string(self.host.path("mail.env")).unwrap()
    }
}

#[test]
fn a_person_and_bkp_change_the_password_of_a_mail_account_together() {
    let Some(vault) = Vault::shared("passwords of mail accounts") else { return };
    let Some(provider) = Provider::start() else { return };
    let shop = shop(vault, &provider);
    let (end, logins) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let client = scope.spawn(|| {
            while !end.load(SeqCst) {
                let told = shop.told();
                provider.log_in(told.trim().trim_start_matches("SMTP_PASSWORD=")).unwrap();
                logins.fetch_add(1, SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        wait_for("a login", 60, || (logins.load(SeqCst) > 1).then_some(()));
        shop.host.run(&["rotate", "mail"]).fails(2, "comes from its provider", "--new-password-file FILE");
        let file = shop.host.text("new-password");
        let rotate = ["rotate", "mail", "--new-password-file", file.as_str()];
        shop.host.run(&rotate).fails(14, "does not accept the new password yet", "Set it at the provider");
        assert_eq!(shop.published(), shop.old);
        // Which one was begun with is known, and no other one is taken for it.
        let other = shop.host.text("other-password");
        fs::write(&other, "of-another-day-0123456789").unwrap();
        let another = shop.host.run(&["rotate", "mail", "--new-password-file", other.as_str()]);
        another.fails(14, "with another new password is under way", "bkp rotate rollback mail");
        let status = shop.host.run(&["rotate", "status"]).ends(0);
        status.says("waits for somebody").says("Set it at the provider of shop");
        provider.knows(&[&shop.old, &shop.new]);
        let resume = ["rotate", "resume", "mail"];
        for _ in 0..2 {
            shop.host.run(&resume).fails(14, "still accepts the old password", "Take it away at the provider");
        }
        shop.host.run(&["status"]).says("The rotation of mail waits for somebody");
        assert_eq!((shop.published(), shop.told()), (shop.new.clone(), format!("SMTP_PASSWORD={}\n", shop.new)));
        let before = logins.load(SeqCst);
        wait_for("a login with the new one", 60, || (logins.load(SeqCst) > before + 1).then_some(()));
        provider.knows(&[&shop.new]);
        shop.host.run(&resume).ends(0).says("mail is rotated");
        drop(ends);
        client.join().unwrap();
    });
    assert_eq!(fs::read_to_string(shop.host.path("moved")).unwrap(), "moved\n", "once, and not at each try");
    assert!(provider.log_in(&shop.old).unwrap_err().contains("535"));
}

/// From the moment in which it is changed there until the consumers are moved, mail is refused: as short as it can be.
#[test]
fn a_provider_that_keeps_one_password_only() {
    let Some(vault) = Vault::shared("one password of a mail account") else { return };
    let Some(provider) = Provider::start() else { return };
    let shop = shop(vault, &provider);
    let file = shop.host.text("new-password");
    shop.host.run(&["rotate", "mail", "--new-password-file", file.as_str()]).fails(14, "does not accept", "");
    provider.knows(&[&shop.new]);
    shop.host.run(&["rotate", "resume", "mail"]).ends(0).says("mail is rotated");
    assert_eq!((shop.published(), shop.told()), (shop.new.clone(), format!("SMTP_PASSWORD={}\n", shop.new)));
    // And given up before anything was changed there.
    let next = format!("next-{}", random_hex(8));
    fs::write(&file, &next).unwrap();
    kills::wait_for_a_moment(&shop.host);
    shop.host.run(&["rotate", "mail", "--new-password-file", file.as_str()]).fails(14, "does not accept", "");
    shop.host.run(&["rotate", "rollback", "mail"]).ends(0).says("as it was before");
    assert_eq!(shop.published(), shop.new);
}

/// Back is where the consumers have the old one. What the provider has, a person takes away; and where it has no old one any more, there
/// is no way back.
#[test]
fn a_consumer_that_does_not_come_up_with_a_password_of_a_mail_account() {
    let Some(vault) = Vault::shared("passwords of mail accounts that are taken back") else { return };
    let Some(provider) = Provider::start() else { return };
    let shop = shop(vault, &provider);
    let (file, broken) = (shop.host.text("new-password"), shop.host.path("broken"));
    let policy = shop.host.path("etc/policies.d/shop.yaml");
    let check = format!(
        "check: [sh, -c, \"test ! -e {0} || ! grep -qF -f {0} {1}\"], patience: 1s, command:",
        broken.display(),
        shop.host.text("mail.env")
    );
    fs::write(&policy, fs::read_to_string(&policy).unwrap().replace("command:", &check)).unwrap();
    fs::write(&broken, &shop.new).unwrap();
    provider.knows(&[&shop.old, &shop.new]);
    let resume = ["rotate", "resume", "mail"];
    let is_back = || {
        assert_eq!((shop.published(), shop.told()), (shop.old.clone(), format!("SMTP_PASSWORD={}\n", shop.old)));
    };
    for words in [&["rotate", "mail", "--new-password-file", file.as_str()][..], &resume] {
        let waits = shop.host.run(words).fails(14, "accepts the new password", "Take it away at the provider");
        assert!(waits.err.contains("it is taken back, for web: ") && !waits.err.contains(&shop.new), "{}", waits.err);
        is_back();
    }
    shop.host.run(&["rotate", "status"]).ends(0).says("Take it away at the provider").says("taken back, for web");
    provider.knows(&[&shop.old]);
    shop.host.run(&resume).fails(1, "the old password is in force: web", "rotate again");
    is_back();

    // One password only, and the old one is gone: mended is what there is to do.
    kills::wait_for_a_moment(&shop.host);
    let new = format!("new-{}", random_hex(8));
    for path in [&broken, &shop.host.path("new-password")] {
        fs::write(path, &new).unwrap();
    }
    shop.host.run(&["rotate", "mail", "--new-password-file", file.as_str()]).fails(14, "does not accept", "");
    provider.knows(&[&new]);
    for _ in 0..2 {
        let stopped = shop.host.run(&resume).fails(1, "web: ", "Mend it, then go on: bkp rotate resume mail");
        assert!(!stopped.err.contains(&new), "{}", stopped.err);
        assert_eq!((shop.published(), shop.told()), (new.clone(), format!("SMTP_PASSWORD={new}\n")));
    }
    shop.host.run(&["rotate", "rollback", "mail"]).fails(1, "web: ", "Mend it");
    fs::remove_file(&broken).unwrap();
    shop.host.run(&resume).ends(0).says("mail is rotated");
    assert_eq!(shop.told(), format!("SMTP_PASSWORD={new}\n"));
}

/// An app password, which lets in from the moment it is made.
#[test]
fn a_password_that_is_good_already_is_published_at_once_and_the_one_in_force_is_none() {
    let Some(vault) = Vault::shared("an app password of a mail account") else { return };
    let Some(provider) = Provider::start() else { return };
    let shop = shop(vault, &provider);
    let file = shop.host.text("new-password");
    let rotate = ["rotate", "mail", "--new-password-file", file.as_str()];
    fs::write(&file, &shop.old).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        shop.host.run(&[&rotate[..], more].concat()).fails(13, "is the one that is in force", "the right file");
    }
    fs::write(&file, "it's-new").unwrap();
    for more in [&["--dry-run"][..], &[]] {
        shop.host.run(&[&rotate[..], more].concat()).fails(13, "has a quote", "").says_not("it's");
    }
    shop.host.run(&["rotate", "resume", "mail"]).ends(0).says("nothing is under way");
    assert_eq!(shop.published(), shop.old);
    fs::write(&file, &shop.new).unwrap();
    provider.knows(&[&shop.old, &shop.new]);
    let plan = shop.host.run(&[&rotate[..], &["--dry-run"]].concat()).ends(0);
    plan.says("wait for you to take the old one away there");
    shop.host.run(&rotate).fails(14, "still accepts the old password", "Take it away at the provider");
    assert_eq!(shop.published(), shop.new);
    provider.knows(&[&shop.new]);
    shop.host.run(&["rotate", "resume", "mail"]).ends(0).says("mail is rotated");
    // Nobody says to have seen what nobody is shown.
    let journal = shop.host.run(&["journal", "--json", "--last", "1000"]).ends(0);
    journal.says("could not be seen: a mail server shows nobody").says_not("no session");
}

/// After every effect that there is; and it goes on from what is there, also where a person has to act in between.
#[test]
fn killed_rotations_of_a_mail_account_are_brought_to_their_end() {
    let Some(vault) = Vault::shared("killed rotations of mail accounts") else { return };
    let Some(provider) = Provider::start() else { return };
    let shop = shop(vault, &provider);
    let file = shop.host.text("new-password");
    let told_lets_in = || provider.log_in(shop.told().trim().trim_start_matches("SMTP_PASSWORD=")).unwrap();
    let crashing = |point: &str, words: &[&str]| {
        let mut command = shop.host.command(words);
        command.env("BKP_CRASH_AT", point);
        let running = shop.host.start(command);
        shop.host.finish(running)
    };
    let (rotate, resume) = (["rotate", "mail", "--new-password-file", file.as_str()], ["rotate", "resume", "mail"]);
    let (mut old, mut never) = (shop.old.clone(), Vec::new());
    for point in kills::forward() {
        kills::wait_for_a_moment(&shop.host);
        let new = format!("new-{}", random_hex(8));
        fs::write(&file, &new).unwrap();
        provider.knows(&[&old, &new]);
        let killed = crashing(point, &rotate);
        told_lets_in();
        if point == "rotate:saved" {
            killed.was_killed();
            shop.host.run(&resume).ends(0).says("nothing is under way");
            assert_eq!(shop.published(), old);
            continue;
        }
        let is_before_the_person = killed.status.code().is_none();
        let waits = if is_before_the_person { shop.host.run(&resume) } else { killed };
        waits.fails(14, "still accepts the old password", "Take it away at the provider");
        provider.knows(&[&new]);
        told_lets_in();
        if !is_before_the_person && crashing(point, &resume).status.code().is_some() {
            never.push(point);
        }
        shop.host.run(&resume).ends(0);
        assert_eq!((shop.published(), shop.told()), (new.clone(), format!("SMTP_PASSWORD={new}\n")), "{point}");
        provider.log_in(&old).unwrap_err();
        old = new;
    }
    assert_eq!(never, ["rotate:accepted", "rotate:retired"], "these a person does");
}
