//! Signed records: small JSON documents in an envelope and a container. Proofs, pins, and what collectors write are such.
//!
//! The type of the payload is signed with it, so that a record of one kind is never taken for one of another.

use crate::error::{Failure, Kind, Result};
use crate::repo::container::{decode, encode};
use crate::repo::keys::{Keyring, Recipients};
use crate::repo::sign;
use crate::repo::writer::Writer;
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub trait Record: Serialize + DeserializeOwned {
    /// The `payloadType` of its envelope.
    const TYPE: &'static str;

    /// Which repository it says it belongs to.
    fn repository(&self) -> &str;
}

pub fn seal<R: Record>(record: &R, writer: &Writer, recipients: &Recipients) -> Result<Vec<u8>> {
    let payload = serde_json::to_vec(record).map_err(|e| Failure::failed("cannot write a record").because(e))?;
    encode::seal(&sign::sign(R::TYPE, &payload, &writer.signing), recipients)
}

/// `what` names the object in errors.
pub fn open<R: Record>(
    sealed: &[u8],
    keys: &Keyring,
    signer: &VerifyingKey,
    repository: &str,
    what: &str,
) -> Result<R> {
    let envelope = decode::open_whole(sealed, keys, what)?;
    let payload = sign::verify(&envelope, R::TYPE, signer, what)?;
    let record: R = serde_json::from_slice(&payload).map_err(|e| Failure::new(Kind::Verification, what).because(e))?;
    if record.repository() != repository {
        return Err(Failure::new(Kind::Verification, format!("{what} belongs to another repository")));
    }
    Ok(record)
}
