//! A bundle, to be verified: nothing in it is believed for standing there.

use super::{Files, Manifest, TYPE};
use crate::error::{Failure, Kind, Result};
use crate::evidence::chain::{Seal, Segment};
use crate::evidence::finding::{Finding, Tampering};
use crate::evidence::head::{SignedHead, StampedHead, Witness};
use crate::evidence::statement::Signed;
use crate::evidence::timestamp::Authorities;
use crate::evidence::verify::{Judged, Material, Scope};
use crate::repo::journal::PAYLOAD_TYPE;
use crate::repo::sign::{self, Detached};
use ed25519_dalek::VerifyingKey;
use std::path::Path;

pub struct Bundle {
    files: Files,
    pub manifest: Manifest,
    /// What the bundle itself says the writer's key is.
    pub claimed: VerifyingKey,
}

impl Bundle {
    pub fn open(path: &Path) -> Result<Self> {
        let files = Files::open(path)?;
        let none = || {
            Failure::new(Kind::Verification, format!("{} is no bundle of evidence", path.display()))
                .hint("It is a directory or a tar file that was made with: bkp evidence export")
        };
        let bytes = files.read("bundle.json")?.ok_or_else(|| none().because("there is no bundle.json in it"))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| none().because(e))?;
        crate::repo::point::refuse_newer(manifest.format, "the bundle")?;
        let claimed = sign::parse_key(&manifest.verify_key)?;
        Ok(Bundle { files, manifest, claimed })
    }

    /// `key`: whose signatures to believe; `authorities`: whose time stamps. `unsigned`: the reader knows that its host did not
    /// make the bundle.
    pub fn material(
        &self,
        key: VerifyingKey,
        authorities: Option<&Authorities>,
        unsigned: bool,
    ) -> Result<Material<'_>> {
        let manifest = &self.manifest;
        let mut material = Material { begins: Some(manifest.from), ..Material::default() };
        let by_host = self.is_signed(&key, &mut material.judged)?;
        self.beginning_and_end(by_host, &mut material);
        if !by_host && material.judged.findings.is_empty() {
            let what = "bundle.json is not signed: somebody else than its host made it, so that records missing at the beginning or the end show only by anchors";
            match unsigned {
                true => material.judged.notes.push(what.into()),
                false => material.judged.unasked.push(format!("{what} (to take it nevertheless: --unsigned)")),
            }
        }
        for name in self.files.list("journal")? {
            let Some(first) = name.strip_suffix(".jsonl").and_then(|first| first.parse().ok()) else { continue };
            let path = format!("journal/{name}");
            let bytes = Box::new(move || {
                let gone = || Failure::new(Kind::Verification, format!("{path} is gone"));
                self.files.read(&path)?.ok_or_else(gone)
            });
            let seal = self.seal(&name, key)?;
            material.segments.push(Segment { name, first, bytes, seal });
        }
        for head in self.heads()? {
            let name = format!("anchors/{:016}.json", head.seq);
            match SignedHead::open(&head.envelope, &key, &name) {
                Ok(signed) => material.take(signed, ("the bundle", &name), &head, authorities),
                Err(failure) => {
                    material.judged.findings.push(finding(Tampering::Signature, head.seq, &name, &failure));
                }
            }
        }
        let mut statements = Vec::new();
        for file in self.files.list("rehearsals")? {
            let name = format!("rehearsals/{file}");
            let envelope = Ok(self.files.read(&name)?.unwrap_or_default());
            statements.push(Signed { seq: number(&file).unwrap_or(0), name, envelope, key });
        }
        material.statements = Some(statements);
        Ok(material)
    }

    /// Where it begins, where it ends and what belongs to it is the word of its host, and nobody else's.
    fn beginning_and_end(&self, by_host: bool, material: &mut Material<'_>) {
        let Manifest { journal, to, hash, created, period, .. } = self.manifest.clone();
        if !by_host {
            material.scope = Scope::Bundle { until: None, period_ends: None };
            return;
        }
        let period_ends = period.map(|(_, to)| to);
        let until = Some(period_ends.map_or(created, |end| end.min(created)));
        material.scope = Scope::Bundle { until, period_ends };
        material.journal = Some(journal.clone());
        let place = "bundle.json".to_owned();
        material.witnesses.push(Witness { place, journal, seq: to, hash, at: created, stamped: None });
        for (name, sha256) in self.manifest.files.iter().flatten() {
            let is_there = self.files.read(name).is_ok_and(|bytes| {
                bytes.is_some_and(|bytes| hex::encode(crate::repo::names::sha256(&bytes)) == *sha256)
            });
            if !is_there {
                let of_anchor = name.starts_with("anchors/");
                let tampering = if of_anchor { Tampering::AnchorGone } else { Tampering::Statement };
                let seq = name.split_once('/').and_then(|(_, file)| number(file)).unwrap_or(0);
                let what = format!("and {name}: it was taken out of the bundle, or is another one");
                material.judged.findings.push(Finding::new(tampering, name, (seq, seq), &what));
            }
        }
    }

    /// Whether the host itself says what belongs to the bundle.
    fn is_signed(&self, key: &VerifyingKey, judged: &mut Judged) -> Result<bool> {
        let name = "bundle.json";
        let Some(signature) = self.files.read("bundle.sig.json")? else { return Ok(false) };
        let bytes = self.files.read(name)?.unwrap_or_default();
        let fits = serde_json::from_slice::<Detached>(&signature).is_ok_and(|sig| sig.fits(TYPE, &bytes, key));
        if !fits {
            let failure = Failure::failed("its signature is not of this content by the writer's key");
            judged.findings.push(finding(Tampering::Signature, self.manifest.from, name, &failure));
        }
        Ok(fits)
    }

    fn seal(&self, name: &str, key: VerifyingKey) -> Result<Seal<'static>> {
        let seal = self.files.read(&format!("seals/{name}.json"))?;
        let seal = seal.and_then(|bytes| serde_json::from_slice::<Detached>(&bytes).ok());
        Ok(Seal::Signed(Box::new(move |bytes| match &seal {
            None => Some("there is no signature of it".into()),
            Some(seal) if seal.fits(PAYLOAD_TYPE, bytes, &key) => None,
            Some(_) => Some("its signature is of another content, or by another key".into()),
        })))
    }

    /// The anchors, with their time stamps.
    fn heads(&self) -> Result<Vec<StampedHead>> {
        let mut heads = Vec::new();
        for name in self.files.list("anchors")? {
            let Some(seq) = name.strip_suffix(".json").and_then(|seq| seq.parse().ok()) else { continue };
            let envelope = self.files.read(&format!("anchors/{name}"))?.unwrap_or_default();
            let stamp = self.files.read(&format!("anchors/{}.tsr", name.trim_end_matches(".json")))?;
            heads.push(StampedHead { seq, envelope, stamp });
        }
        Ok(heads)
    }
}

/// The number in the name of a file.
fn number(file: &str) -> Option<u64> {
    file.split('.').next()?.parse().ok()
}

fn finding(tampering: Tampering, seq: u64, name: &str, failure: &Failure) -> Finding {
    Finding::new(tampering, name, (seq, seq), &format!("and {name}: {}", failure.full()))
}
