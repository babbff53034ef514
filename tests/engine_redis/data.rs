//! Data with every type and encoding, and a writer that goes on meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Speaks to a server as nobody else here does: what is tested is not used.
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    pub fn connect(host: IpAddr, port: u16, password: &str) -> Raw {
        Raw::try_connect(host, port, password).unwrap()
    }

    pub fn try_connect(host: IpAddr, port: u16, password: &str) -> Result<Raw, String> {
        let mut raw = Raw(BufReader::new(TcpStream::connect((host, port)).map_err(|e| e.to_string())?));
        raw.try_ask(&[b"AUTH", password.as_bytes()])?;
        Ok(raw)
    }

    /// One command and its answer; an error fails the test.
    pub fn ask(&mut self, command: &[&[u8]]) -> Vec<u8> {
        self.try_ask(command).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(command[0])))
    }

    pub fn try_ask(&mut self, command: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes).map_err(|e| e.to_string())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Vec<u8>, String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).map_err(|e| e.to_string())?;
        if read == 0 {
            return Err("closed".into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "-" => Err(rest.into()),
            "$" if rest != "-1" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).map_err(|e| e.to_string())?;
                bytes.truncate(bytes.len() - 2);
                Ok(bytes)
            }
            "*" => {
                let mut all = Vec::new();
                for _ in 0..rest.parse::<i64>().unwrap() {
                    all.extend(self.answer()?);
                    all.push(b'\n');
                }
                Ok(all)
            }
            _ => Ok(rest.as_bytes().to_vec()),
        }
    }

    /// Words separated by spaces.
    pub fn say(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.ask(&words)).into_owned()
    }
}

/// Bytes that do not get smaller when they are packed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Something of everything, in databases 0, 1 and 15.
pub fn fill(raw: &mut Raw) {
    let version = raw.say("INFO server");
    let is_valkey = version.contains("valkey_version:");
    raw.ask(&[b"SET", b"\x00\xff\r\n key", b"binary \x00\xff value"]);
    raw.ask(&[b"SET", "ключ \"quoted\" 'and' 😀".as_bytes(), "значение".as_bytes()]);
    raw.ask(&[b"SET", b"empty", b""]);
    for (name, number) in [("i8", "-7"), ("i16", "-30000"), ("i32", "2147483647"), ("i64", "-9223372036854775808")] {
        raw.ask(&[b"SET", name.as_bytes(), number.as_bytes()]);
    }
    raw.ask(&[b"SET", b"packed", "all work and no play ".repeat(5_000).as_bytes()]);
    raw.ask(&[b"SET", b"noise", &noise(100_000, 7)]);
    raw.ask(&[b"SETBIT", b"bits", b"70000", b"1"]);
    raw.ask(&[b"PFADD", b"log", b"a", b"b", b"c"]);
    raw.say("GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
    lists_and_sets(raw);
    hashes(raw, is_valkey);
    streams(raw);
    raw.say("SET soon 1 EX 100000");
    raw.say("HSET goes a 1");
    raw.say("PEXPIREAT goes 4102444800123");
    raw.say("SELECT 1");
    raw.say("SET other 1");
    raw.say("SELECT 15");
    raw.say("SADD last a b c");
    raw.say("SELECT 0");
    let code: &[u8] = b"#!lua name=mine\nredis.register_function('one', function(keys, args) return 1 end)";
    raw.ask(&[b"FUNCTION", b"LOAD", code]);
    raw.say("ACL SETUSER reader on >reader-password ~app:* +@read -@dangerous");
}

fn lists_and_sets(raw: &mut Raw) {
    raw.say("RPUSH list:small a 1 -5 300 70000 5000000000 a");
    let long = noise(20_000, 3);
    for chunk in 0..20 {
        let words: Vec<String> = (0..200).map(|n| format!("element {chunk} {n} {}", "x".repeat(n))).collect();
        let mut command: Vec<&[u8]> = vec![b"RPUSH", b"list:large"];
        command.extend(words.iter().map(String::as_bytes));
        command.push(&long);
        raw.ask(&command);
        let mut command: Vec<&[u8]> = vec![b"SADD", b"set:large"];
        command.extend(words.iter().map(String::as_bytes));
        raw.ask(&command);
        let scores: Vec<String> = (0..200).map(|n| format!("{}", f64::from(chunk * 200 + n) / 7.0)).collect();
        let mut command: Vec<&[u8]> = vec![b"ZADD", b"sorted:large"];
        for (score, word) in scores.iter().zip(&words) {
            command.extend([score.as_bytes(), word.as_bytes()]);
        }
        raw.ask(&command);
        let mut command: Vec<&[u8]> = vec![b"HSET", b"hash:large"];
        for (score, word) in scores.iter().zip(&words) {
            command.extend([word.as_bytes(), score.as_bytes()]);
        }
        raw.ask(&command);
    }
    raw.say("SADD set:numbers 1 2 -3 70000");
    raw.say("SADD set:long-numbers 1 5000000000");
    raw.say("SADD set:small a b 1");
    raw.say("ZADD sorted:small 1 a 2.5 b -inf c inf d 0.1 e 1e300 f 3 g");
}

fn hashes(raw: &mut Raw, is_valkey: bool) {
    raw.say("HSET hash:small a 1 b two c -3.5");
    raw.ask(&[b"HSET", b"hash:long", b"field", &noise(5_000, 5), b"other", b"1"]);
    if is_valkey {
        raw.say("HSET hash:fields stays 1 goes 2");
        raw.say("HPEXPIREAT hash:fields 4102444800000 FIELDS 1 goes");
    }
}

fn streams(raw: &mut Raw) {
    for n in 1..=300 {
        raw.say(&format!("XADD stream {n}-1 number {n} text t{n}"));
    }
    raw.say("XADD stream 301-1 another field");
    raw.say("XDEL stream 5-1 250-1");
    raw.say("XGROUP CREATE stream workers 10-1");
    raw.say("XREADGROUP GROUP workers alice COUNT 5 STREAMS stream >");
    raw.say("XREADGROUP GROUP workers bob COUNT 3 STREAMS stream >");
    raw.say("XACK stream workers 12-1");
    raw.say("XGROUP CREATECONSUMER stream workers idle");
    raw.say("XGROUP CREATE stream others $");
    raw.say("XADD emptied 1-1 a b");
    raw.say("XDEL emptied 1-1");
}

/// Two numbers in database 7 that grow together, while this lives.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Writer {
    pub fn start(mut raw: Raw) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            raw.say("SELECT 7");
            let mut written = 0;
            while !told.load(Relaxed) {
                written += 1;
                let key = format!("item:{}", written % 1_000);
                for command in [&[&b"MULTI"[..]][..], &[b"INCR", b"left"], &[b"INCR", b"right"]] {
                    raw.ask(command);
                }
                raw.ask(&[b"SET", key.as_bytes(), written.to_string().as_bytes()]);
                raw.ask(&[b"EXEC"]);
            }
            written
        });
        Writer { stop, thread: Some(thread) }
    }

    /// How much was written.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}
