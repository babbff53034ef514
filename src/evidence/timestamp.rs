//! Time stamps (RFC 3161): an authority signs that a hash was there at an instant.
//!
//! The request carries a hash and nothing else. What comes back is looked at before it is kept: it must be of this hash, answer
//! this request, and be signed by the certificate it names. Whether that certificate is one to trust is decided by the
//! authorities that the reader names, at the time of the stamp; without any, that is told.

use super::head::Stamped;
use crate::error::{Context, Failure, Kind, Result};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{Any, Int, ObjectIdentifier, OctetString};
use der::{Decode, Encode, Reader, Sequence, SliceReader, Tag, Tagged};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::redirect::Policy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierOwned;
use std::path::Path;
use std::time::Duration;
use webpki::aws_lc_rs as algorithms;

const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer is a few kilobytes.
const LARGEST: usize = 1 << 20;

const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// `id-kp-timeStamping`, as webpki wants it: the encoded value.
const TIME_STAMPING: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

#[derive(Sequence)]
struct Imprint {
    algorithm: AlgorithmIdentifierOwned,
    hash: OctetString,
}

#[derive(Sequence)]
struct Request {
    version: u8,
    imprint: Imprint,
    nonce: Int,
    /// The certificates are to come along.
    certificates: bool,
}

#[derive(Sequence)]
struct Response {
    status: Any,
    #[asn1(optional = "true")]
    token: Option<ContentInfo>,
}

/// What the authority says.
struct Info {
    imprint: Imprint,
    at: Timestamp,
    nonce: Option<Vec<u8>>,
}

/// Whose certificates are believed.
pub struct Authorities(Vec<TrustAnchor<'static>>);

impl Authorities {
    pub fn read(path: &Path) -> Result<Self> {
        let what = || format!("cannot read {}", path.display());
        let pem = std::fs::read(path).context(what)?;
        let none = || Failure::usage(format!("{} holds no certificate", path.display())).hint("It is to be a PEM file");
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<_, _>>().map_err(|_| none())?;
        let anchor = |certificate| webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned());
        let anchors = certificates.iter().map(anchor).collect::<std::result::Result<Vec<_>, _>>();
        let anchors = anchors.map_err(|e| none().because(e.to_string()))?;
        if anchors.is_empty() { Err(none()) } else { Ok(Authorities(anchors)) }
    }
}

/// Has a message stamped. Gives the answer as it came, and what it says.
pub fn ask(url: &str, message: &[u8], authorities: Option<&Authorities>) -> Result<(Vec<u8>, Stamped)> {
    let mut nonce = [0u8; 9];
    getrandom::fill(&mut nonce[1..])
        .map_err(|e| Failure::failed("the kernel gives no random bytes").because(e.to_string()))?;
    // Positive, and not shortened by DER.
    nonce[1] |= 0x40;
    nonce[1] &= 0x7f;
    let request = request(message, &nonce[1..])
        .map_err(|e| Failure::failed("cannot write a request for a time stamp").because(e.to_string()))?;
    let answer = send(url, request)?;
    let looked = look(&answer, message, authorities).and_then(|(stamped, said)| match said.as_deref() {
        Some(said) if *said == nonce[1..] => Ok(stamped),
        _ => Err(bad("it answers another request")),
    });
    looked.map(|stamped| (answer, stamped)).map_err(|failure| from(url, failure))
}

/// The same failure, with whose answer it is.
fn from(url: &str, failure: Failure) -> Failure {
    let named = Failure::new(failure.kind(), format!("the answer of {url}: {}", failure.full()));
    match failure.next_step() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

fn request(message: &[u8], nonce: &[u8]) -> der::Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierOwned { oid: SHA256, parameters: None };
    let imprint = Imprint { algorithm, hash: OctetString::new(Sha256::digest(message).to_vec())? };
    Request { version: 1, imprint, nonce: Int::new(nonce)?, certificates: true }.to_der()
}

fn send(url: &str, request: Vec<u8>) -> Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::failed("cannot start the client for time stamps").because(e))?;
    let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
    let client = client.map_err(|e| Failure::failed("cannot prepare TLS for time stamps").because(e))?;
    let trouble = |why: String| {
        Failure::new(Kind::TryLater, format!("the time-stamping authority {url} gave no time stamp: {why}"))
            .hint("Look at `timestamp.url`, and whether that server answers")
    };
    runtime.block_on(async {
        let request = client.post(url).header("content-type", "application/timestamp-query").body(request);
        let mut answer = request.send().await.map_err(|e| trouble(e.to_string()))?;
        if !answer.status().is_success() {
            return Err(trouble(format!("it answered {}", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| trouble(e.to_string()))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST {
                return Err(trouble("its answer has no end".into()));
            }
        }
        Ok(bytes)
    })
}

fn bad(why: &str) -> Failure {
    Failure::new(Kind::Verification, format!("the time stamp is not to be believed: {why}"))
        .hint("Ask the authority for another one with: bkp evidence anchor")
}

/// What a time stamp of this message says, once everything in it has been checked.
pub fn verify(answer: &[u8], message: &[u8], authorities: Option<&Authorities>) -> Result<Stamped> {
    look(answer, message, authorities).map(|(stamped, _)| stamped)
}

fn look(answer: &[u8], message: &[u8], authorities: Option<&Authorities>) -> Result<(Stamped, Option<Vec<u8>>)> {
    let damaged = |e: der::Error| bad("it is damaged").because(e.to_string());
    let response = Response::from_der(answer).map_err(damaged)?;
    granted(&response.status)?;
    let token = response.token.ok_or_else(|| bad("there is none in the answer"))?;
    if token.content_type != SIGNED_DATA {
        return Err(bad("it is not signed"));
    }
    let signed: SignedData = token.content.decode_as().map_err(damaged)?;
    let content =
        signed.encap_content_info.econtent.as_ref().filter(|_| signed.encap_content_info.econtent_type == TST_INFO);
    let content = content.ok_or_else(|| bad("it says no time"))?.value().to_vec();
    let info = info(&content).map_err(damaged)?;
    let hash = digest(&info.imprint.algorithm.oid, message).ok_or_else(|| bad("it is of an unknown kind of hash"))?;
    if hash != info.imprint.hash.as_bytes() {
        return Err(bad("it is of something else"));
    }
    let certificates = certificates(&signed).map_err(damaged)?;
    let signer = signed.signer_infos.0.iter().next().ok_or_else(|| bad("nobody signed it"))?;
    let certificate =
        by(signer, &signed).map_err(damaged)?.ok_or_else(|| bad("the certificate of its signer is not in it"))?;
    check_signature(signer, &content, &certificate)?;
    let trusted =
        authorities.map(|authorities| trust(&certificate, &certificates, info.at, authorities)).transpose()?;
    let stamped = Stamped { at: info.at, authority: subject(&signed, signer), trusted: trusted.is_some() };
    Ok((stamped, info.nonce))
}

/// Status 0 and 1 mean that a time stamp is there.
fn granted(status: &Any) -> Result<()> {
    let number = SliceReader::new(status.value()).and_then(|mut reader| u8::decode(&mut reader));
    match number {
        Ok(0 | 1) => Ok(()),
        Ok(number) => Err(Failure::failed(format!("the time-stamping authority refused (status {number})"))),
        Err(e) => Err(bad("it is damaged").because(e.to_string())),
    }
}

/// `TSTInfo`, by hand: the library reads no times with fractions of a second, which authorities may write.
fn info(bytes: &[u8]) -> der::Result<Info> {
    let outer = Any::from_der(bytes)?;
    let mut reader = SliceReader::new(outer.value())?;
    u8::decode(&mut reader)?;
    ObjectIdentifier::decode(&mut reader)?;
    let imprint = Imprint::decode(&mut reader)?;
    Int::decode(&mut reader)?;
    let time = Any::decode(&mut reader)?;
    let mut nonce = None;
    while !reader.is_finished() {
        let next = Any::decode(&mut reader)?;
        if next.tag() == Tag::Integer {
            nonce = Some(next.value().to_vec());
        }
    }
    let at = instant(&time).ok_or_else(|| Tag::GeneralizedTime.value_error())?;
    Ok(Info { imprint, at, nonce })
}

/// `YYYYMMDDhhmmss[.s…]Z`
fn instant(time: &Any) -> Option<Timestamp> {
    let text = std::str::from_utf8(time.value()).ok().filter(|_| time.tag() == Tag::GeneralizedTime)?;
    let text = text.strip_suffix('Z')?;
    let whole = text.split('.').next()?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn digest(algorithm: &ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match *algorithm {
        SHA256 => Some(Sha256::digest(bytes).to_vec()),
        SHA384 => Some(Sha384::digest(bytes).to_vec()),
        SHA512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}

fn certificates(signed: &SignedData) -> der::Result<Vec<CertificateDer<'static>>> {
    let all = signed.certificates.iter().flat_map(|set| set.0.iter());
    let plain = all.filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate.to_der()),
        CertificateChoices::Other(_) => None,
    });
    plain.map(|der| der.map(CertificateDer::from)).collect()
}

/// The certificate that a signer names.
fn by(signer: &SignerInfo, signed: &SignedData) -> der::Result<Option<CertificateDer<'static>>> {
    let SignerIdentifier::IssuerAndSerialNumber(named) = &signer.sid else { return Ok(None) };
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else { continue };
        let inner = &certificate.tbs_certificate;
        if inner.issuer == named.issuer && inner.serial_number == named.serial_number {
            return certificate.to_der().map(|der| Some(CertificateDer::from(der)));
        }
    }
    Ok(None)
}

/// Who signed, for people.
fn subject(signed: &SignedData, signer: &SignerInfo) -> String {
    let SignerIdentifier::IssuerAndSerialNumber(named) = &signer.sid else { return String::new() };
    let all = signed.certificates.iter().flat_map(|set| set.0.iter());
    let mut subjects = all.filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(&certificate.tbs_certificate),
        CertificateChoices::Other(_) => None,
    });
    let own = subjects.find(|inner| inner.issuer == named.issuer && inner.serial_number == named.serial_number);
    own.map(|inner| inner.subject.to_string()).unwrap_or_default()
}

fn check_signature(signer: &SignerInfo, content: &[u8], certificate: &CertificateDer<'_>) -> Result<()> {
    let attributes = signer.signed_attrs.as_ref().ok_or_else(|| bad("what was signed is not told"))?;
    let value = |oid: ObjectIdentifier| attributes.iter().find(|a| a.oid == oid).and_then(|a| a.values.iter().next());
    let of_content = value(MESSAGE_DIGEST).and_then(|any| any.decode_as::<OctetString>().ok());
    let hash =
        digest(&signer.digest_alg.oid, content).ok_or_else(|| bad("it is hashed in a way that is not known here"))?;
    if of_content.is_none_or(|of_content| of_content.as_bytes() != hash) {
        return Err(bad("what it says was changed"));
    }
    if value(CONTENT_TYPE).and_then(|any| any.decode_as::<ObjectIdentifier>().ok()) != Some(TST_INFO) {
        return Err(bad("it was signed as something else"));
    }
    let message = attributes.to_der().map_err(|e| bad("it is damaged").because(e.to_string()))?;
    let end = webpki::EndEntityCert::try_from(certificate)
        .map_err(|e| bad("its certificate is damaged").because(e.to_string()))?;
    let fits = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        end.verify_signature(*algorithm, &message, signer.signature.as_bytes()).is_ok()
    };
    if of_hash(&signer.digest_alg.oid).iter().any(fits) { Ok(()) } else { Err(bad("its signature does not fit")) }
}

/// Algorithms with this hash; which one it is says the certificate.
fn of_hash(hash: &ObjectIdentifier) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    match *hash {
        SHA256 => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            algorithms::ECDSA_P256_SHA256,
            algorithms::ECDSA_P384_SHA256,
            algorithms::ED25519,
        ],
        SHA384 => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            algorithms::ECDSA_P256_SHA384,
            algorithms::ECDSA_P384_SHA384,
        ],
        _ => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA512,
            algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
            algorithms::ECDSA_P521_SHA512,
            algorithms::ED25519,
        ],
    }
}

/// The certificate leads to an authority that is believed, was valid at the time, and is one for time stamps.
fn trust(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    at: Timestamp,
    authorities: &Authorities,
) -> Result<()> {
    let end = webpki::EndEntityCert::try_from(certificate)
        .map_err(|e| bad("its certificate is damaged").because(e.to_string()))?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default()));
    let usage = webpki::KeyUsage::required(&TIME_STAMPING);
    let path = end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &authorities.0, others, at, usage, None, None);
    let untrusted =
        |e: webpki::Error| bad("its certificate is not from an authority that is believed here").because(e.to_string());
    path.map(drop).map_err(untrusted)
}
