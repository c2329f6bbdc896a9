//! Why sign-in cannot be set up: `Auth::load` fails so before the service starts.

use std::path::{Path, PathBuf};

/// The fewest bytes of the admin token.
pub(super) const ADMIN_TOKEN_BYTES: usize = 16;

/// Why sign-in cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file cannot be read.
    #[error("cannot read {}, which {setting} names: {source}", path.display())]
    Unreadable {
        /// The setting's environment variable.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The audience is missing.
    #[error(
        "LIKEWISE_AUTH_MODE=jwt needs LIKEWISE_JWT_AUDIENCE: without it, the service would accept tokens for \
         another service"
    )]
    NoAudience,
    /// There are no keys, or several sources of them.
    #[error(
        "LIKEWISE_AUTH_MODE=jwt needs exactly one of LIKEWISE_JWT_SECRET, LIKEWISE_JWT_SECRET_FILE, \
         LIKEWISE_JWT_JWKS_FILE and LIKEWISE_JWT_JWKS_URL"
    )]
    OneKeySource,
    /// The secret is too short.
    #[error("the secret of LIKEWISE_JWT_SECRET or its file must have 32 bytes or more")]
    WeakSecret,
    /// The admin token is too short.
    #[error(
        "LIKEWISE_ADMIN_TOKEN must have {} bytes or more, so that it cannot be guessed; make one with: \
         openssl rand -hex 32",
        ADMIN_TOKEN_BYTES
    )]
    WeakAdminToken,
    /// The file is not a valid key set.
    #[error(
        "the key set of LIKEWISE_JWT_JWKS_FILE or LIKEWISE_JWT_JWKS_URL cannot be used: {reason}"
    )]
    Jwks {
        /// What is wrong with it.
        reason: String,
    },
    /// The key set cannot be fetched.
    #[error("cannot fetch the key set from {url} (LIKEWISE_JWT_JWKS_URL): {reason}")]
    Fetch {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The file is not a valid list of tokens.
    #[error("the file that LIKEWISE_TOKENS_FILE names cannot be used: {reason}")]
    Tokens {
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the file that a setting names.
pub(super) fn read_file(setting: &'static str, path: &Path) -> Result<String, AuthError> {
    std::fs::read_to_string(path).map_err(|source| AuthError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}
