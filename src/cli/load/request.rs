//! One request of a load, and the server it goes to. `load` builds both from the command line and the file;
//! the client sends them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};

use super::interaction::Interaction;

/// A request, sent in the name of a user.
#[derive(Debug, Clone)]
pub struct Request {
    /// `PUT` counts as a like, `DELETE` as an unlike.
    pub method: Method,
    /// The whole path, as it stands in the request line.
    pub path: Uri,
    /// Sent as `X-User-Id`.
    pub user_id: i64,
    /// The video that the path names, if it is that of a like.
    pub video_id: Option<i64>,
    /// The body, which is JSON; empty if there is none.
    pub body: Bytes,
}

impl Request {
    /// The like of a recorded interaction.
    #[must_use]
    pub fn like(target: &Target, interaction: Interaction) -> Self {
        let path = format!("{}/v1/videos/{}/like", target.prefix, interaction.video_id);
        Self {
            method: Method::PUT,
            path: Uri::try_from(path).expect("a checked prefix and a number make a valid path"),
            user_id: interaction.user_id,
            video_id: Some(interaction.video_id),
            body: Bytes::new(),
        }
    }

    /// Any request to a path below the server's prefix.
    ///
    /// # Panics
    /// If the path is none.
    #[must_use]
    pub fn to(target: &Target, method: Method, path: &str, user_id: i64, body: Bytes) -> Self {
        let path = format!("{}{path}", target.prefix);
        Self {
            method,
            path: Uri::try_from(path).expect("a valid path"),
            user_id,
            video_id: None,
            body,
        }
    }

    /// The unlike of what this like has liked.
    #[must_use]
    pub(super) fn into_unlike(self) -> Self {
        Self {
            method: Method::DELETE,
            ..self
        }
    }
}

/// The server a load goes to: `http://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` header, rendered once for all requests.
    pub(super) authority: HeaderValue,
    /// What stands before `/v1` in every path, without a slash at its end.
    prefix: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority.to_str().unwrap_or(&self.host);
        write!(f, "http://{authority}{}", self.prefix)
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| InvalidTarget::Form)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InvalidTarget::Encrypted),
            _ => return Err(InvalidTarget::Form),
        }
        let authority = uri.authority().ok_or(InvalidTarget::Form)?;
        let has_user = authority.as_str().contains('@');
        let has_unreadable_port =
            authority.port().is_none() && authority.as_str() != authority.host();
        let has_host = !authority.host().is_empty();
        if has_user || has_unreadable_port || !has_host || uri.query().is_some() {
            return Err(InvalidTarget::Form);
        }
        Ok(Self {
            // A URL brackets an IPv6 address; the resolver wants it bare.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| InvalidTarget::Form)?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// Why a URL names no server that a load can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// Not of the one form that is understood.
    #[error("expected http://host[:port][/prefix], without user or query")]
    Form,
    /// The load speaks plain HTTP only.
    #[error(
        "https is not supported; send the load past the proxy that ends TLS, to its http:// address"
    )]
    Encrypted,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERACTION: Interaction = Interaction {
        user_id: 16_872,
        video_id: 17_407,
    };

    #[test]
    fn a_like_goes_to_its_video_below_the_prefix_of_the_url() {
        for (url, path) in [
            ("http://localhost:8080", "/v1/videos/17407/like"),
            ("http://localhost:8080/", "/v1/videos/17407/like"),
            ("http://proxy/likes/", "/likes/v1/videos/17407/like"),
        ] {
            let target: Target = url.parse().expect(url);
            let like = Request::like(&target, INTERACTION);
            assert_eq!(
                (like.path.to_string().as_str(), like.user_id),
                (path, 16_872)
            );
        }
    }

    #[test]
    fn an_unlike_takes_back_the_same_path_for_the_same_user() {
        let target: Target = "http://localhost".parse().expect("valid");
        let like = Request::like(&target, INTERACTION);
        let unlike = like.clone().into_unlike();
        assert_eq!(unlike.method, Method::DELETE);
        assert_eq!((unlike.path, unlike.user_id), (like.path, like.user_id));
    }

    #[test]
    fn a_url_gives_host_and_port_as_the_resolver_wants_them() {
        for (url, host, port) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("http://likes.example", "likes.example", 80),
            ("http://[::1]:9000/x", "::1", 9000),
        ] {
            let target: Target = url.parse().expect(url);
            assert_eq!((target.host.as_str(), target.port), (host, port));
        }
    }

    #[test]
    fn a_url_that_cannot_be_sent_to_is_refused() {
        for url in [
            "localhost:8080",
            "/v1",
            "",
            "ftp://a",
            "http://",
            "http://u@a",
            "http://u@a:80",
            "http://a?b=c",
            "http://a:99999",
        ] {
            assert_eq!(url.parse::<Target>(), Err(InvalidTarget::Form), "{url}");
        }
        assert_eq!("https://a".parse::<Target>(), Err(InvalidTarget::Encrypted));
    }
}
