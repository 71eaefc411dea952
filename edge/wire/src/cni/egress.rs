//! The configuration of `egress-cni` on standard input. Of its keys only those are read that decide something while it is off.

use serde_json::Value;

use super::config::{Fields, LogLevel, or_default, parse_json};
use super::env::shown;
use super::result::members;
use super::{CniError, CniResult, Command, ErrorCode, Version};

/// What standard input holds, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressConf {
    /// `cniVersion`: what the result is printed in.
    pub version: Version,
    /// `enabled`: pods are to have a way out in the other address family. Only the exact text `true` says so, as in the reference.
    pub enabled: bool,
    /// `pluginLogFile`; empty means standard error.
    pub log_file: String,
    /// `pluginLogLevel`.
    pub log_level: LogLevel,
    /// `prevResult`, or why it can not be read.
    pub prev_result: Option<Result<CniResult, String>>,
    /// Values that are none, each with what is taken instead: worth a line in the log.
    pub oddities: Vec<String>,
    /// A value of the wrong type that no DEL needs, see [`EgressConf::must_suit`].
    pub wrong: Option<CniError>,
}

/// Values of `enabled`.
const EXPECTED: &str = "\"true\" or \"false\" in quotes";

impl EgressConf {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Code 6: not JSON. Code 7: `name` is missing or wrong. Code 1: `cniVersion` is not spoken here. A wrong `mtu` is none of them: a plugin
    /// that is off sets no MTU; nor is what DEL does without: see [`EgressConf::must_suit`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        let value: Value = parse_json(bytes)?;
        let object = members(&value).map_err(|found| {
            CniError::new(ErrorCode::Decode, format!("standard input holds {found}: expected a JSON object"))
        })?;
        let fields = Fields(object);
        fields.name()?;
        let version = fields.version()?;
        let (mut wrong, mut oddities) = (None, Vec::new());
        let enabled = or_default(&mut wrong, fields.text("enabled", EXPECTED)).unwrap_or_default();
        if !["true", "false", ""].contains(&enabled) {
            oddities.push(format!("`enabled` is `{}`: expected {EXPECTED}; taken for \"false\"", shown(enabled)));
        }
        Ok(Self {
            version,
            enabled: enabled == "true",
            log_file: or_default(&mut wrong, fields.log_file()),
            log_level: or_default(&mut wrong, fields.log_level(&mut oddities)),
            prev_result: fields.prev_result(version),
            oddities,
            wrong,
        })
    }

    /// A pod must be deletable whatever became of the configuration: a DEL that fails here keeps the plugins before this one from theirs.
    ///
    /// # Errors
    /// For every other call, code 6 with the key.
    pub fn must_suit(&self, verb: Command) -> Result<(), CniError> {
        match &self.wrong {
            Some(wrong) if verb != Command::Del => Err(wrong.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_text_true_enables_and_no_mtu_matters() {
        for (rest, enabled, odd) in [
            (r#""enabled":"true","mtu":"9001""#, true, ""),
            (
                r#""enabled":"True""#,
                false,
                "`enabled` is `True`: expected \"true\" or \"false\" in quotes; taken for \"false\"",
            ),
            (r#""enabled":"false","mtu":"many""#, false, ""),
            (r#""enabled":"","mtu":9001"#, false, ""),
            (r#""mtu":null,"ipam":7,"nodeIP":[]"#, false, ""),
        ] {
            let conf = EgressConf::parse(format!(r#"{{"name":"aws-cni",{rest}}}"#).as_bytes()).unwrap();
            assert_eq!((conf.enabled, conf.version), (enabled, Version::V0_1_0), "{rest}");
            assert_eq!(conf.oddities.concat(), odd);
        }
    }

    #[test]
    fn what_it_can_not_read_it_names() {
        for (text, code, word) in [
            ("", ErrorCode::Decode, "standard input is empty"),
            ("[]", ErrorCode::Decode, "a list: expected a JSON object"),
            (r#"{"enabled":"true"}"#, ErrorCode::BadConfig, "`name` is missing"),
            (r#"{"name":"n","cniVersion":"7"}"#, ErrorCode::IncompatibleVersion, "`7`"),
        ] {
            let error = EgressConf::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.msg.contains(word), "{error}");
        }
        let conf = EgressConf::parse(br#"{"name":"n","enabled":true}"#).unwrap();
        conf.must_suit(Command::Del).unwrap();
        for verb in [Command::Add, Command::Check, Command::Status, Command::Gc] {
            let error = conf.must_suit(verb).unwrap_err();
            assert!(
                error.code == ErrorCode::Decode && error.msg.contains("`enabled` is a boolean: expected"),
                "{error}"
            );
        }
        let conf = EgressConf::parse(br#"{"name":"n","cniVersion":"0.4.0","prevResult":{"ips":"x"}}"#).unwrap();
        assert!(conf.prev_result.unwrap().unwrap_err().contains("`prevResult` is not usable"));
    }
}
