//! Which container this process itself runs in, so that it never stops itself, or the way to the engine.
//!
//! Told by what the kernel says of this process: the layer that its root is mounted from, its control group, and at last the
//! files that the engine mounts over `/etc`, which are another container's where the network is shared with one.

use super::{Description, Docker};
use crate::error::{Failure, Result};
use std::net::ToSocketAddrs;
use std::path::Path;

/// What this process looks like from within.
#[derive(Debug, Default)]
struct Within {
    /// `upperdir` of an overlay that is the root.
    upper: Option<String>,
    /// Ids in the names of control groups.
    groups: Vec<String>,
    /// Ids in the paths of what is mounted over files of `/etc`.
    mounts: Vec<String>,
    /// Something says that this is a container.
    is_container: bool,
}

impl Within {
    fn of_this_process() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
        Within::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), marked)
    }

    fn read(mounts: &str, groups: &str, marked: bool) -> Self {
        let mut within = Within { groups: groups.lines().flat_map(ids).collect(), ..Within::default() };
        for line in mounts.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (Some(root), Some(point)) = (words.get(3), words.get(4)) else { continue };
            let after = words.iter().position(|word| *word == "-").map(|at| &words[at + 1..]).unwrap_or_default();
            if let ("/", ["overlay", _, options, ..]) = (*point, after) {
                within.is_container = marked;
                within.upper =
                    options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned);
            }
            if matches!(*point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
                within.mounts.extend(ids(root));
            }
        }
        within
    }

    /// Which of `all` this process is in; a container of another engine is none of them.
    fn among(&self, all: &[Description]) -> Result<Option<String>> {
        let upper = all.iter().find(|c| self.upper.is_some() && c.upper == self.upper);
        let known = |ids: &[String]| all.iter().find(|c| ids.contains(&c.id));
        match upper.or_else(|| known(&self.groups)).or_else(|| known(&self.mounts)) {
            Some(own) => Ok(Some(own.id.clone())),
            None if self.is_container && self.groups.is_empty() && self.mounts.is_empty() => Err(Failure::failed(
                "bkp runs in a container and cannot tell which one that is, so it might stop itself",
            )
            .hint("Run bkp on the host, or stop the containers that write yourself and leave out quiesce")),
            None => Ok(None),
        }
    }
}

/// The ids of containers in a path.
fn ids(path: &str) -> impl Iterator<Item = String> + '_ {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned)
}

impl Docker {
    /// Ids of those of `all` that bkp cannot do without: the one it is in, and the proxy that it reaches the engine through.
    pub(super) fn needed_by_itself(&self, all: &[Description]) -> Result<Vec<String>> {
        let mut needed: Vec<String> = Within::of_this_process().among(all)?.into_iter().collect();
        if let Some(host) = self.endpoint.host() {
            let addresses = (host.trim_matches(['[', ']']), 0).to_socket_addrs().into_iter().flatten();
            let addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            let proxy = all.iter().filter(|c| c.networks.values().any(|address| addresses.contains(address)));
            needed.extend(proxy.map(|c| c.id.clone()));
        }
        Ok(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
    const OTHER: &str = "7d793037a0760186574b0282f2f435e77d793037a0760186574b0282f2f435e7";

    fn mounts(id: &str) -> String {
        format!(
            "100 99 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/x/diff,workdir=/w\n\
             101 100 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        )
    }

    #[test]
    fn a_container_is_known_by_its_group_and_by_what_is_mounted_in_it() {
        let within = Within::read(&mounts(OTHER), &format!("12:pids:/docker/{ID}\n0::/\n"), true);
        assert_eq!(
            (within.groups.as_slice(), within.mounts.as_slice()),
            (&[ID.to_owned()][..], &[OTHER.to_owned()][..])
        );
        assert_eq!(within.upper.as_deref(), Some("/var/lib/docker/overlay2/x/diff"));
        assert_eq!(within.among(&[]).unwrap(), None, "a container of another engine");
    }

    #[test]
    fn a_host_is_no_container_and_a_container_without_a_name_is_refused() {
        let host = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    30 22 0:50 / /var/lib/docker/containers/x/mounts/shm rw - tmpfs shm rw\n";
        assert_eq!(Within::read(host, "0::/init.scope\n", true).among(&[]).unwrap(), None);
        let nameless = "100 99 0:50 / / rw - overlay overlay rw,upperdir=/u\n";
        assert!(Within::read(nameless, "0::/\n", true).among(&[]).is_err());
    }
}
