//! Names of kernel links. They are part of the contract with tools, scripts and earlier daemons, and never change.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use crate::PodRef;

/// The name of a kernel link: 1 to 15 bytes, no `/`, `:` or white space, not `.` or `..` (the kernel's own rule, `dev_valid_name`), and no
/// `%`, which makes a text a pattern that the kernel completes with a number (`dev_alloc_name`).
/// Names stand in every route and link of a host: they are held in place, so that copying one costs nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName {
    /// Zeros behind the end, which no name has inside: they compare as the texts do.
    bytes: [u8; Self::MAX],
    length: u8,
}

/// A text the kernel would not take as a link name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an interface name: expected 1 to 15 bytes without `/`, `:`, `%` or white space, and not `.` or `..`"
)]
pub struct LinkNameError(pub String);

impl LinkName {
    /// Longest name in bytes (`IFNAMSIZ` less the terminating zero).
    pub const MAX: usize = 15;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // It was made from a text, whole.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The first bytes of a text that is known to be a name.
    fn of(text: &str) -> Self {
        let mut bytes = [0; Self::MAX];
        let length = text.len().min(Self::MAX);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { bytes, length: length as u8 }
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;
    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let dots = text == "." || text == "..";
        let strange = text.bytes().any(|b| matches!(b, b'/' | b':' | b'%' | 0 | 0x0b) || b.is_ascii_whitespace());
        if text.is_empty() || text.len() > Self::MAX || dots || strange {
            Err(LinkNameError(text.into()))
        } else {
            Ok(Self::of(text))
        }
    }
}

impl TryFrom<String> for LinkName {
    type Error = LinkNameError;
    fn try_from(text: String) -> Result<Self, LinkNameError> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The beginning of a host veth's name (`AWS_VPC_K8S_CNI_VETHPREFIX`): at most 4 bytes, so that prefix and suffix fit a link name.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VethPrefix(Box<str>);

impl VethPrefix {
    /// Longest prefix in bytes: 15 less the 11 digits of the suffix.
    pub const MAX: usize = 4;

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for VethPrefix {
    fn default() -> Self {
        Self("eni".into())
    }
}

impl FromStr for VethPrefix {
    type Err = LinkNameError;
    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        if text.is_empty() {
            return Ok(Self("".into()));
        }
        match text.parse::<LinkName>() {
            Ok(_) if text.len() <= Self::MAX => Ok(Self(text.into())),
            _ => Err(LinkNameError(text.into())),
        }
    }
}

impl TryFrom<String> for VethPrefix {
    type Error = LinkNameError;
    fn try_from(text: String) -> Result<Self, LinkNameError> {
        text.parse()
    }
}

impl From<VethPrefix> for String {
    fn from(prefix: VethPrefix) -> Self {
        prefix.0.into()
    }
}

/// The part of a pod's names that depends on the pod alone: the first 11 hexadecimal digits of SHA-1 over `<namespace>.<name>`.
#[must_use]
pub fn veth_suffix(pod: &PodRef) -> String {
    let digest = Sha1::new().chain_update(&pod.namespace).chain_update(".").chain_update(&pod.name).finalize();
    // Half bytes, the higher one first.
    let halves = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(11);
    let mut suffix = String::with_capacity(11);
    suffix.extend(halves.filter_map(|half| char::from_digit(half.into(), 16)));
    suffix
}

/// The host end of a pod's veth pair.
#[must_use]
pub fn host_veth(prefix: &VethPrefix, pod: &PodRef) -> LinkName {
    LinkName::of(&[prefix.as_str(), &veth_suffix(pod)].concat())
}

/// The name of the extra interface entry in a CNI result that carries state from ADD to DEL. Never a real link (it is 16 bytes long).
#[must_use]
pub fn dummy_name(pod: &PodRef) -> String {
    format!("dummy{}", veth_suffix(pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_the_names_the_reference_gives_them() {
        for (namespace, name, suffix) in [
            ("default", "web-0", "0d7763386da"),
            ("default", "web-1", "0761ccbeace"),
            ("default", "sample-pod", "cc21c2d7785"),
            ("kube-system", "coredns-57ff979f67-qqbdh", "b5faff8a083"),
            ("kube-system", "coredns-57ff979f67-8ns9b", "9571956a6cc"),
            ("", "", "3a52ce78095"),
        ] {
            let pod = PodRef { namespace: namespace.into(), name: name.into() };
            assert_eq!(veth_suffix(&pod), suffix);
            assert_eq!(host_veth(&VethPrefix::default(), &pod).as_str(), format!("eni{suffix}"));
            assert_eq!(dummy_name(&pod), format!("dummy{suffix}"));
        }
    }

    #[test]
    fn the_kernel_s_rule_for_names_is_ours() {
        for good in ["eth0", "a", "vlan.eth.5", "enib5faff8a083"] {
            assert!(good.parse::<LinkName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "sixteen-bytes-xx", "a\n"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
        let mut names = ["eth10", "eth1", "a", "éß", "enib5faff8a083", "eth", "b"];
        let mut parsed: Vec<LinkName> = names.iter().map(|name| name.parse().unwrap()).collect();
        names.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(parsed.iter().map(LinkName::as_str).collect::<Vec<_>>(), names, "they sort as texts do");
        assert!("eniii".parse::<VethPrefix>().is_err());
        assert!("".parse::<VethPrefix>().is_ok());
    }
}
