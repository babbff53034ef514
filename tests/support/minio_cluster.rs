//! Several nodes of one real MinIO on loopback, each a process with a port and a drive of its own.
#![allow(clippy::unwrap_used)]

use super::minio::{MINIO, PASSWORD, USER, raw_client};
use super::supervisor::Supervisor;
use super::{free_port, require, wait_for};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

const END: &str = r#"for pid in "$1"/pid.*; do kill -9 $(cat "$pid"); done
rm -rf "$1""#;
/// Two of them are enough to write.
const NODES: usize = 3;

pub struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    ports: [u16; NODES],
    nodes: Mutex<Vec<Option<Child>>>,
    runtime: tokio::runtime::Runtime,
    _supervisor: Supervisor,
}

impl Cluster {
    pub fn start(part: &str) -> Option<Cluster> {
        let program = require(part, &MINIO)?;
        let directory = tempfile::Builder::new().prefix("bkp-minio-").tempdir().unwrap().keep();
        let supervisor = Supervisor::new(END, &[OsStr::new(&directory)]);
        let ports = std::array::from_fn(|_| free_port());
        let (nodes, runtime) = (Mutex::default(), tokio::runtime::Runtime::new().unwrap());
        let cluster = Cluster { program, directory, ports, nodes, runtime, _supervisor: supervisor };
        let launched = (0..NODES).map(|at| Some(cluster.launch(at))).collect();
        *cluster.nodes.lock().unwrap() = launched;
        (0..NODES).for_each(|at| cluster.wait_until_ready(at));
        let client = raw_client(&cluster.endpoints()[0], None);
        cluster.runtime.block_on(client.create_bucket().bucket(cluster.bucket()).send()).unwrap();
        Some(cluster)
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    pub fn bucket(&self) -> &'static str {
        "pictures"
    }

    /// As a failure of its machine would.
    pub fn kill(&self, at: usize) {
        let mut child = self.nodes.lock().unwrap()[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(self.directory.join(format!("pid.{at}"))).unwrap();
    }

    pub fn start_again(&self, at: usize) {
        let child = self.launch(at);
        self.nodes.lock().unwrap()[at] = Some(child);
        self.wait_until_ready(at);
    }

    fn launch(&self, at: usize) -> Child {
        let address = format!("127.0.0.1:{}", self.ports[at]);
        let drives = self.endpoints().into_iter().enumerate().map(|(at, endpoint)| {
            let drive = self.directory.join(format!("drive.{at}"));
            format!("{endpoint}{}", drive.display())
        });
        let log = File::options().create(true).append(true).open(self.directory.join(format!("log.{at}"))).unwrap();
        let child = Command::new(&self.program)
            .args(["server", "--quiet", "--address", &address])
            .args(drives)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.join(format!("home.{at}")))
            .envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off"), ("MINIO_CI_CD", "1")])
            // In a container it takes no address of loopback for its own, unless it is told.
            .env("_MINIO_SERVER_LOCAL", &address)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        fs::write(self.directory.join(format!("pid.{at}")), child.id().to_string()).unwrap();
        child
    }

    fn wait_until_ready(&self, at: usize) {
        let client = raw_client(&self.endpoints()[at], None);
        let is_ready = || self.runtime.block_on(client.list_buckets().send()).ok();
        wait_for("a node of MinIO", 60, is_ready);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.lock().unwrap().iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The supervisor finds nobody to end.
        (0..NODES).for_each(|at| drop(fs::remove_file(self.directory.join(format!("pid.{at}")))));
    }
}
