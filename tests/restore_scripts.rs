//! The scripts that restore without bkp, run as a person would, on repositories that `support/make_repository.py` wrote from
//! `docs/FORMAT.md` alone. Every test runs both scripts where both can do the thing.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

const WRITER: &str = "00112233aabbccdd";
const FIRST: &str = "20260101T030000Z-00000001";
const SECOND: &str = "20260102T030000Z-00000002";
const FORGED: &str = "20260103T030000Z-00000003";
const SCRIPTS: [&str; 2] = ["restore.sh", "restore.py"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

/// False when a tool is missing, and then somebody is told; in CI that is a failure.
fn have(tools: &[&str]) -> bool {
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| find(tool).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("NOT RUN: restore_scripts::{test}: missing: {} (see apt-get install)", missing.join(", "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    eprintln!("{line}");
    if let Some(file) = std::env::var_os("BKP_TEST_NOT_RUN") {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    false
}

/// The repository as it was made, once for all tests; nobody changes it.
fn original() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("restore_scripts");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        let made = Command::new("python3").arg(project("tests/support/make_repository.py")).arg(&dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        dir
    })
}

/// A copy of the repository that a test may damage.
struct Repository {
    copy: TempDir,
}

struct Said {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Repository {
    fn new() -> Option<Self> {
        have(&["age", "age-keygen", "zstd", "openssl", "python3", "tar", "gzip"]).then(|| {
            let copy = tempfile::tempdir().unwrap();
            let from = original().join("repository");
            assert!(Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap().success());
            Repository { copy }
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.copy.path().join("repository").join(name)
    }

    fn point(&self, source: &str, point: &str) -> PathBuf {
        self.path(&format!("w/{WRITER}/points/{source}/{point}"))
    }

    fn command(&self, script: &str, key: &str, words: &[&str]) -> Command {
        let mut command = Command::new(if script == "restore.sh" { "sh" } else { "python3" });
        command.arg(project("src/repo/restore").join(script)).arg("-i").arg(original().join(key));
        command.arg("-r").arg(self.path("")).args(words).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn run(&self, script: &str, key: &str, words: &[&str]) -> Said {
        said(self.command(script, key, words).output().unwrap())
    }

    /// What must hold of any refusal: the exit code, the words, no data.
    fn refuses(&self, script: &str, key: &str, words: &[&str], code: i32, texts: &[&str]) -> Said {
        let said = self.run(script, key, words);
        assert_eq!(said.code, code, "{script} {words:?}: {}", said.stderr);
        for text in texts {
            assert!(said.stderr.contains(text), "{script} {words:?}: no '{text}' in: {}", said.stderr);
        }
        assert!(!said.stderr.contains("Traceback") && said.stdout.is_empty(), "{script} {words:?}: {}", said.stderr);
        said
    }

    fn gives(&self, script: &str, key: &str, words: &[&str], file: &str) -> Said {
        let said = self.run(script, key, words);
        assert_eq!(said.code, 0, "{script} {words:?}: {}", said.stderr);
        assert!(said.stdout == expected(file), "{script} {words:?} gave other bytes");
        said
    }
}

fn said(output: Output) -> Said {
    let stderr = String::from_utf8(output.stderr).unwrap();
    Said { code: output.status.code().unwrap(), stdout: output.stdout, stderr }
}

fn expected(file: &str) -> Vec<u8> {
    fs::read(original().join("expected").join(file)).unwrap()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
}

type Damage = fn(&Path);

/// What can happen to an object, and the words for it.
const DAMAGES: [(Damage, &str); 3] = [
    (flip, "its SHA-256 is not the one"),
    (cut, "bytes instead of"),
    (|path| fs::remove_file(path).unwrap(), "is missing"),
];

fn objects_of_app() -> Vec<String> {
    String::from_utf8(expected("objects")).unwrap().lines().map(str::to_owned).collect()
}

fn shared_pack() -> String {
    String::from_utf8(expected("shared-pack")).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn list_names_every_point_and_what_is_in_it() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        let said = repository.run(script, "recovery.key", &["list"]);
        let text = String::from_utf8(said.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((said.code, lines.len()), (0, 7), "{script}: {text}{}", said.stderr);
        assert_eq!(lines[0], format!("{FIRST}  {WRITER}/app  no. 1  5000 bytes  app.db"), "{script}");
        assert_eq!(
            lines[4],
            format!("{SECOND}  {WRITER}/app  no. 2  3468403 bytes  app.db roles.sql empty"),
            "{script}"
        );
        assert_eq!(lines[5], format!("{SECOND}  {WRITER}/docs  no. 2  304640 bytes  (tree)"), "{script}");
        assert_eq!(
            lines[6],
            format!("{SECOND}  {WRITER}/ledger  no. 2  255000 bytes  ledger.sql roles.sql empty"),
            "{script}"
        );
    }
}

#[test]
fn show_tells_how_to_load_it() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        let said = repository.run(script, "recovery.key", &["show", "docs", FIRST]);
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(said.code == 0 && text.contains("Load it.") && text.contains(FIRST), "{script}: {text}{}", said.stderr);
        assert!(!text.contains("chunk_id_key"), "{script} shows a key");
    }
}

#[test]
fn every_stream_comes_back() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        for name in ["app.db", "roles.sql", "empty"] {
            let said = repository.gives(script, "recovery.key", &["stream", "app", "latest", name], name);
            assert!(
                said.stderr.contains("Complete and verified") && !said.stderr.contains("WARNING"),
                "{}",
                said.stderr
            );
        }
        let first = repository.run(script, "recovery.key", &["stream", &format!("{WRITER}/app"), FIRST]);
        assert_eq!((first.code, first.stdout.len()), (0, 5000), "the only stream needs no name: {}", first.stderr);
    }
}

#[test]
fn deduplicated_streams_come_back() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        for (words, name) in [
            (&["stream", "ledger", FIRST][..], "ledger-1.sql"),
            (&["stream", "ledger", SECOND, "ledger.sql"], "ledger.sql"),
            (&["stream", "ledger", "latest", "roles.sql"], "ledger-roles.sql"),
            (&["stream", "ledger", "latest", "empty"], "empty"),
        ] {
            let said = repository.gives(script, "recovery.key", words, name);
            assert!(
                said.stderr.contains("Complete and verified") && !said.stderr.contains("WARNING"),
                "{}",
                said.stderr
            );
        }
    }
}

#[test]
fn a_damaged_pack_of_a_stream_names_all_points_that_need_it() {
    let pack = String::from_utf8(expected("ledger-pack")).unwrap();
    for (damage, text) in DAMAGES {
        let Some(repository) = Repository::new() else { return };
        damage(&repository.path(&pack));
        for script in SCRIPTS {
            let target = tempfile::tempdir().unwrap();
            let out = target.path().join("ledger.sql");
            let words = ["-o", out.to_str().unwrap(), "stream", "ledger", FIRST];
            let said = repository.refuses(script, "recovery.key", &words, 4, &[text, &pack]);
            let affected: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("  2026")).collect();
            assert_eq!(affected, [format!("  {FIRST}  {WRITER}/ledger"), format!("  {SECOND}  {WRITER}/ledger")]);
            assert!(names(target.path()).is_empty());
        }
    }
}

#[test]
fn one_object_is_one_pipe() {
    let Some(repository) = Repository::new() else { return };
    let mut data = Vec::new();
    for object in objects_of_app() {
        let key = original().join("plain.key");
        let mut age = Command::new("age");
        age.arg("-d").arg("-i").arg(key).arg(repository.path(&object));
        let mut age = age.stdout(Stdio::piped()).spawn().unwrap();
        let decoded = Command::new("zstd").arg("-d").stdin(age.stdout.take().unwrap()).output().unwrap();
        assert!(age.wait().unwrap().success() && decoded.status.success());
        data.extend(decoded.stdout);
    }
    assert!(data == expected("app.db"));
}

#[test]
fn trees_that_share_a_pack_come_back_and_unpack() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        repository.gives(script, "recovery.key", &["tree", "docs", FIRST], "docs-1.tar");
        let target = tempfile::tempdir().unwrap();
        let tar = target.path().join("docs.tar");
        let said = repository.run(script, "recovery.key", &["tree", "docs", "-o", tar.to_str().unwrap()]);
        assert!(said.code == 0 && fs::read(&tar).unwrap() == expected("docs-2.tar"), "{script}: {}", said.stderr);
        let unpacked = Command::new("tar").arg("-xpf").arg(&tar).arg("-C").arg(target.path()).output().unwrap();
        assert!(unpacked.status.success() && unpacked.stderr.is_empty());
        assert_eq!(fs::read(target.path().join("small ñ.txt")).unwrap(), b"small\n");
        assert_eq!(fs::read(target.path().join("zlink")).unwrap().len(), 300_000);
    }
}

#[test]
fn a_wrong_chunk_id_is_found_where_b3sum_is_installed() {
    let Some(repository) = Repository::new() else { return };
    if !have(&["b3sum"]) {
        return;
    }
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("tree.tar");
    let words = ["-o", file.to_str().unwrap(), "tree", "misnamed"];
    repository.refuses("restore.py", "recovery.key", &words, 4, &["is not what its id says"]);
    assert!(names(target.path()).is_empty());
}

#[test]
fn a_wrong_key_is_told_and_gives_nothing() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        for words in [&["list"][..], &["stream", "app"], &["tree", "docs"]] {
            repository.refuses(
                script,
                "stranger.key",
                words,
                12,
                &["stranger.key does not open this repository", "recipients"],
            );
        }
        repository.refuses(script, "absent.key", &["list"], 12, &["cannot read the key file"]);
    }
}

#[test]
fn a_damaged_stream_is_refused_before_a_byte_of_it_is_written() {
    let object = |repository: &Repository| repository.path(&objects_of_app()[1]);
    for (damage, text) in DAMAGES {
        let Some(repository) = Repository::new() else { return };
        damage(&object(&repository));
        for script in SCRIPTS {
            let target = tempfile::tempdir().unwrap();
            let out = target.path().join("app.db");
            let words = ["stream", "app", "latest", "app.db", "-o", out.to_str().unwrap()];
            repository.refuses(script, "recovery.key", &words[..4], 4, &[text, &objects_of_app()[1], SECOND]);
            repository.refuses(script, "recovery.key", &words, 4, &[text]);
            assert!(names(target.path()).is_empty(), "{script} left {:?}", names(target.path()));
            repository.gives(script, "recovery.key", &["stream", "app", SECOND, "roles.sql"], "roles.sql");
        }
    }
}

#[test]
fn a_damaged_pack_names_all_points_that_need_it() {
    for (damage, text) in DAMAGES {
        let Some(repository) = Repository::new() else { return };
        damage(&repository.path(&shared_pack()));
        for script in SCRIPTS {
            let target = tempfile::tempdir().unwrap();
            let out = target.path().join("docs.tar");
            let words = ["-o", out.to_str().unwrap(), "tree", "docs", SECOND];
            let said = repository.refuses(script, "recovery.key", &words, 4, &[text, &shared_pack()]);
            let affected: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("  2026")).collect();
            assert_eq!(affected, [format!("  {FIRST}  {WRITER}/docs"), format!("  {SECOND}  {WRITER}/docs")]);
            assert!(names(target.path()).is_empty());
        }
    }
}

#[test]
fn list_shows_what_cannot_be_restored() {
    let Some(repository) = Repository::new() else { return };
    fs::remove_file(repository.path(&shared_pack())).unwrap();
    cut(&repository.path(&objects_of_app()[0]));
    cut(&repository.point("app", FIRST));
    for (script, damaged) in [("restore.sh", 2), ("restore.py", 4)] {
        let said = repository.run(script, "recovery.key", &["list"]);
        let text = String::from_utf8(said.stdout).unwrap();
        let lines = text.lines().filter(|line| line.contains("DAMAGED") || line.contains("UNREADABLE")).count();
        assert_eq!((said.code, lines), (4, damaged), "{script}: {text}");
    }
}

#[test]
fn a_point_signed_by_a_stranger_is_refused() {
    let Some(repository) = Repository::new() else { return };
    fs::copy(original().join("forged").join(FORGED), repository.point("app", FORGED)).unwrap();
    for script in SCRIPTS {
        repository.refuses(
            script,
            "recovery.key",
            &["stream", "app"],
            4,
            &[FORGED, "it is not signed by writer", "forged"],
        );
        repository.gives(script, "recovery.key", &["stream", "app", SECOND, "app.db"], "app.db");
        let other = ["-k", "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="];
        repository.refuses(
            script,
            "plain.key",
            &[&other[..], &["stream", "app", SECOND, "app.db"]].concat(),
            4,
            &["not signed"],
        );
    }
}

#[test]
fn a_point_in_the_place_of_another_is_refused() {
    let Some(repository) = Repository::new() else { return };
    fs::copy(repository.point("app", FIRST), repository.point("app", FORGED)).unwrap();
    for script in SCRIPTS {
        repository.refuses(script, "recovery.key", &["stream", "app"], 4, &["it is another point"]);
    }
}

#[test]
fn a_key_that_only_the_repository_vouches_for_is_shown() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        let said = repository.gives(script, "plain.key", &["stream", "app", "latest", "app.db"], "app.db");
        let recovery = fs::read_to_string(original().join("recovery.key")).unwrap();
        let public = recovery.trim_end().rsplit(' ').next().unwrap();
        assert!(said.stderr.contains("WARNING") && said.stderr.contains(public), "{script}: {}", said.stderr);
        assert!(said.stderr.contains("NOT VERIFIED"), "{script}: {}", said.stderr);
        let given =
            repository.gives(script, "plain.key", &["-k", public, "stream", "app", "latest", "app.db"], "app.db");
        assert!(!given.stderr.contains("WARNING"), "{script}: {}", given.stderr);
    }
}

#[test]
fn without_openssl_the_data_comes_back_with_a_warning() {
    let Some(repository) = Repository::new() else { return };
    let bin = tempfile::tempdir().unwrap();
    let tools = "sh age zstd awk grep base64 mktemp mkfifo od sed tr cut cat head tail sort tee wc rm mv sha256sum gzip dirname";
    for tool in tools.split(' ') {
        std::os::unix::fs::symlink(find(tool).expect("a tool of every Debian"), bin.path().join(tool)).unwrap();
    }
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    let python = String::from_utf8(python.stdout).unwrap();
    for script in SCRIPTS {
        let told = repository.command(script, "recovery.key", &["stream", "app", "latest", "app.db"]);
        let program = if script == "restore.sh" { "sh" } else { python.trim() };
        let output = Command::new(program).args(told.get_args()).env("PATH", bin.path()).output().unwrap();
        let said = said(output);
        assert!(said.code == 0 && said.stdout == expected("app.db"), "{script}: {}", said.stderr);
        assert!(said.stderr.contains("SIGNATURES WERE NOT CHECKED"), "{script}: {}", said.stderr);
        assert!(said.stderr.contains("NOT VERIFIED"), "{script}: {}", said.stderr);
    }
}

#[test]
fn a_newer_format_is_refused() {
    let Some(repository) = Repository::new() else { return };
    let file = repository.path("repository.json");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("\"format\":1", "\"format\":2")).unwrap();
    for script in SCRIPTS {
        for words in [&["list"][..], &["stream", "app"], &["tree", "docs"]] {
            repository.refuses(script, "recovery.key", words, 10, &["has format 2", "newer"]);
        }
    }
}

#[test]
fn no_points_and_no_repository_are_told_apart() {
    let Some(repository) = Repository::new() else { return };
    fs::remove_dir_all(repository.path(&format!("w/{WRITER}/points"))).unwrap();
    for script in SCRIPTS {
        repository.refuses(script, "recovery.key", &["list"], 1, &["there are no points"]);
    }
    fs::remove_dir_all(repository.path("w")).unwrap();
    fs::remove_file(repository.path("repository.json")).unwrap();
    for script in SCRIPTS {
        repository.refuses(script, "recovery.key", &["list"], 10, &["is not a bkp repository"]);
    }
}

#[test]
fn the_keys_directory_may_be_lost() {
    let Some(repository) = Repository::new() else { return };
    fs::remove_dir_all(repository.path("keys")).unwrap();
    for script in SCRIPTS {
        repository.gives(script, "recovery.key", &["stream", "app", SECOND, "app.db"], "app.db");
        repository.gives(script, "recovery.key", &["tree", "docs", SECOND], "docs-2.tar");
    }
}

#[test]
fn what_does_not_exist_is_answered_with_what_does() {
    let Some(repository) = Repository::new() else { return };
    for script in SCRIPTS {
        let refuses =
            |words: &[&str], code, texts: &[&str]| repository.refuses(script, "recovery.key", words, code, texts);
        refuses(&["stream", "nothing"], 1, &["no point of nothing", &format!("{WRITER}/docs")]);
        refuses(&["stream", "app", "20250101T000000Z-00000000"], 1, &["has no point 2025", FIRST, SECOND]);
        refuses(&["stream", "app"], 2, &["which stream", "app.db roles.sql empty"]);
        refuses(&["stream", "docs"], 1, &["use the command tree"]);
        refuses(&["tree", "app"], 1, &["use the command stream"]);
    }
    let other = repository.path("w/ffffffffffffffff/points/app");
    fs::create_dir_all(&other).unwrap();
    fs::copy(repository.point("app", FIRST), other.join(FIRST)).unwrap();
    for script in SCRIPTS {
        let both = [format!("{WRITER}/app"), "ffffffffffffffff/app".to_owned()];
        repository.refuses(script, "recovery.key", &["stream", "app"], 2, &["several writers", &both[0], &both[1]]);
    }
}

#[test]
fn an_existing_file_is_not_overwritten_and_a_full_disk_is_told() {
    let Some(repository) = Repository::new() else { return };
    let target = tempfile::tempdir().unwrap();
    let out = target.path().join("app.db");
    fs::write(&out, "precious").unwrap();
    for script in SCRIPTS {
        let words = ["-o", out.to_str().unwrap(), "stream", "app", "latest", "app.db"];
        repository.refuses(script, "recovery.key", &words, 1, &["exists already"]);
        assert_eq!(fs::read(&out).unwrap(), b"precious");
        for words in [&words[2..], &["tree", "docs"]] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let said = said(repository.command(script, "recovery.key", words).stdout(full).output().unwrap());
            assert!(said.code == 1 && said.stderr.contains("No space left"), "{script}: {}", said.stderr);
        }
    }
    assert_eq!(names(target.path()), ["app.db"]);
    let nowhere = target.path().join("absent/out");
    for (script, words) in SCRIPTS.iter().zip([["stream", "app", FIRST], ["tree", "docs", FIRST]]) {
        let words = [&["-o", nowhere.to_str().unwrap()][..], &words].concat();
        repository.refuses(script, "recovery.key", &words, 1, &["absent/out"]);
    }
}
