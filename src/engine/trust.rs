//! TLS to servers whose certificates lead to authorities that a source names, and to nobody else's.

use crate::error::{Failure, Result};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// With the authorities in this file, in PEM.
pub(super) fn authorities(ca_file: &Path) -> Result<Arc<ClientConfig>> {
    let unusable = || format!("cannot use the certificates in {}", ca_file.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file).map_err(|e| Failure::usage(unusable()).because(e))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| Failure::usage(unusable()).because(e))?;
        roots.add(certificate).map_err(|e| Failure::usage(unusable()).because(e))?;
    }
    if roots.is_empty() {
        return Err(Failure::usage(format!("there is no certificate in {}", ca_file.display())));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| Failure::failed("TLS is not to be had").because(e))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The name that the certificate of the server must have.
pub(super) fn name_of(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|e| Failure::usage(format!("`{host}` is no name that a certificate can have")).because(e))
}
