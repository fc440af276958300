//! A certificate authority thrown away with the tests: one `ca.pem` makes a client trust all servers
//! that share it, and a second authority makes a server that it must not trust.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Bytes by which a server's certificate is longer than it need be: those of real servers, with their names
/// and those who vouch for them, fill several packets, which matters on lines that swallow full ones.
const PADDING: u16 = 2500;

/// An extension that nobody knows and nobody has to know (RFC 5280 §4.2), below the arc for examples.
const PADDING_OID: [u64; 7] = [2, 999, 1, 3, 6, 1, 1];

/// Age of a server's certificate when the server starts.
const RENEWED: Duration = Duration::from_secs(24 * 60 * 60);

/// How many there were.
static AUTHORITIES: AtomicU64 = AtomicU64::new(0);

/// An authority; clones are the same one.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// # Errors
    /// When no certificate can be made, which would be a bug.
    pub fn new() -> anyhow::Result<Authority> {
        let key = KeyPair::generate().context("making the authority's key")?;
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities of one name would be told apart by their signatures alone.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        parameters.distinguished_name.push(DnType::CommonName, format!("test bed {number}"));
        let certificate = parameters.self_signed(&key).context("signing the authority")?;
        let pem = certificate.pem();
        let issuer = Issuer::new(parameters, key);
        Ok(Authority(Arc::new(Inner { issuer, certificate: certificate.der().clone(), pem })))
    }

    /// The authority's certificate, for a client that shall trust it.
    pub fn pem(&self) -> &str {
        &self.0.pem
    }

    /// The server's side of TLS with a fresh certificate for these names and IP addresses. It agrees
    /// to one of `protocols` (ALPN, RFC 7301) if it names any and the client asks.
    ///
    /// # Errors
    /// When a name can stand in no certificate.
    pub fn acceptor(&self, names: &[String], protocols: &[&str]) -> anyhow::Result<TlsAcceptor> {
        let key = KeyPair::generate().context("making a server's key")?;
        let certificate = CertificateParams::new(names.to_vec())
            .and_then(|mut parameters| {
                parameters.custom_extensions.push(padding());
                // As of a server whose certificate was renewed yesterday.
                parameters.not_before = (SystemTime::now() - RENEWED).into();
                parameters.signed_by(&key, &self.0.issuer)
            })
            .with_context(|| format!("signing a certificate for {names:?}"))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The client's side of TLS, which trusts this authority alone.
    ///
    /// # Errors
    /// When rustls refuses the authority, which would be a bug.
    pub fn connector(&self) -> anyhow::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.certificate.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// An OCTET STRING of zeros.
fn padding() -> CustomExtension {
    let [high, low] = PADDING.to_be_bytes();
    let mut content = vec![0x04, 0x82, high, low];
    content.resize(content.len() + usize::from(PADDING), 0);
    CustomExtension::from_oid_content(&PADDING_OID, content)
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authority")
    }
}
