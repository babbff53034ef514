//! Database servers: where one is, and as whom bkp speaks to it. What the engines of servers have in common.

use crate::error::Result;
use crate::exec::docker::{Docker, Image};
use crate::exec::{Exec, Place};
use crate::secret::{Secret, SecretRef, Secrets};
use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// Where a server is. Clients run in `place`; inside a container they speak to the server there unless `host` says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    pub place: Place,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<SecretRef>,
    /// Without a password of bkp's own: under which names the container was told one; see [`crate::exec::docker::Description::told`].
    pub own_password: &'static [&'static str],
    /// Certificate authorities to trust, in PEM; with one, the connection must be encrypted and the certificate right.
    pub ca_file: Option<PathBuf>,
    /// Who reads the password.
    pub secrets: Secrets,
}

impl Server {
    /// For people: `container mysql-auth`, `127.0.0.1:3306`.
    pub fn location(&self) -> String {
        match (&self.place, &self.host, &self.socket) {
            (Place::Container(_), None, _) => self.place.name(),
            (_, _, Some(socket)) => socket.display().to_string(),
            (_, host, None) => {
                let host = host.as_deref().unwrap_or("127.0.0.1");
                self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
            }
        }
    }

    pub fn exec(&self) -> Result<Box<dyn Exec>> {
        self.place.exec()
    }

    /// What the server's container was made of.
    pub fn image(&self) -> Result<Option<Image>> {
        match &self.place {
            Place::Host => Ok(None),
            Place::Container(selector) => Ok(Some(Docker::connect()?.find(selector)?.image)),
        }
    }

    /// Reads the password, as late as possible.
    pub fn password(&self) -> Result<Option<Secret>> {
        match (&self.password, &self.place) {
            (Some(reference), _) => self.secrets.read(reference).map(Some),
            (None, Place::Container(selector)) if !self.own_password.is_empty() => {
                Docker::connect()?.find(selector)?.secret(self.own_password)
            }
            (None, _) => Ok(None),
        }
    }

    /// Secrets that are used as they were some time ago, and a container that says itself that it is not well. For people.
    pub fn degraded(&self) -> Vec<String> {
        self.secrets.degraded_of(&self.password).into_iter().chain(self.unhealthy()).collect()
    }

    /// The container, when its own health check fails.
    pub fn unhealthy(&self) -> Option<String> {
        let Place::Container(selector) = &self.place else { return None };
        // One that does not run has been told already.
        let container = Docker::connect().ok()?.find(selector).ok()?;
        let name = container.name;
        (container.health.as_deref() == Some("unhealthy")).then(|| {
            format!("container {name} is unhealthy: its own health check fails. See why: docker inspect --format '{{{{json .State.Health}}}}' {name}")
        })
    }

    /// All addresses that lead there from this host; none where that is not told.
    pub fn addresses(&self, default_port: u16) -> BTreeSet<SocketAddr> {
        let port = self.port.unwrap_or(default_port);
        let named = match (&self.place, &self.host, &self.socket) {
            (Place::Container(selector), None, _) => Docker::connect()
                .and_then(|docker| docker.find(selector))
                .and_then(|container| container.addresses(port))
                .unwrap_or_default(),
            (Place::Host, None, Some(_)) => Vec::new(),
            (_, host, _) => vec![(host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()), port)],
        };
        let found = named.iter().filter_map(|(host, port)| (host.as_str(), *port).to_socket_addrs().ok());
        found.flatten().collect()
    }

    /// Address of the server for a client inside this process.
    pub fn address(&self, default_port: u16) -> Result<(String, u16)> {
        let port = self.port.unwrap_or(default_port);
        match (&self.place, &self.host) {
            (Place::Container(selector), None) => Docker::connect()?.find(selector)?.address(port),
            (_, host) => Ok((host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()), port)),
        }
    }
}
