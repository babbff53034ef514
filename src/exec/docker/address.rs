//! How this process reaches a port of a container.
//!
//! What is possible is deduced; which of it works is tried. A container's own address is taken only where it can mean nobody
//! else: on the engine's host, or inside a container that shares a network with it.

use super::connect::ask;
use super::{Container, Docker, connect};
use crate::error::{Failure, Result};
use bollard::models::ContainerInspectResponse;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// How a container is connected, as far as it matters here.
#[derive(Debug, Default)]
struct Connected {
    mode: String,
    /// Network and address.
    networks: Vec<(String, String)>,
    /// Address and port of the engine's host that lead to the wanted port.
    published: Vec<(String, u16)>,
}

impl Connected {
    fn of(details: ContainerInspectResponse, port: u16) -> Self {
        let mode = details.host_config.and_then(|config| config.network_mode).unwrap_or_default();
        let settings = details.network_settings.unwrap_or_default();
        let networks = settings.networks.unwrap_or_default().into_iter();
        let mut networks: Vec<_> = networks
            .filter_map(|(name, endpoint)| Some((name, endpoint.ip_address?)))
            .filter(|(_, address)| !address.is_empty())
            .collect();
        networks.sort();
        let bindings = settings.ports.unwrap_or_default().remove(&format!("{port}/tcp")).flatten().unwrap_or_default();
        let published = bindings
            .into_iter()
            .filter_map(|binding| Some((binding.host_ip.unwrap_or_default(), binding.host_port?.parse().ok()?)))
            .collect();
        Connected { mode, networks, published }
    }

    /// What to try, best first. `shared` are the networks of this process; `None` on the engine's host, which reaches all.
    fn candidates(&self, port: u16, engine: Option<&str>, shared: Option<&[String]>) -> Vec<(String, u16)> {
        let host = engine.unwrap_or("127.0.0.1");
        if self.mode == "host" {
            return vec![(host.to_owned(), port)];
        }
        let reached = self.networks.iter().filter(|(name, _)| shared.is_none_or(|shared| shared.contains(name)));
        let mut candidates: Vec<_> = reached.map(|(_, address)| (address.clone(), port)).collect();
        for (address, port) in &self.published {
            let anywhere = matches!(address.as_str(), "" | "0.0.0.0" | "::");
            let loopback = address.starts_with("127.") || address == "::1";
            match (anywhere, loopback, engine) {
                (true, ..) => candidates.push((host.to_owned(), *port)),
                // The loopback of another machine.
                (_, true, Some(far)) if !is_loopback(far) => {}
                _ => candidates.push((address.clone(), *port)),
            }
        }
        candidates.dedup();
        candidates
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

impl Docker {
    /// Networks of the container that this process is in; `None` when it is in none, on the engine's host.
    fn own_networks(&self) -> Option<Vec<String>> {
        let name = crate::host::name();
        let local = self.endpoint.host().is_none_or(is_loopback);
        let own = connect::wait(self.client.inspect_container(&name, None)).ok()?.ok();
        let own = own.filter(|own| own.id.as_deref().is_some_and(|id| id.starts_with(&name)));
        match own {
            Some(own) => Some(Connected::of(own, 0).networks.into_iter().map(|(name, _)| name).collect()),
            None if local => None,
            None => Some(Vec::new()),
        }
    }
}

impl Container {
    /// Address of `port` of the container as this process reaches it.
    pub fn address(&self, port: u16) -> Result<(String, u16)> {
        let failure = || Failure::failed(format!("port {port} of {} cannot be reached from here", self.title()));
        let mut connected = self.connected(&self.id, port)?;
        if let Some(other) = connected.mode.strip_prefix("container:").map(str::to_owned) {
            connected = self.connected(&other, port)?;
        }
        if connected.mode == "none" {
            return Err(failure().because("it has no network").hint("Let the client run inside the container"));
        }
        let shared = self.docker.own_networks();
        let candidates = connected.candidates(port, self.docker.endpoint.host(), shared.as_deref());
        let mut tried = Vec::new();
        for (host, port) in candidates {
            match reach(&host, port) {
                Ok(()) => return Ok((host, port)),
                Err(error) => tried.push(format!("{host}:{port}: {error}")),
            }
        }
        if tried.is_empty() {
            let hint = format!(
                "Let bkp join one of its networks, publish the port on loopback (127.0.0.1::{port}), or let the client run inside the container"
            );
            return Err(failure().because("it shares no network with bkp, and the port is not published").hint(hint));
        }
        Err(failure().because(tried.join("; ")).hint("Look whether the server listens on that port, on all addresses"))
    }

    /// All that lead to `port` of the container from here, whether or not somebody listens.
    pub fn addresses(&self, port: u16) -> Result<Vec<(String, u16)>> {
        let mut connected = self.connected(&self.id, port)?;
        if let Some(other) = connected.mode.strip_prefix("container:").map(str::to_owned) {
            connected = self.connected(&other, port)?;
        }
        let shared = self.docker.own_networks();
        Ok(connected.candidates(port, self.docker.endpoint.host(), shared.as_deref()))
    }

    fn connected(&self, id: &str, port: u16) -> Result<Connected> {
        let what = || format!("cannot look at {}", self.title());
        ask(what, self.docker.client.inspect_container(id, None)).map(|details| Connected::of(details, port))
    }
}

fn reach(host: &str, port: u16) -> std::io::Result<()> {
    let mut outcome = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(mode: &str, published: &[(&str, u16)]) -> Connected {
        Connected {
            mode: mode.into(),
            networks: vec![("back".into(), "172.18.0.2".into()), ("front".into(), "172.19.0.2".into())],
            published: published.iter().map(|(address, port)| ((*address).into(), *port)).collect(),
        }
    }

    fn texts(candidates: Vec<(String, u16)>) -> Vec<String> {
        candidates.into_iter().map(|(host, port)| format!("{host}:{port}")).collect()
    }

    #[test]
    fn on_the_engines_host_the_container_is_reached_itself() {
        let found = connected("back", &[("0.0.0.0", 33060), ("::", 33060)]).candidates(3306, None, None);
        assert_eq!(texts(found), ["172.18.0.2:3306", "172.19.0.2:3306", "127.0.0.1:33060"]);
        assert_eq!(texts(connected("host", &[]).candidates(3306, None, None)), ["127.0.0.1:3306"]);
    }

    #[test]
    fn from_another_container_only_shared_networks_count() {
        let shared = ["front".to_owned()];
        let found = connected("back", &[("127.0.0.1", 33060)]).candidates(3306, Some("proxy"), Some(&shared));
        assert_eq!(texts(found), ["172.19.0.2:3306"]);
    }

    #[test]
    fn a_far_engine_is_reached_by_published_ports_alone() {
        let found =
            connected("back", &[("0.0.0.0", 33060), ("127.0.0.1", 33061)]).candidates(3306, Some("far"), Some(&[]));
        assert_eq!(texts(found), ["far:33060"]);
    }
}
