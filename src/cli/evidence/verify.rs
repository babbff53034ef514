//! `bkp evidence verify`: whether the journal is whole, and what others hold of it fits.

use super::Door;
use super::look::{Look, key};
use super::only;
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::format::{count, instant, utc};
use crate::cli::output::{pairs, plain};
use crate::error::{Failure, Kind, Result};
use crate::evidence::bundle::Bundle;
use crate::evidence::timestamp::Authorities;
use crate::evidence::{self, Verdict, Verification, Witness};
use jiff::Timestamp;
use std::path::PathBuf;

/// Tell whether the journal is whole, and what others hold of it fits
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without BUNDLE it looks at the journal of this host, at what the repository and its copies hold of it, and at the files that it \
is anchored in. A bundle is verified offline.
Ends with exit code 4 when a record was removed, edited, moved, put in, or cut off, or when an anchor or a seal is gone, and says \
which one; with 3 when nothing wrong was found, and somebody who should have been asked could not be.

Examples:
  bkp evidence verify
  bkp evidence verify --offline                  this host alone
  bkp evidence verify --stored --identity recovery-key.txt
  bkp evidence verify evidence.tar --key ed25519:…
  bkp evidence verify evidence.tar --key recovery-key.txt --anchor saved-mail.eml")]
pub struct Verify {
    /// A bundle that was made with `bkp evidence export`
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// The public key of the host: ed25519:…, or a file that holds it, such as a recovery key file
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
    /// A file with heads of the journal that were anchored: as an anchor wrote it, or a mail as it came
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// The certificates of the authorities whose time stamps are believed, in PEM
    #[arg(long, value_name = "FILE")]
    tsa_ca: Option<PathBuf>,
    /// Ask neither the repository nor its copies
    #[arg(long, conflicts_with_all = ["bundle", "stored"])]
    offline: bool,
    /// Look at what the repository holds, and not at the journal of this host
    #[arg(long, conflicts_with = "bundle")]
    stored: bool,
    /// Accept a bundle that its host did not sign, such as one that an operator made of what is sealed
    #[arg(long, requires = "bundle")]
    unsigned: bool,
    /// The host whose journal it is, where the repository has several
    #[arg(long, value_name = "ID")]
    writer: Option<String>,
}

impl Verify {
    pub fn run(self, env: &Environment) -> Ran {
        let verification = match &self.bundle {
            Some(path) => self.bundle(path)?,
            None if self.stored => self.stored(env)?,
            None => self.look().at_host(env)?,
        };
        env.output.answer(&verification, || text(&verification, env))?;
        Ok(verification.kind())
    }

    fn look(&self) -> Look<'_> {
        Look {
            offline: self.offline,
            briefly: false,
            writer: self.writer.as_deref(),
            key: self.key.as_deref(),
            anchors: &self.anchor,
            tsa_ca: self.tsa_ca.as_deref(),
        }
    }

    fn bundle(&self, path: &std::path::Path) -> Result<Verification> {
        let bundle = Bundle::open(path)?;
        let given = self.key.as_deref().map(|text| key(text, &bundle.manifest.writer)).transpose()?;
        let key = given.unwrap_or(bundle.claimed);
        let authorities = self.tsa_ca.as_deref().map(Authorities::read).transpose()?;
        let mut material = bundle.material(key, authorities.as_ref(), self.unsigned)?;
        material.key = Some((key, given.is_some()));
        if given.is_none() {
            material.judged.unasked.push(
                "whose key it is: it is the bundle's own word. Compare it with the recovery key file, and give it with --key"
                    .into(),
            );
        }
        self.look().files(&mut material, &key, &bundle.manifest.writer)?;
        evidence::verify(material)
    }

    fn stored(&self, env: &Environment) -> Result<Verification> {
        let door = Door::of(env, env.repository()?, self.writer.as_deref())?;
        let authorities = self.look().authorities(env)?;
        let keeper = door.keeper(authorities.as_ref());
        let id = only(&keeper)?;
        let mut material = keeper.material(&id)?;
        let sealed = "only what was sealed is looked at; newer records are on the host";
        material.judged.notes.push(sealed.into());
        let given = self.key.as_deref().map(|text| key(text, &door.writer)).transpose()?;
        if given.is_some_and(|given| given != door.signer) {
            let what = format!("the repository has another key of writer {} than the one that was given", door.writer);
            return Err(Failure::new(Kind::Verification, what));
        }
        let pinned = door.pinned || given.is_some();
        material.key = Some((door.signer, pinned));
        if !pinned {
            let whose =
                "whose key it is: only the repository says so. The recovery key file names it: --identity, --key";
            material.judged.unasked.push(whose.into());
        }
        self.look().files(&mut material, &door.signer, &door.writer)?;
        evidence::verify(material)
    }
}

fn text(verification: &Verification, env: &Environment) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let mark = |at: Option<Timestamp>| at.map(|at| format!("{} ({})", instant(at, &zone), utc(at))).unwrap_or_default();
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let (Some(first), Some(last)) = (&verification.first, &verification.last) {
        rows.push(("records", format!("{}, numbers {} to {}", verification.records, first.seq, last.seq)));
        rows.push(("first", mark(first.at)));
        rows.push(("last", format!("{}\nhash {}", mark(last.at), last.hash)));
    }
    rows.push(("sealed", format!("{} of {}", verification.sealed, count(verification.segments as usize, "segment"))));
    rows.push((
        "covered",
        match verification.covered_to {
            0 => "nothing yet: no seal and no anchor that fits was found".into(),
            seq => format!("up to record {seq}: what is sealed or anchored cannot be taken back unseen"),
        },
    ));
    let open = if verification.open_runs == 0 {
        String::new()
    } else {
        format!(", {} without an end", verification.open_runs)
    };
    rows.push(("runs", format!("{}{open}", verification.runs)));
    rows.push((
        "rehearsals",
        format!("{}, {} with a signed statement", verification.rehearsals, verification.attested),
    ));
    if let Some(key) = &verification.key {
        rows.push(("key", format!("{} ({})", key.key, key.id)));
    }
    for anchor in &verification.anchors {
        rows.push(("anchor", anchor_text(&anchor.witness, anchor.fits)));
    }
    let mut text = pairs(&rows);
    for note in &verification.notes {
        text.push_str(&format!("\nnote: {}", plain(note)));
    }
    for finding in &verification.findings {
        text.push_str(&format!("\nWRONG  {}", plain(&finding.text)));
    }
    for unasked in &verification.unasked {
        text.push_str(&format!("\nNOT KNOWN  {}", plain(unasked)));
    }
    text.push_str(match verification.verdict {
        Verdict::Fits => "\neverything fits",
        Verdict::NotKnown => "\nnothing wrong was found in what could be looked at",
        Verdict::Tampered => "\nit is not as it was written",
    });
    text
}

fn anchor_text(witness: &Witness, fits: Option<bool>) -> String {
    let fits = match fits {
        Some(true) => "fits",
        Some(false) => "DOES NOT FIT",
        None => "is of a record that is not here",
    };
    let stamped = witness.stamped.as_ref().map(|stamped| {
        let trusted = if stamped.trusted { "" } else { ", whose certificate was not checked" };
        format!(", time stamp {} by {}{trusted}", utc(stamped.at), plain(&stamped.authority))
    });
    format!(
        "record {} {fits}: {}, {}{}",
        witness.seq,
        plain(&witness.place),
        utc(witness.at),
        stamped.unwrap_or_default()
    )
}
