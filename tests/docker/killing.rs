//! Commands that are given up end, whoever gives them up and how.

use super::support::wait_for;
use super::{Container, command, failure, named, output, place, processes, shared, shell};
use bkp::error::Kind;
use bkp::event::Cancel;
use bkp::exec::{Command, Exec};
use bkp::secret::Secret;
use std::io::Read;
use std::time::Duration;

fn ends(container: &Container, mark: &str) {
    wait_for(&format!("the end of {mark}"), 60, || (!processes(container).contains(mark)).then_some(()));
}

#[test]
fn a_time_limit_and_a_silence_limit_end_a_command() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let limited = Command { limit: Some(Duration::from_secs(1)), ..shell("echo rows; exec sleep 7001") };
    let text = failure(&place, &limited).full();
    assert!(text.contains("ran longer than its limit of 1 s"), "{text}");
    let silent = Command { silence: Some(Duration::from_secs(1)), ..shell("echo rows; exec sleep 7002") };
    let text = failure(&place, &silent).full();
    assert!(text.contains("stood still for 1 s"), "{text}");
    let mut data = std::io::repeat(b'x').take(64 << 20);
    let silent = Command { silence: Some(Duration::from_secs(1)), ..command(&["sleep", "7003"]) };
    let text = place.feed(&silent, &mut data, &Cancel::default()).unwrap_err().full();
    assert!(text.contains("stood still for 1 s"), "{text}");
    for mark in ["sleep 7001", "sleep 7002", "sleep 7003"] {
        ends(container, mark);
    }
    // A command that goes on talking is not silent, however long it takes.
    let talks =
        Command { silence: Some(Duration::from_secs(2)), ..shell("for i in 1 2 3 4 5 6; do echo; sleep 0.5; done") };
    output(&place, &talks).1.unwrap();
}

#[test]
fn a_signal_to_bkp_ends_a_silent_command() {
    let Some(container) = shared() else { return };
    let place = place(container);
    let cancel = Cancel::default();
    let mut output = place.start(&shell("echo ready; exec sleep 7010"), &cancel).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| bkp::error::Failure::from_io(output.read(&mut [0]).unwrap_err(), || "read".into()));
        cancel.set(Kind::Interrupted);
        assert_eq!(waiting.join().unwrap().kind(), Kind::Interrupted);
    });
    ends(container, "sleep 7010");
}

#[test]
fn dropping_the_output_kills_children_and_grandchildren() {
    let Some(container) = shared() else { return };
    let cancel = Cancel::default();
    let script = "sh -c 'trap : TERM HUP INT; sleep 7020; :' & echo ready; sleep 7021; :";
    let mut output = place(container).start(&shell(script), &cancel).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    wait_for("both", 60, || {
        ["sleep 7020", "sleep 7021"].iter().all(|s| processes(container).contains(s)).then_some(())
    });
    drop(output);
    let left = processes(container);
    assert!(!left.contains("sleep 702"), "it is dead at once: {left}");

    let mut client = place(container).converse(&command(&["sleep", "7022"]), &cancel).unwrap();
    client.say("hello\n").unwrap();
    drop(client);
    assert!(!processes(container).contains("sleep 7022"));
}

#[test]
fn nothing_is_left_of_commands_that_ended() {
    let Some(container) = Container::redis().start("what commands leave behind") else { return };
    let place = place(&container);
    let before = processes(&container).lines().count();
    output(&place, &shell("echo rows")).1.unwrap();
    place.feed(&command(&["cat"]), &mut &b"rows"[..], &Cancel::default()).unwrap();
    failure(&place, &shell("exit 1"));
    failure(&place, &command(&["no-such-program"]));
    wait_for("the end of all", 60, || (processes(&container).lines().count() == before).then_some(()));
}

/// Not a test of its own: the process that [`a_killed_bkp_takes_its_commands_along`] kills.
#[test]
fn a_process_to_be_killed() {
    let Ok(name) = std::env::var("BKP_TEST_CONTAINER") else { return };
    let cancel = Cancel::default();
    let place = named(&name).unwrap();
    let mut output = place.start(&shell("sleep 7030 & echo; sleep 7031"), &cancel).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| output.read_to_end(&mut Vec::new()));
        let mut client = place.converse(&shell("cat; touch /tmp/told; sleep 7032"), &cancel).unwrap();
        client.say("half a statement").unwrap();
        let mut endless = std::io::repeat(b'x');
        let _ = place.feed(&shell("touch /tmp/begun; cat >/dev/null; touch /tmp/whole"), &mut endless, &cancel);
    });
}

#[test]
fn a_killed_bkp_takes_its_commands_along() {
    let Some(container) = Container::redis().start("the death of bkp") else { return };
    let mut bkp = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing::a_process_to_be_killed"])
        .env("BKP_TEST_CONTAINER", container.name())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let is_there = |path: &str| container.exec(&["test", "-e", path], b"").status.success();
    wait_for("all three", 60, || {
        (is_there("/tmp/begun") && processes(&container).contains("sleep 7031")).then_some(())
    });
    bkp.kill().unwrap();
    bkp.wait().unwrap();
    for mark in ["sleep 7030", "sleep 7031", "cat"] {
        ends(&container, mark);
    }
    assert!(!is_there("/tmp/whole") && !is_there("/tmp/told"), "the death of bkp was taken for the end of the data");
    wait_for("the end of everything", 60, || (!processes(&container).contains("touch /tmp")).then_some(()));
}

#[test]
fn a_container_that_is_killed_cuts_the_output() {
    let Some(container) = Container::redis().start("a container that is killed") else { return };
    let cancel = Cancel::default();
    let mut output = place(&container).start(&shell("while :; do echo rows; done"), &cancel).unwrap();
    output.read_exact(&mut vec![0; 1 << 20]).unwrap();
    super::support::docker::engine::docker(&["kill", container.id()]);
    let failure = output.read_to_end(&mut Vec::new()).unwrap_err();
    let text = bkp::error::Failure::from_io(failure, || "read".into()).full();
    assert_eq!(text, format!("sh in container {} was cut off: the container stopped meanwhile", container.name()));
}

#[test]
fn a_command_that_is_killed_is_no_end() {
    let Some(container) = shared() else { return };
    let cancel = Cancel::default();
    let script = "echo rows; exec sleep 7040";
    let mut output = place(container).start(&shell(script), &cancel).unwrap();
    output.read_exact(&mut [0; 5]).unwrap();
    let kill = r#"for p in /proc/[0-9]*; do case $(tr '\0' ' ' <$p/cmdline) in 'sleep 7040 ') kill -9 ${p#/proc/};; esac; done"#;
    container.exec(&["sh", "-c", kill], b"");
    let failure = output.read(&mut [0]).unwrap_err();
    let text = bkp::error::Failure::from_io(failure, || "read".into()).full();
    assert!(text.contains("status 137 (killed by signal 9)"), "{text}");
}

#[test]
fn a_secret_is_seen_nowhere() {
    let Some(container) = Container::redis().start("where a secret is seen") else { return };
    let cancel = Cancel::default();
    let since = super::support::docker::engine::docker(&["info", "--format", "{{.SystemTime}}"]);
    let input = Some(Secret::new("password=hunter2-of-all".into()));
    let mut output =
        place(&container).start(&Command { input, ..shell("read -r x; echo; sleep 7050") }, &cancel).unwrap();
    output.read_exact(&mut [0; 1]).unwrap();
    let docker = super::support::docker::engine::docker;
    let execs = container.inspect("{{json .ExecIDs}}");
    let execs: Vec<String> = serde_json::from_str(&execs).unwrap();
    assert!(execs.len() >= 2, "carrier and watcher, and perhaps a health check");
    let processes = docker(&["top", container.id(), "-eo", "pid,args"]);
    assert!(processes.contains("sleep 7050"), "{processes}");
    drop(output);
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let filter = format!("container={}", container.id());
    let events = docker(&["events", "--since", &since, "--until", &until, "--filter", &filter]);
    assert!(events.contains("exec_create"), "{events}");
    for text in [processes, container.inspect("{{json .}}"), events] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn postgres_as_the_first_process_does_not_take_a_given_up_client_for_its_own() {
    let Some(server) = Container::postgres().start("what PostgreSQL sees of clients that are given up") else { return };
    let place = named(server.name()).unwrap();
    let cancel = Cancel::default();
    let psql = |words: &[&str]| command(&[&["psql", "-U", "postgres"], words].concat());
    let mut client = place.converse(&psql(&["-XAtq"]), &cancel).unwrap();
    client.say("select 1;\n").unwrap();
    assert_eq!(client.hear().unwrap(), "1");
    drop(client);
    drop(place.start(&psql(&["-c", "select pg_sleep(600)"]), &cancel).unwrap());
    let limited = Command { limit: Some(Duration::from_secs(1)), ..psql(&["-c", "select pg_sleep(600)"]) };
    failure(&place, &limited);
    assert_eq!(server.query("postgres", "select 2"), "2");
    let log = server.logs();
    assert!(!log.contains("was terminated by signal") && !log.contains("reinitializing"), "{log}");
}
