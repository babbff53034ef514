//! What stands between bkp and MinIO: the clock of the simulated store, its bad days, and a witness of all that comes and goes.
//!
//! MinIO does the work. Dates in its answers are replaced by those of the simulated time, because nobody can set its clock.

use crate::clock::Clock;
use crate::keeping::Made;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How the store is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Connections break at once.
    Away,
    /// 503, come back later.
    Busy,
    /// What is written of data does not arrive, and nobody says so.
    Stalled,
    /// Each second body that is read breaks in its middle.
    Torn,
    /// Listings of a writer's objects lack their second half, and look complete.
    Short,
    /// The same with all of them.
    Empty,
}

/// A point that came, and what its source held then.
#[derive(Clone, Debug)]
pub struct Commit {
    pub source: String,
    pub made: Made,
    pub content: Content,
}

/// What a source holds, by a number that stands for it. Where somebody writes all the time, it is between two numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content {
    pub from: u64,
    pub to: u64,
}

/// Something that the store deleted.
#[derive(Clone, Debug)]
pub struct Removal {
    pub key: String,
    pub at: Timestamp,
    /// How many points had come before.
    pub commits: usize,
}

/// Tells what a source holds at this moment.
type Look = Box<dyn Fn(&str) -> Content + Send + Sync>;

pub struct Bucket {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    clock: Arc<Clock>,
    look: Look,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    weather: Weather,
    stored: BTreeMap<String, Timestamp>,
    commits: Vec<Commit>,
    removals: Vec<Removal>,
    /// Requests that wait, for a weather that is better.
    waiting: usize,
    /// Requests that got no answer, or a poor one, because of the weather.
    refused: usize,
    read: usize,
}

impl Bucket {
    pub fn before(upstream: u16, clock: Arc<Clock>, look: Look) -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            weather: Weather::Fair,
            stored: BTreeMap::new(),
            commits: Vec::new(),
            removals: Vec::new(),
            waiting: 0,
            refused: 0,
            read: 0,
        };
        let shared = Arc::new(Shared { upstream, clock, look, state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                let shared = of_thread.clone();
                std::thread::spawn(move || shared.serve(line));
            }
        });
        Bucket { port, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn weather(&self, weather: Weather) {
        self.shared.state().weather = weather;
        self.shared.changed.notify_all();
    }

    pub fn waiting(&self) -> usize {
        self.shared.state().waiting
    }

    pub fn refused(&self) -> usize {
        self.shared.state().refused
    }

    pub fn commits(&self) -> Vec<Commit> {
        self.shared.state().commits.clone()
    }

    pub fn commits_of(&self, source: &str) -> usize {
        self.shared.state().commits.iter().filter(|commit| commit.source == source).count()
    }

    pub fn removals(&self) -> Vec<Removal> {
        self.shared.state().removals.clone()
    }

    /// It is gone, and the store has not deleted it for anybody.
    pub fn is_eaten(&self, key: &str) {
        self.shared.state().stored.remove(key);
    }
}

struct Request {
    method: String,
    key: String,
    query: String,
    head: String,
    body: Vec<u8>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One request for each connection.
    fn serve(&self, mut line: TcpStream) -> Option<()> {
        let request = take(&mut line)?;
        let weather = self.state().weather;
        if matches!(weather, Weather::Away | Weather::Busy) {
            self.state().refused += 1;
        }
        match weather {
            Weather::Away => return None,
            Weather::Busy => return line.write_all(&busy()).ok(),
            Weather::Stalled if request.is_data() => {
                let mut state = self.state();
                state.waiting += 1;
                let mut state = self.changed.wait_while(state, |state| state.weather == Weather::Stalled).unwrap();
                state.waiting -= 1;
                return None;
            }
            _ => {}
        }
        let (mut head, mut body) = self.forward(&request)?;
        if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
            self.note(&request);
        }
        if request.query.contains("list-type=2") {
            body = self.listing(String::from_utf8(body).unwrap(), weather).into_bytes();
        } else if let Some(stored) = self.state().stored.get(&request.key) {
            let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(stored).unwrap();
            head = with_header(&head, "last-modified", &date);
        }
        if request.method != "HEAD" {
            head = with_header(&head, "content-length", &body.len().to_string());
        }
        if weather == Weather::Torn && request.method == "GET" && body.len() > 100 && request.is_key() {
            let mut state = self.state();
            state.read += 1;
            if state.read % 2 == 1 {
                body.truncate(body.len() / 2);
            }
        }
        line.write_all(head.as_bytes()).ok()?;
        line.write_all(&body).ok()?;
        line.shutdown(Shutdown::Both).ok()
    }

    fn forward(&self, request: &Request) -> Option<(String, Vec<u8>)> {
        let mut server = TcpStream::connect(("127.0.0.1", self.upstream)).ok()?;
        server.write_all(with_header(&request.head, "connection", "close").as_bytes()).ok()?;
        server.write_all(&request.body).ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let body = answer.split_off(end);
        match header(&head, "transfer-encoding") {
            Some(_) => Some((without_header(&head, "transfer-encoding"), of_chunks(&body))),
            None => Some((head, body)),
        }
    }

    fn note(&self, request: &Request) {
        let now = self.clock.truth();
        let is_whole = !request.query.contains("partNumber") && !request.query.contains("uploads");
        let mut state = self.state();
        match request.method.as_str() {
            "PUT" | "POST" if is_whole && request.is_key() => {
                state.stored.insert(request.key.clone(), now);
                if let Some((source, name)) = point(&request.key) {
                    let content = (self.look)(&source);
                    let made = Made { at: instant(&name), name, stored: now };
                    state.commits.push(Commit { source, made, content });
                }
            }
            "DELETE" if is_whole && !request.query.contains("uploadId") => {
                state.stored.remove(&request.key);
                let commits = state.commits.len();
                state.removals.push(Removal { key: request.key.clone(), at: now, commits });
            }
            _ => {}
        }
    }

    /// The listing with dates of the simulated time, and without what the weather hides.
    fn listing(&self, text: String, weather: Weather) -> String {
        const BEGIN: &str = "<Contents>";
        const END: &str = "</Contents>";
        let state = self.state();
        let (mut told, mut left) = (String::new(), text.as_str());
        let all = text.matches(BEGIN).count();
        let of_writer = |entry: &str| between(entry, "<Key>", "</Key>").contains("/w/");
        let (mut seen, mut shown) = (0, 0);
        while let Some(begin) = left.find(BEGIN) {
            let end = left[begin..].find(END).unwrap() + begin + END.len();
            let entry = &left[begin..end];
            told.push_str(&left[..begin]);
            left = &left[end..];
            seen += 1;
            let hidden = of_writer(entry)
                && match weather {
                    Weather::Short => seen > all / 2,
                    Weather::Empty => true,
                    _ => false,
                };
            if hidden {
                continue;
            }
            shown += 1;
            let key = between(entry, "<Key>", "</Key>");
            let date = between(entry, "<LastModified>", "</LastModified>");
            match state.stored.get(key) {
                Some(stored) => told.push_str(&entry.replace(date, &format!("{stored:.3}"))),
                None => told.push_str(entry),
            }
        }
        told.push_str(left);
        told.replace(&format!("<KeyCount>{all}</KeyCount>"), &format!("<KeyCount>{shown}</KeyCount>"))
    }
}

impl Request {
    /// Not one of the bucket as a whole.
    fn is_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// A write of what was dumped.
    fn is_data(&self) -> bool {
        let of_kind = |kind: &str| self.key.contains(&format!("/{kind}/"));
        self.method == "PUT" && (of_kind("s") || of_kind("p"))
    }
}

/// Source and name, where the key is that of a point.
pub fn point(key: &str) -> Option<(String, String)> {
    let mut parts = key.rsplit('/');
    let (name, source, kind) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == "points").then(|| (source.to_owned(), name.to_owned()))
}

/// The instant in the name of a point.
pub fn instant(name: &str) -> Timestamp {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", name.split('-').next().unwrap()).unwrap();
    civil.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

fn take(line: &mut TcpStream) -> Option<Request> {
    let (head, body) = crate::support::vault::request(line)?;
    assert!(header(&head, "transfer-encoding").is_none(), "a body without a length: {head}");
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    Some(Request { method, key, query: query.to_owned(), head: head.clone(), body })
}

fn busy() -> Vec<u8> {
    crate::support::fake_s3::error("503 Service Unavailable", "SlowDown")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn without_header(head: &str, name: &str) -> String {
    let is_other = |line: &&str| !line.to_ascii_lowercase().starts_with(&format!("{name}:"));
    head.split_inclusive("\r\n").filter(is_other).collect()
}

fn with_header(head: &str, name: &str, value: &str) -> String {
    let head = without_header(head, name);
    format!("{}{name}: {value}\r\n\r\n", head.strip_suffix("\r\n").unwrap())
}

fn of_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 2 + length + 2..];
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(found, _)| found)
}
