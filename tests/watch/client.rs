//! The least of an HTTP client, so that tests see each byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

pub fn get(address: SocketAddr, path: &str) -> Response {
    get_with(address, path, &[])
}

pub fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut all = vec![("Host", "localhost")];
    if headers.iter().any(|(name, _)| *name == "Host") {
        all.clear();
    }
    all.extend(headers);
    let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    ask(address, &format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"))
}

pub fn ask(address: SocketAddr, request: &str) -> Response {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = lines.map(header).collect();
    assert!(!headers.contains_key("transfer-encoding"), "this client knows no chunks");
    Response { status, headers, body: body.to_owned() }
}
