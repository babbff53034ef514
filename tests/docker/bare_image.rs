//! An image without `sh`, with nothing in it but a few programs and their libraries.

use super::support::docker::engine::docker;
use super::{command, failure, named, output, shared};
use bkp::event::Cancel;
use bkp::exec::{Command, Exec};
use bkp::secret::Secret;
use std::process::Stdio;

/// A container of such an image; removed, with its image, when this is dropped.
struct Bare {
    name: String,
}

impl Bare {
    fn start() -> Bare {
        let name = format!("bkp-test-bare-{}", bkp::durable::random_hex(4));
        let programs = ["/bin/cat", "/bin/sleep", "/bin/false"];
        let script =
            "tar --create --dereference --absolute-names \"$@\" $(ldd \"$@\" | grep -o '/[^ ]*lib[^ ]*' | sort -u)";
        let archive =
            std::process::Command::new("sh").args(["-c", script, "sh"]).args(programs).stdout(Stdio::piped()).spawn();
        let mut import = std::process::Command::new("docker");
        import.args(["import", "-", &name]).stdin(archive.unwrap().stdout.unwrap());
        assert!(import.stdout(Stdio::null()).status().unwrap().success());
        docker(&["run", "--detach", "--label", "bkp-test=1", "--name", &name, &name, "/bin/sleep", "100000"]);
        Bare { name }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name]);
        docker(&["rmi", "--force", &self.name]);
    }
}

#[test]
fn an_image_without_a_shell_serves_too() {
    if shared().is_none() {
        return;
    }
    let bare = Bare::start();
    let place = named(&bare.name).unwrap();
    let secret = Command { input: Some(Secret::new("hunter2".repeat(1000))), ..command(&["/bin/cat"]) };
    let (bytes, result) = output(&place, &secret);
    result.unwrap();
    assert_eq!(bytes, "hunter2".repeat(1000).as_bytes());
    assert!(failure(&place, &command(&["/bin/false"])).full().contains("ended with status 1"));
    assert!(
        failure(&place, &command(&["mysqldump"])).full().starts_with("there is no program `mysqldump` in container")
    );
    assert_eq!(place.find(&["mysqldump", "/bin/cat"]).unwrap().as_deref(), Some("/bin/cat"));
    let data = b"rows\n".repeat(1_000_000);
    place.feed(&command(&["/bin/cat"]), &mut data.as_slice(), &Cancel::default()).unwrap();

    let cancel = Cancel::default();
    let mut client = place.converse(&command(&["/bin/cat"]), &cancel).unwrap();
    client.say("hello\n").unwrap();
    assert_eq!(client.hear().unwrap(), "hello");
    client.close().unwrap();

    if rustix::process::geteuid().is_root() {
        let count = || docker(&["top", &bare.name, "-eo", "pid,args"]).matches("sleep 7060").count();
        let started = place.start(&command(&["/bin/sleep", "7060"]), &cancel).unwrap();
        super::support::wait_for("the command", 60, || (count() == 1).then_some(()));
        drop(started);
        super::support::wait_for("its end", 60, || (count() == 0).then_some(()));
    }
}
