//! Containers and volumes as they are described, their files, and their states.

use super::support::docker::engine::docker;
use super::support::docker::image;
use super::{Container, Docker, place, shared};
use bkp::event::Cancel;
use bkp::exec::docker::{Description, File, MountKind, Owner, State};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;

fn described(id: &str) -> Description {
    Docker::connect().unwrap().containers().unwrap().into_iter().find(|found| found.id == id).unwrap()
}

#[test]
fn a_container_is_described_whole() {
    let volume = super::support::docker::engine::Volume::new(&format!("bkp-test-{}", bkp::durable::random_hex(4)));
    let wanted =
        Container::redis().watched().label("bkp.source", "cache").env("GREETING", "hunter2 = x").option("--publish");
    let wanted =
        wanted.option("127.0.0.1::6379").volume(&format!("{}:/var/spool:ro", volume.name)).option("--tmpfs=/scratch");
    let Some(container) = wanted.start("descriptions") else { return };
    let found = described(container.id());
    assert_eq!(
        (found.name.as_str(), found.state, found.health.as_deref()),
        (container.name(), State::Running, Some("healthy"))
    );
    assert_eq!(found.image, image(container.kind()));
    assert_eq!(
        (found.image_id.as_str(), found.image_digest.as_deref()),
        (container.inspect("{{.Image}}").as_str(), None)
    );
    assert_eq!(found.labels["bkp.source"], "cache");
    assert_eq!(found.environment["GREETING"].expose(), "hunter2 = x");
    assert!(!format!("{found:?}").contains("hunter2"));
    assert_eq!(found.networks["bridge"], container.ip().to_string());
    assert!(found.ports.iter().any(|port| port.container == 6379 && port.published.as_ref().unwrap().0 == "127.0.0.1"));
    let mount = found.mounts.iter().find(|mount| mount.destination.as_os_str() == "/var/spool").unwrap();
    assert_eq!(
        (mount.kind, mount.volume.as_deref(), mount.writable),
        (MountKind::Volume, Some(volume.name.as_str()), false)
    );
    assert!(mount.source.ends_with("_data"), "{mount:?}");
    assert!(found.command.iter().any(|word| word.contains("entrypoint")), "{:?}", found.command);
}

#[test]
fn containers_are_paused_stopped_and_started() {
    let Some(container) = Container::redis().start("pause and stop") else { return };
    let engine = Docker::connect().unwrap();
    let state = || described(container.id()).state;
    for _ in 0..2 {
        engine.pause(container.id()).unwrap();
        assert_eq!(state(), State::Paused);
    }
    for _ in 0..2 {
        engine.unpause(container.id()).unwrap();
        assert_eq!(state(), State::Running);
    }
    for _ in 0..2 {
        engine.stop(container.id()).unwrap();
        assert_eq!(state(), State::Exited);
    }
    for _ in 0..2 {
        engine.start(container.id()).unwrap();
        assert_eq!(state(), State::Running);
    }
    assert!(engine.pause("no-such-container").unwrap_err().full().contains("o such container"));
}

#[test]
fn volumes_keep_labels_and_options() {
    if shared().is_none() {
        return;
    }
    let engine = Docker::connect().unwrap();
    let name = format!("bkp-test-{}", bkp::durable::random_hex(4));
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let labels = map(&[("bkp-test", "1"), ("com.docker.compose.project", "shop")]);
    let options = map(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=1000")]);
    let made = engine.create_volume(&name, "local", &labels, &options).unwrap();
    assert_eq!((&made.labels, &made.options, made.driver.as_str()), (&labels, &options, "local"));
    assert!(engine.volumes().unwrap().contains(&made));
    assert_eq!(
        docker(&["volume", "inspect", "--format", "{{index .Labels \"com.docker.compose.project\"}}", &name]),
        "shop"
    );
    let taken = engine.create_volume(&name, "local", &labels, &options).unwrap_err().full();
    assert_eq!(taken, format!("there is a volume {name} already"));
    engine.remove_volume(&name).unwrap();
    assert!(!engine.volumes().unwrap().iter().any(|volume| volume.name == name));
}

#[test]
fn files_are_read_and_written_also_in_a_stopped_container() {
    let Some(container) = Container::redis().start("files of containers") else { return };
    let place = place(&container);
    container
        .exec(&["sh", "-c", "head -c 30000000 /dev/urandom >/data/other.rdb; chown 1234:4321 /data/other.rdb"], b"");
    let digest = String::from_utf8(container.exec(&["sha256sum", "/data/other.rdb"], b"").stdout).unwrap();
    container.stop();
    let cancel = Cancel::default();
    let read = place.read_file("/data/other.rdb", &cancel, |data, length| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        assert_eq!((length, bytes.len()), (30_000_000, 30_000_000));
        Ok(hex::encode(Sha256::digest(&bytes)))
    });
    assert_eq!(read.unwrap(), digest.split_whitespace().next().unwrap());
    assert_eq!(place.user_of("/data/other.rdb").unwrap(), Owner { user: 1234, group: 4321 });

    let owner = Owner { user: 1234, group: 1 };
    let content = b"user default on\n";
    let file = File { name: "users.acl", mode: 0o640, owner, length: content.len() as u64 };
    place.write_file("/data", &file, &mut &content[..], &cancel).unwrap();
    let mut text = String::new();
    let length = place.read_file("/data/users.acl", &cancel, |data, length| {
        data.read_to_string(&mut text).unwrap();
        Ok(length)
    });
    assert_eq!((length.unwrap(), text.as_str()), (16, "user default on\n"));
    assert_eq!(place.user_of("/data/users.acl").unwrap(), owner);

    let big = File { name: "big", length: 40_000_000, ..file };
    place.write_file("/data", &big, &mut std::io::repeat(b'x'), &cancel).unwrap();
    let short =
        place.write_file("/data", &big, &mut std::io::repeat(b'x').take(20_000_000), &cancel).unwrap_err().full();
    assert!(short.starts_with(&format!("cannot write big into /data in container {}", container.name())), "{short}");
    place.write_file("/data", &big, &mut std::io::repeat(b'y'), &cancel).unwrap();
    let read = place.read_file("/data/big", &cancel, |data, length| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        Ok((length, bytes.iter().all(|byte| *byte == b'y')))
    });
    assert_eq!(read.unwrap(), (40_000_000, true));
    let none = place.write_file("/none", &file, &mut &content[..], &cancel).unwrap_err().full();
    assert!(none.contains("/none"), "{none}");
    let missing = place.read_file("/data/none", &cancel, |_, _| Ok(())).unwrap_err().full();
    assert!(missing.starts_with(&format!("cannot read /data/none in container {}", container.name())), "{missing}");
    assert!(place.read_file("/data", &cancel, |_, _| Ok(())).unwrap_err().full().contains("not a regular file"));
}
