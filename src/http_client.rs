//! The HTTP client for requests to other services: key sets (`web/auth/jwks.rs`) and webhooks (`webhooks/`). A request
//! blocks its thread.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::tls::{self, TlsError};

/// How long a connection that waits for its next request is kept. Many servers, among them Likewise and Node.js, close one
/// after five seconds, and a request that is sent while they do gets no answer.
pub const LONGEST_IDLE: Duration = Duration::from_secs(3);

/// Makes a client that follows no redirect, trusts the authorities of the system, and returns answers of any status.
/// `timeout` limits a whole request.
///
/// # Errors
/// If the client needs TLS, and the system has no authorities.
pub fn agent(is_secure: bool, timeout: Duration) -> Result<Agent, TlsError> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_idle_age(LONGEST_IDLE)
        .max_redirects(0)
        .http_status_as_error(false)
        .https_only(is_secure)
        .user_agent("likewise");
    if is_secure {
        tls::install();
        let roots = tls::authorities("SSL_CERT_FILE", None)?;
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).to_owned())
            .collect();
        let roots = RootCerts::Specific(Arc::new(roots));
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(Agent::new_with_config(config.build()))
}
