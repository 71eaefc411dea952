//! The error object on standard output.

use serde::Serialize;

use super::{UnknownVersion, Version};

/// Numbers of the CNI specification ("Well-known Error Codes", section 5); 999 is what the specification's Go library uses for
/// everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The configuration's `cniVersion` is not spoken here.
    IncompatibleVersion = 1,
    /// A field of the configuration is not supported; the message holds its key and value.
    UnsupportedField = 2,
    /// The container is not known; the runtime need not clean up.
    UnknownContainer = 3,
    /// An environment variable is missing or wrong; the message names it.
    BadEnvironment = 4,
    /// Reading standard input failed.
    Io = 5,
    /// Standard input does not decode.
    Decode = 6,
    /// The configuration is not valid.
    BadConfig = 7,
    /// The pod's network namespace is the plugin's own.
    SameNetns = 8,
    /// A passing condition: the runtime should try again later.
    TryAgainLater = 11,
    /// STATUS: ADD can not be served.
    NotAvailable = 50,
    /// STATUS: ADD can not be served, and existing containers may have limited connectivity.
    LimitedConnectivity = 51,
    /// A verb or feature this plugin does not offer (100 and above are the plugin's own).
    NotOffered = 100,
    /// Everything else.
    Internal = 999,
}

/// What a plugin says instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    /// Which kind.
    pub code: ErrorCode,
    /// What failed, on which object, and the way out.
    pub msg: String,
    /// More of it; left out if empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    #[must_use]
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The object as text, four spaces deep as the reference prints it. `version` is the configuration's, where it is known.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let object =
            Object { cni_version: version.as_str(), code: self.code as u32, msg: &self.msg, details: &self.details };
        super::result::to_pretty(&object)
    }
}

impl From<UnknownVersion> for CniError {
    fn from(error: UnknownVersion) -> Self {
        Self::new(ErrorCode::IncompatibleVersion, format!("`cniVersion`: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_reference_s_layout() {
        let error = CniError::new(ErrorCode::TryAgainLater, "no address\nis \"free\"");
        assert_eq!(
            error.to_json(Version::V0_4_0),
            "{\n    \"cniVersion\": \"0.4.0\",\n    \"code\": 11,\n    \"msg\": \"no address\\nis \\\"free\\\"\"\n}"
        );
        let json = error.with_details("more").to_json(Version::V1_1_0);
        assert!(json.ends_with(",\n    \"details\": \"more\"\n}"), "{json}");
    }
}
