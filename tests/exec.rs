//! Commands on the host: nobody takes half an output for a whole one, nothing is left behind, no secret is told.
#![allow(clippy::unwrap_used)] // test code outside of test functions

use bkp::error::{Failure, Kind};
use bkp::event::Cancel;
use bkp::exec::host::Host;
use bkp::exec::{Command, Exec};
use bkp::secret::Secret;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

fn shell(script: &str) -> Command {
    Command { program: "sh".into(), arguments: vec!["-c".into(), script.into()], ..Command::default() }
}

/// Everything that was read, and how it ended.
fn output(command: &Command) -> (Vec<u8>, Result<(), Failure>) {
    let cancel = Cancel::default();
    let mut bytes = Vec::new();
    let result = match Host.start(command, &cancel) {
        Ok(mut output) => output.read_to_end(&mut bytes).map(|_| ()).map_err(|e| Failure::from_io(e, || "read".into())),
        Err(failure) => Err(failure),
    };
    (bytes, result)
}

fn failure(command: &Command) -> Failure {
    output(command).1.expect_err("the command fails")
}

fn feed(command: &Command, data: &[u8]) -> Result<(), Failure> {
    Host.feed(command, &mut &data[..], &Cancel::default())
}

/// Waits until `condition` holds, at most a minute.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come true");
        std::thread::yield_now();
    }
}

/// Whether a process runs; a zombie does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|s| !s.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn number_in(file: &Path) -> String {
    eventually("the number of a process", || std::fs::read_to_string(file).is_ok_and(|s| s.ends_with('\n')));
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn output_comes_through_unchanged() {
    let (bytes, result) = output(&shell("head -c 3000000 /dev/zero; printf 'end\\r\\n\\377'"));
    result.unwrap();
    assert_eq!(bytes.len(), 3_000_006);
    assert!(bytes.ends_with(b"\0end\r\n\xff"));
}

#[test]
fn a_status_is_an_error_however_much_came_before() {
    let (bytes, result) = output(&shell("head -c 1000000 /dev/zero; echo 'lost connection' >&2; exit 3"));
    let failure = result.unwrap_err();
    assert_eq!(bytes.len(), 1_000_000);
    assert_eq!(failure.kind(), Kind::Failed);
    assert_eq!(failure.full(), "sh ended with status 3: lost connection");
}

#[test]
fn reading_on_after_a_failure_fails_again() {
    let cancel = Cancel::default();
    let mut output = Host.start(&shell("exit 1"), &cancel).unwrap();
    for _ in 0..3 {
        assert!(output.read(&mut [0; 10]).unwrap_err().to_string().contains("ended with status 1"));
    }
}

#[test]
fn a_signal_is_named() {
    let failure = failure(&shell("echo half; kill -SEGV $$"));
    assert!(failure.to_string().contains("killed by signal 11"), "{failure}");
}

#[test]
fn a_command_that_closes_its_output_first_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let script = format!("echo all; exec >&-; until [ -e {} ]; do :; done; exit 4", go.display());
    let cancel = Cancel::default();
    let mut output = Host.start(&shell(&script), &cancel).unwrap();
    let mut line = [0; 4];
    output.read_exact(&mut line).unwrap();
    std::fs::write(go, "").unwrap();
    let end = output.read(&mut line);
    assert!(end.unwrap_err().to_string().contains("status 4"));
}

#[test]
fn output_of_a_child_in_the_background_belongs_to_it() {
    let (bytes, result) = output(&shell("(for i in 1 2 3 4 5 6 7 8 9; do echo $i; done) & wait"));
    result.unwrap();
    assert_eq!(bytes, b"1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

#[test]
fn the_terminator_is_required() {
    let dump = |script: &str| Command { terminator: Some("-- Dump completed".into()), ..shell(script) };
    output(&dump("echo rows; echo '-- Dump completed'; echo")).1.unwrap();
    let failure = failure(&dump("echo rows; echo 'no space left' >&2"));
    assert!(failure.to_string().contains("does not end with the terminator"), "{failure}");
    assert!(failure.full().contains("no space left") && failure.next_step().is_some());
    let empty = Command { terminator: Some(" \n".into()), ..shell("true") };
    assert_eq!(output(&empty).1.unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_time_limit_ends_a_silent_command() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("echo first; echo stuck >&2; sleep 1000 & echo $! > {}; wait", pid.display());
    let command = Command { limit: Some(Duration::from_millis(300)), ..shell(&script) };
    let (bytes, result) = output(&command);
    let failure = result.unwrap_err();
    assert_eq!(bytes, b"first\n");
    assert_eq!(failure.full(), "sh ran longer than its limit of 0.3 s and was killed: stuck");
    eventually("the end of the child", || !runs(&number_in(&pid)));
}

#[test]
fn a_time_limit_holds_for_a_command_that_is_fed() {
    let command = Command { limit: Some(Duration::from_millis(300)), ..shell("exec sleep 1000") };
    let failure = feed(&command, &vec![7; 1 << 20]).unwrap_err();
    assert!(failure.to_string().contains("ran longer"), "{failure}");
    let failure = feed(&command, b"little").unwrap_err();
    assert!(failure.to_string().contains("ran longer"), "{failure}");
}

#[test]
fn a_signal_to_bkp_ends_a_silent_command() {
    let cancel = Cancel::default();
    let mut output = Host.start(&shell("echo first; exec sleep 1000"), &cancel).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| output.read(&mut [0; 10]).unwrap_err());
        cancel.set(Kind::Interrupted);
        let failure = Failure::from_io(reader.join().unwrap(), || "read".into());
        assert_eq!(failure.kind(), Kind::Interrupted);
    });
}

#[test]
fn a_flood_of_complaints_neither_blocks_nor_grows() {
    let script = "head -c 50000000 /dev/zero | tr '\\0' 'x' >&2; echo; echo 'the last word' >&2; exit 1";
    let failure = failure(&shell(script));
    let text = failure.full();
    assert!(text.ends_with("the last word") && text.len() < 2000, "{text}");
}

#[test]
fn a_missing_program_is_named_with_the_places_looked_at() {
    let missing = Command { program: "no-such-dumper".into(), ..Command::default() };
    let failure = failure(&missing);
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.to_string().contains("no-such-dumper") && failure.to_string().contains("/usr/bin"), "{failure}");

    let elsewhere = Command { environment: vec![("PATH".into(), "/nowhere".into())], ..shell("true") };
    assert!(output(&elsewhere).1.unwrap_err().to_string().contains("in PATH (/nowhere)"));

    let plain = tempfile::NamedTempFile::new().unwrap();
    let not_a_program = Command { program: plain.path().into(), ..Command::default() };
    assert!(output(&not_a_program).1.unwrap_err().to_string().contains("cannot be executed"));

    let lost = Command { directory: Some("/nowhere".into()), ..shell("true") };
    assert!(output(&lost).1.unwrap_err().to_string().contains("/nowhere is not a directory"));
}

#[test]
fn the_environment_is_minimal() {
    let command = Command { environment: vec![("ADDED".into(), "yes".into())], ..shell("env") };
    let (bytes, result) = output(&command);
    result.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"ADDED") && names.contains(&"PATH"));
    let allowed = ["PATH", "HOME", "LANG", "TZ", "ADDED", "PWD", "SHLVL", "OLDPWD", "_"];
    assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
    let kept_out = |(name, _): (String, String)| !allowed.contains(&name.as_str());
    assert!(std::env::vars().any(kept_out), "there was something to keep out");
}

#[test]
fn a_secret_goes_in_and_is_never_told() {
    let secret = || Some(Secret::new("user=bkp\npassword=hunter2\n".into()));
    let (bytes, result) = output(&Command { input: secret(), ..shell("cat") });
    result.unwrap();
    assert_eq!(bytes, b"user=bkp\npassword=hunter2\n");

    let command = Command { input: secret(), ..shell("read a; read b; echo \"refused: $b ${b#*=}\" >&2; exit 1") };
    let failure = failure(&command);
    assert!(failure.full().contains("refused: [hidden] [hidden]"), "{}", failure.full());
    assert!(!format!("{failure:?} {command:?}").contains("hunter2"));
}

#[test]
fn a_secret_that_nobody_wants_is_no_error() {
    let command = Command { input: Some(Secret::new("x".repeat(1 << 20))), ..shell("echo done") };
    let (bytes, result) = output(&command);
    result.unwrap();
    assert_eq!(bytes, b"done\n");
}

#[test]
fn what_is_fed_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fed");
    let data: Vec<u8> = (0..5_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    feed(&shell(&format!("cat > {}", path.display())), &data).unwrap();
    assert!(std::fs::read(path).unwrap() == data);
}

#[test]
fn a_command_that_leaves_data_unread_has_not_restored_it() {
    let data = vec![b'x'; 4 << 20];
    let early = feed(&shell("head -c 10 >/dev/null"), &data).unwrap_err();
    assert!(early.to_string().contains("before it had read all"), "{early}");
    let little = feed(&shell("exec <&-; true"), b"a few bytes").unwrap_err();
    assert!(little.to_string().contains("left 11 bytes of the data unread"), "{little}");
}

#[test]
fn the_status_is_told_and_not_the_broken_pipe() {
    let failure = feed(&shell("head -c 10 >/dev/null; echo 'syntax error in line 1' >&2; exit 9"), &[b'x'; 4 << 20]);
    assert_eq!(failure.unwrap_err().full(), "sh ended with status 9: syntax error in line 1");
}

#[test]
fn data_that_breaks_off_never_looks_like_the_end_of_it() {
    struct Broken(u32);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 { Err(Failure::new(Kind::Verification, "the store lies").into()) } else { Ok(buffer.len()) }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let done = directory.path().join("done");
    let command = shell(&format!("cat >/dev/null; touch {}", done.display()));
    let failure = Host.feed(&command, &mut Broken(0), &Cancel::default()).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    assert!(!done.exists(), "the command took the break for the end");
}

#[test]
fn dropping_the_output_kills_children_and_grandchildren() {
    let directory = tempfile::tempdir().unwrap();
    let (child, grandchild) = (directory.path().join("child"), directory.path().join("grandchild"));
    let script = format!(
        "echo $$ > {}; sh -c 'trap \"\" TERM HUP INT; echo $$ > {}; while :; do sleep 1000; done' & echo ready; wait",
        child.display(),
        grandchild.display()
    );
    let cancel = Cancel::default();
    let mut output = Host.start(&shell(&script), &cancel).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    let (child, grandchild) = (number_in(&child), number_in(&grandchild));
    assert!(runs(&child) && runs(&grandchild));
    drop(output);
    eventually("the end of both", || !runs(&child) && !runs(&grandchild));
}

/// Not a test of its own: the process that [`a_killed_bkp_takes_its_commands_along`] kills.
#[test]
fn a_process_to_be_killed() {
    let Some(directory) = std::env::var_os("BKP_TEST_DIRECTORY") else { return };
    let directory = Path::new(&directory);
    let cancel = Cancel::default();
    let script = format!("echo $$ > {0}/child; sleep 1000 & echo $! > {0}/grandchild; wait", directory.display());
    let mut output = Host.start(&shell(&script), &cancel).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| output.read(&mut [0]));
        let fed = shell(&format!("echo $$ > {0}/fed; cat > /dev/null; touch {0}/whole", directory.display()));
        let mut endless = std::io::repeat(b'x');
        let _ = Host.feed(&fed, &mut endless, &cancel);
    });
}

#[test]
fn a_killed_bkp_takes_its_commands_along() {
    let directory = tempfile::tempdir().unwrap();
    let mut bkp = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_to_be_killed"])
        .env("BKP_TEST_DIRECTORY", directory.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pids = ["child", "grandchild", "fed"].map(|name| number_in(&directory.path().join(name)));
    assert!(pids.iter().all(|pid| runs(pid)));
    bkp.kill().unwrap();
    bkp.wait().unwrap();
    eventually("the end of all commands", || !pids.iter().any(|pid| runs(pid)));
    assert!(!directory.path().join("whole").exists(), "the command took the death of bkp for the end of the data");
}

#[test]
fn a_secret_comes_before_the_data_that_is_fed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fed");
    let input = Some(Secret::new("password=hunter2\n".into()));
    let command = Command { input: input.clone(), ..shell(&format!("cat > {}", file.display())) };
    let data = vec![7; 3_000_000];
    feed(&command, &data).unwrap();
    assert!(std::fs::read(file).unwrap() == [b"password=hunter2\n".as_slice(), &data].concat());
    let text = feed(&Command { input, ..shell("cat >&2; exit 1") }, b"").unwrap_err().full();
    assert!(text.contains("[hidden]") && !text.contains("hunter2"), "{text}");
}

#[test]
fn silence_ends_a_command_that_somebody_waits_for() {
    let silence = Some(Duration::from_millis(300));
    let text = failure(&Command { silence, ..shell("echo rows; exec sleep 1000") }).full();
    assert!(text.contains("stood still for 0.3 s"), "{text}");
    let text = feed(&Command { silence, ..shell("exec sleep 1000") }, &vec![0; 1 << 20]).unwrap_err().full();
    assert!(text.contains("stood still for 0.3 s"), "{text}");
    let steady =
        Command { silence: Some(Duration::from_secs(2)), ..shell("for i in 1 2 3 4; do echo $i; sleep 0.7; done") };
    output(&steady).1.unwrap();
}

#[test]
fn a_client_is_spoken_to() {
    let cancel = Cancel::default();
    let command = Command {
        input: Some(Secret::new("hunter2\n".into())),
        ..shell("read -r s; while read -r x; do echo \"$x!\"; done; echo $s >&2; test $x. = last.")
    };
    let mut client = Host.converse(&command, &cancel).unwrap();
    for word in ["one", "two", "drei und vier ü"] {
        client.say(&format!("{word}\n")).unwrap();
        assert_eq!(client.hear().unwrap(), format!("{word}!"));
    }
    client.say("last").unwrap();
    client.close().unwrap();

    let mut client = Host.converse(&command, &cancel).unwrap();
    client.say("other").unwrap();
    let text = client.close().unwrap_err().full();
    assert!(text.contains("ended with status 1: [hidden]"), "{text}");
    let mut client = Host.converse(&shell("echo one; echo gone >&2; exit 3"), &cancel).unwrap();
    assert_eq!(client.hear().unwrap(), "one");
    let text = client.hear().unwrap_err().full();
    assert!(text.contains("ended with status 3: gone"), "{text}");
}

#[test]
fn a_client_may_answer_while_it_is_spoken_to() {
    let cancel = Cancel::default();
    let mut client = Host.converse(&shell("cat"), &cancel).unwrap();
    client.say(&"a line of text\n".repeat(300_000)).unwrap();
    for _ in 0..300_000 {
        assert_eq!(client.hear().unwrap(), "a line of text");
    }
    client.close().unwrap();
}

#[test]
fn a_client_that_is_silent_or_dropped_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("client");
    let cancel = Cancel::default();
    let script = format!("echo $$ > {0}; cat; touch {0}.told; sleep 1000", file.display());
    let silence = Some(Duration::from_millis(300));
    let mut client = Host.converse(&Command { silence, ..shell(&script) }, &cancel).unwrap();
    client.say("half a statement").unwrap();
    assert!(client.hear().unwrap_err().full().contains("stood still"));
    drop(client);
    let mut client = Host.converse(&shell(&script), &cancel).unwrap();
    client.say("half a statement").unwrap();
    let number = number_in(&file);
    drop(client);
    eventually("its end", || !runs(&number));
    assert!(!directory.path().join("client.told").exists(), "its end was taken for that of the input");
}
