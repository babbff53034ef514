//! Which container is meant, and what is told when it is not to be had.

use super::support::docker::Stack;
use super::support::docker::engine::docker;
use super::{Container, Docker, command, named, place, shared};
use bkp::error::{Failure, Kind};
use bkp::event::Cancel;
use bkp::exec::Exec;
use bkp::exec::docker::Selector;

fn find(selector: &Selector) -> Result<bkp::exec::docker::Container, Failure> {
    Docker::connect().unwrap().find(selector)
}

#[test]
fn a_container_is_found_by_name_id_label_and_service() {
    let wanted = || Container::redis().watched().label("bkp.test", "one");
    let Some(stack) = Stack::start("services of a stack", [("cache", wanted()), ("queue", Container::redis())]) else {
        return;
    };
    let cache = &stack["cache"];
    let compose = Selector::Compose { project: stack.prefix().into(), service: "cache".into() };
    let label = Selector::Label { key: "com.docker.compose.service".into(), value: "cache".into() };
    for selector in [Selector::Name(cache.name().into()), Selector::Name(cache.id()[..12].into()), compose, label] {
        let found = find(&selector).unwrap();
        assert_eq!((found.name.as_str(), found.id.as_str()), (cache.name(), cache.id()));
        assert_eq!(
            found.image.digest,
            cache.inspect("{{.Image}}"),
            "an image that was never pushed is known by its id"
        );
        assert_eq!(found.health.as_deref(), Some("healthy"));
        assert_eq!(found.place(), format!("container {}", cache.name()));
    }
    let both = Selector::Label { key: "com.docker.compose.project".into(), value: stack.prefix().into() };
    let failure = find(&both).unwrap_err();
    let list = format!("{0}-cache (running), {0}-queue (running)", stack.prefix());
    assert!(failure.full().ends_with(&list) && failure.kind() == Kind::Usage, "{}", failure.full());
    let typo = Selector::Compose { project: stack.prefix().into(), service: "cahce".into() };
    assert_eq!(find(&typo).unwrap_err().next_step(), Some("Is it one of these: cache?"));
}

#[test]
fn a_container_that_does_not_run_is_told_as_what_it_is() {
    let Some(container) = Container::redis().start("containers that do not run") else { return };
    let name = container.name();
    let found = place(&container);

    docker(&["pause", name]);
    let failure = named(name).unwrap_err();
    assert_eq!(failure.full(), format!("container {name} is paused"));
    assert_eq!(failure.next_step(), Some(format!("docker unpause {name}").as_str()));
    let cancel = Cancel::default();
    let text = found.start(&command(&["true"]), &cancel).map(|_| ()).unwrap_err().full();
    assert_eq!(text, format!("container {name} is paused"), "also when it was found before");
    docker(&["unpause", name]);

    container.stop();
    let failure = named(name).unwrap_err();
    let text = failure.full();
    assert!(
        text.starts_with(&format!("container {name} is stopped since 20")) && text.ends_with("(exit code 0)"),
        "{text}"
    );
    assert!(found.find(&["sh"]).unwrap_err().full().starts_with(&format!("container {name} is stopped")));

    let almost = &name[..name.len() - 1];
    let failure = named(almost).unwrap_err();
    assert_eq!(failure.full(), format!("there is no container {almost}"));
    assert!(failure.next_step().unwrap().contains(name), "{:?}", failure.next_step());
}

#[test]
fn a_container_that_keeps_restarting_is_told_so() {
    let Some(container) = Container::redis().option("--restart=always").start("containers that restart") else {
        return;
    };
    docker(&["exec", container.id(), "sh", "-c", "mv /entrypoint.sh /gone.sh"]);
    docker(&["exec", container.id(), "sh", "-c", "kill 1"]);
    let told = super::support::wait_for("a restart that is told", 60, || {
        let text = named(container.name()).err()?.full();
        text.contains("keeps restarting").then_some(text)
    });
    assert!(told.contains("keeps restarting (last exit code "), "{told}");
}

#[test]
fn a_port_of_a_container_is_reached() {
    let Some(container) = shared() else { return };
    let (host, port) = place(container).address(6379).unwrap();
    assert_eq!((host, port), (container.ip().to_string(), 6379));
    assert!(std::net::TcpStream::connect((container.ip(), 6379)).is_ok());
    let text = place(container).address(1).unwrap_err().full();
    assert!(
        text.starts_with(&format!("port 1 of container {} cannot be reached from here", container.name())),
        "{text}"
    );
}

#[test]
fn a_container_without_network_of_its_own_is_understood() {
    let Some(alone) = Container::redis().network("none").start("a container without network") else { return };
    let text = place(&alone).address(6379).unwrap_err().full();
    assert!(text.ends_with("it has no network"), "{text}");

    let Some(shared) = shared() else { return };
    let network = format!("container:{}", shared.id());
    // Two servers on one port: the second one is only to be there.
    let id = docker(&[
        "run",
        "--detach",
        "--rm",
        "--label",
        "bkp-test=1",
        "--network",
        &network,
        "--entrypoint",
        "sleep",
        &shared.inspect("{{.Config.Image}}"),
        "600",
    ]);
    let found = named(&id).unwrap().address(6379);
    docker(&["rm", "--force", "--volumes", &id]);
    assert_eq!(found.unwrap(), (shared.ip().to_string(), 6379));
}
