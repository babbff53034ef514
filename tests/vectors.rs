//! The golden vectors of the format: containers that must be read for ever, and bad ones with the error each must give.
//!
//! `tests/vectors/containers.txt` lists them, `dedup.txt` points with deduplicated streams. A reader in another language can be tested with the same files.
//! `BKP_WRITE_VECTORS=1 cargo test --test vectors` makes missing ones; existing ones are never written again.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in #[test] functions only

use age::secrecy::ExposeSecret;
use bkp::error::Kind;
use bkp::repo::container::encode::{Compression, FrameCompressor};
use bkp::repo::container::{Codec, Frame, decode, encode, padme};
use bkp::repo::keys::{Keyring, Recipients};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn identity() -> age::x25519::Identity {
    let text = std::fs::read_to_string(directory().join("identity.txt")).unwrap();
    text.lines().find(|l| l.starts_with("AGE-SECRET-KEY-")).unwrap().parse().unwrap()
}

/// The data of all good containers: text, zeros and something incompressible, three frames.
fn data() -> Vec<u8> {
    let mut noise = vec![0; 1000];
    blake3::Hasher::new().update(b"vector").finalize_xof().fill(&mut noise);
    [b"bkp test vector\n".repeat(1 << 16), vec![0; 1 << 20], noise].concat()
}

fn decoded(bytes: &[u8], codec: Codec, keys: &Keyring) -> bkp::error::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut reader = decode::open(bytes, codec, keys, "the vector")?;
    reader.read_to_end(&mut out).map_err(|e| bkp::error::Failure::from_io(e, String::new))?;
    Ok(out)
}

#[test]
fn every_vector_gives_its_data_or_its_error() {
    if std::env::var_os("BKP_WRITE_VECTORS").is_some() {
        write_missing();
    }
    let list = std::fs::read_to_string(directory().join("containers.txt")).unwrap();
    let lines: Vec<_> = list.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(lines.len() >= 12);
    let keys = Keyring::new([identity()]);
    for line in lines {
        let [file, codec, expected] = line.split(" | ").map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let codec = if codec == "gzip" { Codec::Gzip } else { Codec::Zstd };
        let bytes = std::fs::read(directory().join(file)).unwrap();
        match (decoded(&bytes, codec, &keys), expected) {
            (Ok(read), "good") => assert!(read == data(), "{file}"),
            (Err(failure), text) => {
                assert!(failure.full().contains(text), "{file}: {}", failure.full());
                assert!(matches!(failure.kind(), Kind::Verification | Kind::Key), "{file}: {:?}", failure.kind());
            }
            (Ok(_), _) => panic!("{file} was read, but should give: {expected}"),
        }
    }
}

/// A repository with deduplicated streams, good and bad, that another implementation wrote (`support/make_repository.py`).
#[test]
fn deduplicated_streams_give_their_data_or_their_error() {
    let copy = tempfile::tempdir().unwrap();
    let key = copy.path().join("recovery.key");
    std::fs::copy(directory().join("dedup/recovery.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let list = std::fs::read_to_string(directory().join("dedup.txt")).unwrap();
    let lines: Vec<_> = list.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(lines.len() >= 9);
    for line in lines {
        let [point, stream, expected] = line.split(" | ").map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bkp"));
        command.args(["export", point, stream, "--repo"]).arg(directory().join("dedup/repository"));
        command.env("BKP_STATE_DIR", copy.path()).env("HOME", copy.path()).arg("--identity").arg(&key);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if let Some(sha256) = expected.strip_prefix("sha256:") {
            assert!(output.status.success(), "{line}: {said}");
            assert_eq!(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&output.stdout)), sha256, "{line}");
        } else {
            assert!(!output.status.success() && said.contains(expected), "{line}: {said}");
        }
    }
}

/// The age file of a plaintext of our own making.
fn sealed(plaintext: &[u8], to: &age::x25519::Identity) -> Vec<u8> {
    let recipient = to.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
    let mut writer = encryptor.wrap_output(Vec::new()).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap()
}

fn opened(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let keys = Keyring::new([identity()]);
    decode::decrypt(bytes, &keys, "x").unwrap().read_to_end(&mut plain).unwrap();
    plain
}

fn frames() -> Vec<Vec<u8>> {
    let mut compressor = FrameCompressor::new(Compression::default()).unwrap();
    data().chunks(1 << 20).map(|frame| compressor.compress(frame).unwrap()).collect()
}

/// A container out of parts, so that each rule can be broken by itself.
fn assembled(frames: &[&[u8]], table: &[Frame], tail: &[u8]) -> Vec<u8> {
    let mut plain = frames.concat();
    let unpadded = (plain.len() + 8 + 8 + (table.len() + 1) * 8 + 9) as u64;
    let padding = (padme(unpadded) - unpadded) as u32;
    plain.extend(0x184D_2A51u32.to_le_bytes());
    plain.extend(padding.to_le_bytes());
    plain.resize(plain.len() + padding as usize, 0);
    plain.extend(0x184D_2A5Eu32.to_le_bytes());
    plain.extend(((table.len() as u32 + 1) * 8 + 9).to_le_bytes());
    for frame in table.iter().chain([&Frame { compressed: padding + 8, data: 0 }]) {
        plain.extend(frame.compressed.to_le_bytes());
        plain.extend(frame.data.to_le_bytes());
    }
    plain.extend((table.len() as u32 + 1).to_le_bytes());
    plain.push(0);
    plain.extend(0x8F92_EAB1u32.to_le_bytes());
    plain.extend(tail);
    sealed(&plain, &identity())
}

fn table() -> Vec<Frame> {
    frames()
        .iter()
        .zip(data().chunks(1 << 20))
        .map(|(f, d)| Frame { compressed: f.len() as u32, data: d.len() as u32 })
        .collect()
}

fn write_missing() {
    let path = directory().join("identity.txt");
    if !path.exists() {
        let identity = age::x25519::Identity::generate();
        let text = format!(
            "# opens the vectors; protects nothing\n# public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        std::fs::write(path, text).unwrap();
    }
    let recipients = Recipients::new([identity().to_public().to_string()]);
    let good = encode::seal(&data(), &recipients).unwrap();
    let gzip = {
        let compression = Compression { codec: Codec::Gzip, level: 6, workers: 1 };
        encode::encode(&mut &data()[..], Vec::new(), compression, &recipients, &mut Default::default(), u64::MAX)
            .unwrap()
            .1
    };
    let (parts, table) = (frames(), table());
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let flipped = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0x10;
        bytes
    };
    let large = zstd::bulk::compress(&vec![1; 2 << 20], 3).unwrap();
    let half_gzip = opened(&gzip)[..1000].to_vec();
    let all = [
        ("good-zstd.age", good.clone()),
        ("good-gzip.age", gzip),
        ("flipped-bit.age", flipped(good.clone(), good.len() / 2)),
        ("flipped-header.age", flipped(good.clone(), 60)),
        ("truncated.age", good[..good.len() - 100].to_vec()),
        ("truncated-at-segment.age", good[..good.len() - good.len() % 1000].to_vec()),
        ("wrong-key.age", sealed(&opened(&good), &age::x25519::Identity::generate())),
        ("reordered-frames.age", assembled(&[parts[1], parts[0], parts[2]], &table, b"")),
        ("missing-frame.age", assembled(&[parts[0], parts[2]], &table, b"")),
        ("no-seek-table.age", sealed(&parts.concat(), &identity())),
        ("trailing-bytes.age", assembled(&parts, &table, b"more")),
        ("frame-too-large.age", assembled(&[&large], &[Frame { compressed: large.len() as u32, data: 2 << 20 }], b"")),
        ("flipped-inside.age", sealed(&flipped(opened(&good), 20), &identity())),
        ("gzip-without-end.age", sealed(&half_gzip, &identity())),
        ("not-age.age", b"PK\x03\x04 this is no age file".to_vec()),
    ];
    for (name, bytes) in all {
        let path = directory().join(name);
        if !path.exists() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

proptest! {
    /// Whatever somebody seals to us, reading it is an error or data, never a panic, and never more than a frame in memory.
    #[test]
    fn foreign_plaintexts_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), magic in 0usize..4) {
        let keys = Keyring::new([identity()]);
        let magics: [&[u8]; 4] = [b"", &[0x28, 0xb5, 0x2f, 0xfd], &[0x51, 0x2a, 0x4d, 0x18], &[0x1f, 0x8b, 8, 4]];
        let plain = [magics[magic], &bytes[..]].concat();
        let object = sealed(&plain, &identity());
        prop_assert!(decoded(&object, Codec::Zstd, &keys).is_err());
        prop_assert!(decoded(&object, Codec::Gzip, &keys).is_err());
        prop_assert!(decoded(&bytes, Codec::Zstd, &keys).is_err());
    }
}
