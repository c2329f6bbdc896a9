//! TLS of the clients that this process has: certificates from PEM files, the verifiers of the database's modes, and
//! errors that say what to do. All clients use ring.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

/// Why certificates cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot use {}, which {setting} names: {reason}", path.display())]
    File {
        /// The setting's environment variable.
        setting: String,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The system has no trusted authorities.
    #[error(
        "this system has no trusted certificate authorities: install ca-certificates, or name a file of them in \
         {0}_CA"
    )]
    NoRoots(String),
    /// The client certificate and its key do not belong together.
    #[error("cannot use the client certificate of {setting}_CERT and {setting}_KEY: {reason}")]
    Client {
        /// The beginning of the settings' names.
        setting: String,
        /// The reason.
        reason: String,
    },
}

/// A client certificate with its chain, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What is checked of a server.
#[derive(Debug, Clone)]
pub enum Verification {
    /// Nothing.
    None,
    /// That one of these authorities has signed its certificate.
    Authority(Vec<CertificateDer<'static>>),
    /// That, and that the certificate is for this host.
    Full(Vec<CertificateDer<'static>>),
}

/// Makes ring the provider of every client in this process.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let provider = CryptoProvider {
            key_provider: &AnyKey,
            ..ring::default_provider()
        };
        // Fails only if there is one already: then keys in another encoding than PKCS #1 are refused with an error.
        let _ = provider.install_default();
    });
}

/// Loads private keys whatever encoding they are labelled with: mysql_async labels every DER key as PKCS #1.
#[derive(Debug)]
struct AnyKey;

impl KeyProvider for AnyKey {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let keys = ring::default_provider().key_provider;
        let PrivateKeyDer::Pkcs1(mislabelled) = &key else {
            return keys.load_private_key(key);
        };
        let bytes = mislabelled.secret_pkcs1_der().to_vec();
        keys.load_private_key(key).or_else(|error| {
            let pkcs8 = PrivateKeyDer::Pkcs8(bytes.clone().into());
            let sec1 = PrivateKeyDer::Sec1(bytes.into());
            keys.load_private_key(pkcs8)
                .or_else(|_| keys.load_private_key(sec1))
                .map_err(|_| error)
        })
    }
}

/// Reads the trusted authorities: of the file, or of the system. `settings` is what the settings' names begin with.
///
/// # Errors
/// If there are none.
pub fn authorities(
    settings: &str,
    file: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if let Some(path) = file {
        return certificates(&format!("{settings}_CA"), path);
    }
    let mut found = rustls_native_certs::load_native_certs().certs;
    // Systems carry certificates that rustls does not understand.
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        return Err(TlsError::NoRoots(settings.to_owned()));
    }
    Ok(found)
}

/// Reads a client certificate and its key.
///
/// # Errors
/// If a file cannot be used.
pub fn identity(settings: &str, cert: &Path, key: &Path) -> Result<Identity, TlsError> {
    let chain = certificates(&format!("{settings}_CERT"), cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
        setting: format!("{settings}_KEY"),
        path: key.to_owned(),
        reason: format!("{error}; it must be a private key in PEM, without a passphrase"),
    })?;
    Ok((chain, key))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |reason: String| TlsError::File {
        setting: setting.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let read = |error: rustls::pki_types::pem::Error| refused(error.to_string());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if certificates.is_empty() {
        return Err(refused("it has no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

/// The configuration of a TLS client.
///
/// # Errors
/// If an authority or the client certificate cannot be used.
pub fn client(
    settings: &str,
    verification: &Verification,
    identity: Option<Identity>,
) -> Result<ClientConfig, TlsError> {
    install();
    let unusable = |error: &dyn std::fmt::Display| TlsError::File {
        setting: format!("{settings}_CA"),
        path: PathBuf::new(),
        reason: error.to_string(),
    };
    let builder = ClientConfig::builder();
    let builder = match verification {
        Verification::Full(roots) => {
            let roots = store(roots).map_err(|error| unusable(&error))?;
            builder.with_root_certificates(roots)
        }
        Verification::Authority(roots) => {
            let roots = store(roots).map_err(|error| unusable(&error))?;
            let chain = WebPkiServerVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| unusable(&error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName::new(Some(chain))))
        }
        Verification::None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName::new(None))),
    };
    match identity {
        Some((chain, key)) => {
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| TlsError::Client {
                    setting: settings.to_owned(),
                    reason: error.to_string(),
                })
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

/// Accepts a certificate for any host: one that a trusted authority has signed, or any at all.
#[derive(Debug)]
struct AnyName {
    /// Verifies the chain; `None` accepts any certificate.
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyName {
    fn new(chain: Option<Arc<WebPkiServerVerifier>>) -> Self {
        Self {
            chain,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // The chain is verified before the name.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error of rustls in an error of a driver, wherever the driver has put it.
#[must_use]
pub fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error does not name what it wraps as its source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| cause(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a failed handshake means, and what to do. `settings` is what the settings' names begin with.
#[must_use]
pub fn explain(settings: &str, error: &Error) -> String {
    let advice = match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "connect to a name that the certificate has, or set the mode verify-ca, which checks the authority alone"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "its certificate is not signed by an authority that is trusted here: name that authority's file in \
             {settings}_CA"
        ),
        Error::InvalidCertificate(_) => {
            "the server needs a valid certificate, or this machine the right time".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => format!(
            "the server may require a client certificate that its authority has signed: set {settings}_CERT and \
             {settings}_KEY"
        ),
        _ => "check that the server speaks TLS 1.2 or 1.3 at this port".to_owned(),
    };
    format!("TLS with the server failed: {error}; {advice}")
}
