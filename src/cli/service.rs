//! A running service, asked over HTTP by `likewise actors` and `likewise top`: its address, the operator's token, and what a
//! refusal means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::uri::Authority;
use ureq::http::{HeaderValue, Request, Response, Uri};

use super::operator::operator;
use crate::config::{Secret, Settings};
use crate::http_client;
use crate::tls::TlsError;

/// The most bytes of an answer: the reports of hundreds of processes.
const LARGEST: u64 = 64 << 20;

/// The most characters of an operator's name that the service takes.
const LONGEST_NAME: usize = 64;

/// Which service to ask.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServiceArgs {
    /// Service to ask, such as http://127.0.0.1:8080; by default the one at LIKEWISE_HTTP_ADDR
    #[arg(long)]
    url: Option<ServiceUrl>,
    /// File with the token to send; by default LIKEWISE_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_from: Option<PathBuf>,
}

/// The address of a service: `http://host[:port][/prefix]`, or `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceUrl(String);

/// Why a text is no address of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http://host[:port][/prefix] or https://…, without user or query")]
pub(super) struct InvalidUrl;

impl FromStr for ServiceUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map(Authority::as_str);
        let is_host = authority.is_some_and(|authority| !authority.contains('@'));
        if !is_http || !is_host || uri.query().is_some() {
            return Err(InvalidUrl);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl From<SocketAddr> for ServiceUrl {
    /// The address of a service that listens here. One that listens on every address is asked on loopback.
    fn from(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self(format!("http://{address}"))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a service gave no answer that helps.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    /// No connection, or no answer in time.
    #[error(
        "cannot ask {url}: {reason}; is `likewise serve` running there? --url names another service"
    )]
    Unreachable {
        /// The service.
        url: ServiceUrl,
        /// The error of the connection or the request.
        reason: Box<ureq::Error>,
    },
    /// It wants a token, or another one.
    #[error(
        "{url} refuses the token: {detail}; set LIKEWISE_ADMIN_TOKEN, or name a file with --token-from"
    )]
    Unauthorized {
        /// The service.
        url: ServiceUrl,
        /// Its own words.
        detail: String,
    },
    /// It answers with a problem.
    #[error("{0}")]
    Refused(String),
    /// It answers with something else.
    #[error("{url} answered {status}, and not as Likewise does: {reason}; is its address right?")]
    Strange {
        /// The service.
        url: ServiceUrl,
        /// The status of the answer.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be used.
    #[error("{0}")]
    Token(String),
    /// The authorities of this machine cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An RFC 9457 problem.
#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

/// A service and the token for it. A request blocks its thread.
#[derive(Debug, Clone)]
pub(super) struct Service {
    url: ServiceUrl,
    token: Option<HeaderValue>,
    operator: String,
    agent: Agent,
}

impl Service {
    /// Returns the service that the arguments name, or the settings. A whole request takes at most `timeout`.
    ///
    /// # Errors
    /// If there is no usable token in the file, or the system has no authorities for `https`.
    pub(super) fn new(
        settings: &Settings,
        arguments: &ServiceArgs,
        timeout: Duration,
    ) -> Result<Self, ServiceError> {
        let url = arguments.url.clone();
        let url = url.unwrap_or_else(|| settings.http_addr.into());
        let token = match &arguments.token_from {
            None => settings.auth.admin_token.clone(),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some(Secret::new(text.trim().to_owned())),
                Err(error) => {
                    let message = format!("cannot read the token in {}: {error}", path.display());
                    return Err(ServiceError::Token(message));
                }
            },
        };
        let bearer = |token: Secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| ServiceError::Token("a token must be one line of ASCII".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, ServiceError>(value)
        };
        Ok(Self {
            token: token.map(bearer).transpose()?,
            operator: header_name(&operator()),
            agent: http_client::agent(&url.0, timeout)?,
            url,
        })
    }

    /// Returns its address.
    pub(super) const fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// Returns the JSON of a `GET`.
    ///
    /// # Errors
    /// If the service does not answer, refuses, or answers with something else than this.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        self.get_with(path, &[])
    }

    /// As [`get`](Self::get); an answer with one of these statuses counts too.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        statuses: &[u16],
    ) -> Result<T, ServiceError> {
        let request = self.request("GET", path).body(());
        let request = request.unwrap_or_else(|error| unreachable!("a checked URL: {error}"));
        self.read(self.agent.run(request), statuses)
    }

    /// Returns the JSON of a `POST` without a body, in the name of this command line's user.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        let mut request = self.request("POST", path);
        if !self.operator.is_empty() {
            request = request.header("X-Operator", &self.operator);
        }
        let request = request.body(&[][..]);
        let request = request.unwrap_or_else(|error| unreachable!("a checked URL: {error}"));
        self.read(self.agent.run(request), &[])
    }

    fn request(&self, method: &str, path: &str) -> ureq::http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Accept", "application/json");
        match &self.token {
            Some(token) => request.header("Authorization", token),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<Response<ureq::Body>, ureq::Error>,
        statuses: &[u16],
    ) -> Result<T, ServiceError> {
        let url = || self.url.clone();
        let unreachable = |error| ServiceError::Unreachable {
            url: url(),
            reason: Box::new(error),
        };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(LARGEST);
        let body = body.read_to_vec().map_err(unreachable)?;
        let strange = |error: serde_json::Error| ServiceError::Strange {
            url: url(),
            status,
            reason: error.to_string(),
        };
        if answer.status().is_success() || statuses.contains(&status) {
            return serde_json::from_slice(&body).map_err(strange);
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(strange)?;
        let detail = problem.detail.or(problem.title).unwrap_or_default();
        Err(match status {
            401 => ServiceError::Unauthorized { url: url(), detail },
            _ => ServiceError::Refused(detail),
        })
    }
}

/// Returns text as one part of a path or a value of a query.
pub(super) fn encoded(text: &str) -> String {
    const OTHERS: &percent_encoding::AsciiSet =
        &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');
    utf8_percent_encode(text, OTHERS).to_string()
}

/// Returns a name as the header `X-Operator` takes it.
fn header_name(name: &str) -> String {
    let printable = |letter: char| match letter {
        ' '..='~' => letter,
        _ => '?',
    };
    let name: String = name.chars().map(printable).take(LONGEST_NAME).collect();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_no_user_and_no_query() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://likes.example/a/", "https://likes.example/a"),
        ] {
            assert_eq!(
                text.parse::<ServiceUrl>().map(|url| url.0),
                Ok(url.to_owned())
            );
        }
        for text in [
            "127.0.0.1:8080",
            "ftp://likes.example",
            "http://ann@likes.example",
            "http://likes.example/?scope=cluster",
            "http://",
            "",
        ] {
            assert_eq!(text.parse::<ServiceUrl>(), Err(InvalidUrl), "{text}");
        }
    }

    #[test]
    fn service_on_every_address_is_asked_on_loopback() {
        for (address, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("10.0.0.7:8080", "http://10.0.0.7:8080"),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(ServiceUrl::from(address).to_string(), url);
        }
    }

    #[test]
    fn names_and_ids_fit_into_headers_and_paths() {
        assert_eq!(header_name(" Jürgen@host\n"), "J?rgen@host?");
        assert_eq!(header_name(&"a".repeat(70)).len(), LONGEST_NAME);
        assert_eq!(encoded("cache_writer"), "cache_writer");
        assert_eq!(encoded("a/b?c d"), "a%2Fb%3Fc%20d");
    }
}
