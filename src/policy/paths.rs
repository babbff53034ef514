//! Where bkp keeps things on this host: `/etc/bkp` and its kin for root, the XDG directories for everybody else.
//!
//! Resolved from the user and the environment alone; nothing is created or looked at here.

use crate::error::{Failure, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The main file.
    pub config: PathBuf,
    /// Somebody named the main file: then it must be there.
    pub config_given: bool,
    /// Writer keys and what runs remember.
    pub state: PathBuf,
    pub cache: PathBuf,
    /// Locks; empty after a boot.
    pub run: PathBuf,
}

impl Paths {
    /// Those of this process. `config` is what `--config` says; before it come `BKP_CONFIG`, `BKP_STATE_DIR`, `BKP_CACHE_DIR`.
    pub fn of_this_process(config: Option<&Path>) -> Result<Self> {
        Paths::resolve(config, rustix::process::geteuid().is_root(), &|name| std::env::var_os(name))
    }

    pub fn resolve(config: Option<&Path>, root: bool, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let given = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = |system: &str, variable: &str, below_home: &str| match (root, given(variable)) {
            (true, _) => Ok(PathBuf::from(system)),
            // The XDG rules: a relative path counts as not set.
            (false, Some(directory)) if directory.is_absolute() => Ok(directory.join("bkp")),
            (false, _) => match given("HOME").filter(|home| home.is_absolute()) {
                Some(home) => Ok(home.join(below_home).join("bkp")),
                None => Err(Failure::usage("there is no home directory to find the configuration in")
                    .hint("Set HOME, or set BKP_CONFIG, BKP_STATE_DIR and BKP_CACHE_DIR")),
            },
        };
        let named = config.map(Path::to_path_buf).or_else(|| given("BKP_CONFIG"));
        let config_given = named.is_some();
        let config = match named {
            Some(path) => path,
            None => directory("/etc/bkp", "XDG_CONFIG_HOME", ".config")?.join("bkp.yaml"),
        };
        let state = match given("BKP_STATE_DIR") {
            Some(path) => path,
            None => directory("/var/lib/bkp", "XDG_STATE_HOME", ".local/state")?,
        };
        let cache = match given("BKP_CACHE_DIR") {
            Some(path) => path,
            None => directory("/var/cache/bkp", "XDG_CACHE_HOME", ".cache")?,
        };
        let run = match given("XDG_RUNTIME_DIR").filter(|path| path.is_absolute()) {
            _ if root => PathBuf::from("/run/bkp"),
            Some(path) => path.join("bkp"),
            None => state.join("run"),
        };
        Ok(Paths { config, config_given, state, cache, run })
    }

    /// The directory of policy files: `policies.d` beside the main file.
    pub fn policies(&self) -> PathBuf {
        crate::durable::parent_of(&self.config).join("policies.d")
    }
}

/// A path as JSON can say it: escaped where it is no text.
pub fn path_text(path: &Path) -> String {
    path.to_str().map_or_else(|| path.as_os_str().as_encoded_bytes().escape_ascii().to_string(), str::to_owned)
}

/// For `serialize_with`: a path that is no text must not keep a document from being written.
pub fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(config: Option<&str>, root: bool, environment: &[(&str, &str)]) -> Result<Paths> {
        let lookup = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Paths::resolve(config.map(Path::new), root, &lookup)
    }

    fn told(paths: &Paths) -> [&str; 4] {
        [&paths.config, &paths.state, &paths.cache, &paths.run].map(|p| p.to_str().unwrap())
    }

    #[test]
    fn root_has_the_system_directories() {
        let paths = resolve(None, true, &[("HOME", "/root"), ("XDG_CONFIG_HOME", "/x")]).unwrap();
        assert_eq!(told(&paths), ["/etc/bkp/bkp.yaml", "/var/lib/bkp", "/var/cache/bkp", "/run/bkp"]);
        assert!(!paths.config_given);
        assert_eq!(paths.policies(), Path::new("/etc/bkp/policies.d"));
    }

    #[test]
    fn others_have_the_xdg_directories() {
        let paths = resolve(None, false, &[("HOME", "/home/ana")]).unwrap();
        assert_eq!(
            told(&paths),
            [
                "/home/ana/.config/bkp/bkp.yaml",
                "/home/ana/.local/state/bkp",
                "/home/ana/.cache/bkp",
                "/home/ana/.local/state/bkp/run",
            ]
        );
        let xdg = [
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_CACHE_HOME", "relative"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ];
        assert_eq!(
            told(&resolve(None, false, &xdg).unwrap()),
            ["/c/bkp/bkp.yaml", "/s/bkp", "/h/.cache/bkp", "/run/user/7/bkp"]
        );
    }

    #[test]
    fn what_is_named_goes_first() {
        let environment = [("BKP_CONFIG", "/e/bkp.yaml"), ("BKP_STATE_DIR", "/s"), ("BKP_CACHE_DIR", "/c")];
        let paths = resolve(None, false, &environment).unwrap();
        assert_eq!(told(&paths), ["/e/bkp.yaml", "/s", "/c", "/s/run"]);
        assert!(paths.config_given);
        let paths = resolve(Some("my.yaml"), true, &environment).unwrap();
        assert_eq!(told(&paths), ["my.yaml", "/s", "/c", "/run/bkp"]);
        assert_eq!(paths.policies(), Path::new("./policies.d"));
    }

    #[test]
    fn without_a_home_it_says_what_to_set() {
        let failure = resolve(None, false, &[]).unwrap_err();
        assert!(failure.next_step().unwrap().contains("BKP_STATE_DIR"));
    }
}
