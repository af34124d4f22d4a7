//! Whose certificates we believe, and the TLS that is built on it: rustls with ring, TLS 1.2 or later.
//!
//! Invariant: the SDK gets only roots that were parsed here before, since it panics on any that it can't read.

use std::{fs, path::Path, sync::Arc};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{Cause, ClientError};

/// The roots of one destination.
#[derive(Debug)]
pub(super) struct Trust {
    /// The configured file, as it is.
    ca: Option<Vec<u8>>,
    /// Whether the system has roots of its own.
    system: bool,
}

impl Trust {
    /// Reads `ca`, or else makes sure that the system has roots, if `tls` needs any.
    pub(super) fn load(ca: Option<&Path>, tls: bool) -> Result<Self, ClientError> {
        let system = !rustls_native_certs::load_native_certs().certs.is_empty();
        let ca = match ca {
            Some(path) => Some(read_roots(path).map_err(|source| ClientError::Ca { path: path.to_owned(), source })?),
            None if tls && !system => return Err(ClientError::NoRoots),
            None => None,
        };
        Ok(Self { ca, system })
    }

    /// For the endpoint: with `ca` set, that file and nobody else decides.
    pub(super) fn of_endpoint(&self) -> TlsContext {
        self.context(self.system && self.ca.is_none())
    }

    /// For whoever issues our credentials, which is another host with a certificate of another origin.
    pub(super) fn of_credentials(&self) -> TlsContext {
        self.context(self.system)
    }

    /// The same as [`Self::of_endpoint`], for a handshake of our own.
    pub(super) fn client_config(&self) -> Result<ClientConfig, Cause> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => roots = parse_roots(pem)?,
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
    }

    fn context(&self, system: bool) -> TlsContext {
        let store = TrustStore::empty().with_native_roots(system);
        let store = match &self.ca {
            Some(pem) => store.with_pem_certificate(pem.clone()),
            None => store,
        };
        let context = TlsContext::builder().with_trust_store(store).build();
        // `load` has parsed `ca`, which is all that could be wrong with it.
        context.expect("it only moves the roots, which were parsed when they were loaded")
    }
}

/// The certificates that a peer's must come from: those in `ca`, or else the system's.
pub(super) fn roots(ca: Option<&Path>) -> Result<RootCertStore, ClientError> {
    match ca {
        Some(path) => {
            let pem = read_roots(path).and_then(|pem| parse_roots(&pem));
            pem.map_err(|source| ClientError::Ca { path: path.to_owned(), source })
        }
        None => {
            let mut roots = RootCertStore::empty();
            // One that can't be read is missing there, and the handshake says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() { Err(ClientError::NoRoots) } else { Ok(roots) }
        }
    }
}

fn read_roots(path: &Path) -> Result<Vec<u8>, Cause> {
    let pem = fs::read(path)?;
    parse_roots(&pem)?;
    Ok(pem)
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, Cause> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() { Err("it holds no certificate".into()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "not a certificate\n", broken] {
            fs::write(&path, text).unwrap();
            let refused = Trust::load(Some(&path), true);
            assert!(matches!(refused, Err(ClientError::Ca { path: named, .. }) if named == path), "{text:?}");
        }
        assert!(matches!(Trust::load(Some(&folder.path().join("absent")), true), Err(ClientError::Ca { .. })));
    }
}
