//! The keys that say who uses a password that is rotated: shapes only, as in the module above.

use crate::policy::reading::{Field, OneOrMore};
use schemars::JsonSchema;
use serde::Deserialize;

/// Something that uses the password: how it is told, how it takes it up, and how it is seen that it works.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// A file of variables, such as the `.env` of a Compose project: the password in it is replaced, and nothing else. Without
    /// one, and without `secret_file`, the consumer reads what is published.
    pub env_file: Option<Field<String>>,
    /// The variable in it that is the password, or holds it, as in an address; or all of them, as a list.
    pub variable: Option<Field<OneOrMore<String>>>,
    /// The variable in it that is the user, where that changes with the password and `variable` is no address that holds both; or
    /// all of them, as a list.
    pub user_variable: Option<Field<OneOrMore<String>>>,
    /// A file that is the password, or an address that holds it; replaced in one step.
    pub secret_file: Option<Field<String>>,
    /// A service of a Compose project, waited for until it is healthy: made again with `docker compose up -d --no-deps SERVICE`
    /// where it is told by `env_file`, and restarted otherwise.
    pub compose: Option<Field<Compose>>,
    /// A container, restarted and waited for until it is healthy.
    pub container: Option<Field<Container>>,
    /// A service of Docker Swarm: given a secret under another name for each version, or made anew.
    pub swarm: Option<Field<Swarm>>,
    /// A Deployment or StatefulSet of Kubernetes: given a Secret under another name for each version, or restarted.
    pub kubernetes: Option<Field<Workload>>,
    /// Run to let it take up the password, which it finds on standard input; it must end well. No shell looks at it.
    pub command: Option<Field<Vec<Field<String>>>>,
    /// Run afterwards until it ends well: the consumer works with the new password.
    pub check: Option<Field<Vec<Field<String>>>>,
    /// How long it may take until it works. Default: `2m`.
    pub patience: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// Directory of the project.
    pub directory: Option<Field<String>>,
    /// Name of the project, where it is not what Compose makes of the directory.
    pub project: Option<Field<String>>,
    /// The file of the project, where it is not one that Compose finds by itself.
    pub file: Option<Field<String>>,
    pub service: Option<Field<String>>,
    /// Sent to its containers, such as `HUP`, instead of making them again: they read the secret anew by that.
    pub signal: Option<Field<String>>,
    /// Replaced one by one: a new container first, and when it is ready an old one is told to end and waited for, as workers of
    /// Celery want it.
    pub one_by_one: Option<Field<bool>>,
    /// With `one_by_one`: run in a new container until it ends well.
    pub ready: Option<Field<Vec<Field<String>>>>,
    /// With `one_by_one`: how long an old container may take to end before it is killed. Default: `10m`.
    pub grace: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// Name of the service.
    pub service: Option<Field<String>>,
    /// The secret that it is given, by the name people gave it. Without one its tasks are made anew, and read what is published.
    pub secret: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    pub namespace: Option<Field<String>>,
    /// Name of a Deployment.
    pub deployment: Option<Field<String>>,
    /// Name of a StatefulSet.
    pub stateful_set: Option<Field<String>>,
    /// The Secret that its pods are given, by the name people gave it. Without one, its pods are restarted, and read what is
    /// published.
    pub secret: Option<Field<String>>,
    /// The key in it that is the password, or an address that holds it.
    pub key: Option<Field<String>>,
    /// The key in it that is the user, where two take turns and `key` is no address that holds both.
    pub user_key: Option<Field<String>>,
    /// Address of the API, such as `https://10.0.0.1:6443`. Default: that of the cluster bkp runs in.
    pub server: Option<Field<String>>,
    /// Certificate authorities of the API, in PEM.
    pub ca_file: Option<Field<String>>,
    /// File with the token of bkp's service account; read for each call.
    pub token_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its name.
    pub name: Option<Field<String>>,
    /// Sent to it, such as `HUP`, instead of restarting it: it reads the secret anew by that.
    pub signal: Option<Field<String>>,
}
