//! `bkp evidence key`: whose signatures an auditor is to believe.

use super::{has_writer, signer};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::error::{Failure, Kind};
use crate::evidence::Signer;
use crate::host;
use crate::repo::sign;

/// The public key that this host signs its journal with
#[derive(clap::Args, Debug)]
#[command(after_help = "\
What it prints is for `bkp evidence verify --key`: hand it to the auditor by another way than the bundles. \
A host that makes backups signs with the key it writes with. A verifier, which only reads, has a key of its own.

Examples:
  bkp evidence key > db1.key
  bkp evidence key --new                         on a verifier, once")]
pub struct Arguments {
    /// Make a key, on a host that writes into no repository
    #[arg(long)]
    new: bool,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        if self.new && has_writer(env)? {
            return Err(Failure::new(Kind::Refused, "this host makes backups, and signs with the key it writes with")
                .hint("See it with: bkp evidence key"));
        }
        let signer = match self.new {
            true => Signer::make(&env.paths()?.state, &host::name(), env.now)?,
            false => signer(env)?,
        };
        let key = signer.key.verifying_key();
        let (text, pem) = (sign::key_text(&key), sign::key_pem(&key));
        let own = signer.repository.is_empty();
        let document = serde_json::json!({ "id": signer.id, "host": signer.host, "key": text, "pem": pem, "own": own });
        env.output.answer(&document, || format!("{} {text}", signer.id))?;
        Ok(None)
    }
}
