//! The plugin's configuration on standard input.

use std::fmt;

use serde_json::{Map, Value};
use vpc_model::VethPrefix;

use super::env::{is_identifier, shown};
use super::result::{kind, members};
use super::{CniError, CniResult, Command, ErrorCode, Version};

/// Key of the pod's annotations in `runtimeConfig`, filled by the runtime through the capability of the same name.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// Annotation, and its value, by which a pod asks for an interface on every network card.
const MULTI_NIC: (&str, &str) = ("k8s.amazonaws.com/nicConfig", "multi-nic-attachment");

/// What standard input holds, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConf {
    /// `cniVersion`: what the result is printed in.
    pub version: Version,
    /// `name` of the list: part of what identifies a sandbox.
    pub name: String,
    /// `vethPrefix`.
    pub veth_prefix: VethPrefix,
    /// `mtu` of pods in bytes, within [`NetConf::MTUS`].
    pub mtu: u32,
    /// `podSGEnforcingMode`, as spelled.
    pub enforcing_mode: String,
    /// `pluginLogFile`; empty means standard error.
    pub log_file: String,
    /// `pluginLogLevel`.
    pub log_level: LogLevel,
    /// The pod's annotations ask for an interface on every network card.
    pub multi_nic: bool,
    /// `prevResult`, or why it can not be read. ADD passes it on, DEL goes by it.
    pub prev_result: Option<Result<CniResult, String>>,
    /// Values that are none, each with what is taken instead: worth a line in the log.
    pub oddities: Vec<String>,
    /// A value of the wrong type in a key that no DEL needs. Every other call is refused with it, see [`NetConf::must_suit`].
    pub wrong: Option<CniError>,
}

/// Used where the configuration has no MTU or a wrong one, as the reference does.
const DEFAULT_MTU: u32 = 9001;
/// What the reference knows; any other text is taken for the first.
const ENFORCING_MODES: [&str; 2] = ["strict", "standard"];
/// What the daemon refuses as a prefix: the names of the node's own devices begin so.
const DEVICES: [&str; 3] = ["eth", "lo", "vlan"];

/// How much the plugin's log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    #[default]
    Debug,
    /// Each call and its outcome.
    Info,
    /// What was odd and went well.
    Warn,
    /// What failed.
    Error,
    /// Nothing that the plugin ever says.
    Fatal,
}

impl LogLevel {
    /// Reads a level in any case; an unknown one is [`LogLevel::Debug`], as in the reference.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::known(text).unwrap_or_default()
    }

    /// The level of that name, in any case.
    fn known(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        })
    }
}

impl NetConf {
    /// Accepted values of `mtu` in bytes.
    pub const MTUS: std::ops::RangeInclusive<u32> = 576..=9001;

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Code 6: not JSON, or a key that says what to undo is of the wrong type. Code 7: `name` or `vethPrefix` is missing or wrong.
    /// Code 1: `cniVersion` is not spoken here. A wrong `prevResult` is no error of the call: see [`NetConf::prev_result`]; nor is what
    /// DEL does without: see [`NetConf::must_suit`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        let value: Value = parse_json(bytes)?;
        let fields = Fields(
            members(&value).map_err(|found| decode(format!("standard input holds {found}: expected a JSON object")))?,
        );
        let name = fields.name()?;
        let version = fields.version()?;
        let veth_prefix = fields.veth_prefix()?;
        let (mut wrong, mut oddities) = (None, Vec::new());
        Ok(Self {
            version,
            name,
            log_file: or_default(&mut wrong, fields.log_file()),
            log_level: or_default(&mut wrong, fields.log_level(&mut oddities)),
            mtu: or_default(&mut wrong, fields.mtu(&mut oddities)).unwrap_or(DEFAULT_MTU),
            enforcing_mode: or_default(&mut wrong, fields.enforcing_mode(&mut oddities)),
            multi_nic: or_default(&mut wrong, fields.asks_for_multi_nic()),
            prev_result: fields.prev_result(version),
            oddities: {
                oddities.extend(odd_prefix(&veth_prefix));
                oddities
            },
            veth_prefix,
            wrong,
        })
    }

    /// A pod must be deletable whatever became of the configuration since it was added: DEL takes the default for what is of the wrong
    /// type and undoes nothing by it.
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

/// The first of what is wrong is kept.
pub(super) fn or_default<T: Default>(wrong: &mut Option<CniError>, read: Result<T, CniError>) -> T {
    read.unwrap_or_else(|error| {
        wrong.get_or_insert(error);
        T::default()
    })
}

fn odd_prefix(prefix: &VethPrefix) -> Option<String> {
    let prefix = DEVICES.into_iter().find(|device| *device == prefix.as_str())?;
    let expected = "expected at most 4 bytes and none of eth, lo, vlan";
    Some(format!("`vethPrefix` is `{prefix}`, as names of the node's own devices begin: {expected}; used all the same"))
}

pub(super) fn parse_json(bytes: &[u8]) -> Result<Value, CniError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(decode("standard input is empty: expected the plugin's configuration as a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        decode(format!("standard input is not JSON: {error}: expected the plugin's configuration as a JSON object"))
    })
}

/// The members of the configuration. A member that is `null` counts as absent, as in Go.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str, expected: &str) -> Result<Option<&'a str>, CniError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(decode(format!("`{key}` is {}: expected {expected}", kind(other)))),
        }
    }

    pub(super) fn name(&self) -> Result<String, CniError> {
        const EXPECTED: &str = "a letter or digit, then letters, digits, `_`, `.` or `-`";
        match self.text("name", EXPECTED)? {
            None | Some("") => Err(invalid(format!("`name` is missing: expected the name of the network, {EXPECTED}"))),
            Some(name) if is_identifier(name) => Ok(name.to_owned()),
            Some(name) => Err(invalid(format!("`name` is `{}`: expected {EXPECTED}", shown(name)))),
        }
    }

    pub(super) fn version(&self) -> Result<Version, CniError> {
        Ok(self.text("cniVersion", "a CNI version such as \"0.4.0\"")?.unwrap_or_default().parse()?)
    }

    pub(super) fn log_file(&self) -> Result<String, CniError> {
        Ok(self.text("pluginLogFile", "a path, \"stderr\" or \"\"")?.unwrap_or_default().to_owned())
    }

    pub(super) fn log_level(&self, oddities: &mut Vec<String>) -> Result<LogLevel, CniError> {
        const EXPECTED: &str = "\"debug\", \"info\", \"warn\", \"error\" or \"fatal\"";
        let Some(text) = self.text("pluginLogLevel", EXPECTED)?.filter(|text| !text.is_empty()) else {
            return Ok(LogLevel::default());
        };
        Ok(LogLevel::known(text).unwrap_or_else(|| {
            oddities.push(format!("`pluginLogLevel` is `{}`: expected {EXPECTED}; using debug", shown(text)));
            LogLevel::default()
        }))
    }

    /// `None`: the default.
    fn mtu(&self, oddities: &mut Vec<String>) -> Result<Option<u32>, CniError> {
        let Some(text) = self.text("mtu", "a decimal number from 576 to 9001 in quotes")? else { return Ok(None) };
        let read = text.parse().ok().filter(|bytes| NetConf::MTUS.contains(bytes));
        if read.is_none() {
            let expected = "expected a decimal number from 576 to 9001";
            oddities.push(format!("`mtu` is `{}`: {expected}; using {DEFAULT_MTU}", shown(text)));
        }
        Ok(read)
    }

    fn enforcing_mode(&self, oddities: &mut Vec<String>) -> Result<String, CniError> {
        const EXPECTED: &str = "\"strict\" or \"standard\"";
        let mode = self.text("podSGEnforcingMode", EXPECTED)?.unwrap_or(ENFORCING_MODES[0]);
        if !ENFORCING_MODES.contains(&mode) {
            oddities.push(format!("`podSGEnforcingMode` is `{}`: expected {EXPECTED}; taken for strict", shown(mode)));
        }
        Ok(mode.to_owned())
    }

    pub(super) fn prev_result(&self, version: Version) -> Option<Result<CniResult, String>> {
        let value = self.get("prevResult")?;
        Some(CniResult::from_value(value, version).map_err(|error| format!("`prevResult` is not usable: {error}")))
    }

    fn veth_prefix(&self) -> Result<VethPrefix, CniError> {
        const EXPECTED: &str = "at most 4 bytes that an interface name may begin with";
        let Some(text) = self.text("vethPrefix", EXPECTED)? else { return Ok(VethPrefix::default()) };
        text.parse().map_err(|_| invalid(format!("`vethPrefix` is `{}`: expected {EXPECTED}", shown(text))))
    }

    fn asks_for_multi_nic(&self) -> Result<bool, CniError> {
        let Some(runtime) = self.get("runtimeConfig") else { return Ok(false) };
        let runtime =
            members(runtime).map_err(|found| decode(format!("`runtimeConfig` is {found}: expected an object")))?;
        let Some(annotations) = runtime.get(ANNOTATIONS).filter(|value| !value.is_null()) else { return Ok(false) };
        let wrong =
            |found: &str| decode(format!("`runtimeConfig.{ANNOTATIONS}` is {found}: expected an object of texts"));
        let annotations = members(annotations).map_err(wrong)?;
        if let Some(other) = annotations.values().find(|value| !value.is_string() && !value.is_null()) {
            return Err(wrong(&format!("an object that holds {}", kind(other))));
        }
        Ok(annotations.get(MULTI_NIC.0).and_then(Value::as_str) == Some(MULTI_NIC.1))
    }
}

fn decode(msg: impl Into<String>) -> CniError {
    CniError::new(ErrorCode::Decode, msg)
}

fn invalid(msg: impl Into<String>) -> CniError {
    CniError::new(ErrorCode::BadConfig, msg)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REFERENCE: &str = r#"{
      "cniVersion": "0.4.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001",
      "podSGEnforcingMode": "strict", "pluginLogFile": "/var/log/aws-routed-eni/plugin.log", "pluginLogLevel": "DEBUG",
      "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}},
      "ipam": {}, "dns": {}, "capabilities": {"x": true}, "whatever": [1, 2]
    }"#;

    #[test]
    fn what_the_conflist_yields_is_read() {
        let conf = NetConf::parse(REFERENCE.as_bytes()).unwrap();
        assert_eq!((conf.version, conf.name.as_str(), conf.veth_prefix.as_str()), (Version::V0_4_0, "aws-cni", "eni"));
        assert_eq!((conf.mtu, conf.log_level, conf.multi_nic), (9001, LogLevel::Debug, false));
        assert_eq!(conf.log_file, "/var/log/aws-routed-eni/plugin.log");
        assert_eq!(conf.prev_result, None);
        let least = NetConf::parse(br#"{"name":"n","vethPrefix":null,"prevResult":null}"#).unwrap();
        assert_eq!((least.version, least.veth_prefix.as_str(), least.mtu), (Version::V0_1_0, "eni", 9001));
        assert_eq!((least.enforcing_mode.as_str(), least.log_file.as_str()), ("strict", ""));
        assert_eq!(NetConf::parse(br#"{"name":"n","vethPrefix":""}"#).unwrap().veth_prefix.as_str(), "");
    }

    #[test]
    fn a_wrong_mtu_falls_back_and_says_so() {
        for (text, bytes, fine) in [
            ("576", 576, true),
            ("9001", 9001, true),
            ("1500", 1500, true),
            ("575", 9001, false),
            ("9002", 9001, false),
            ("-1", 9001, false),
            ("", 9001, false),
            ("abc", 9001, false),
            ("99999999999", 9001, false),
            ("1500.0", 9001, false),
        ] {
            let conf = NetConf::parse(format!(r#"{{"name":"n","mtu":"{text}"}}"#).as_bytes()).unwrap();
            assert_eq!((conf.mtu, conf.oddities.is_empty()), (bytes, fine), "{text}");
        }
    }

    #[test]
    fn the_annotation_must_have_the_exact_value() {
        for (value, asks) in [("multi-nic-attachment", true), ("Multi-nic-attachment", false), ("", false)] {
            let text = format!(
                r#"{{"name":"n","runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{"k8s.amazonaws.com/nicConfig":"{value}"}}}}}}"#
            );
            assert_eq!(NetConf::parse(text.as_bytes()).unwrap().multi_nic, asks, "{value}");
        }
        assert!(
            !NetConf::parse(br#"{"name":"n","runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}}"#)
                .unwrap()
                .multi_nic
        );
    }

    #[test]
    fn levels_are_read_in_any_case_and_default_to_everything() {
        for (text, level) in [
            ("DEBUG", LogLevel::Debug),
            ("Info", LogLevel::Info),
            ("warn", LogLevel::Warn),
            ("ERROR", LogLevel::Error),
            ("fatal", LogLevel::Fatal),
            ("", LogLevel::Debug),
            ("loud", LogLevel::Debug),
        ] {
            assert_eq!(LogLevel::parse(text), level, "{text}");
        }
    }

    #[test]
    fn each_wrong_input_has_its_code_and_names_its_key() {
        use ErrorCode::{BadConfig, Decode, IncompatibleVersion};
        for (text, code, word) in [
            ("", Decode, "standard input is empty"),
            (" \n", Decode, "standard input is empty"),
            ("{", Decode, "standard input is not JSON"),
            ("{\"name\":\"n\"} x", Decode, "standard input is not JSON"),
            ("\u{0}\u{1}", Decode, "standard input is not JSON"),
            ("[]", Decode, "a list: expected a JSON object"),
            ("null", Decode, "null: expected a JSON object"),
            ("{}", BadConfig, "`name` is missing"),
            (r#"{"name":""}"#, BadConfig, "`name` is missing"),
            (r#"{"name":7}"#, Decode, "`name` is a number"),
            (r#"{"name":"-n"}"#, BadConfig, "`name` is `-n`"),
            (r#"{"name":"a b"}"#, BadConfig, "`name` is `a b`"),
            (
                r#"{"name":"n","cniVersion":"1.2.0"}"#,
                IncompatibleVersion,
                "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (r#"{"name":"n","cniVersion":1}"#, Decode, "`cniVersion` is a number"),
            (r#"{"name":"n","vethPrefix":"eniii"}"#, BadConfig, "`vethPrefix` is `eniii`: expected at most 4 bytes"),
            (r#"{"name":"n","vethPrefix":"a/"}"#, BadConfig, "`vethPrefix` is `a/`"),
            (r#"{"name":"n","vethPrefix":true}"#, Decode, "`vethPrefix` is a boolean"),
        ] {
            let error = NetConf::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{text}: {error}");
            assert!(error.msg.contains(word), "{text}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(NetConf::parse(deep.as_bytes()).unwrap_err().code, Decode);
    }

    #[test]
    fn a_value_of_the_wrong_type_stops_every_call_but_del() {
        for (text, word) in [
            (r#""mtu":9001"#, "`mtu` is a number: expected a decimal number from 576 to 9001 in quotes"),
            (r#""pluginLogFile":{}"#, "`pluginLogFile` is an object"),
            (r#""pluginLogLevel":1"#, "`pluginLogLevel` is a number"),
            (r#""podSGEnforcingMode":[]"#, "`podSGEnforcingMode` is a list"),
            (r#""runtimeConfig":"x""#, "`runtimeConfig` is a text"),
            (r#""runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":1}}"#, "holds a number"),
            (r#""pluginLogLevel":1,"mtu":true"#, "`pluginLogLevel` is a number"),
        ] {
            let conf = NetConf::parse(format!(r#"{{"name":"n",{text}}}"#).as_bytes()).unwrap();
            assert_eq!((conf.mtu, conf.log_level, conf.multi_nic), (9001, LogLevel::Debug, false), "{text}");
            for verb in [Command::Add, Command::Check, Command::Status, Command::Gc] {
                let error = conf.must_suit(verb).unwrap_err();
                assert!(error.code == ErrorCode::Decode && error.msg.contains(word), "{text}: {error}");
            }
            conf.must_suit(Command::Del).unwrap();
        }
    }

    #[test]
    fn what_falls_back_says_what_is_accepted_and_what_is_used() {
        for (text, words) in [
            (r#""mtu":"9002""#, "`mtu` is `9002`: expected a decimal number from 576 to 9001; using 9001"),
            (
                r#""podSGEnforcingMode":"lax""#,
                r#"`podSGEnforcingMode` is `lax`: expected "strict" or "standard"; taken for strict"#,
            ),
            (
                r#""pluginLogLevel":"loud""#,
                r#"`pluginLogLevel` is `loud`: expected "debug", "info", "warn", "error" or "#,
            ),
            (r#""vethPrefix":"eth""#, "`vethPrefix` is `eth`, as names of the node's own devices begin"),
            (r#""vethPrefix":"vlan""#, "expected at most 4 bytes and none of eth, lo, vlan; used all the same"),
        ] {
            let conf = NetConf::parse(format!(r#"{{"name":"n",{text}}}"#).as_bytes()).unwrap();
            assert!(conf.oddities.len() == 1 && conf.oddities[0].contains(words), "{text}: {:?}", conf.oddities);
        }
        let silent =
            r#"{"name":"n","pluginLogLevel":"","podSGEnforcingMode":"standard","mtu":"1500","vethPrefix":"et"}"#;
        assert!(NetConf::parse(silent.as_bytes()).unwrap().oddities.is_empty());
    }

    #[test]
    fn a_broken_previous_result_is_kept_as_such() {
        let conf = NetConf::parse(br#"{"name":"n","cniVersion":"0.4.0","prevResult":{"ips":"x"}}"#).unwrap();
        assert!(conf.prev_result.unwrap().unwrap_err().contains("`prevResult` is not usable"));
    }
}
