//! Hardware addresses, /28 prefixes, slots and subnets.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// A MAC address. Printed in lower case with colons, as IMDS and the kernel do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address: expected six two-digit hexadecimal numbers separated by colons")]
pub struct ParseMacError(pub String);

impl FromStr for Mac {
    type Err = ParseMacError;
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let bad = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;
    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b':'; 17];
        for (pair, byte) in text.chunks_mut(3).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        // All of it is ASCII.
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A delegated /28: sixteen addresses, aligned, all usable by pods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Ipv4Net", into = "Ipv4Net")]
pub struct Prefix28(Ipv4Addr);

/// A network that is not an aligned /28.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a delegated prefix: expected an IPv4 network of length 28 with no host bits set")]
pub struct PrefixError(pub Ipv4Net);

impl Prefix28 {
    /// Addresses in a prefix (EC2 delegates /28s only).
    pub const SIZE: u32 = 16;

    /// The prefix that an address lies in.
    #[must_use]
    pub fn containing(address: Ipv4Addr) -> Self {
        Self(Ipv4Addr::from_bits(address.to_bits() & !(Self::SIZE - 1)))
    }

    /// The first address.
    #[must_use]
    pub fn first(self) -> Ipv4Addr {
        self.0
    }

    /// The prefix as a network.
    #[must_use]
    pub fn net(self) -> Ipv4Net {
        Ipv4Net::new_assert(self.0, 28)
    }

    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::containing(address) == self
    }

    /// All sixteen addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (0..Self::SIZE).map(move |i| Ipv4Addr::from_bits(self.0.to_bits() + i))
    }
}

impl TryFrom<Ipv4Net> for Prefix28 {
    type Error = PrefixError;
    fn try_from(net: Ipv4Net) -> Result<Self, PrefixError> {
        if net.prefix_len() == 28 && net.addr() == net.network() { Ok(Self(net.addr())) } else { Err(PrefixError(net)) }
    }
}

impl From<Prefix28> for Ipv4Net {
    fn from(prefix: Prefix28) -> Self {
        prefix.net()
    }
}

impl fmt::Display for Prefix28 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/28", self.0)
    }
}

impl fmt::Debug for Prefix28 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What one secondary position of an ENI holds: a single address, or a prefix of sixteen.
/// EC2 counts both as one against the ENI's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// A secondary private address (/32).
    Address(Ipv4Addr),
    /// A delegated prefix (/28).
    Prefix(Prefix28),
}

impl Slot {
    /// How many pods it can serve.
    #[must_use]
    pub fn size(self) -> u32 {
        match self {
            Self::Address(_) => 1,
            Self::Prefix(_) => Prefix28::SIZE,
        }
    }

    /// Whether `address` belongs to it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        match self {
            Self::Address(own) => own == address,
            Self::Prefix(prefix) => prefix.contains(address),
        }
    }

    /// Its addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = match self {
            Self::Address(own) => own,
            Self::Prefix(prefix) => prefix.first(),
        };
        (0..self.size()).map(move |i| Ipv4Addr::from_bits(first.to_bits() + i))
    }

    /// The address, if it is a single one.
    #[must_use]
    pub fn address(self) -> Option<Ipv4Addr> {
        match self {
            Self::Address(own) => Some(own),
            Self::Prefix(_) => None,
        }
    }

    /// The prefix, if it is one.
    #[must_use]
    pub fn prefix(self) -> Option<Prefix28> {
        match self {
            Self::Address(_) => None,
            Self::Prefix(prefix) => Some(prefix),
        }
    }

    /// The slot as a network (/32 or /28).
    #[must_use]
    pub fn net(self) -> Ipv4Net {
        match self {
            Self::Address(own) => Ipv4Net::new_assert(own, 32),
            Self::Prefix(prefix) => prefix.net(),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(own) => own.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// An IPv4 subnet of a VPC: canonical (no host bits), /16 to /28 as EC2 allows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Ipv4Net", into = "Ipv4Net")]
pub struct Subnet(Ipv4Net);

/// A network that EC2 would not take as a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a subnet: expected an IPv4 network between /16 and /28 with no host bits set")]
pub struct SubnetError(pub Ipv4Net);

impl Subnet {
    /// The network.
    #[must_use]
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// Whether EC2 keeps the address for itself: the first four (network, router, resolver, future use) and the last.
    #[must_use]
    pub fn reserves(self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.0.network().to_bits());
        self.0.contains(&address) && (offset < 4 || address == self.0.broadcast())
    }
}

impl TryFrom<Ipv4Net> for Subnet {
    type Error = SubnetError;
    fn try_from(net: Ipv4Net) -> Result<Self, SubnetError> {
        let canonical = net.addr() == net.network();
        if canonical && (16..=28).contains(&net.prefix_len()) { Ok(Self(net)) } else { Err(SubnetError(net)) }
    }
}

impl From<Subnet> for Ipv4Net {
    fn from(subnet: Subnet) -> Self {
        subnet.0
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The router of a subnet.
pub trait GatewayOf {
    /// The network address plus one, where EC2 puts the subnet's router.
    fn gateway(self) -> Ipv4Addr;
}

impl GatewayOf for Subnet {
    fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.network().to_bits() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_read_strictly_and_printed_in_lower_case() {
        assert_eq!("0A:ff:00:12:34:56".parse::<Mac>().unwrap().to_string(), "0a:ff:00:12:34:56");
        for bad in
            ["", "0a:ff:00:12:34", "0a:ff:00:12:34:56:78", "0a:ff:00:12:34:5", "0a-ff-00-12-34-56", "+a:ff:00:12:34:56"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_an_aligned_28_and_serves_sixteen() {
        let prefix = Prefix28::try_from("10.0.0.16/28".parse::<Ipv4Net>().unwrap()).unwrap();
        assert_eq!(prefix.addresses().count(), 16);
        assert!(prefix.contains("10.0.0.31".parse().unwrap()) && !prefix.contains("10.0.0.32".parse().unwrap()));
        for bad in ["10.0.0.17/28", "10.0.0.0/27", "10.0.0.0/29"] {
            assert!(Prefix28::try_from(bad.parse::<Ipv4Net>().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subnet_keeps_five_addresses_for_the_cloud() {
        let subnet = Subnet::try_from("10.20.8.0/22".parse::<Ipv4Net>().unwrap()).unwrap();
        let kept: Vec<_> =
            subnet.net().subnets(32).unwrap().map(|n| n.addr()).filter(|a| subnet.reserves(*a)).collect();
        let want = ["10.20.8.0", "10.20.8.1", "10.20.8.2", "10.20.8.3", "10.20.11.255"]
            .map(|a| a.parse::<Ipv4Addr>().unwrap());
        assert_eq!(kept, want);
        assert_eq!(subnet.gateway(), want[1]);
        assert!(Subnet::try_from("10.20.8.1/22".parse::<Ipv4Net>().unwrap()).is_err());
        assert!(Subnet::try_from("10.0.0.0/15".parse::<Ipv4Net>().unwrap()).is_err());
    }
}
