//! Whom a plugin may connect to: a port of an address, or of a range of addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use portcullis_ebpf::connections::Range;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One port of one address, or of all addresses that begin alike: `127.0.0.1:4317`, `10.0.0.0/8:4317`, `[fd00::/8]:4317`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peers {
    address: IpAddr,
    /// How many bits of the address count.
    bits: u8,
    port: u16,
}

impl Peers {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same, for a program of the kernel's.
    pub fn range(&self) -> Range {
        Range { address: self.address, bits: self.bits, port: self.port }
    }

    /// Whether this is one of them.
    pub fn contain(&self, peer: SocketAddr) -> bool {
        let (Some(own), Some(other)) = (first_bits(self.address, self.bits), first_bits(peer.ip(), self.bits)) else {
            return false;
        };
        self.address.is_ipv4() == peer.is_ipv4() && own == other && self.port == peer.port()
    }

    /// Whether all of `others` are among these.
    pub fn cover(&self, others: &Peers) -> bool {
        self.bits <= others.bits && self.contain(SocketAddr::new(others.address, others.port))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first bits of an address; `None` if it has not so many.
fn first_bits(address: IpAddr, bits: u8) -> Option<u128> {
    let value = match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => u128::from(address),
    };
    let rest = width(address).checked_sub(bits)?;
    // All bits of an IPv6 address are more than a shift takes.
    Some(value.checked_shr(rest.into()).unwrap_or(0))
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Peers, String> {
        let form = "write ADDRESS:PORT, as in 127.0.0.1:4317 or [::1]:4317, or a range, as in 10.0.0.0/8:4317 or [fd00::/8]:4317";
        let (range, port) = text.rsplit_once(':').ok_or_else(|| format!("there is no port; {form}"))?;
        let range = match range.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("a bracket is missing; {form}"))?,
            None if range.contains(':') => return Err(format!("an IPv6 address stands in brackets; {form}")),
            None => range,
        };
        let (address, bits) = range.split_once('/').map_or((range, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| match address.chars().any(|c| c.is_ascii_alphabetic()) {
            true => "a name is not an address: who has it is the word of others, and plugins look up no names; \
                     write its address"
                .to_owned(),
            false => format!("this is no address; {form}"),
        })?;
        if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
            return Err(format!("write {} for this address", address.to_canonical()));
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{port}` is no port; {form}"))?;
        let widest = width(address);
        let bits = match bits {
            None if address.is_unspecified() => return Err(format!("write {address}/0 for every address")),
            None => widest,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= widest)
                .ok_or_else(|| format!("`/{bits}` must be between /0 and /{widest}"))?,
        };
        let peers = Peers { address, bits, port };
        let start = Peers { address: start(address, bits), ..peers };
        if start == peers { Ok(peers) } else { Err(format!("the range begins at {start}")) }
    }
}

/// The first address of the range that this one is in.
fn start(address: IpAddr, bits: u8) -> IpAddr {
    let rest = u32::from(width(address) - bits);
    let cut = |value: u128| value.checked_shr(rest).and_then(|value| value.checked_shl(rest)).unwrap_or(0);
    match address {
        IpAddr::V4(address) => IpAddr::V4((cut(u32::from(address).into()) as u32).into()),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(cut(address.into()))),
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peers { address, bits, port } = self;
        let range = if *bits == width(*address) { String::new() } else { format!("/{bits}") };
        match address {
            IpAddr::V4(address) => write!(f, "{address}{range}:{port}"),
            IpAddr::V6(address) => write!(f, "[{address}{range}]:{port}"),
        }
    }
}

impl Serialize for Peers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Peers, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is written is what is meant, and is written so again.
    #[test]
    fn ranges() {
        for (text, inside, outside) in [
            ("127.0.0.1:4317", "127.0.0.1:4317", "127.0.0.2:4317"),
            ("127.0.0.1:4317", "127.0.0.1:4317", "127.0.0.1:4318"),
            ("10.0.0.0/8:80", "10.255.0.1:80", "11.0.0.0:80"),
            ("0.0.0.0/0:80", "192.0.2.1:80", "[::1]:80"),
            ("[::1]:9090", "[::1]:9090", "[::2]:9090"),
            ("[fd00::/8]:1", "[fdff::7]:1", "[fe00::]:1"),
            ("[::/0]:1", "[2001:db8::]:1", "127.0.0.1:1"),
        ] {
            let peers: Peers = text.parse().unwrap();
            assert_eq!(peers.to_string(), text);
            assert!(peers.contain(inside.parse().unwrap()), "{text} {inside}");
            assert!(!peers.contain(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    /// A range covers what is narrower, and nothing else.
    #[test]
    fn covers() {
        let covers = |wide: &str, narrow: &str| wide.parse::<Peers>().unwrap().cover(&narrow.parse().unwrap());
        assert!(covers("10.0.0.0/8:80", "10.1.0.0/16:80"));
        assert!(covers("10.0.0.0/8:80", "10.0.0.0/8:80"));
        assert!(!covers("10.1.0.0/16:80", "10.0.0.0/8:80"));
        assert!(!covers("10.0.0.0/8:80", "10.1.0.0/16:81"));
        assert!(!covers("0.0.0.0/0:80", "[::1]:80"));
    }

    /// What is no address says what would be one; a name says why it is none.
    #[test]
    fn mistakes() {
        for (text, expect) in [
            ("localhost:80", "a name is not an address: "),
            ("example.com:443", "a name is not an address: "),
            ("127.0.0.1", "there is no port; "),
            ("127.0.0.1:0", "`0` is no port; "),
            ("127.0.0.1:http", "`http` is no port; "),
            ("127.0.0.1:70000", "`70000` is no port; "),
            ("::1:80", "an IPv6 address stands in brackets; "),
            ("[::1:80", "a bracket is missing; "),
            ("127.0.0:80", "this is no address; "),
            ("[::ffff:1.2.3.4]:80", "write 1.2.3.4 for this address"),
            ("0.0.0.0:80", "write 0.0.0.0/0 for every address"),
            ("10.0.0.0/33:80", "`/33` must be between /0 and /32"),
            ("10.1.0.0/8:80", "the range begins at 10.0.0.0/8:80"),
        ] {
            let error = text.parse::<Peers>().unwrap_err();
            assert!(error.starts_with(expect), "{text}: {error}");
        }
    }
}
