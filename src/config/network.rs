//! An address or a network in the settings.

use std::net::{AddrParseError, IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether an address belongs to it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        // A network of IPv6 may hold IPv4 addresses, as RFC 4291 maps them.
        let mapped = |address: Ipv4Addr| IpAddr::V6(address.to_ipv6_mapped());
        self.0.contains(&address)
            || matches!(address, IpAddr::V4(v4) if self.0.contains(&mapped(v4)))
    }
}

impl FromStr for Network {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let network = text.parse();
        let network = network.or_else(|_| text.parse().map(|address: IpAddr| address.into()));
        network.map(Self)
    }
}
