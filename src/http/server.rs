//! The listener and its limits: how many connections, how large a head, how long anything may take.
//!
//! When all places are taken, the connection that is there for the longest gives way: an honest one is done within
//! milliseconds, so a client that sends or reads slowly cannot hold the others up.

use super::guard::Guard;
use super::routes::{self, Site};
use super::shown::Shown;
use crate::durable;
use crate::error::{Context, Failure, Result};
use crate::policy::HttpSettings;
use crate::secret::Secrets;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::AbortHandle;

const CONNECTIONS: usize = 64;
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// In which a head must be there, also the next one on the same connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// In which a connection must be done with everything.
const LONGEST: Duration = Duration::from_secs(60);
/// Requests may wait for the journal and for secrets on so many threads.
const WAITING: usize = 8;

/// Serves until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Where commands of this host find it.
    noted: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The port is taken, and nothing is served yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
}

/// Takes the port and reads the token; nothing where it is off.
pub fn bind(settings: &HttpSettings, secrets: Secrets) -> Result<Option<Bound>> {
    let Some(wanted) = settings.listen else { return Ok(None) };
    let what = || format!("cannot listen on {wanted}");
    let listener = TcpListener::bind(wanted).map_err(|e| match e.kind() {
        ErrorKind::AddrInUse => Failure::failed(what())
            .because(e)
            .hint("Somebody has that port: give another one as `http: { listen: 127.0.0.1:9428 }`, or `listen: off`"),
        _ => Failure::from_io(e, what),
    })?;
    listener.set_nonblocking(true).context(what)?;
    let address = listener.local_addr().context(what)?;
    let guard = Guard::new(address, &settings.hosts, settings.token.clone(), secrets);
    guard.ready()?;
    Ok(Some(Bound { listener, address, guard }))
}

impl Bound {
    pub fn serve(self, state: &Path, shown: Arc<Shown>) -> Result<Server> {
        let Bound { listener, address, guard } = self;
        let site = Arc::new(Site { shown, guard, asking: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || run(listener, site, stopped));
        let thread = thread.context(|| "cannot begin a thread".to_owned())?;
        let noted = place(state);
        // On a full disk it is found by its configuration; see [`configured`].
        let _ = durable::write(&noted, format!("{}\n", nearest(address)).as_bytes(), 0o600);
        Ok(Server { address, noted, stop: Some(stop), thread: Some(thread) })
    }
}

/// Where the running daemon of this host listens, as it noted it.
pub fn noted(state: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(place(state)).ok()?.trim().parse().ok()
}

/// Where a daemon with these settings listens, if that can be told.
pub fn configured(settings: &HttpSettings) -> Option<SocketAddr> {
    settings.listen.filter(|address| address.port() != 0).map(nearest)
}

fn place(state: &Path) -> PathBuf {
    state.join("http-address")
}

/// The address by which this host reaches itself.
fn nearest(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.noted);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(listener: TcpListener, site: Arc<Site>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(WAITING).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        tokio::select! {
            () = accept(listener, site.clone()) => {}
            () = watching(&site) => {}
            _ = stopped => {}
        }
    });
    // Whoever still asks the store is not waited for.
    runtime.shutdown_background();
}

/// Never ends: what a daemon that is gone has shown last may be looked at until the server is dropped.
async fn watching(site: &Site) {
    site.shown.watch_it_turn().await;
    std::future::pending().await
}

async fn accept(listener: tokio::net::TcpListener, site: Arc<Site>) {
    let router = routes::router(site);
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is free, or the client was gone again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(serve(stream, router.clone())).abort_handle());
    }
}

async fn serve(stream: TcpStream, router: axum::Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = tokio::time::timeout(LONGEST, connection).await;
}
