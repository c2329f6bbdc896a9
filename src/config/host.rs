//! The host of a request, and whether this service serves it. After DNS rebinding a page is of the same origin as
//! this service, and only the host reveals it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host and port, as in the header `Host` and in origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// A name or an address, without the brackets of IPv6.
    pub(crate) name: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Parses `name`, `name:port`, `[address]` or `[address]:port`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (name, rest) = match text.strip_prefix('[') {
            Some(inside) => {
                let (name, rest) = inside.split_once(']')?;
                name.parse::<Ipv6Addr>().ok()?;
                (name, rest)
            }
            None => {
                let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                // A final dot does not change the name.
                let name = name.strip_suffix('.').unwrap_or(name);
                is_name(name).then_some((name, rest))?
            }
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { name, port })
    }

    /// Whether it is this machine, without DNS: `localhost`, names that end with `.localhost` (RFC 6761), and
    /// loopback addresses.
    pub(crate) fn is_loopback(self) -> bool {
        if let Ok(address) = self.name.parse::<IpAddr>() {
            return address.to_canonical().is_loopback();
        }
        let last = self.name.rsplit('.').next().unwrap_or_default();
        last.eq_ignore_ascii_case("localhost")
    }

    /// Whether both are the same host.
    pub(crate) fn is(self, other: &str) -> bool {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        self.name.eq_ignore_ascii_case(other)
            || address(self.name).is_some_and(|own| address(other) == Some(own))
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

/// A host that this service serves: a name or an address, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        match Host::parse(text) {
            Some(Host { name, port: None }) if !text.ends_with(':') => {
                Ok(Self(name.to_lowercase()))
            }
            _ => Err(()),
        }
    }
}

/// Whether this service serves a host.
pub(crate) fn is_served(host: Host<'_>, configured: &[HostName]) -> bool {
    host.is_loopback() || configured.iter().any(|served| host.is(served.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_with_and_without_port() {
        let host = |name, port| Some(Host { name, port });
        for (text, expected) in [
            ("localhost", host("localhost", None)),
            ("localhost.:8080", host("localhost", Some(8080))),
            ("127.0.0.1:8080", host("127.0.0.1", Some(8080))),
            ("[::1]:8080", host("::1", Some(8080))),
            ("[::1]", host("::1", None)),
            ("likes.example.com:", host("likes.example.com", None)),
            ("::1", None),
            ("[::1", None),
            ("[localhost]", None),
            ("[::1]x", None),
            ("localhost:65536", None),
            ("localhost:+80", None),
            ("localhost:80:80", None),
            ("user@localhost", None),
            ("localhost/path", None),
            ("local host", None),
            ("", None),
            (":8080", None),
            (".", None),
        ] {
            assert_eq!(Host::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn loopback_and_configured_hosts_are_served() {
        let configured: Vec<HostName> = ["Likes.Example.com", "192.0.2.7", "2001:db8::7"]
            .map(|text| text.parse().expect("a host"))
            .into();
        for (text, served) in [
            ("localhost:8080", true),
            ("LocalHost", true),
            ("api.localhost", true),
            ("127.0.0.1:8080", true),
            ("127.8.7.6", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]", true),
            ("likes.example.com:8443", true),
            ("LIKES.example.com.", true),
            ("192.0.2.7", true),
            ("[2001:db8:0::7]", true),
            ("evil.example.com", false),
            ("likes.example.com.evil.org", false),
            ("localhost.evil.org", false),
            ("notlocalhost", false),
            ("127.0.0.1.evil.org", false),
            ("127.1", false),
            ("0.0.0.0:8080", false),
            ("192.0.2.8", false),
            ("[2001:db8::8]", false),
        ] {
            let host = Host::parse(text).expect("a host");
            assert_eq!(is_served(host, &configured), served, "{text}");
        }
        assert!(!is_served(
            Host::parse("likes.example.com").expect("a host"),
            &[]
        ));
    }

    #[test]
    fn configured_host_has_no_port_and_no_wildcard() {
        for good in ["likes.example.com", "192.0.2.7", "::1", "[2001:db8::7]"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["a:80", "a:", "*", "*.example.com", "https://a", "a/b", ""] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
