//! A bundle, to be verified: nothing in it is believed for standing there.

use super::{Files, Manifest, TYPE};
use crate::error::{Failure, Kind, Result};
use crate::evidence::chain::{Seal, Segment};
use crate::evidence::finding::{Finding, Tampering};
use crate::evidence::head::{SignedHead, StampedHead, Witness};
use crate::evidence::statement::Signed;
use crate::evidence::timestamp::Authorities;
use crate::evidence::verify::Material;
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

    /// `key`: whose signatures to believe; `authorities`: whose time stamps.
    pub fn material(&self, key: VerifyingKey, authorities: Option<&Authorities>) -> Result<Material<'_>> {
        let manifest = &self.manifest;
        let mut material =
            Material { begins: Some(manifest.from), until: Some(manifest.created), ..Material::default() };
        self.own_signature(&key, &mut material)?;
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
        // The end of the journal when the bundle was made: by its own word, if that is signed.
        let place = "bundle.json".to_owned();
        let Manifest { journal, to, hash, created, .. } = manifest.clone();
        material.witnesses.push(Witness { place, journal, seq: to, hash, at: created, stamped: None });
        for head in self.heads()? {
            let name = format!("anchors/{:016}.json", head.seq);
            match SignedHead::open(&head.envelope, &key, &name) {
                Ok(signed) => material.take(signed, ("the bundle", &name), &head, authorities),
                Err(failure) => material.findings.push(finding(Tampering::Signature, head.seq, &name, &failure)),
            }
        }
        let mut statements = Vec::new();
        for name in self.files.list("rehearsals")? {
            let name = format!("rehearsals/{name}");
            let envelope = Ok(self.files.read(&name)?.unwrap_or_default());
            statements.push(Signed { name, envelope, key });
        }
        material.statements = Some(statements);
        Ok(material)
    }

    fn own_signature(&self, key: &VerifyingKey, material: &mut Material<'_>) -> Result<()> {
        let name = "bundle.json";
        let Some(signature) = self.files.read("bundle.sig.json")? else {
            material.notes.push(
                "bundle.json is not signed: it was exported elsewhere than on its host, so that records missing at the beginning or the end show only by anchors"
                    .into(),
            );
            return Ok(());
        };
        let bytes = self.files.read(name)?.unwrap_or_default();
        let fits = serde_json::from_slice::<Detached>(&signature).is_ok_and(|sig| sig.fits(TYPE, &bytes, key));
        if !fits {
            let failure = Failure::failed("its signature is not of this content by the writer's key");
            material.findings.push(finding(Tampering::Signature, self.manifest.from, name, &failure));
        }
        Ok(())
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

fn finding(tampering: Tampering, seq: u64, name: &str, failure: &Failure) -> Finding {
    Finding::new(tampering, name, (seq, seq), &format!("and {name}: {}", failure.full()))
}
