//! TLS in front of a socket, as an engine has it: certificates on both sides, made for the day.

use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const CERTIFICATES: &str = r"new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
$new -x509 -days 1 -subj /CN=ca -keyout ca.key -out ca.pem
for name in server:serverAuth cert:clientAuth; do
  $new -subj /CN=localhost -keyout ${name%:*}.key -out request
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%s\n' ${name#*:} >extensions
  openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile extensions -out ${name%:*}.pem
done
mv cert.key key.pem";

pub struct Secured {
    directory: tempfile::TempDir,
    port: u16,
}

impl Secured {
    pub fn start(socket: &'static str) -> Secured {
        let directory = tempfile::tempdir().unwrap();
        let made = Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(&directory).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let config = Arc::new(config(directory.path()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), UnixStream::connect(socket).unwrap());
                let connection = ServerConnection::new(config.clone()).unwrap();
                // A refused certificate ends one connection, and the client tells why.
                std::thread::spawn(move || pass(connection, near, far).ok());
            }
        });
        Secured { directory, port }
    }

    pub fn url(&self) -> String {
        format!("tcp://localhost:{}", self.port)
    }

    /// With `ca.pem`, `cert.pem` and `key.pem` for clients.
    pub fn directory(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }
}

fn config(directory: &Path) -> ServerConfig {
    let certificate = |name| CertificateDer::from_pem_file(directory.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_client_cert_verifier(clients).with_single_cert(vec![certificate("server.pem")], key).unwrap()
}

/// Passes on what comes from either side, each way until its end.
fn pass(mut tls: ServerConnection, mut near: TcpStream, mut far: UnixStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let (mut near_open, mut far_open) = (true, true);
    while far_open {
        while tls.wants_write() {
            tls.write_tls(&mut near)?;
        }
        let wanted = |open| if open { PollFlags::IN } else { PollFlags::empty() };
        let mut slots = [PollFd::new(&near, wanted(near_open)), PollFd::new(&far, PollFlags::IN)];
        poll(&mut slots, None)?;
        let [near_ready, far_ready] = slots.map(|slot| slot.revents().intersects(PollFlags::IN | PollFlags::HUP));
        if near_ready && near_open {
            let cut = tls.read_tls(&mut near)? == 0;
            let state = tls.process_new_packets().map_err(std::io::Error::other);
            if state.is_err() {
                while tls.wants_write() {
                    tls.write_tls(&mut near)?;
                }
            }
            let state = state?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain)?;
            far.write_all(&plain)?;
            if cut {
                return Ok(());
            }
            if state.peer_has_closed() {
                near_open = false;
                far.shutdown(Shutdown::Write)?;
            }
        }
        if far_ready {
            let read = far.read(&mut buffer)?;
            tls.writer().write_all(&buffer[..read])?;
            far_open = read > 0;
        }
    }
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut near)?;
    }
    Ok(())
}
