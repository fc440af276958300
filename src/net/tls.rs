//! TLS for every connection of the process: one configuration, one set of root certificates.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::CertificateError::NotValidYetContext;
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::{self, PemObject};
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::time_provider::TimeProvider;
use futures_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use smol::io::{AsyncRead, AsyncWrite};

use super::deadline::within;
use crate::trusted_clock;

/// Time for a handshake. Three round trips over a slow mobile line take a tenth of it.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest file of extra root certificates, in bytes; all of Mozilla's have 220 KB.
const MAX_CA_FILE_BYTES: u64 = 1024 * 1024;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate file {} was not read ({source}); check the path and its permissions", path.display())]
    CaFile { path: PathBuf, source: io::Error },
    #[error("the certificate file {} is not PEM ({source}); replace it", path.display())]
    CaPem { path: PathBuf, source: pem::Error },
    #[error("a certificate in {} cannot be used ({source}); replace it", path.display())]
    CaCertificate { path: PathBuf, source: rustls::Error },
    #[error("the certificate file {} holds no certificate; replace it", path.display())]
    CaEmpty { path: PathBuf },
    #[error("no TLS configuration ({0}); this is a bug")]
    Setup(rustls::Error),
    #[error("`{host}` is no name that a certificate can have; check the address in the configuration")]
    BadName { host: String },
    #[error("no TLS with `{host}` ({source}); check the clock, and who answers in its place")]
    Handshake { host: String, source: io::Error },
    #[error("`{host}` did not finish the TLS handshake within {} s; check the network", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout { host: String },
}

/// Mozilla's root certificates, which are part of this binary, and those of the PEM file
/// `extra_ca` (at most 1 MiB) if given. TLS 1.2 and 1.3.
pub fn client_config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_ca {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(BestTime))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(webpki)))
        .with_no_client_auth();
    // Only a whole handshake has the server send its certificates, and so shows whether packets of their size
    // arrive: a resumed one passes where they vanish, and the connection falls silent at the first large message.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The time by which certificates are judged. A box without a clock can so connect right after power-on,
/// before NTP, which needs names itself, and one whose clock stands in 2076 is not locked out for ever.
/// The price: for so long, a certificate that has expired since the latest known time is taken for valid.
#[derive(Debug)]
struct BestTime;

impl TimeProvider for BestTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(trusted_clock::now()).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Judges as rustls does, but for one thing: a certificate that is not valid yet is believed to be, as long as
/// nobody who can be trusted has told the time in this process. Its issuer knew the time, and a box does not that was
/// just switched on, or whose clock somebody sets back between two packets of a handshake. The time by which it is
/// judged then is the beginning of its validity.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |time| self.0.verify_server_cert(certificate, intermediates, name, ocsp, time);
        match judge(now) {
            Err(rustls::Error::InvalidCertificate(NotValidYetContext { not_before, .. }))
                if trusted_clock::told().is_none() =>
            {
                judge(not_before)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| TlsError::CaFile { path: path.to_owned(), source })?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|source| TlsError::CaPem { path: path.to_owned(), source })?;
        roots.add(certificate).map_err(|source| TlsError::CaCertificate { path: path.to_owned(), source })?;
    }
    if roots.len() == before {
        return Err(TlsError::CaEmpty { path: path.to_owned() });
    }
    Ok(())
}

/// The name that `host` (a DNS name, or an address with or without brackets) must prove to have.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::BadName { host: host.to_owned() })
}

/// Makes `stream` a TLS connection to `host`, whose certificate must be valid for that name.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> Result<TlsStream<S>, TlsError> {
    let name = server_name(host)?;
    within(HANDSHAKE_TIMEOUT, TlsConnector::from(config.clone()).connect(name, stream))
        .await
        .ok_or_else(|| TlsError::Timeout { host: host.to_owned() })?
        .map_err(|source| TlsError::Handshake { host: host.to_owned(), source })
}

/// Whether a handshake failed only because the certificate has expired or is not valid yet.
pub(crate) fn is_about_time(error: &io::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        ))
    )
}
