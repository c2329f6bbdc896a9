//! A request, and the server that it is sent to. `load` and the benchmark build them; the client sends them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};

use crate::ids::{IdForm, Ids};
use crate::interaction::Interaction;

/// A request on behalf of a user.
#[derive(Debug, Clone)]
pub struct Request {
    /// `PUT` counts as a like, `DELETE` as an unlike.
    pub method: Method,
    /// The whole path, with the target's prefix.
    pub path: Uri,
    /// Sent as `X-User-Id`, in the form that the target demands.
    pub user_id: i64,
    /// The number of the resource, if this is a like or an unlike.
    pub video_id: Option<i64>,
    /// The JSON body; empty for a request without one.
    pub body: Bytes,
}

impl Request {
    /// The request that likes a resource.
    #[must_use]
    pub fn like(target: &Target, interaction: Interaction) -> Self {
        let path = target.ids.path(&target.prefix, interaction.video_id);
        Self {
            method: Method::PUT,
            path: Uri::try_from(path).expect("a checked prefix, type and id make a valid path"),
            user_id: interaction.user_id,
            video_id: Some(interaction.video_id),
            body: Bytes::new(),
        }
    }

    /// A request to any path below the target's prefix.
    ///
    /// # Panics
    /// If `path` is not a valid path.
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

    /// The unlike that reverts this like.
    #[must_use]
    pub(crate) fn into_unlike(self) -> Self {
        Self {
            method: Method::DELETE,
            ..self
        }
    }
}

/// The server that requests are sent to: `http://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The `Host` header, rendered once for all requests.
    pub(crate) authority: HeaderValue,
    /// Precedes `/v1` in every path; without a trailing slash.
    prefix: String,
    /// The ids and the resource type that it serves.
    pub ids: Ids,
}

impl Target {
    /// The value of `X-User-Id` for a user's number.
    pub(crate) fn user(&self, number: i64) -> HeaderValue {
        match self.ids.users {
            IdForm::Number => number.into(),
            form => HeaderValue::try_from(form.id(number)).expect("letters, digits and hyphens"),
        }
    }
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
            ids: Ids::default(),
        })
    }
}

/// Why a URL is not a valid target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It does not have the supported form.
    #[error("expected http://host[:port][/prefix], without user or query")]
    Form,
    /// It is an `https` URL; only plain HTTP is supported.
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
    fn like_path_starts_with_the_prefix_of_the_url() {
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
    fn unlike_has_the_path_and_user_of_its_like() {
        let target: Target = "http://localhost".parse().expect("valid");
        let like = Request::like(&target, INTERACTION);
        let unlike = like.clone().into_unlike();
        assert_eq!(unlike.method, Method::DELETE);
        assert_eq!((unlike.path, unlike.user_id), (like.path, like.user_id));
    }

    #[test]
    fn target_host_and_port_suit_the_resolver() {
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
    fn unsupported_url_is_rejected() {
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
