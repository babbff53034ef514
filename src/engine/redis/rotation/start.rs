//! What a server still knows after its next start: what is written to its file of users or its configuration, and what it is
//! told in its command, which no file can change.

use super::{RULE, Rotation};
use crate::engine::Node;
use crate::engine::redis::group::Member;
use crate::error::{Failure, Kind, Result};
use crate::exec::docker::{Description, Docker};
use crate::secret::Secret;

impl Rotation {
    /// What is in memory is written where a start of the server reads it.
    pub(super) fn keep(&self, member: &mut Member<'_>) -> Result<()> {
        let (has_users, has_file) = (!member.setting("aclfile")?.is_empty(), !member.is("config_file").is_empty());
        let unwritable = |failure: Failure| {
            failure.hint("Nothing that is changed would outlive a restart: let the server write there (its directory, too), then run this again")
        };
        if has_users {
            member.told(&["ACL", "SAVE"], RULE).map_err(unwritable)?;
        }
        if has_file && (!has_users || self.is_default() || self.links().is_used_by(member)?) {
            member.told(&["CONFIG", "REWRITE"], RULE).map_err(unwritable)?;
        }
        Ok(())
    }

    pub(super) fn must_be_kept(&self, member: &mut Member<'_>) -> Result<()> {
        let has_users = !member.setting("aclfile")?.is_empty();
        let has_file = !member.is("config_file").is_empty();
        if has_file || has_users && !self.links().is_used_by(member)? {
            return Ok(());
        }
        let what =
            format!("{} was started without a file: after a restart it would have the old password", member.node);
        Err(Failure::new(Kind::Refused, what).hint(
            "Start it with a configuration file, redis-server /…/redis.conf, in a directory that it may write to, and without passwords in its arguments; `aclfile` may say where users are",
        ))
    }

    /// Arguments come after the file, and win. Of servers that are in no container of this host they are not to be seen. Gives
    /// why containers could not be looked at.
    pub(super) fn must_not_be_started_with(&self, secret: &Secret, members: &[Member<'_>]) -> Result<Option<String>> {
        let found = Docker::if_there().and_then(|docker| docker.map_or(Ok(Vec::new()), |docker| docker.containers()));
        let containers = match found {
            Ok(containers) => containers,
            Err(failure) => {
                return Ok(Some(format!(
                    "the commands of servers in containers were not looked at: {}",
                    failure.full()
                )));
            }
        };
        let of_these = containers.iter().filter(|one| members.iter().any(|member| is_at(one, &member.node)));
        let told = of_these.map(|container| (container, container.told_as(secret)));
        let Some((container, places)) = told.into_iter().find(|(_, places)| !places.is_empty()) else {
            return Ok(None);
        };
        let (name, places) = (&container.name, places.join(" and "));
        let what =
            format!("container {name} is started with this password, in {places}: its next start would use it again");
        Err(Failure::new(Kind::Refused, what).hint(
            "Leave it to the file alone: write `requirepass PASSWORD` (or the user) there, take it out of the service in compose.yaml, start it once like that, then rotate",
        ))
    }
}

fn is_at(container: &Description, node: &Node) -> bool {
    let is_here = ["127.0.0.1", "::1", "localhost"].contains(&node.host.as_str());
    let mut published = container.ports.iter().filter_map(|port| port.published.as_ref());
    is_here && published.any(|(_, port)| *port == node.port)
        || container.name == node.host
        || container.networks.values().any(|address| *address == node.host)
}
