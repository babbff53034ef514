//! TLS under the client that logs in, with the authorities that the source names and nobody else's: the client's own trusts all the
//! public ones besides.
//!
//! The server greets in clear; then TLS is asked for, and only in it who logs in. The client speaks to a socket that nobody else may
//! open, and what it says is handed on in TLS. Asking for TLS is a packet of its own, so those of a login count one more there.

use crate::engine::{Node, trust};
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

const CLIENT_SSL: u16 = 1 << 11;
/// Length and number of a packet.
const HEAD: usize = 4;
const NUMBER: usize = 3;
/// What a client says of itself before its name; it is all that is said in clear.
const ABOUT_ITSELF: usize = 32;
/// What the first byte says of an answer.
const REFUSAL: u8 = 0xff;

pub(super) struct Tunnel {
    directory: tempfile::TempDir,
    thread: JoinHandle<Result<(), String>>,
}

impl Tunnel {
    /// For one connection, which has to be made within `patience`.
    pub fn to(node: &Node, ca_file: &Path, patience: Duration) -> Result<Tunnel, String> {
        let both = trust::authorities(ca_file).and_then(|config| Ok((config, trust::name_of(&node.host)?)));
        let (config, name) = both.map_err(|failure| failure.full())?;
        // Of this user only.
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket(directory.path())).map_err(|error| error.to_string())?
        };
        let node = node.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let (server, client) = tokio::time::timeout(patience, meet(&node, &listener, &config.into(), name))
                    .await
                    .map_err(|_| "it does not answer".to_owned())??;
                hand_on(client, server).await.map_err(|error| error.to_string())
            })
        });
        Ok(Tunnel { directory, thread })
    }

    pub fn socket(&self) -> PathBuf {
        socket(self.directory.path())
    }

    /// When the connection is over: why there was none.
    pub fn end(self) -> Result<(), String> {
        self.thread.join().unwrap_or_else(|_| Err("its thread ended early".into()))
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("mysql")
}

type Secured = tokio_rustls::client::TlsStream<TcpStream>;

/// Up to the moment in which the client has said who it is. What is said in clear says nothing of a password: whoever refuses there
/// may be anybody, and the client does not hear of it.
async fn meet(
    node: &Node,
    listener: &UnixListener,
    tls: &TlsConnector,
    name: ServerName<'static>,
) -> Result<(Secured, UnixStream), String> {
    let plain = |error: io::Error| error.to_string();
    let (mut client, _) = listener.accept().await.map_err(plain)?;
    let mut server = TcpStream::connect((node.host.as_str(), node.port)).await.map_err(plain)?;
    let greeting = packet(&mut server).await.map_err(plain)?;
    if greeting.get(HEAD) == Some(&REFUSAL) {
        let number = greeting.get(HEAD + 1..).and_then(|rest| rest.first_chunk::<2>()).copied().unwrap_or_default();
        return Err(format!("it refuses before TLS, with error {}", u16::from_le_bytes(number)));
    }
    if !offers_tls(&greeting[HEAD..]) {
        return Err("it does not offer TLS".into());
    }
    client.write_all(&greeting).await.map_err(plain)?;
    let mut login = packet(&mut client).await.map_err(plain)?;
    let request = wants_tls(&mut login).ok_or("the client speaks another protocol")?;
    server.write_all(&request).await.map_err(plain)?;
    let mut server = tls.connect(name, server).await.map_err(|error| format!("no TLS with it: {error}"))?;
    server.write_all(&login).await.map_err(plain)?;
    server.flush().await.map_err(plain)?;
    Ok((server, client))
}

/// Until one of them is gone. What begins with number 0 is no part of the login any more.
async fn hand_on(client: UnixStream, server: Secured) -> io::Result<()> {
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut from_client, mut to_client) = client.into_split();
    let is_in = Cell::new(false);
    let up = async {
        loop {
            let mut said = packet(&mut from_client).await?;
            is_in.set(is_in.get() || said[NUMBER] == 0);
            said[NUMBER] = said[NUMBER].wrapping_add(u8::from(!is_in.get()));
            pass(&said, &mut to_server).await?;
        }
    };
    let down = async {
        loop {
            let mut said = packet(&mut from_server).await?;
            said[NUMBER] = said[NUMBER].wrapping_sub(u8::from(!is_in.get()));
            pass(&said, &mut to_client).await?;
        }
    };
    let (up, down) = (std::pin::pin!(up), std::pin::pin!(down));
    // Whoever is gone first: the client says what it was told until then.
    let (futures_util::future::Either::Left((ended, _)) | futures_util::future::Either::Right((ended, _))) =
        futures_util::future::select(up, down).await;
    let ended: io::Result<()> = ended;
    ended.or_else(|error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) })
}

/// Head and all.
async fn packet(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; HEAD];
    from.read_exact(&mut packet).await?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    packet.resize(HEAD + length, 0);
    from.read_exact(&mut packet[HEAD..]).await?;
    Ok(packet)
}

async fn pass(packet: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    to.write_all(packet).await?;
    to.flush().await
}

/// Behind the version, which ends with a zero: the number of the connection, eight bytes of salt, a zero, and what it can do.
fn offers_tls(greeting: &[u8]) -> bool {
    let version = greeting.iter().skip(1).position(|byte| *byte == 0);
    let can = version.and_then(|length| greeting.get(1 + length + 1 + 4 + 8 + 1..)?.first_chunk::<2>());
    can.is_some_and(|can| u16::from_le_bytes(*can) & CLIENT_SSL != 0)
}

/// The packet that asks for TLS; and `login` as the one that follows it.
fn wants_tls(login: &mut [u8]) -> Option<Vec<u8>> {
    let can = login.get_mut(HEAD..)?.first_chunk_mut::<2>()?;
    *can = (u16::from_le_bytes(*can) | CLIENT_SSL).to_le_bytes();
    let about_itself = login.get(HEAD..HEAD + ABOUT_ITSELF)?;
    let request = [&[ABOUT_ITSELF as u8, 0, 0, login[NUMBER]], about_itself].concat();
    login[NUMBER] = login[NUMBER].wrapping_add(1);
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(can: u16) -> Vec<u8> {
        [&b"\x0a8.4.3\0"[..], &[7, 0, 0, 0], &[b's'; 8], &[0], &can.to_le_bytes(), &[45, 2, 0]].concat()
    }

    #[test]
    fn servers_say_whether_they_speak_tls() {
        assert!(offers_tls(&greeting(0xffff)) && offers_tls(&greeting(CLIENT_SSL)));
        assert!(!offers_tls(&greeting(!CLIENT_SSL)) && !offers_tls(b"\x0a8.4") && !offers_tls(b""));
    }

    #[test]
    fn only_what_says_nothing_of_who_it_is_goes_in_clear() {
        let mut login = [&[60, 0, 0, 1][..], &[0x0d, 0xa2], &[0; 30], b"app\0and its secret"].concat();
        let request = wants_tls(&mut login).unwrap();
        assert_eq!(request, [&[32, 0, 0, 1][..], &[0x0d, 0xaa], &[0; 30]].concat());
        assert_eq!(&login[..6], [60, 0, 0, 2, 0x0d, 0xaa]);
        assert_eq!(wants_tls(&mut [1, 0, 0, 1, 3]), None);
    }
}
