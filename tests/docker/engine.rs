//! The engine itself: reached as `DOCKER_HOST` says, or told why not.
//!
//! The variable belongs to a process, so each case is a process of its own: this test binary once more.

use super::{command, named, output, shared};
use bkp::exec::Exec;
use bkp::exec::docker::Docker;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Not a test of its own: what [`with_engine`] runs.
#[test]
fn a_process_with_another_engine() {
    let Ok(name) = std::env::var("BKP_TEST_CONTAINER") else { return };
    let said = match Docker::connect() {
        Err(failure) => format!("{} [{}]", failure.full(), failure.next_step().unwrap_or_default()),
        Ok(_) => {
            let place = named(&name).unwrap();
            let (bytes, result) = output(&place, &command(&["head", "-c", "5000000", "/dev/zero"]));
            result.unwrap();
            place.feed(&command(&["cat"]), &mut bytes.as_slice(), &Default::default()).unwrap();
            format!("{} bytes", bytes.len())
        }
    };
    println!("\nSAID {said}");
}

fn with_engine(name: &str, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "engine::a_process_with_another_engine", "--nocapture"]).env("BKP_TEST_CONTAINER", name);
    for variable in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        child.env_remove(variable);
    }
    let output = child.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text.lines().find_map(|line| line.strip_prefix("SAID ")).map(str::to_owned);
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn an_engine_that_is_not_there_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let said = with_engine("none", &[("DOCKER_HOST", &host)]);
    assert!(said.starts_with(&format!("there is no container engine: no socket {}", socket.display())), "{said}");
    assert!(said.contains("DOCKER_HOST"), "{said}");

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let said = with_engine("none", &[("DOCKER_HOST", &host)]);
    assert!(said.starts_with("no container engine listens on"), "{said}");

    let address = format!("127.0.0.1:{}", super::support::free_port());
    let said = with_engine("none", &[("DOCKER_HOST", &format!("tcp://{address}"))]);
    assert!(said.starts_with(&format!("the container engine at {address} does not answer")), "{said}");

    let said = with_engine("none", &[("DOCKER_HOST", "ssh://somewhere")]);
    assert!(said.starts_with("DOCKER_HOST is `ssh://somewhere`, which bkp cannot use"), "{said}");

    let path = directory.path().to_str().unwrap();
    let variables = [("DOCKER_HOST", "tcp://127.0.0.1:1"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path)];
    let said = with_engine("none", &variables);
    assert!(said.starts_with(&format!("cannot read {path}/ca.pem")), "{said}");
}

/// Passes connections on to the engine's socket, each way until its end.
fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let far = UnixStream::connect("/var/run/docker.sock").unwrap();
            let (near_too, far_too): (TcpStream, UnixStream) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || pass(&near, &far, || far.shutdown(Shutdown::Write)));
            std::thread::spawn(move || pass(&far_too, &near_too, || near_too.shutdown(Shutdown::Write)));
        }
    });
    format!("tcp://{address}")
}

fn pass<R, W>(mut from: R, mut to: W, end: impl Fn() -> std::io::Result<()>)
where
    R: Read,
    W: Write,
{
    let _ = std::io::copy(&mut from, &mut to);
    let _ = end();
}

#[test]
fn a_socket_proxy_serves_as_well() {
    let Some(container) = shared() else { return };
    assert_eq!(with_engine(container.name(), &[("DOCKER_HOST", &proxy())]), "5000000 bytes");
}

#[test]
fn the_socket_of_this_host_is_found_without_being_told() {
    let Some(container) = shared() else { return };
    assert_eq!(with_engine(container.name(), &[]), "5000000 bytes");
}

#[test]
fn an_engine_behind_tls_is_reached_with_the_right_certificates_only() {
    let Some(container) = shared() else { return };
    let secured = super::secured::Secured::start("/var/run/docker.sock");
    let (host, path) = (secured.url(), secured.directory());
    let variables = [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path)];
    assert_eq!(with_engine(container.name(), &variables), "5000000 bytes");

    let other = super::secured::Secured::start("/var/run/docker.sock");
    let variables =
        [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", other.directory())];
    let said = with_engine(container.name(), &variables);
    assert!(said.contains("does not answer") && said.to_lowercase().contains("certificate"), "{said}");
}
