//! Where a database server is, and the certificates for connections to it. Their files are read again when they
//! change, so that a renewed certificate is in use from the next connection on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use diesel::ConnectionError;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{StoreOptions, TlsMode, TlsOptions};
use crate::telemetry::{CertificatesKept, CertificatesRead, Dependency};
use crate::tls::{self, TlsError, Verification};

/// What the names of the settings begin with.
const SETTINGS: &str = "LIKEWISE_DATABASE_TLS";

/// A database, and how to reach it.
pub(super) struct Endpoint {
    /// Its URL, without the parameters of TLS; the path of a file for SQLite.
    pub(super) url: String,
    /// The schema of PostgreSQL that has the tables; without it, the first of the search path.
    pub(super) schema: Option<String>,
    options: TlsOptions,
    loaded: Mutex<Option<Loaded>>,
}

/// The certificates, and the state of the files that they were read from.
struct Loaded {
    stamps: Vec<Option<(SystemTime, u64)>>,
    secured: Arc<Secured>,
    /// Whether the log has said that the files could not be read since.
    is_kept: bool,
}

/// What a connection with TLS needs.
pub(super) struct Secured {
    pub(super) mode: TlsMode,
    /// The trusted authorities; none where they are not checked.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// The client certificate with its chain, and its key.
    pub(super) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// For PostgreSQL.
    pub(super) connector: MakeRustlsConnect,
    /// For MySQL: the connector that it caches belongs to these certificates.
    pub(super) mysql: OnceLock<mysql_async::Opts>,
}

impl Endpoint {
    /// The server that the options name.
    pub(super) fn server(options: &StoreOptions) -> Arc<Self> {
        Arc::new(Self {
            url: options.url.clone(),
            schema: options.database_schema.clone(),
            options: options.tls.clone(),
            loaded: Mutex::default(),
        })
    }

    /// A file.
    pub(super) fn file(path: &str) -> Arc<Self> {
        Arc::new(Self {
            url: path.to_owned(),
            schema: None,
            options: TlsOptions {
                mode: TlsMode::Disable,
                ..TlsOptions::default()
            },
            loaded: Mutex::default(),
        })
    }

    /// What a connection with TLS needs; `None` if there is to be no TLS. Certificates that can no longer be read are
    /// used on.
    pub(super) fn secured(&self) -> Result<Option<Arc<Secured>>, ConnectionError> {
        if self.options.mode == TlsMode::Disable {
            return Ok(None);
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.stamps == stamps) {
            return Ok(Some(Arc::clone(&loaded.secured)));
        }
        match (self.load(), loaded.as_mut()) {
            (Ok(secured), before) => {
                if before.is_some() {
                    CertificatesRead {
                        dependency: Dependency::Database,
                    }
                    .emit();
                }
                let secured = Arc::new(secured);
                *loaded = Some(Loaded {
                    stamps,
                    secured: Arc::clone(&secured),
                    is_kept: false,
                });
                Ok(Some(secured))
            }
            (Err(error), Some(before)) => {
                if !std::mem::replace(&mut before.is_kept, true) {
                    CertificatesKept {
                        dependency: Dependency::Database,
                        error: &error,
                    }
                    .emit();
                }
                Ok(Some(Arc::clone(&before.secured)))
            }
            (Err(error), None) => Err(ConnectionError::InvalidConnectionUrl(error.to_string())),
        }
    }

    /// What to say of a connection that failed, with what to do if the words of the server allow a guess.
    pub(super) fn refusal(
        &self,
        error: &(dyn std::error::Error + 'static),
        text: &str,
    ) -> ConnectionError {
        if let Some(cause) = tls::cause(error) {
            return ConnectionError::InvalidConnectionUrl(tls::explain(SETTINGS, cause));
        }
        let lower = text.to_lowercase();
        let says = |words: &str| lower.contains(words);
        let advice = if says("insecure transport")
            || says("no encryption")
            || (says("access denied") && self.options.mode == TlsMode::Disable)
        {
            "the server or the account may accept connections with TLS only: add sslmode=verify-full (MySQL: \
             ssl-mode=VERIFY_IDENTITY) to LIKEWISE_DATABASE_URL, or set LIKEWISE_DATABASE_TLS_MODE, and name the \
             server's authority in LIKEWISE_DATABASE_TLS_CA"
        } else if says("valid client certificate") {
            "set LIKEWISE_DATABASE_TLS_CERT and LIKEWISE_DATABASE_TLS_KEY to a certificate that the server's \
             authority has signed"
        } else if says("certificate authentication failed") {
            "the common name of the client certificate must be the database user's name"
        } else if says("access denied")
            && self.options.mode != TlsMode::Prefer
            && self.options.client.is_none()
        {
            "the account may require a client certificate: LIKEWISE_DATABASE_TLS_CERT and LIKEWISE_DATABASE_TLS_KEY"
        } else {
            return ConnectionError::BadConnection(text.to_owned());
        };
        ConnectionError::InvalidConnectionUrl(format!("{text}; {advice}"))
    }

    /// What to say of a server without TLS.
    pub(super) fn without_tls(&self) -> ConnectionError {
        ConnectionError::InvalidConnectionUrl(format!(
            "the server offers no TLS, which the mode {} requires: turn TLS on at the server, or set the mode disable",
            self.options.mode
        ))
    }

    fn load(&self) -> Result<Secured, TlsError> {
        let TlsOptions { mode, ca, client } = &self.options;
        let authorities = match mode {
            TlsMode::VerifyCa | TlsMode::VerifyFull => tls::authorities(SETTINGS, ca.as_deref())?,
            _ => Vec::new(),
        };
        let verification = match mode {
            TlsMode::VerifyFull => Verification::Full(authorities.clone()),
            TlsMode::VerifyCa => Verification::Authority(authorities.clone()),
            _ => Verification::None,
        };
        let identity = client
            .as_ref()
            .map(|client| tls::identity(SETTINGS, &client.cert, &client.key))
            .transpose()?;
        let again = identity
            .as_ref()
            .map(|(chain, key)| (chain.clone(), key.clone_key()));
        let mut config = tls::client(SETTINGS, &verification, again)?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Secured {
            mode: *mode,
            authorities,
            identity,
            connector: MakeRustlsConnect::new(config),
            mysql: OnceLock::new(),
        })
    }

    /// When each file was last written, and its size.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let client = self.options.client.as_ref();
        let files: [Option<&PathBuf>; 3] = [
            self.options.ca.as_ref(),
            client.map(|client| &client.cert),
            client.map(|client| &client.key),
        ];
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.into_iter().map(|path| path.and_then(stamp)).collect()
    }
}
