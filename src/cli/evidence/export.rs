//! `bkp evidence export`: everything that an auditor needs.

use super::{Door, Look, only, signer, verifier};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::output::plain;
use crate::daemon::host;
use crate::error::{Failure, Kind, Result};
use crate::evidence::bundle::{Export, Manifest, Out};
use crate::evidence::{self, Keeper, Kept, Signer, Verdict, Verification};
use crate::report::Period;
use std::path::PathBuf;

/// Write everything that an auditor needs into a directory or a tar file
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Segments come from the repository, with the signatures they were sealed with; the newest records are signed now. With --identity it \
works on any machine, for what was sealed.

Examples:
  bkp evidence export evidence.tar
  bkp evidence export /srv/audit/2026-q4 --period 2026-Q4
  bkp evidence export year.tar --period 2026 --identity recovery-key.txt --writer 0f3a…")]
pub struct Exporting {
    /// A new directory, or a new file ending in .tar
    #[arg(value_name = "DIR|FILE.tar")]
    to: PathBuf,
    /// As for `bkp report`: 2026, 2026-Q4, 2026-11, 2026-W48, a day, or from one day to another [default: everything]
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,
    /// The host whose journal it is, where the repository has several
    #[arg(long, value_name = "ID")]
    writer: Option<String>,
    /// Do not ask the repository: sign what this host has
    #[arg(long)]
    offline: bool,
}

impl Exporting {
    pub fn run(self, env: &Environment) -> Ran {
        let zone = env.zone()?;
        let period = self.period.as_deref().map(|text| Period::parse(text, zone)).transpose()?;
        let own = if self.writer.is_none() { verifier(env)? } else { None };
        let door = match self.offline || own.is_some() {
            true => None,
            // Who gives an identity wants what the only host sealed.
            false if env.globals.identity.is_empty() => {
                Some(Door::of_host(env, env.repository()?, self.writer.as_deref())?)
            }
            false => Some(Door::of(env, env.repository()?, self.writer.as_deref())?),
        };
        // A verifier is not in the repository, and knows the points there.
        let points = own.as_ref().filter(|_| !self.offline).and_then(|_| env.repository().ok());
        let keeper = door.as_ref().map(|door| door.keeper(None));
        let journal = env.journal()?;
        let local = journal.id()?.filter(|_| door.as_ref().is_none_or(Door::is_of_this_host));
        let is_local = local.is_some();
        let (id, verification) = self.looked_at(local, env, keeper.as_ref())?;
        let signer = match &door {
            Some(door) => door.access.writer.as_ref().filter(|own| own.id() == door.writer).map(Signer::of),
            None => Some(signer(env)?),
        };
        let (key, writer) = match (&door, &signer) {
            (Some(door), _) => (door.signer, door.writer.clone()),
            (None, Some(signer)) => (signer.key.verifying_key(), signer.id.clone()),
            (None, None) => return Err(Failure::new(Kind::Key, "this host has no key to sign with")),
        };
        let repository = door.as_ref().map(|door| door.repository.id().to_owned());
        let kept = Kept::of(&env.paths()?.state);
        let export = Export {
            host: &signer.as_ref().map_or_else(host, |own| own.host.clone()),
            journal: is_local.then_some(&journal),
            keeper: keeper.as_ref(),
            kept: is_local.then_some(&kept),
            points: door.as_ref().map(|door| &door.repository).or(points.as_ref()),
            signing: signer.as_ref().map(|own| &own.key),
            repository: &repository.or(signer.as_ref().map(|own| own.repository.clone())).unwrap_or_default(),
            writer: &writer,
            key,
            id: &id,
            period: period.map(|period| (period.from, period.to)),
            now: env.now,
        };
        let mut out = Out::new(&self.to)?;
        let manifest = export.write(&mut out)?;
        out.put_json("verification.json", &verification)?;
        out.finish()?;
        self.tell(env, &manifest, &verification)?;
        // What could not be asked is told in the bundle, and does not keep it from being one.
        Ok((verification.verdict == Verdict::Tampered).then_some(Kind::Verification))
    }

    fn tell(&self, env: &Environment, manifest: &Manifest, verification: &Verification) -> Result<()> {
        let document = serde_json::json!({ "bundle": self.to, "manifest": manifest, "verification": verification });
        env.output.answer(&document, || {
            let (records, to) = (evidence::records(manifest.from, manifest.to), self.to.display());
            let mut said = format!("{records} of {} are in {to}", plain(&manifest.host));
            said.push_str(&format!("\nverify it with: bkp evidence verify {to} --key {}", manifest.verify_key));
            for finding in &verification.findings {
                said.push_str(&format!("\nWRONG  {}", plain(&finding.text)));
            }
            for unasked in &verification.unasked {
                said.push_str(&format!("\nNOT KNOWN  {}", plain(unasked)));
            }
            said
        })
    }

    /// The journal's id, and what verification says of it before it is handed out.
    fn looked_at(
        &self,
        local: Option<String>,
        env: &Environment,
        keeper: Option<&Keeper<'_>>,
    ) -> Result<(String, Verification)> {
        match (local, keeper) {
            (Some(id), _) => {
                let look = Look { offline: self.offline, writer: self.writer.as_deref(), ..Look::default() };
                Ok((id, look.at_host(env)?))
            }
            (None, Some(keeper)) => {
                let id = only(keeper)?;
                let material = keeper.material(&id)?;
                Ok((id, evidence::verify(material)?))
            }
            (None, None) => Err(Failure::failed("there is no journal on this host").hint("Leave out --offline")),
        }
    }
}
