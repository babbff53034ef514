//! A real MinIO on loopback, in a temporary directory.
//!
//! A shell stands between: it ends the server and removes its files when its standard input closes, which happens when
//! the guard is dropped and also when the test process dies in whatever way.

use super::{Server, free_port, require, wait_for};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bkp::secret::SecretRef;
use bkp::store::{Location, Settings, probe};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tokio::runtime::Runtime;

pub const USER: &str = "minioadm";
pub const PASSWORD: &str = "minio-secret-1";

pub(super) const MINIO: Server =
    Server { program: "minio", variable: "BKP_TEST_MINIO", install: "go install github.com/minio/minio@latest" };

const SUPERVISOR: &str = r#"dir=$1; shift
"$@" > "$dir/log" 2>&1 &
echo $! > "$dir/pid"
cat > /dev/null
kill -9 $(cat "$dir/pid"); wait 2> /dev/null
rm -rf "$dir""#;

pub struct Minio {
    supervisor: Child,
    directory: PathBuf,
    port: u16,
    endpoint: String,
    ca_file: Option<PathBuf>,
    runtime: Runtime,
    client: Client,
}

impl Minio {
    /// The server that all tests of this process share; each uses buckets of its own.
    pub fn shared(part: &str) -> Option<&'static Minio> {
        static SHARED: OnceLock<Option<Minio>> = OnceLock::new();
        let program = require(part, &MINIO)?;
        SHARED.get_or_init(|| Some(Minio::start(program, None))).as_ref()
    }

    /// A server with TLS, whose `server.crt`, `server.key` and `ca.crt` are in `certificates`.
    pub fn with_tls(part: &str, certificates: &Path) -> Option<Minio> {
        Some(Minio::start(require(part, &MINIO)?, Some(certificates)))
    }

    /// A server of one test's own, which may end it.
    pub fn alone(part: &str) -> Option<Minio> {
        Some(Minio::start(require(part, &MINIO)?, None))
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends the server as a failure of its machine would; its data stays.
    pub fn stop(&self) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).unwrap();
        super::run("kill", &["-9", pid.trim()], &self.directory);
        wait_for("the end of MinIO", 60, || (!self.is_ready()).then_some(()));
    }

    /// Starts it on its old data at its old place.
    #[expect(clippy::zombie_processes, reason = "the supervisor ends it")]
    pub fn start_again(&self) {
        let program = require("a server that comes back", &MINIO).unwrap();
        let child = Command::new(program)
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{}", self.port)])
            .arg(self.data())
            .env("HOME", &self.directory)
            .envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_DOMAIN", "localhost"), ("MINIO_UPDATE", "off")])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The supervisor ends this one instead of the one it started.
        std::fs::write(self.directory.join("pid"), child.id().to_string()).unwrap();
        wait_for("the start of MinIO", 60, || self.is_ready().then_some(()));
    }

    fn start(program: PathBuf, certificates: Option<&Path>) -> Minio {
        let directory = tempfile::Builder::new().prefix("bkp-minio-").tempdir().unwrap().keep();
        std::fs::write(directory.join("user"), USER).unwrap();
        std::fs::write(directory.join("password"), PASSWORD).unwrap();
        let port = free_port();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, "minio-supervisor"]).arg(&directory).arg(program).arg("server");
        if let Some(from) = certificates {
            let to = directory.join("certs");
            std::fs::create_dir(&to).unwrap();
            for (name, expected) in [("server.crt", "public.crt"), ("server.key", "private.key")] {
                std::fs::copy(from.join(name), to.join(expected)).unwrap();
            }
            command.arg("--certs-dir").arg(to);
        }
        let supervisor = command
            .args(["--quiet", "--address", &format!("127.0.0.1:{port}")])
            .arg(directory.join("data"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &directory)
            .envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_DOMAIN", "localhost"), ("MINIO_UPDATE", "off")])
            .process_group(0) // an interrupt at the terminal is not for the server
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let ca_file = certificates.map(|directory| directory.join("ca.crt"));
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let client = raw_client(&endpoint, ca_file.as_deref());
        let minio = Minio { supervisor, directory, port, endpoint, ca_file, runtime: Runtime::new().unwrap(), client };
        wait_for("the start of MinIO", 60, || minio.is_ready().then_some(()));
        minio
    }

    fn is_ready(&self) -> bool {
        let client = self.client.clone();
        self.runtime.block_on(async move { client.list_buckets().send().await.is_ok() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where MinIO keeps its buckets: a bucket is a directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A request of the test's own, past the store.
    pub fn ask<T>(&self, request: impl AsyncFnOnce(Client) -> T) -> T {
        self.runtime.block_on(request(self.client.clone()))
    }

    /// Makes a bucket with a name of its own.
    pub fn bucket(&self, lock: bool) -> String {
        let name = format!("test-{}", bkp::durable::random_hex(6));
        self.ask(async |client| {
            client.create_bucket().bucket(&name).object_lock_enabled_for_bucket(lock).send().await.unwrap();
        });
        name
    }

    /// Settings of a store in that bucket, below a prefix.
    pub fn settings(&self, bucket: &str) -> Settings {
        let location = Location::Bucket { bucket: bucket.into(), prefix: "some/prefix".into() };
        let secret = |name: &str| Some(SecretRef::File(self.directory.join(name)));
        let (access_key, secret_key) = (secret("user"), secret("password"));
        let (endpoint, ca_file) = (Some(self.endpoint.clone()), self.ca_file.clone());
        Settings { endpoint, access_key, secret_key, ca_file, ..Settings::new(location) }
    }

    /// The same, in a bucket of its own that was probed.
    pub fn probed(&self, lock: bool) -> Settings {
        let settings = self.settings(&self.bucket(lock));
        let found = probe::probe(&settings, jiff::Timestamp::now()).unwrap();
        Settings { capabilities: Some(found), ..settings }
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

pub(super) fn raw_client(endpoint: &str, ca_file: Option<&Path>) -> Client {
    let trust = ca_file
        .map_or(TrustStore::empty(), |path| TrustStore::empty().with_pem_certificate(std::fs::read(path).unwrap()));
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(TlsContext::builder().with_trust_store(trust).build().unwrap());
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(USER, PASSWORD, None, None, "test"))
        .http_client(http.build_https())
        .endpoint_url(endpoint)
        .force_path_style(true);
    Client::from_conf(config.build())
}
