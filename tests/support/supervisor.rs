//! Undoes what a test started, also when the test process dies in whatever way.
//!
//! A shell waits until its standard input closes, and then runs a script. The input closes when the guard is dropped, and
//! when the process is gone; so what is kept in a `static`, which is never dropped, is undone too.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

pub struct Supervisor(Child);

impl Supervisor {
    /// The script finds the arguments as `$1`, `$2` ….
    pub fn new(script: &str, arguments: &[&OsStr]) -> Supervisor {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("cat > /dev/null\n{script}"), "supervisor"])
            .args(arguments)
            .process_group(0) // an interrupt at the terminal is for the test process
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Supervisor(child.unwrap())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
