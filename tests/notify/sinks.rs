//! What notifications arrive at: aiosmtpd with a certificate of the test, and a listener that records requests.

#![allow(dead_code)] // each test binary uses its part

use crate::support::{Server, require};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const AIOSMTPD: Server =
    Server { program: "aiosmtpd", variable: "BKP_TEST_AIOSMTPD", install: "apt-get install python3-aiosmtpd" };

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct MailServer {
    pub port: u16,
    pub certificate: PathBuf,
    program: PathBuf,
    directory: tempfile::TempDir,
    process: Child,
}

fn serve(program: &Path, port: u16, directory: &Path) -> Child {
    let process = Command::new(program)
        .args(["-n", "-l", &format!("localhost:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
        .arg("--tlscert")
        .arg(directory.join("certificate.pem"))
        .arg("--tlskey")
        .arg(directory.join("key.pem"))
        .arg(directory.join("mails"))
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect(("localhost", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the mail server does not answer");
        std::thread::yield_now();
    }
    process
}

impl MailServer {
    /// A server that takes mail only after STARTTLS.
    pub fn start() -> Option<Self> {
        let program = require("mails", &AIOSMTPD)?;
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (directory.path().join("key.pem"), directory.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let port = free_port();
        let process = serve(&program, port, directory.path());
        Some(MailServer { port, certificate, program, directory, process })
    }

    /// Nobody answers at its port from now on; what came is kept.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.process = serve(&self.program, self.port, self.directory.path());
    }

    /// All mails so far, decoded, in no order.
    pub fn mails(&self) -> Vec<String> {
        let script = "import sys,email,email.policy,pathlib
for path in sorted(pathlib.Path(sys.argv[1]).glob('new/*')):
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    for key, value in mail.items(): print(f'{key}: {value}')
    print(mail.get_content()); print('\\0', end='')";
        let directory = self.directory.path().join("mails");
        let read = Command::new("python3").args(["-c", script]).arg(directory).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let text = String::from_utf8(read.stdout).unwrap();
        text.split('\0').filter(|mail| !mail.trim().is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }
}

/// Answers every request with 200 and remembers it.
pub struct WebSink {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl WebSink {
    pub fn start() -> Self {
        WebSink::at(0)
    }

    pub fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let (taken, told) = (requests.clone(), bodies.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = answer(stream);
                told.lock().unwrap().extend(request.iter().map(|request| request.body.clone()));
                taken.lock().unwrap().extend(request);
            }
        });
        WebSink { url, requests, bodies }
    }

    /// The events of all requests, whatever was taken.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let bodies = self.bodies.lock().unwrap();
        let documents = bodies.iter().filter_map(|body| serde_json::from_str::<serde_json::Value>(body).ok());
        documents.flat_map(|document| document["events"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What came since the last time.
    pub fn taken(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    Some(Request { path, headers, body: String::from_utf8(body).ok()? })
}

/// What a receiver would compute.
pub fn hmac_by_openssl(key: &str, text: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}
