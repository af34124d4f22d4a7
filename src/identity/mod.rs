//! What proves to others who we are: certificates, their keys, passwords; and the files that they are in.
//!
//! Each is read anew when it is needed, so that whoever renews a file need restart nothing.
//!
//! Invariant: what is secret is readable by its owner alone, is shown nowhere, and is wiped from memory where it was ours.

mod certificate;
mod secret;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    Error as TlsError, InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use self::secret::read_guarded;
pub use self::{
    certificate::{Validity, validity},
    secret::{Secret, SecretFileError, open_to_others, read_secret},
};

/// Largest file with certificates that is read: a chain has some KiB.
const MAX_CHAIN: u64 = 1 << 20;

/// A certificate with its chain, and the private key that belongs to it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For TLS.
    pub certified: Arc<CertifiedKey>,
    /// From when to when others accept the certificate.
    pub validity: Validity,
}

/// Why certificate and key can't be used. The text reads `WHAT; WHAT TO DO`.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate's file can't be read.
    #[error("{} can't be read; check that it exists and that the user that runs headwater may read it", path.display())]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate's file holds something else.
    #[error("{} holds no certificate; it begins with -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// As configured.
        path: PathBuf,
    },
    /// The key's file can't be read, or others can.
    #[error(transparent)]
    Key(#[from] SecretFileError),
    /// The key's file holds something else, or a key that TLS does not use.
    #[error("{} holds no private key that can be used; it is PEM: PKCS#8, or PKCS#1 (RSA, 2048 bits or more), or SEC1 (EC, P-256 or P-384)", path.display())]
    NoKey {
        /// As configured.
        path: PathBuf,
    },
    /// Each is fine, and they are not of one pair.
    #[error("{} is not the key of the certificate in {}; put the pair there that was issued together", key.display(), certificate.display())]
    Mismatch {
        /// As configured.
        certificate: PathBuf,
        /// As configured.
        key: PathBuf,
    },
}

impl Identity {
    /// Reads both files. Some milliseconds, and a few KiB.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let chain = certificates(certificate)?;
        let no_certificate = || IdentityError::NoCertificate { path: certificate.to_owned() };
        let validity = chain.first().and_then(|own| validity(own)).ok_or_else(no_certificate)?;
        let no_key = || IdentityError::NoKey { path: key.to_owned() };
        let private = PrivateKeyDer::from_pem_slice(&read_guarded(key)?).map_err(|_| no_key())?;
        match CertifiedKey::from_der(chain, private, &ring::default_provider()) {
            Ok(certified) => Ok(Self { certified: Arc::new(certified), validity }),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(IdentityError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })
            }
            Err(TlsError::InvalidCertificate(_)) => Err(no_certificate()),
            Err(_) => Err(no_key()),
        }
    }
}

/// Every certificate in the PEM file at `path`; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = secret::read_at_most(path, MAX_CHAIN);
    let pem = pem.map_err(|source| IdentityError::Unreadable { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(IdentityError::NoCertificate { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
