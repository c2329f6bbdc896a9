//! The address of the client: the peer's, or the one that a trusted proxy names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::Network;
use actix_web::http::header::{self, HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client. Only trusted proxies may name it; any other peer is the client. If the two headers
/// disagree, neither counts: a proxy sets one of them, and may forward the other as the client sent it.
pub(super) fn client(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    trusted: &[Network],
) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return Some(peer);
    }
    // The last hop is the nearest. Hops that the client made up come first.
    let farthest = |hops: Vec<Option<IpAddr>>| {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop else { break };
            client = hop;
            if !is_trusted(hop) {
                break;
            }
        }
        client
    };
    let forwarded = hops(headers, &header::FORWARDED, forwarded_for);
    let x_forwarded_for = hops(headers, &X_FORWARDED_FOR, address);
    Some(match (forwarded, x_forwarded_for) {
        (None, None) => peer,
        (Some(hops), None) | (None, Some(hops)) => farthest(hops),
        (Some(one), Some(other)) => {
            let (one, other) = (farthest(one), farthest(other));
            if one == other { one } else { peer }
        }
    })
}

/// The address that counts for one customer: of IPv6, the /64 that an access network assigns.
pub(super) fn customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

/// The hops in a header, if it is present; `None` for each hop that is malformed.
fn hops(
    headers: &HeaderMap,
    name: &HeaderName,
    read: fn(&str) -> Option<IpAddr>,
) -> Option<Vec<Option<IpAddr>>> {
    headers.contains_key(name).then(|| {
        let lines = headers.get_all(name);
        let words = lines.flat_map(|line| line.to_str().unwrap_or("?").split(','));
        words.map(|word| read(word.trim())).collect()
    })
}

/// The address in `for=192.0.2.1;proto=https` (RFC 7239).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let alone = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    alone()
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn found(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header");
            map.append(HeaderName::from_static(name), value);
        }
        let trusted = ["10.0.0.0/8", "2001:db8::1"].map(|text| text.parse().expect("a network"));
        let peer = format!("{peer}:1234").parse().ok();
        client(peer, &map, &trusted)
            .expect("an address")
            .to_string()
    }

    #[test]
    fn only_trusted_proxies_set_the_client_address() {
        let x = |value| [("x-forwarded-for", value)];
        let forwarded = |value| [("forwarded", value)];
        for (peer, headers, expected) in [
            ("192.0.2.1", &x("198.51.100.7")[..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &x("198.51.100.7"), "198.51.100.7"),
            ("[::ffff:10.0.0.1]", &x("198.51.100.7"), "198.51.100.7"),
            ("[2001:db8::1]", &x("198.51.100.7"), "198.51.100.7"),
            ("[2001:db8::2]", &x("198.51.100.7"), "2001:db8::2"),
            // The client made up the first hops; they do not count.
            ("10.0.0.1", &x("203.0.113.9, 198.51.100.7"), "198.51.100.7"),
            (
                "10.0.0.1",
                &x("203.0.113.9, 198.51.100.7, 10.2.3.4"),
                "198.51.100.7",
            ),
            ("10.0.0.1", &x("203.0.113.9, nonsense"), "10.0.0.1"),
            ("10.0.0.1", &x("198.51.100.7:4711"), "198.51.100.7"),
            ("10.0.0.1", &x("[2001:db8::7]:4711"), "2001:db8::7"),
            (
                "10.0.0.1",
                &forwarded("for=198.51.100.7;proto=https"),
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                &forwarded("proto=https;For=\"[2001:db8::7]:80\""),
                "2001:db8::7",
            ),
            (
                "10.0.0.1",
                &forwarded("for=203.0.113.9, for=unknown"),
                "10.0.0.1",
            ),
            (
                "10.0.0.1",
                &[
                    ("forwarded", "for=203.0.113.9"),
                    ("x-forwarded-for", "198.51.100.7"),
                ],
                "10.0.0.1",
            ),
        ] {
            assert_eq!(found(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn ipv6_subnet_counts_as_one_address() {
        let of = |text: &str| customer(text.parse().expect("an address")).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::9"), of("2001:db8:1:3::9"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
