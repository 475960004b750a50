//! Trusted proxies, and the client addresses that they forward.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use syncline_protocol::{Close, CloseCode};
use thiserror::Error;
use warp::http::{HeaderMap, header};

/// Addresses read in one request. A chain of proxies is short.
const ENTRIES_MAX: usize = 32;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// `None`: not configured, so a peer on a private address may be a proxy.
    networks: Option<Vec<Network>>,
}

/// A text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} in trusted_proxies is not a network; write an address, or one with a prefix length, such as 10.0.0.0/8"
)]
pub struct NetworkError(String);

/// An address and a prefix length, as IPv6 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => most,
        };
        if length > most {
            return Err(wrong());
        }
        let mask = u128::MAX.checked_shl(most - length).unwrap_or(0);
        Ok(Self { bits: bits(address) & mask, mask })
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.bits
    }
}

/// The bits of an address; IPv4 addresses are mapped to IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl TrustedProxies {
    /// The networks of a configured list.
    ///
    /// # Errors
    /// If an entry is not a network.
    pub fn parse(list: Option<&[String]>) -> Result<Self, NetworkError> {
        let parse = |list: &[String]| list.iter().map(|text| text.trim().parse()).collect();
        Ok(Self { networks: list.map(parse).transpose()? })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().flatten().any(|network| network.contains(address))
    }

    /// Whether the peer of a socket counts as its client. Trusted proxies do not; nor, without a
    /// configured list, do peers on private addresses.
    pub(crate) fn is_client(&self, peer: IpAddr) -> bool {
        match &self.networks {
            Some(_) => !self.trusts(peer),
            None => !is_local(peer),
        }
    }

    /// The client named by a trusted proxy: the last address in its header that is not a trusted proxy
    /// itself. `None` if the peer is not trusted, or names no client.
    ///
    /// # Errors
    /// If two headers name different clients.
    pub(crate) fn client(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<IpAddr>, Close> {
        if !self.trusts(peer) {
            return Ok(None);
        }
        let untrusted = |entries: &mut dyn Iterator<Item = Option<IpAddr>>| {
            // An unreadable entry hides those before it.
            let mut known = entries.take(ENTRIES_MAX).map_while(|entry| entry);
            known.find(|address| !self.trusts(*address))
        };
        let x_forwarded = untrusted(&mut entries(headers, X_FORWARDED_FOR).map(address));
        let forwarded =
            untrusted(&mut entries(headers, header::FORWARDED.as_str()).map(forwarded_for));
        match (x_forwarded, forwarded) {
            // The proxy sets one of them, and the other came from the client.
            (Some(one), Some(other)) if one != other => {
                let text = "X-Forwarded-For and Forwarded name different clients; the proxy must \
                            drop the one that it does not set";
                Err(Close::new(CloseCode::BadRequest, text))
            }
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// Whether an address is loopback, private or link-local, where a proxy may be.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// The entries of a header, the last first.
fn entries<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().rev();
    // A line that is not text reads as an entry that is not an address.
    lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')).map(str::trim)
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    let unbracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address: Option<IpAddr> = text.parse().ok().or_else(unbracketed).or_else(with_port);
    address.map(|address| address.to_canonical())
}

/// The address in `for=` of an entry of `Forwarded` (RFC 7239).
fn forwarded_for(entry: &str) -> Option<IpAddr> {
    let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    fn proxies(list: &[&str]) -> TrustedProxies {
        let list: Vec<_> = list.iter().map(|text| (*text).to_owned()).collect();
        TrustedProxies::parse(Some(&list)).unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn edge_4_only_a_listed_proxy_is_trusted() {
        let proxies = proxies(&["10.0.0.0/8", "2001:db8::7"]);
        let lines = headers(&[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(proxies.client(ip("10.1.2.3"), &lines), Ok(Some(ip("192.0.2.1"))));
        assert_eq!(proxies.client(ip("2001:db8::7"), &lines), Ok(Some(ip("192.0.2.1"))));
        for peer in ["11.0.0.1", "2001:db8::8", "127.0.0.1", "192.0.2.1"] {
            assert_eq!(proxies.client(ip(peer), &lines), Ok(None), "{peer}");
            assert!(proxies.is_client(ip(peer)), "{peer}");
        }
        assert!(!proxies.is_client(ip("::ffff:10.1.2.3")));
        assert_eq!(TrustedProxies::default().client(ip("127.0.0.1"), &lines), Ok(None));
    }

    #[test]
    fn edge_4_the_last_entry_that_is_not_a_proxy_counts() {
        let proxies = proxies(&["10.0.0.0/8"]);
        let client = ip("192.0.2.1");
        let found = |lines: &[_]| proxies.client(ip("10.0.0.1"), &headers(lines));
        for value in [
            "192.0.2.1",
            "203.0.113.9, 192.0.2.1",
            "203.0.113.9, 192.0.2.1, 10.0.0.2",
            "junk, 192.0.2.1:5555",
            "[::ffff:192.0.2.1]:80,10.9.9.9",
        ] {
            assert_eq!(found(&[("x-forwarded-for", value)]), Ok(Some(client)), "{value}");
        }
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(found(&lines), Ok(Some(client)));
        for value in [
            "for=192.0.2.1",
            "for=203.0.113.9, proto=https;For=\"192.0.2.1:80\", for=10.0.0.2;by=10.0.0.1",
        ] {
            assert_eq!(found(&[("forwarded", value)]), Ok(Some(client)), "{value}");
        }
        for value in ["", "unknown", "192.0.2.1, junk", "192.0.2.1, junk, 10.0.0.2", "10.0.0.2"] {
            assert_eq!(found(&[("x-forwarded-for", value)]), Ok(None), "{value}");
        }
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(found(&both).unwrap_err().code, CloseCode::BadRequest);
    }

    #[test]
    fn edge_4_an_invalid_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "proxy", "10.0.0/8"] {
            assert!(TrustedProxies::parse(Some(&[text.to_owned()])).is_err(), "{text}");
        }
        assert!(!proxies(&["0.0.0.0/0"]).is_client(ip("192.0.2.1")));
        assert!(proxies(&["0.0.0.0/0"]).is_client(ip("2001:db8::1")));
        assert!(!proxies(&["::/0"]).is_client(ip("192.0.2.1")));
    }

    #[test]
    fn edge_2_a_private_address_may_be_an_unlisted_proxy() {
        for peer in ["127.0.0.1", "10.0.0.1", "192.168.0.1", "::1", "fd00::1"] {
            assert!(!TrustedProxies::default().is_client(ip(peer)), "{peer}");
            assert!(proxies(&[]).is_client(ip(peer)), "{peer}");
        }
        assert!(TrustedProxies::default().is_client(ip("192.0.2.1")));
    }
}
