//! What Vault gave to one process, kept for the next by the one that starts them.
//!
//! The daemon asks Vault for nothing: its runs do, each a process of its own, and what they read would be gone with them. So the
//! daemon has a [`Memory`], and each run a private socket to it as its standard input ([`Remembered`]): it tells what Vault
//! gave, asks for what an earlier run was given, and says what Vault denied, which is then forgotten. Nothing of it is ever on
//! disk, in an argument or in the environment; it is wiped when it is replaced, and gone with the daemon. What the daemon does
//! not answer at once is done without.

use super::Secret;
use super::secrets::lock;
use rustix::fs::{FileType, fstat};
use rustix::io::FdFlags;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// More is neither the name of a secret nor one.
const LONGEST: usize = 1 << 20;
/// The daemon only looks into its memory.
const PATIENCE: Duration = Duration::from_secs(2);

const GIVE: u8 = b'g';
const KEEP: u8 = b'k';
const FORGET: u8 = b'f';

/// What runs were given, by the name of the secret.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, (Secret, Instant)>>>);

impl Memory {
    /// Answers one run until it closes its end, or says what makes no sense.
    pub fn serve(&self, mut run: UnixStream) -> io::Result<()> {
        let mut what = [0];
        while run.read(&mut what)? > 0 {
            let name = text(frame(&mut run)?)?;
            match what[0] {
                GIVE => {
                    let known = lock(&self.0).get(&name).cloned();
                    run.write_all(&[known.is_some().into()])?;
                    if let Some((secret, at)) = known {
                        let age = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                        run.write_all(&age.to_le_bytes())?;
                        put(&mut run, secret.expose())?;
                    }
                }
                KEEP => {
                    let secret = Secret::new(text(frame(&mut run)?)?);
                    lock(&self.0).insert(name, (secret, Instant::now()));
                }
                FORGET => drop(lock(&self.0).remove(&name)),
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(())
    }
}

/// The way from a run to the memory of its daemon.
pub struct Remembered(Mutex<Option<UnixStream>>);

impl Remembered {
    /// By the socket that the daemon gave to this process as its standard input; nothing where that is something else.
    pub fn of_this_process() -> Option<Arc<Self>> {
        static OPEN: OnceLock<Option<Arc<Remembered>>> = OnceLock::new();
        let open = || {
            let stdin = io::stdin();
            let status = fstat(&stdin).ok()?;
            if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
                return None;
            }
            // No command that a run starts is to speak to the daemon.
            rustix::io::fcntl_setfd(&stdin, FdFlags::CLOEXEC).ok()?;
            Some(Arc::new(Remembered::new(stdin.as_fd().try_clone_to_owned().ok()?.into()).ok()?))
        };
        OPEN.get_or_init(open).clone()
    }

    fn new(daemon: UnixStream) -> io::Result<Self> {
        daemon.set_read_timeout(Some(PATIENCE))?;
        daemon.set_write_timeout(Some(PATIENCE))?;
        Ok(Remembered(Mutex::new(Some(daemon))))
    }

    /// What was given to an earlier run, and how long ago.
    pub fn given(&self, name: &str) -> Option<(Secret, Duration)> {
        self.ask(|daemon| {
            daemon.write_all(&[GIVE])?;
            put(daemon, name)?;
            let (mut known, mut age) = ([0], [0; 8]);
            daemon.read_exact(&mut known)?;
            if known == [0] {
                return Ok(None);
            }
            daemon.read_exact(&mut age)?;
            let secret = Secret::new(text(frame(daemon)?)?);
            Ok(Some((secret, Duration::from_millis(u64::from_le_bytes(age)))))
        })
        .flatten()
    }

    pub fn keep(&self, name: &str, secret: &Secret) {
        self.ask(|daemon| {
            daemon.write_all(&[KEEP])?;
            put(daemon, name)?;
            put(daemon, secret.expose())
        });
    }

    pub fn forget(&self, name: &str) {
        self.ask(|daemon| {
            daemon.write_all(&[FORGET])?;
            put(daemon, name)
        });
    }

    /// After a failure it is not known what comes next: nothing is asked any more.
    fn ask<T>(&self, act: impl FnOnce(&mut UnixStream) -> io::Result<T>) -> Option<T> {
        let mut daemon = lock(&self.0);
        let answer = act(daemon.as_mut()?);
        if answer.is_err() {
            *daemon = None;
        }
        answer.ok()
    }
}

/// Length and bytes.
fn put(to: &mut UnixStream, text: &str) -> io::Result<()> {
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= LONGEST).ok_or(ErrorKind::InvalidInput)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(text.as_bytes())
}

fn frame(from: &mut UnixStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Without a copy that would stay behind.
fn text(mut bytes: Zeroizing<Vec<u8>>) -> io::Result<String> {
    String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        error.into_bytes().zeroize();
        ErrorKind::InvalidData.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of the daemon that has this memory.
    fn run(memory: &Memory) -> Remembered {
        let (daemon, run) = UnixStream::pair().unwrap();
        let memory = memory.clone();
        std::thread::spawn(move || memory.serve(daemon));
        Remembered::new(run).unwrap()
    }

    fn given(run: &Remembered, name: &str) -> Option<String> {
        run.given(name).map(|(secret, _)| secret.expose().to_owned())
    }

    #[test]
    fn what_one_run_was_given_the_next_one_has_until_it_is_denied() {
        let memory = Memory::default();
        let first = run(&memory);
        assert_eq!(given(&first, "a"), None);
        first.keep("a", &Secret::new("hunter2".into()));
        first.keep("b", &Secret::new(String::new()));
        assert_eq!(given(&first, "a").as_deref(), Some("hunter2"));
        drop(first);
        let second = run(&memory);
        let (secret, age) = second.given("a").unwrap();
        assert!(secret.expose() == "hunter2" && age < Duration::from_secs(60));
        assert_eq!(given(&second, "b").as_deref(), Some(""));
        second.keep("a", &Secret::new("hunter3".into()));
        second.forget("b");
        assert_eq!((given(&second, "a").as_deref(), given(&second, "b")), (Some("hunter3"), None));
    }

    #[test]
    fn a_daemon_that_is_gone_is_done_without() {
        let (daemon, ours) = UnixStream::pair().unwrap();
        let remembered = Remembered::new(ours).unwrap();
        drop(daemon);
        remembered.keep("a", &Secret::new("hunter2".into()));
        assert!(remembered.given("a").is_none());
    }

    #[test]
    fn what_makes_no_sense_ends_the_talk_and_reserves_no_memory() {
        for bytes in [&b"x\x01\0\0\0a"[..], b"g\xff\xff\xff\xff", b"g\x01\0\0\0\xff", b"k\x01\0\0\0"] {
            let (daemon, mut run) = UnixStream::pair().unwrap();
            run.write_all(bytes).unwrap();
            run.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(Memory::default().serve(daemon).is_err(), "{bytes:?}");
        }
    }
}
