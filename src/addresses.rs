//! Which addresses count as private: the one rule for everything that the agent connects to in the cloud.
//!
//! Readings leave a plant through a VPC interface endpoint, whose addresses are private. A mistake in a zone or a name server leads the
//! same name to the public service instead, and nobody would notice.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Whether `address` can't be reached from the Internet: RFC 1918, unique-local (RFC 4193) and loopback. An IPv4 address in IPv6
/// clothes is judged as what it is. Carrier-grade NAT (100.64.0.0/10) is the carrier's, link-local is anyone's on the same cable: both
/// are not private.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
    }
}

/// Addresses that share a beginning, such as `100.64.0.0/10`; one alone is a range too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether every address of its kind is one of them.
    pub fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let range = range.map(|range| Self(range.trunc()));
        range.ok_or_else(|| format!("{text:?} is no range of addresses; write for example \"100.64.0.0/10\""))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One address, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is no address; write for example \"10.0.1.5\""))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! written_as_text {
    ($($setting:ty),*) => {$(
        impl<'de> Deserialize<'de> for $setting {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $setting {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

written_as_text!(AddressRange, Address);

/// Which addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// Only private ones, and those in `also`.
    pub private_only: bool,
    /// Ranges that count as private here.
    pub also: Vec<AddressRange>,
}

impl Permitted {
    /// Whether `address` is one of them. The unspecified address and groups are nobody's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let somebodys = !address.to_canonical().is_unspecified() && !address.to_canonical().is_multicast();
        let private = || is_private(address) || self.also.iter().any(|range| range.contains(address));
        somebodys && (!self.private_only || private())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(also: &[&str]) -> Permitted {
        Permitted { private_only: true, also: also.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn judge(permitted: &Permitted, address: &str) -> bool {
        permitted.contains(address.parse().unwrap())
    }

    #[test]
    fn private_is_what_the_internet_does_not_carry_and_the_carrier_does_not_own() {
        let rule = permitted(&[]);
        for private in ["10.0.1.5", "172.16.0.1", "172.31.255.254", "192.168.7.1", "127.0.0.1", "::1", "fd00::5", "fc00::1"] {
            assert!(judge(&rule, private), "{private}");
            if private.parse::<IpAddr>().unwrap().is_ipv4() {
                assert!(judge(&rule, &format!("::ffff:{private}")), "{private} in IPv6 clothes");
            }
        }
        let not = [
            "52.94.1.2",
            "172.32.0.1",
            "172.15.0.1",
            "192.169.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "2a05:d018::1",
            "fe80::1",
            "ff02::1",
            "::",
            "::ffff:52.94.1.2",
            "64:ff9b::10.0.1.5",
        ];
        for public in not {
            assert!(!judge(&rule, public), "{public}");
        }
    }

    #[test]
    fn ranges_add_to_what_is_private() {
        let rule = permitted(&["100.64.0.0/10", "169.254.170.2", "2a05:d018::/32"]);
        for (address, expected) in [
            ("100.127.255.255", true),
            ("::ffff:100.64.0.1", true),
            ("100.128.0.0", false),
            ("169.254.170.2", true),
            ("169.254.170.3", false),
            ("2a05:d018:1::1", true),
            ("2a05:d019::1", false),
            ("10.0.1.5", true),
        ] {
            assert_eq!(judge(&rule, address), expected, "{address}");
        }
    }

    #[test]
    fn without_the_rule_everybody_may_be_connected_to_and_nobody_still_may_not() {
        let rule = Permitted { private_only: false, also: Vec::new() };
        assert!(judge(&rule, "52.94.1.2") && judge(&rule, "10.0.1.5"));
        assert!(!judge(&rule, "0.0.0.0") && !judge(&rule, "::") && !judge(&rule, "239.0.0.1"));
    }

    #[test]
    fn a_range_reads_back_as_its_first_address_and_its_length() {
        let range = |text: &str| text.parse::<AddressRange>().map(|range| range.to_string());
        assert_eq!(range("100.64.3.1/10").unwrap(), "100.64.0.0/10");
        assert_eq!(range("10.0.1.5").unwrap(), "10.0.1.5/32");
        assert_eq!(range("fd00::/8").unwrap(), "fd00::/8");
        for wrong in ["", "10.0.1", "10.0.0.0/33", "kinesis.example"] {
            assert!(range(wrong).unwrap_err().contains("100.64.0.0/10"), "{wrong}");
        }
    }
}
