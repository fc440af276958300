//! TLS of the server: a certificate authority thrown away with the server.

use std::sync::Arc;

use anyhow::Context;
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Names that the server's certificate is good for: those that clients really use, and the local
/// ones that a test uses without DNS.
const NAMES: [&str; 6] =
    ["web.whatsapp.com", "mmg.whatsapp.net", "media.whatsapp.net", "localhost", "127.0.0.1", "10.0.2.2"];

/// A server certificate under an authority that a client may trust.
pub struct Tls {
    pub acceptor: TlsAcceptor,
    /// The authority's certificate in PEM.
    pub ca_pem: String,
}

impl Tls {
    /// # Errors
    /// When no certificate can be made, which would be a bug.
    pub fn new() -> anyhow::Result<Tls> {
        let ca_key = KeyPair::generate().context("making the authority's key")?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "test bed");
        let ca_certificate = ca.self_signed(&ca_key).context("signing the authority")?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate().context("making the server's key")?;
        let names = NAMES.map(str::to_owned).to_vec();
        let certificate = CertificateParams::new(names)
            .and_then(|parameters| parameters.signed_by(&key, &issuer))
            .context("signing the server's certificate")?;

        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
            )?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem: ca_certificate.pem() })
    }
}
