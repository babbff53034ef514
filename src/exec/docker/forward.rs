//! A port of a container that no network reaches, as a port of loopback here.
//!
//! Each connection is a command in the container that speaks to the server there, so it works wherever commands do. Whoever
//! can connect to loopback can use it as long as it is there: the server's password is what keeps others out.

use super::attached::Attached;
use super::connect::{spawn, wait};
use super::{Container, Docker};
use crate::error::{Context, Failure, Result};
use crate::exec::Exec;
use bollard::container::LogOutput;
use futures_util::StreamExt;
use futures_util::future::select;
use std::pin::pin;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Carries both ways until one side ends, and takes its other half with it.
const BASH: &str = "exec 3<>/dev/tcp/$1/$0 4<&0 || exit 1
cat <&3 & read=$!; cat <&4 >&3 & write=$!
wait -n; kill $read $write";

/// Ends, with what is open through it, when it is dropped.
#[derive(Debug)]
pub struct Forward {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Container {
    /// Makes `port` of `host`, as the container knows it, a port of loopback here. What listens on the container's own loopback
    /// is at `127.0.0.1`.
    pub fn forward(&self, host: &str, port: u16) -> Result<Forward> {
        let port = port.to_string();
        let words = match self.find(&["bash", "socat", "nc"])?.as_deref() {
            Some("bash") => vec!["bash", "-c", BASH, &port, host].into_iter().map(str::to_owned).collect(),
            Some("socat") => vec!["socat".into(), "-".into(), format!("TCP4:{host}:{port}")],
            Some(_) => vec!["nc".to_owned(), host.to_owned(), port],
            None => {
                return Err(Failure::failed(format!("{} has no program that can carry a connection", self.title()))
                    .hint(
                        "Use an image with bash, socat or nc; or rehearse where the server is installed on the host",
                    ));
            }
        };
        let what = || "cannot listen on loopback".to_owned();
        let listener = wait(TcpListener::bind(("127.0.0.1", 0)))?.context(what)?;
        let port = listener.local_addr().context(what)?.port();
        let (docker, id) = (self.docker.clone(), self.id.clone());
        let task = spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                open.spawn(carry(docker.clone(), id.clone(), words.clone(), stream));
            }
        })?;
        Ok(Forward { port, task })
    }
}

async fn carry(docker: Docker, id: String, words: Vec<String>, stream: TcpStream) {
    // Whoever connected sees the end of his connection, and asks again or gives up.
    let Ok(attached) = Attached::open(&docker.client, &id, words, None).await else { return };
    let (mut output, mut input) = attached.split();
    let (mut from, mut to) = stream.into_split();
    let up = pin!(async {
        let _ = tokio::io::copy(&mut from, &mut input).await;
        let _ = input.shutdown().await;
    });
    let down = pin!(async {
        while let Some(Ok(piece)) = output.next().await {
            let LogOutput::StdOut { message } = piece else { continue };
            if to.write_all(&message).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    });
    select(up, down).await;
}
