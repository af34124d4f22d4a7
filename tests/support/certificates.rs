//! Certificates that live as long as a test.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// An authority that nobody else trusts.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one; two of them do not trust each other.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "headwater test authority");
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.self_signed(&key).expect("it signs itself");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its certificate, for a `ca` file.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Certificate and private key of a server called `localhost` and 127.0.0.1, both PEM.
    pub fn server(&self) -> (String, String) {
        self.sign("localhost", &["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// TLS for a server that is called `localhost` and 127.0.0.1.
    pub fn server_config(&self) -> rustls::ServerConfig {
        let (certificate, key) = self.server();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("ring has them all").with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it was just made")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it was just made");
        builder.with_single_cert(chain, key).expect("they belong together")
    }

    /// Certificate and private key of a client, both PEM.
    pub fn client(&self, name: &str) -> (String, String) {
        self.sign(name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, name: &str, also: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let names: Vec<_> = also.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        (certificate.pem(), key.serialize_pem())
    }
}
