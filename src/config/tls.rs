//! TLS to the database: from the parameters of its URL, as managed databases hand them out, or from settings.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::choices::MODES;
use super::{ConfigError, PartialConfig, TlsMode};

/// A client certificate and its key (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The file of the certificate, with its chain.
    pub cert: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

/// How connections to the database use TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Whether they do, and what they check.
    pub mode: TlsMode,
    /// The file of the trusted authorities (PEM); without it, those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this client.
    pub client: Option<ClientCertificate>,
}

/// What a URL says of TLS.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    mode: Option<TlsMode>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes the parameters of TLS out of the URL, and completes them from the settings. Returns the URL without them.
    pub(super) fn new(url: &str, config: &PartialConfig) -> Result<(String, Self), ConfigError> {
        let (url, in_url) = split(url)?;
        let path = |in_url, path: &Option<PathBuf>, setting| {
            let path = path.clone().filter(|path| !path.as_os_str().is_empty());
            once(in_url, path, setting)
        };
        let mode = once(
            in_url.mode,
            config.database_tls_mode,
            "LIKEWISE_DATABASE_TLS_MODE",
        )?;
        let ca = path(
            in_url.ca,
            &config.database_tls_ca,
            "LIKEWISE_DATABASE_TLS_CA",
        )?;
        let cert = path(
            in_url.cert,
            &config.database_tls_cert,
            "LIKEWISE_DATABASE_TLS_CERT",
        )?;
        let key = path(
            in_url.key,
            &config.database_tls_key,
            "LIKEWISE_DATABASE_TLS_KEY",
        )?;
        let any_file = ca.is_some() || cert.is_some() || key.is_some();
        if url.starts_with("sqlite:") && (mode.is_some() || any_file) {
            return Err(ConfigError::DatabaseTls(
                "SQLite is a file and has no TLS: LIKEWISE_DATABASE_URL must name a MySQL or PostgreSQL server, or \
                 the settings of TLS must go"
                    .to_owned(),
            ));
        }
        if mode == Some(TlsMode::Disable) && any_file {
            return Err(ConfigError::DatabaseTls(
                "the TLS mode of the database is disable, so its certificates would have no effect: use another \
                 mode, or remove them"
                    .to_owned(),
            ));
        }
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientCertificate { cert, key }),
            (None, None) => None,
            (cert, _) => {
                let (given, missing) = match cert {
                    Some(_) => ("LIKEWISE_DATABASE_TLS_CERT", "LIKEWISE_DATABASE_TLS_KEY"),
                    None => ("LIKEWISE_DATABASE_TLS_KEY", "LIKEWISE_DATABASE_TLS_CERT"),
                };
                return Err(ConfigError::DatabaseTls(format!(
                    "{given} (or its parameter in the database's URL) needs {missing} as well"
                )));
            }
        };
        let mode = match mode {
            // As libpq does: whoever names an authority wants it to be checked.
            Some(TlsMode::Require) if ca.is_some() => TlsMode::VerifyCa,
            Some(mode) => mode,
            None if ca.is_some() => TlsMode::VerifyFull,
            None => TlsMode::default(),
        };
        let ca = ca.filter(|path| path.as_os_str() != "system");
        Ok((url, Self { mode, ca, client }))
    }
}

/// A value that the URL, a setting or neither gives.
fn once<T: PartialEq>(
    in_url: Option<T>,
    setting: Option<T>,
    name: &str,
) -> Result<Option<T>, ConfigError> {
    match (in_url, setting) {
        (Some(a), Some(b)) if a != b => Err(ConfigError::DatabaseTls(format!(
            "{name} differs from what the parameters of LIKEWISE_DATABASE_URL say: remove one of the two"
        ))),
        (in_url, setting) => Ok(in_url.or(setting)),
    }
}

/// Splits a URL into itself without the parameters of TLS, and those.
fn split(url: &str) -> Result<(String, Given), ConfigError> {
    let mut given = Given::default();
    // A password may contain a question mark.
    let host = url.find('@').unwrap_or_default();
    let Some(start) = url[host..].find('?').map(|at| host + at) else {
        return Ok((url.to_owned(), given));
    };
    let mut rest = Vec::new();
    for parameter in url[start + 1..].split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        match key.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "sslmode" => {
                given.mode = Some(value.parse().map_err(|_| ConfigError::OutOfRange {
                    setting: "the TLS mode in LIKEWISE_DATABASE_URL",
                    expected: MODES.to_owned(),
                    found: value,
                })?);
            }
            "sslca" | "sslrootcert" => given.ca = Some(value.into()),
            "sslcert" => given.cert = Some(value.into()),
            "sslkey" => given.key = Some(value.into()),
            "requiressl" | "usessl" | "verifyca" | "verifyidentity" | "builtinroots" => {
                return Err(ConfigError::DatabaseTls(format!(
                    "the parameter {key} of LIKEWISE_DATABASE_URL is not supported: use ssl-mode, which is {MODES}"
                )));
            }
            _ => rest.push(parameter),
        }
    }
    let url = match rest.as_slice() {
        [] => url[..start].to_owned(),
        rest => format!("{}?{}", &url[..start], rest.join("&")),
    };
    Ok((url, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, config: &PartialConfig) -> Result<(String, TlsOptions), String> {
        TlsOptions::new(url, config).map_err(|error| error.to_string())
    }

    fn of(url: &str) -> (String, TlsOptions) {
        options(url, &PartialConfig::default()).expect("valid")
    }

    #[test]
    fn tls_parameters_leave_the_url() {
        let (url, tls) = of(
            "postgres://u:p?w@db.example.com/app?sslmode=verify-full&application_name=x\
             &sslrootcert=%2Fetc%2Fca.pem&sslcert=c.pem&sslkey=k.pem",
        );
        assert_eq!(
            url,
            "postgres://u:p?w@db.example.com/app?application_name=x"
        );
        assert_eq!(tls.mode, TlsMode::VerifyFull);
        assert_eq!(tls.ca, Some("/etc/ca.pem".into()));
        assert_eq!(
            tls.client.map(|client| (client.cert, client.key)),
            Some(("c.pem".into(), "k.pem".into()))
        );
        let (url, tls) = of("mysql://u:p@db.example.com/app?ssl-mode=REQUIRED");
        assert_eq!(url, "mysql://u:p@db.example.com/app");
        assert_eq!((tls.mode, tls.ca), (TlsMode::Require, None));
        let (_, tls) = of("mysql://u@db/app?sslMode=VERIFY_IDENTITY");
        assert_eq!(tls.mode, TlsMode::VerifyFull);
        let untouched = "sqlite://likes.db?mode=rwc";
        assert_eq!(of(untouched), (untouched.to_owned(), TlsOptions::default()));
    }

    #[test]
    fn a_named_authority_is_checked() {
        let mode = |query: &str| of(&format!("postgres://u@db/app{query}")).1.mode;
        assert_eq!(mode(""), TlsMode::Prefer);
        assert_eq!(mode("?sslrootcert=ca.pem"), TlsMode::VerifyFull);
        assert_eq!(
            mode("?sslmode=require&sslrootcert=ca.pem"),
            TlsMode::VerifyCa
        );
        let (_, tls) = of("postgres://u@db/app?sslmode=verify-full&sslrootcert=system");
        assert_eq!((tls.mode, tls.ca), (TlsMode::VerifyFull, None));
    }

    #[test]
    fn contradictory_tls_settings_are_rejected() {
        let with = |url: &str, config: PartialConfig| options(url, &config).expect_err("refused");
        let none = PartialConfig::default;
        let mode = |mode| PartialConfig {
            database_tls_mode: Some(mode),
            ..none()
        };
        for (refused, said) in [
            (
                with("postgres://u@db/app?sslmode=on", none()),
                "verify-full",
            ),
            (
                with("mysql://u@db/app?require_ssl=true", none()),
                "use ssl-mode",
            ),
            (
                with("mysql://u@db/app?ssl-cert=c.pem", none()),
                "needs LIKEWISE_DATABASE_TLS_KEY as well",
            ),
            (
                with("mysql://u@db/app?ssl-mode=DISABLED&ssl-ca=c.pem", none()),
                "would have no effect",
            ),
            (
                with("mysql://u@db/app?ssl-mode=DISABLED", mode(TlsMode::Require)),
                "remove one of the two",
            ),
            (
                with("sqlite://likewise.db", mode(TlsMode::Require)),
                "SQLite is a file",
            ),
        ] {
            assert!(refused.contains(said), "{refused}");
        }
        let same = options(
            "mysql://u@db/app?ssl-mode=REQUIRED",
            &mode(TlsMode::Require),
        );
        assert_eq!(same.expect("valid").1.mode, TlsMode::Require);
    }
}
