//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

use super::env::shown;

/// A version of the specification that we speak: those of the reference's CNI library 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0: one address for each family; also meant by an absent version.
    V0_1_0,
    /// 0.2.0: the same.
    V0_2_0,
    /// 0.3.0: lists of interfaces and addresses.
    V0_3_0,
    /// 0.3.1: the same.
    V0_3_1,
    /// 0.4.0: CHECK, and the previous result on DEL.
    V0_4_0,
    /// 1.0.0: addresses no longer name their family.
    V1_0_0,
    /// 1.1.0: STATUS and GC; more fields of interfaces and routes.
    V1_1_0,
}

/// A version nobody here speaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a CNI version this plugin speaks: expected one of {list}", shown(.0), list = Version::list(", "))]
pub struct UnknownVersion(pub String);

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version as documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// All of them as one text.
    #[must_use]
    pub fn list(separator: &str) -> String {
        Self::ALL.map(Self::as_str).join(separator)
    }

    /// The answer to VERSION: one line of JSON.
    #[must_use]
    pub fn reply() -> String {
        let supported = Self::ALL.map(|version| format!("\"{version}\"")).join(",");
        format!("{{\"cniVersion\":\"{}\",\"supportedVersions\":[{supported}]}}\n", Self::LATEST)
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;
    /// The empty text counts as 0.1.0, as in the specification.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_is_the_reference_s_line() {
        assert_eq!(
            Version::reply(),
            "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
        );
    }

    #[test]
    fn versions_are_read_exactly() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert_eq!("".parse(), Ok(Version::V0_1_0));
        // Whoever wrote it: it ends up in logs and on terminals.
        let strange = format!("\u{1b}[31m\n{}", "9".repeat(10_000)).parse::<Version>().unwrap_err().to_string();
        assert!(strange.len() < 400 && !strange.chars().any(char::is_control), "{strange:?}");
        for bad in ["1.2.0", "0.4", "1.0.0 ", "v1.0.0", "0.4.0-rc1"] {
            let error = bad.parse::<Version>().unwrap_err();
            assert!(error.to_string().contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
        }
    }
}
