//! A group of servers behind a real sentinel: who is asked, and what a failover does to a dump.

use crate::data::{Raw, noise};
use crate::support::host_server::HostServer;
use crate::support::{free_port, wait_for};
use crate::{dump, dump_disturbed, on_host, settings};
use bkp::engine::redis::{Method, Redis, Sentinel, Settings};
use bkp::error::Kind;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PART: &str = "redis behind a sentinel";

struct Group {
    master: HostServer,
    replica: HostServer,
    sentinel: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.sentinel.kill();
        let _ = self.sentinel.wait();
    }
}

impl Group {
    fn start() -> Option<Group> {
        let server = || HostServer::redis().argument("--repl-diskless-sync-delay").argument("0");
        let master = server().start(PART)?;
        let (main, password) = (master.port().to_string(), master.password().to_owned());
        let replica = server().argument("--replicaof").argument(&format!("127.0.0.1 {main}"));
        let replica = replica.argument("--masterauth").argument(&password).start(PART)?;
        // One password for the group, as a sentinel wants it.
        Raw::connect(LOCAL, replica.port(), replica.password()).say(&format!("CONFIG SET requirepass {password}"));
        Raw::connect(LOCAL, master.port(), &password).say(&format!("CONFIG SET masterauth {password}"));
        let directory = tempfile::tempdir().unwrap();
        let (file, port) = (directory.path().join("sentinel.conf"), free_port());
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mine 127.0.0.1 {main} 1\n\
             sentinel auth-pass mine {password}\nsentinel down-after-milliseconds mine 2000\n\
             sentinel failover-timeout mine 10000\nrequirepass sentinel-pw\n",
            directory.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        let group = Group { master, replica, sentinel, port, _directory: directory };
        wait_for("the sentinel's knowledge of a healthy replica", 30, || {
            let mut raw = Raw::try_connect(LOCAL, port, "sentinel-pw").ok()?;
            let told = raw.try_ask(&[b"SENTINEL", b"REPLICAS", b"mine"]).ok()?;
            let told = String::from_utf8_lossy(&told).into_owned();
            (told.contains("master-link-status\nok") && told.contains("flags\nslave\n")).then_some(())
        });
        Some(group)
    }

    fn sentinel(&self) -> Raw {
        Raw::connect(LOCAL, self.port, "sentinel-pw")
    }

    /// What the replica answers; nothing while a failover drops its connections.
    fn replica(&self, command: &[u8]) -> Option<String> {
        let mut raw = Raw::try_connect(LOCAL, self.replica.port(), self.master.password()).ok()?;
        Some(String::from_utf8_lossy(&raw.try_ask(&[command]).ok()?).into_owned())
    }

    fn settings(&self, name: &str) -> Settings {
        let sentinel = Sentinel {
            // The first one is gone.
            addresses: vec![format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", self.port)],
            master: name.into(),
            password: Some(crate::secret("sentinel-pw")),
        };
        Settings { sentinel: Some(sentinel), ..settings(on_host(&self.master), Method::Automatic) }
    }
}

#[test]
fn a_healthy_replica_is_asked_else_the_master_and_a_failover_in_mid_dump_fails() {
    let Some(group) = Group::start() else { return };
    let mut master = Raw::connect(LOCAL, group.master.port(), group.master.password());
    master.ask(&[b"SET", b"huge", &noise(50 << 20, 5)]);
    wait_for("the replica's copy", 30, || (group.replica(b"DBSIZE")? == "1").then_some(()));
    let engine = Redis::new(group.settings("mine"));
    let asked = |server: &HostServer| server.log().matches("asks for synchronization").count();
    let (of_master, of_replica) = (asked(&group.master), asked(&group.replica));
    let (dumped, _) = dump(&engine).unwrap();
    assert_eq!(dumped.inventory["keys"], 1);
    assert_eq!((asked(&group.master), asked(&group.replica)), (of_master, of_replica + 1), "the replica was not asked");

    let failure = dump_disturbed(&engine, 20 << 20, || {
        group.sentinel().say("SENTINEL FAILOVER mine");
        wait_for("the failover", 30, || group.replica(b"ROLE")?.starts_with("master").then_some(()));
    })
    .unwrap_err();
    assert!(failure.to_string().contains("before the end of its data"), "{failure}");

    wait_for("the end of the failover", 60, || {
        let told = group.sentinel().say("SENTINEL GET-MASTER-ADDR-BY-NAME mine");
        (told.contains(&group.replica.port().to_string()) && dump(&engine).is_ok()).then_some(())
    });
}

#[test]
fn an_unknown_group_is_told() {
    let Some(group) = Group::start() else { return };
    let failure = dump(&Redis::new(group.settings("other"))).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.to_string().contains("knows no master `other`"), "{failure}");
    let mut wrong = group.settings("mine");
    wrong.sentinel.as_mut().unwrap().password = Some(crate::secret("hunter2-wrong"));
    let failure = dump(&Redis::new(wrong)).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key);
    assert!(!format!("{failure:?}").contains("hunter2"));
}
