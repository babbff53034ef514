//! Containers that stand still: by whom, for whom, and who goes on when.

use crate::cli::{Bkp, Ran, eventually, write_database};
use crate::support::docker::engine::{Volume, docker};
use crate::support::docker::{Container, Kind, image};
use crate::support::host_server::HostServer;
use crate::{PART, host_with, mountpoint, state, unique, writing_container};

fn lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

/// Runs it where no container engine answers.
fn without_docker(host: &Bkp, arguments: &[&str]) -> Ran {
    Ran::of(host.command(arguments).env("DOCKER_HOST", "unix:///nonexistent/docker.sock").output().unwrap())
}

#[test]
fn a_container_that_writes_into_two_volumes_goes_on_when_both_are_read() {
    let (small, big) = (unique("small"), unique("big"));
    let _volumes = (Volume::new(&small), Volume::new(&big));
    let wanted = Container::redis().volume(&format!("{small}:/small")).volume(&format!("{big}:/big"));
    let Some(container) = wanted.start(PART) else { return };
    for n in 0..1500 {
        std::fs::write(mountpoint(&big).join(format!("{n}.txt")), n.to_string()).unwrap();
    }
    let script = "while :; do echo 1 >>/big/a; echo 1 >>/small/b; echo 1 >>/big/c; sleep 0.001; done";
    docker(&["exec", "-d", container.name(), "sh", "-c", script]);
    eventually("the first writing", || mountpoint(&big).join("c").exists());
    let host = Bkp::with_repository();
    let policy = format!(
        "policy: test\nstack: shop\nsources:\n  \
         big: {{ volume: {{ name: {big}, quiesce: pause }} }}\n  \
         small: {{ volume: {{ name: {small}, quiesce: pause }} }}\n"
    );
    host.configure("", &policy);
    let backup = host.ok(&["backup", "--stack", "shop"]);
    let paused = format!(": {}", container.name());
    let told = backup.stderr.lines().filter(|line| line.contains("note: paused for") && line.ends_with(&paused));
    assert_eq!(told.count(), 2, "it stood still for both:\n{}", backup.stderr);
    assert_eq!(state(&container), "running");
    host.ok_with_key(&["restore", "big", "--to", "big"]);
    host.ok_with_key(&["restore", "small", "--to", "small"]);
    let (a, b, c) = (lines(&host.path("big/a")), lines(&host.path("small/b")), lines(&host.path("big/c")));
    assert!(a >= b && b >= c && a - c <= 1, "both volumes are of one instant: {a} {b} {c}");
}

#[test]
fn what_a_killed_run_remembers_of_a_container_that_is_gone_blocks_nobody() {
    let Some(()) = crate::support::docker::require(PART, Kind::Redis) else { return };
    let host = Bkp::with_repository();
    host.configure(
        "",
        &format!("policy: test\nsources:\n  files: {{ volume: {{ path: {} }} }}\n", host.path("files").display()),
    );
    host.write("files/letter.txt", "dear");
    let directory = host.state().join("still");
    std::fs::create_dir_all(&directory).unwrap();
    let gone = serde_json::json!({ "containers": [{ "id": "0".repeat(64), "name": "shop-web-1", "how": "stop" }] });
    std::fs::write(directory.join("1.json"), gone.to_string()).unwrap();
    host.ok(&["backup"]);
    assert!(!directory.join("1.json").exists(), "there is nothing that could go on");

    std::fs::write(directory.join("2.json"), "half a rec").unwrap();
    host.ok(&["backup"]).says(&["2.json is not what bkp wrote"]);
    assert_eq!(host.points("files").len(), 2);
}

#[test]
fn what_cannot_stand_still_is_not_copied_as_if_it_did() {
    let name = unique("server");
    let volume = Volume::new(&name);
    let Some(_server) = Container::mariadb().volume(&format!("{name}:/var/lib/mysql")).start(PART) else { return };
    let host = host_with(&format!("  data: {{ volume: {{ name: {name}, quiesce: pause }} }}\n"));
    without_docker(&host, &["backup"]).expect_code(1).says(&["Docker volume", "no socket"]);
    let path = mountpoint(&volume.name);
    let of = |path: &std::path::Path| {
        format!("policy: test\nsources:\n  data: {{ volume: {{ path: {}, quiesce: pause }} }}\n", path.display())
    };
    host.configure("", &of(&path));
    without_docker(&host, &["backup"]).expect_code(1).says(&["no socket"]);
    assert!(host.points("data").is_empty());

    // A server at work that is in no container: nobody is there to stand still.
    let mut server = HostServer::postgres().start(PART).unwrap();
    host.configure("", &of(&server.data()));
    host.run(&["backup"]).expect_code(13).says(&["is the data of PostgreSQL, which works on it"]);
    assert!(host.points("data").is_empty());
    server.stop();
    host.run(&["backup"]).expect_code(3).says(&["nobody was paused: no container has"]);
}

#[test]
fn the_files_of_a_server_that_was_stopped_start_another_one() {
    let name = unique("server");
    let _volume = Volume::new(&name);
    let on = |volume: &str| Container::mariadb().volume(&format!("{volume}:/var/lib/mysql"));
    let Some(server) = on(&name).start(PART) else { return };
    server.query(
        "",
        "create database shop; create table shop.goods (name text); insert into shop.goods values ('pears')",
    );
    let host = host_with(&format!("  data: {{ volume: {{ name: {name}, quiesce: stop }} }}\n"));
    let begun = server.inspect("{{.State.StartedAt}}");
    host.ok(&["backup"]).says(&["note: stopped for", server.name()]);
    assert_eq!(state(&server), "running");
    assert_ne!(server.inspect("{{.State.StartedAt}}"), begun);
    let new = format!("{name}-new");
    let _new = crate::Leftover(new.clone());
    host.ok_with_key(&["restore", "data", "--to", &format!("volume:{new}")]);
    let other = on(&new).password(server.password()).start(PART).unwrap();
    assert_eq!(other.query("shop", "select name from goods"), "pears");
}

#[test]
fn a_volume_is_not_looked_for_where_docker_would_have_it_when_nobody_can_be_asked() {
    let Some(()) = crate::support::docker::require(PART, Kind::Redis) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    write_database(&elsewhere.path().join("app.db"), &["one"]);
    let name = unique("elsewhere");
    let _volume = crate::Leftover(name.clone());
    let device = format!("device={}", elsewhere.path().display());
    docker(&["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &name]);
    let host = host_with(&format!(
        "  files: {{ volume: {{ name: {name} }} }}\n  tasks: {{ sqlite: {{ volume: {name}, path: app.db }} }}\n"
    ));
    without_docker(&host, &["backup"]).expect_code(1).says(&["cannot find out where the Docker volume"]);
    assert!(host.points("files").is_empty() && host.points("tasks").is_empty());
    host.ok(&["backup"]);
}

#[test]
fn a_container_that_would_not_come_back_is_not_stopped() {
    let name = unique("transient");
    let volume = Volume::new(&name);
    let transient = Container::redis().volume(&format!("{name}:/srv")).option("--rm");
    let Some(container) = transient.start(PART) else { return };
    std::fs::write(mountpoint(&volume.name).join("letter.txt"), "dear").unwrap();
    let host = host_with(&format!("  files: {{ volume: {{ name: {name}, quiesce: stop }} }}\n"));
    host.run(&["backup"]).expect_code(13).says(&["was started with --rm", "docker stop"]);
    assert!(host.points("files").is_empty());
    host.configure("", &format!("policy: test\nsources:\n  files: {{ volume: {{ name: {name} }} }}\n"));
    host.ok(&["backup"]);
    std::fs::write(mountpoint(&volume.name).join("letter.txt"), "changed").unwrap();
    host.run_with_key(&["restore", "files", "--in-place", "--confirm", "files"])
        .expect_code(13)
        .says(&["was started with --rm"]);
    assert_eq!(state(&container), "running");
    assert_eq!(std::fs::read_to_string(mountpoint(&volume.name).join("letter.txt")).unwrap(), "changed");
    assert_eq!(host.points("files").len(), 1, "it was refused before the safety backup");
}

#[test]
fn what_is_written_until_the_containers_stop_is_in_the_safety_backup() {
    let Some((volume, container, host)) = writing_container(", quiesce: pause") else { return };
    host.ok(&["backup"]);
    let script = "while :; do echo 1 >>/srv/orders; echo 1 >>/tmp/taken; done";
    docker(&["exec", "-d", container.name(), "sh", "-c", script]);
    eventually("the first order", || mountpoint(&volume.name).join("orders").exists());
    let plan = host.ok_with_key(&["restore", "busy", "--in-place", "--dry-run"]);
    assert!(plan.stdout.contains("stop the containers that write there: ") && plan.stdout.contains(container.name()));
    host.ok_with_key(&["restore", "busy", "--in-place", "--confirm", "busy"]);
    assert_eq!(state(&container), "running");
    assert!(!mountpoint(&volume.name).join("orders").exists(), "it is as it was at the first backup");
    let taken = docker(&["exec", container.name(), "cat", "/tmp/taken"]).lines().count();
    let safety = host.points("busy").pop().unwrap();
    host.ok_with_key(&["restore", &safety, "--to", "before"]);
    let kept = lines(&host.path("before/orders"));
    assert!(kept >= taken, "every order that was taken is in a backup: {kept} of {taken}");
}

#[test]
fn bkp_in_a_container_does_not_stop_itself() {
    let name = unique("shared");
    let volume = Volume::new(&name);
    let Some(other) = Container::redis().volume(&format!("{name}:/srv")).start(PART) else { return };
    std::fs::write(mountpoint(&volume.name).join("letter.txt"), "dear").unwrap();
    let sidecar = unique("sidecar");
    let program = format!("{}:/usr/local/bin/bkp:ro", env!("CARGO_BIN_EXE_bkp"));
    let place = mountpoint(&name);
    let script = "bkp init --recovery-key /tmp/key.txt && bkp backup && bkp points";
    let policy = format!("policy: test\nsources:\n  files: {{ volume: {{ name: {name}, quiesce: pause }} }}\n");
    let host = Bkp::new();
    host.write("etc/bkp.yaml", "");
    host.write("etc/policies.d/policy.yaml", policy);
    let configuration = format!("{}:/etc/bkp:ro", host.path("etc").display());
    let ran = std::process::Command::new("docker")
        .args(["run", "--rm", "--name", &sidecar, "--label", "bkp-test=1", "--entrypoint", "sh"])
        .args(["-v", &program, "-v", &configuration, "-v", "/var/run/docker.sock:/var/run/docker.sock"])
        .args(["-v", &format!("{name}:{}", place.display()), "--network", &format!("container:{}", other.name())])
        .args(["-e", "BKP_REPO=/tmp/repository", &image(Kind::Redis), "-c", script])
        .output()
        .unwrap();
    let ran = Ran::of(ran).expect_code(0);
    ran.says(&["note: paused for", other.name()]);
    assert!(!ran.stderr.contains(&sidecar), "it left itself alone:\n{}", ran.stderr);
    assert_eq!(state(&other), "running");
}

#[test]
fn a_server_that_says_that_it_is_unwell_is_named() {
    let health = ["--health-cmd", "test ! -e /tmp/sick", "--health-interval", "1s", "--health-retries", "1"];
    let wanted = health.into_iter().fold(Container::redis().watched(), |wanted, option| wanted.option(option));
    let Some(container) = wanted.start(PART) else { return };
    let host = Bkp::with_repository();
    let password = host.write("secret", container.password());
    host.configure(
        "",
        &format!(
            "policy: test\nsources:\n  cache: {{ redis: {{ container: {}, password_file: {} }} }}\n",
            container.name(),
            password.display()
        ),
    );
    host.ok(&["backup"]);
    docker(&["exec", container.name(), "touch", "/tmp/sick"]);
    eventually("the container is unhealthy", || container.inspect("{{.State.Health.Status}}") == "unhealthy");
    let unwell = format!("container {} is unhealthy", container.name());
    host.run(&["backup"]).expect_code(3).says(&[&unwell]);
    host.write("secret", "wrong");
    let failed = host.run(&["backup"]);
    assert_ne!(failed.code, 0);
    failed.says(&[&unwell]);
}
