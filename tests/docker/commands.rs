//! What comes out of a command, what goes into it, and how it ends.

use super::{command, failure, output, place, shared, shell};
use bkp::error::{Failure, Kind};
use bkp::event::Cancel;
use bkp::exec::{Command, Exec};
use bkp::secret::Secret;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::Duration;

#[test]
fn output_comes_through_unchanged() {
    let Some(container) = shared() else { return };
    let script = "head -c 67108864 /dev/urandom >/tmp/random && sha256sum </tmp/random";
    let wanted = String::from_utf8(container.exec(&["sh", "-c", script], b"").stdout).unwrap();
    let (bytes, result) = output(&place(container), &command(&["cat", "/tmp/random"]));
    result.unwrap();
    assert_eq!(bytes.len(), 64 << 20);
    assert_eq!(hex::encode(Sha256::digest(&bytes)), wanted.split_whitespace().next().unwrap());
}

#[test]
fn what_a_command_complains_about_is_heard_also_when_it_ends_well() {
    let Some(container) = shared() else { return };
    let places: [Box<dyn Exec>; 2] = [Box::new(place(container)), Box::new(bkp::exec::host::Host)];
    for place in places {
        let script = "echo out; echo 'careful: hunter2' >&2; echo more >&2; exit $1";
        let mut command = Command { input: Some(Secret::new("password=hunter2\n".into())), ..shell(script) };
        command.arguments.extend(["sh", "0"].map(Into::into));
        let mut said = String::new();
        place.start(&command, &Cancel::default()).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(
            (said.as_str(), command.remarks.lines()),
            ("out\n", vec!["careful: [hidden]".into(), "more".into()])
        );
    }
}

#[test]
fn there_is_no_terminal() {
    let Some(container) = shared() else { return };
    let (bytes, result) =
        output(&place(container), &shell("printf 'a\\r\\nb\\n\\377'; test -t 0 || test -t 1 || printf none"));
    result.unwrap();
    assert_eq!(bytes, b"a\r\nb\n\xffnone");
}

/// The engine drops what it still has of a command two seconds after its end, where it had room for nearly all of it: one
/// of these sizes is such a one.
#[test]
fn the_end_of_the_output_waits_for_a_slow_reader() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let read = |size: usize| {
        let cancel = Cancel::default();
        let mut output = place.start(&shell(&format!("head -c {size} /dev/zero")), &cancel).unwrap();
        output.read_exact(&mut [0; 1]).unwrap();
        // Not a wait for something: the reader of this test is slow.
        std::thread::sleep(Duration::from_secs(6));
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();
        (size, 1 + rest.len())
    };
    std::thread::scope(|scope| {
        let sizes = (1_350_000..1_550_000).step_by(10_000);
        let readers: Vec<_> = sizes
            .map(|size| {
                scope.spawn({
                    let read = &read;
                    move || read(size)
                })
            })
            .collect();
        for reader in readers {
            let (size, read) = reader.join().unwrap();
            assert_eq!(read, size);
        }
    });
}

#[test]
fn a_status_is_an_error_however_much_came_before() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let (bytes, result) = output(&place, &shell("echo rows; echo 'disk on fire' >&2; exit 3"));
    assert_eq!(bytes, b"rows\n");
    let failure = result.unwrap_err();
    let text = failure.full();
    assert_eq!(text, format!("sh in container {} ended with status 3: disk on fire", container.name()));

    let cancel = Cancel::default();
    let mut output = place.start(&shell("echo rows; exit 3"), &cancel).unwrap();
    assert!(output.read_to_end(&mut Vec::new()).is_err());
    assert!(output.read(&mut [0]).is_err(), "reading on after a failure fails again");
}

#[test]
fn a_signal_is_named() {
    let Some(container) = shared() else { return };
    let text = failure(&place(container), &shell("echo rows; kill -SEGV $$")).full();
    assert!(text.contains("status 139 (killed by signal 11)"), "{text}");
}

#[test]
fn a_missing_program_is_named() {
    let Some(container) = shared() else { return };
    let place = place(container);
    for program in ["mariadb-dump", "/opt/none/mariadb-dump"] {
        let failure = failure(&place, &command(&[program, "--all-databases"]));
        assert_eq!(failure.full(), format!("there is no program `{program}` in container {}", container.name()));
        assert_eq!(failure.kind(), Kind::Usage);
    }
}

#[test]
fn the_first_program_that_is_there_is_found() {
    let Some(container) = shared() else { return };
    let place = place(container);
    assert_eq!(place.find(&["valkey-cli", "redis-cli", "sh"]).unwrap().as_deref(), Some("redis-cli"));
    assert_eq!(place.find(&["mariadb-dump", "mysqldump"]).unwrap(), None);
}

#[test]
fn the_terminator_is_required() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let ending = |script: &str| Command { terminator: Some("-- done".into()), ..shell(script) };
    output(&place, &ending("echo rows; echo '-- done'")).1.unwrap();
    let text = failure(&place, &ending("echo rows; echo '-- do'")).full();
    assert!(text.contains("does not end with the terminator"), "{text}");
}

#[test]
fn environment_and_directory_are_those_of_the_command() {
    let Some(container) = shared() else { return };
    let mut wanted = shell("pwd; echo \"$GREETING\"");
    wanted.environment = vec![("GREETING".into(), "a = b".into())];
    wanted.directory = Some("/tmp".into());
    let (bytes, result) = output(&place(container), &wanted);
    result.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), "/tmp\na = b\n");
}

#[test]
fn output_of_a_child_in_the_background_belongs_to_it() {
    let Some(container) = shared() else { return };
    let (bytes, result) = output(&place(container), &shell("(sleep 1; echo late) & echo rows"));
    result.unwrap();
    assert_eq!(bytes, b"rows\nlate\n");
    let (bytes, result) = output(&place(container), &shell("echo rows; sleep 7004 >/dev/null 2>&1 &"));
    result.unwrap();
    assert_eq!(bytes, b"rows\n");
    assert!(!super::processes(container).contains("sleep 7004"), "what is left behind is killed");
}

#[test]
fn a_flood_of_complaints_neither_blocks_nor_grows() {
    let Some(container) = shared() else { return };
    let script = "head -c 8000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last words >&2; echo rows";
    let (bytes, result) = output(&place(container), &shell(script));
    result.unwrap();
    assert_eq!(bytes, b"rows\n");
    let text = failure(&place(container), &shell(&format!("{script}; exit 1"))).full();
    assert!(text.ends_with("last words") && text.len() < 2000, "{text}");
}

#[test]
fn a_secret_goes_in_and_is_never_told() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let secret = "[client]\npassword=\"hunter2 with $dollar\"";
    let input = Some(Secret::new(secret.into()));
    let (bytes, result) = output(&place, &Command { input: input.clone(), ..command(&["cat"]) });
    result.unwrap();
    assert_eq!(bytes, secret.as_bytes());
    let text = failure(&place, &Command { input: input.clone(), ..shell("cat >&2; exit 1") }).full();
    assert!(text.contains("[hidden]") && !text.contains("hunter2"), "{text}");
    // One that nobody wants is no error.
    output(&place, &Command { input: Some(Secret::new("x".repeat(1 << 20))), ..shell("exec <&-; echo rows") })
        .1
        .unwrap();
}

#[test]
fn what_is_fed_arrives_whole_after_the_secret() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let data: Vec<u8> = (0..50u32 << 18).flat_map(|number| number.to_le_bytes()).collect();
    let wanted = Command { input: Some(Secret::new("secret\n".into())), ..shell("cat >/tmp/fed") };
    place.feed(&wanted, &mut &data[..], &Cancel::default()).unwrap();
    let digest = String::from_utf8(container.exec(&["sha256sum", "/tmp/fed"], b"").stdout).unwrap();
    let all = [b"secret\n".as_slice(), &data].concat();
    assert_eq!(digest.split_whitespace().next().unwrap(), hex::encode(Sha256::digest(&all)));
}

fn fed(container: &super::Container, script: &str, data: &[u8]) -> Failure {
    place(container).feed(&shell(script), &mut &data[..], &Cancel::default()).unwrap_err()
}

#[test]
fn a_command_that_leaves_data_unread_has_not_restored_it() {
    let Some(container) = shared() else { return };
    let data = b"a line\n".repeat(1 << 20);
    let text = fed(container, "head -c 100 >/dev/null", &data).full();
    assert!(text.contains("ended well, but before it had read all data"), "{text}");
    let text = fed(container, "head -c 100 >/dev/null", &data[..200]).full();
    assert!(text.contains("ended well, but left some of the data unread"), "{text}");
    let text = fed(container, "head -c 100 >/dev/null; echo no room >&2; exit 4", &data).full();
    assert!(text.contains("ended with status 4: no room"), "{text}");
}

#[test]
fn data_that_breaks_off_never_looks_like_the_end_of_it() {
    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 {
                return Err(std::io::Error::other("the line broke"));
            }
            buffer.fill(b'\n');
            Ok(buffer.len())
        }
    }
    let Some(container) = shared() else { return };
    let script = "rm -f /tmp/whole; cat >/dev/null; touch /tmp/whole";
    let failure = place(container).feed(&shell(script), &mut Breaks(0), &Cancel::default()).unwrap_err();
    assert!(failure.full().contains("the line broke"), "{}", failure.full());
    assert!(!container.exec(&["test", "-e", "/tmp/whole"], b"").status.success());
}

#[test]
fn a_client_is_spoken_to() {
    let Some(container) = shared() else { return };
    let cancel = Cancel::default();
    let place = place(container);
    let mut client = place.converse(&command(&["redis-cli"]), &cancel).unwrap();
    client.say(&format!("AUTH {}\n", container.password())).unwrap();
    assert_eq!(client.hear().unwrap(), "OK");
    for number in 0..20 {
        client.say(&format!("SET spoken {number}\nGET spoken\n")).unwrap();
        assert_eq!([client.hear().unwrap(), client.hear().unwrap()], ["OK".to_owned(), number.to_string()]);
    }
    client.close().unwrap();

    let mut client = place.converse(&shell("read -r line; echo \"$line\"; echo gone >&2; exit 5"), &cancel).unwrap();
    client.say("wörds\n").unwrap();
    assert_eq!(client.hear().unwrap(), "wörds");
    let text = client.hear().unwrap_err().full();
    assert!(text.contains("ended with status 5: gone"), "{text}");
}

#[test]
fn a_client_may_answer_while_it_is_spoken_to() {
    let Some(container) = shared() else { return };
    let cancel = Cancel::default();
    let mut client = place(container).converse(&command(&["cat"]), &cancel).unwrap();
    let text = "a line of text\n".repeat(300_000);
    client.say(&text).unwrap();
    for _ in 0..300_000 {
        assert_eq!(client.hear().unwrap(), "a line of text");
    }
    client.close().unwrap();
}

#[test]
fn a_reader_that_is_slow_stops_the_command_and_not_the_memory() {
    let Some(container) = shared() else { return };
    let cancel = Cancel::default();
    let script = "while head -c 100000 /dev/zero; do echo x >>/tmp/count; done";
    let mut output = place(container).start(&shell(script), &cancel).unwrap();
    output.read_exact(&mut [0; 1]).unwrap();
    let count = || container.exec(&["cat", "/tmp/count"], b"").stdout.len() / 2;
    let mut last = 0;
    super::support::wait_for("a stop of the command", 120, || {
        let before = std::mem::replace(&mut last, count());
        (before == last && before > 0).then_some(())
    });
    assert!(last < 200, "{last} pieces of 100 kB were written though only one byte was read");
}
