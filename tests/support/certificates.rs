//! Certificates that live as long as a test.

use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Who vouches for every endpoint of a test process, unless the test is about whom the agent believes. Made once: most tests need it.
pub static OFFICE: LazyLock<Office> = LazyLock::new(|| {
    let authority = Authority::new();
    let (certificate, key) = authority.server();
    let tls = Arc::new(config_of(&(certificate.clone(), key.clone())));
    Office { authority, server: certificate + &key, tls }
});

/// An authority, and the certificate of a server called `localhost` and 127.0.0.1.
pub struct Office {
    /// Whom the agent believes.
    pub authority: Authority,
    /// The server's certificate and its key, PEM, for one of another language.
    pub server: String,
    /// The same for one of ours.
    pub tls: Arc<ServerConfig>,
}

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
    pub fn server_config(&self) -> ServerConfig {
        config_of(&self.server())
    }

    /// TLS for a server with this name, which speaks this protocol.
    pub fn acceptor(&self, name: &str, protocol: &str) -> TlsAcceptor {
        let mut config = config_of(&self.server_called(name));
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// The same with a certificate that is valid from that time on.
    pub fn server_config_from(&self, time: SystemTime) -> ServerConfig {
        let names = ["localhost", "127.0.0.1"];
        let change = |params: &mut CertificateParams| params.not_before = time.into();
        config_of(&self.sign_with("localhost", &names, ExtendedKeyUsagePurpose::ServerAuth, change))
    }

    /// Certificate and private key of a server with this name, both PEM.
    pub fn server_called(&self, name: &str) -> (String, String) {
        self.sign(name, &[name], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Certificate and private key of a client, both PEM.
    pub fn client(&self, name: &str) -> (String, String) {
        self.sign(name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The same as [`Self::client`], but valid until that time.
    pub fn client_until(&self, name: &str, time: SystemTime) -> (String, String) {
        self.sign_with(name, &[], ExtendedKeyUsagePurpose::ClientAuth, |params| params.not_after = time.into())
    }

    fn sign(&self, name: &str, also: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        self.sign_with(name, also, usage, |_| {})
    }

    fn sign_with(
        &self,
        name: &str,
        also: &[&str],
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = also.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(usage);
        change(&mut params);
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        (certificate.pem(), key.serialize_pem())
    }
}

/// TLS with this certificate and key.
fn config_of((certificate, key): &(String, String)) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("ring has them all").with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it was just made")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it was just made");
    builder.with_single_cert(chain, key).expect("they belong together")
}
