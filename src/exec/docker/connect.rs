//! The connection to the container engine, behind calls that block.
//!
//! One small runtime serves all connections of the process. Which engine: `DOCKER_HOST` as Docker's own client reads it, else the
//! first socket of Docker or podman that is there. The version of the API is agreed upon at once, so a connection that was made works.
//! Contexts of the command line client (`docker context`) are not looked at.

use crate::error::{Context, Failure, Kind, Result};
use bollard::API_DEFAULT_VERSION;
use bollard::errors::Error;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Seconds in which any small request is answered.
const ANSWER: u64 = 60;
const ALLOW: &str = "Give the name of the socket or address in DOCKER_HOST, as unix:///path or tcp://host:port";

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    Socket(PathBuf),
    /// `host:port`.
    Plain(String),
    Tls(String),
}

impl Endpoint {
    /// What `DOCKER_HOST` means.
    pub fn parse(host: &str, verify_tls: bool) -> Result<Self> {
        let bad = || Failure::usage(format!("DOCKER_HOST is `{host}`, which bkp cannot use")).hint(ALLOW);
        if let Some(path) = host.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Endpoint::Socket(path.into())) } else { Err(bad()) };
        }
        let (scheme, address) = host.split_once("://").unwrap_or(("tcp", host));
        let address = address.trim_end_matches('/');
        let plain = address.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b));
        if address.is_empty() || !plain {
            return Err(bad());
        }
        let with_port = |port: u16| match address.rsplit_once(':') {
            Some((_, digits)) if digits.parse::<u16>().is_ok() => address.to_owned(),
            _ => format!("{address}:{port}"),
        };
        match (scheme, verify_tls) {
            ("https", _) | ("tcp", true) => Ok(Endpoint::Tls(with_port(2376))),
            ("tcp" | "http", _) => Ok(Endpoint::Plain(with_port(2375))),
            _ => Err(bad()),
        }
    }

    /// The host's name when the engine is reached over the network.
    pub fn host(&self) -> Option<&str> {
        match self {
            Endpoint::Socket(_) => None,
            Endpoint::Plain(address) | Endpoint::Tls(address) => address.rsplit_once(':').map(|(host, _)| host),
        }
    }
}

fn from_environment() -> Result<Endpoint> {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    match set("DOCKER_HOST") {
        Some(host) => Endpoint::parse(&host, set("DOCKER_TLS_VERIFY").is_some()),
        None => {
            let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
            if let Some(directory) = set("XDG_RUNTIME_DIR").map(PathBuf::from) {
                sockets.extend([directory.join("docker.sock"), directory.join("podman/podman.sock")]);
            }
            sockets.push("/run/podman/podman.sock".into());
            let there = sockets.iter().find(|socket| socket.exists());
            Ok(Endpoint::Socket(there.unwrap_or(&sockets[0]).clone()))
        }
    }
}

/// Whether a container engine is named, or has a socket here. Whether it answers is another matter.
pub fn is_there() -> bool {
    match from_environment() {
        Ok(Endpoint::Socket(path)) => path.exists() || std::env::var_os("DOCKER_HOST").is_some_and(|h| !h.is_empty()),
        Ok(_) | Err(_) => true,
    }
}

/// Connects, and makes sure that somebody answers.
pub fn open() -> Result<(bollard::Docker, Endpoint)> {
    let endpoint = from_environment()?;
    let client = match &endpoint {
        Endpoint::Socket(path) => {
            try_socket(path)?;
            bollard::Docker::connect_with_unix(&path.to_string_lossy(), ANSWER, API_DEFAULT_VERSION)
        }
        Endpoint::Plain(address) => bollard::Docker::connect_with_http(address, ANSWER, API_DEFAULT_VERSION),
        Endpoint::Tls(address) => return negotiated(with_tls(address)?, endpoint),
    };
    let client = client.map_err(|error| failure(error, "cannot connect to the container engine"))?;
    negotiated(client, endpoint)
}

fn negotiated(client: bollard::Docker, endpoint: Endpoint) -> Result<(bollard::Docker, Endpoint)> {
    let place = match &endpoint {
        Endpoint::Socket(path) => path.display().to_string(),
        Endpoint::Plain(address) | Endpoint::Tls(address) => address.clone(),
    };
    let answer = wait(async { tokio::time::timeout(Duration::from_secs(10), client.negotiate_version()).await })?;
    let what = format!("the container engine at {place} does not answer");
    let client = match answer {
        Ok(answer) => answer.map_err(|error| failure(error, &what))?,
        Err(_) => return Err(Failure::failed(what).hint(ALLOW)),
    };
    Ok((client, endpoint))
}

fn try_socket(path: &Path) -> Result<()> {
    let Err(error) = UnixStream::connect(path) else { return Ok(()) };
    let place = path.display();
    Err(match error.kind() {
        ErrorKind::NotFound => Failure::failed(format!("there is no container engine: no socket {place}"))
            .hint(format!("Start Docker or podman's service. {ALLOW}")),
        ErrorKind::PermissionDenied => Failure::new(Kind::Key, format!("bkp may not use the container engine's socket {place}"))
            .hint("Run bkp as root or in the group `docker`, or point DOCKER_HOST to a socket proxy that lets it list and inspect containers and run commands in them"),
        ErrorKind::ConnectionRefused => Failure::failed(format!("no container engine listens on {place}"))
            .hint(format!("Start Docker or podman's service. {ALLOW}")),
        _ => Failure::failed(format!("cannot connect to the container engine at {place}")),
    }
    .because(error))
}

fn with_tls(address: &str) -> Result<bollard::Docker> {
    let directory = std::env::var_os("DOCKER_CERT_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".docker"));
    let directory = directory.or_else(home).unwrap_or_default();
    let [authority, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| directory.join(name));
    for file in [&authority, &certificate, &key] {
        std::fs::File::open(file).map_err(|error| {
            Failure::new(Kind::Key, format!("cannot read {} for the container engine at {address}", file.display()))
                .because(error)
                .hint("Point DOCKER_CERT_PATH to a directory with ca.pem, cert.pem and key.pem")
        })?;
    }
    // Whoever installed one before it is right too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    bollard::Docker::connect_with_ssl(address, &key, &certificate, &authority, ANSWER, API_DEFAULT_VERSION)
        .map_err(|error| failure(error, "cannot prepare TLS for the container engine"))
}

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock();
    if RUNTIME.get().is_none() {
        let made = Builder::new_multi_thread().worker_threads(2).thread_name("docker").enable_all().build();
        let _ = RUNTIME.set(made.context(|| "cannot start the threads of the container engine's client".into())?);
    }
    Ok(RUNTIME.get().expect("it was just made"))
}

/// Waits for `work` on this thread, which must not be one of a runtime.
pub fn wait<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(runtime()?.block_on(work))
}

/// Begins something that is waited for later.
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<JoinHandle<T>> {
    Ok(runtime()?.spawn(work))
}

/// Sends one request and waits for its answer.
pub fn ask<T>(
    what: impl FnOnce() -> String,
    request: impl Future<Output = std::result::Result<T, Error>>,
) -> Result<T> {
    wait(request)?.map_err(|error| failure(error, &what()))
}

pub fn failure(error: Error, what: &str) -> Failure {
    let failure = Failure::failed(what);
    match error {
        Error::DockerResponseServerError { status_code: 403, message } => failure
            .because(format!("refused: {}", message.trim()))
            .hint("A socket proxy stands between: let it pass containers, exec, images, volumes, and POST requests"),
        Error::DockerResponseServerError { message, .. } => failure.because(message.trim().to_owned()),
        error => failure.because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_docker_does() {
        let parse = |host, tls| Endpoint::parse(host, tls).unwrap();
        assert_eq!(parse("unix:///run/x.sock", true), Endpoint::Socket("/run/x.sock".into()));
        assert_eq!(parse("tcp://proxy:2375", false), Endpoint::Plain("proxy:2375".into()));
        assert_eq!(parse("tcp://proxy", false), Endpoint::Plain("proxy:2375".into()));
        assert_eq!(parse("tcp://10.0.0.1:2376/", true), Endpoint::Tls("10.0.0.1:2376".into()));
        assert_eq!(parse("https://far", false), Endpoint::Tls("far:2376".into()));
        assert_eq!(parse("tcp://[::1]:2375", false).host(), Some("[::1]"));
        for bad in ["unix://relative", "ssh://somebody@host", "tcp://", "tcp://user:word@host/x y"] {
            assert!(Endpoint::parse(bad, false).is_err(), "{bad}");
        }
    }
}
