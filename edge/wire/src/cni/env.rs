//! The environment a runtime calls a plugin with, checked as the specification's Go library 1.3 checks it.

use std::ffi::OsString;
use std::str::FromStr;

use vpc_model::LinkName;

use super::{CniError, ErrorCode, Version};

/// What a runtime asks for (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Give the container an interface.
    Add,
    /// Take it away.
    Del,
    /// Is it as it should be?
    Check,
    /// Can ADD be served?
    Status,
    /// Remove what belongs to no container of this list.
    Gc,
    /// Which versions are spoken?
    Version,
}

impl Command {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version];

    /// As the environment spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// Refuses a verb that the configuration's version does not have.
    ///
    /// # Errors
    /// Code 1.
    pub fn must_be_in(self, version: Version) -> Result<(), CniError> {
        let since = match self {
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Status | Self::Gc => Version::V1_1_0,
        };
        if version >= since {
            return Ok(());
        }
        Err(CniError::new(
            ErrorCode::IncompatibleVersion,
            format!("{} exists since CNI {since}: `cniVersion` is {version}", self.as_str()),
        ))
    }

    /// Whether it is about one container.
    #[must_use]
    pub fn names_a_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl FromStr for Command {
    type Err = CniError;
    fn from_str(text: &str) -> Result<Self, CniError> {
        Self::ALL.into_iter().find(|command| command.as_str() == text).ok_or_else(|| {
            let expected = Self::ALL.map(Self::as_str).join(", ");
            bad(format!("CNI_COMMAND `{}` is not a verb of CNI: expected one of {expected}", shown(text)))
        })
    }
}

/// Longest container id taken, in bytes. Runtimes have 64. With the longest name of an interface (15) and a sign between them it must be
/// the name of a file ([`crate::tombstone`]), which has 255 at most (`NAME_MAX`).
const LONGEST_CONTAINER: usize = 234;

/// The environment as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// No `CNI_COMMAND`: a person called the program by hand.
    NotCalledByARuntime,
    /// A runtime's call.
    Called(Invocation),
}

/// One call of a runtime. Which fields are set depends on the verb; those required for it are never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The verb.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`; `None` where DEL names none.
    pub netns: Option<String>,
    /// `CNI_IFNAME`; `None` for verbs about no container.
    pub interface: Option<LinkName>,
    /// `CNI_PATH`.
    pub path: String,
    /// `CNI_ARGS`, not yet parsed.
    pub args: String,
    /// `CNI_NETNS_OVERRIDE`: the pod may share the plugin's network namespace.
    pub netns_override: bool,
}

impl Environment {
    /// Reads the variables by `get` (in the program: `std::env::var_os`).
    ///
    /// # Errors
    /// Code 4: an unknown verb; variables missing, all of them in one message; a value of the wrong form.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, CniError> {
        let read = |name: &'static str| match get(name).map(OsString::into_string) {
            None => Ok(String::new()),
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => Err(bad(format!("{name} is not UTF-8 text"))),
        };
        let verb = read("CNI_COMMAND")?;
        if verb.is_empty() {
            return Ok(Self::NotCalledByARuntime);
        }
        let command: Command = verb.parse()?;
        let raw = Raw {
            container: read("CNI_CONTAINERID")?,
            netns: read("CNI_NETNS")?,
            interface: read("CNI_IFNAME")?,
            path: read("CNI_PATH")?,
            args: read("CNI_ARGS")?,
            netns_override: read("CNI_NETNS_OVERRIDE")?,
        };
        raw.check(command).map(Self::Called)
    }
}

/// The variables as text; an empty one counts as missing.
struct Raw {
    container: String,
    netns: String,
    interface: String,
    path: String,
    args: String,
    netns_override: String,
}

impl Raw {
    fn check(self, command: Command) -> Result<Invocation, CniError> {
        self.check_presence(command)?;
        let mut interface = None;
        if command.names_a_container() {
            if !is_identifier(&self.container) || self.container.len() > LONGEST_CONTAINER {
                return Err(bad(format!(
                    "CNI_CONTAINERID `{}` is not a container id: expected a letter or digit, then letters, digits, `_`, `.` or `-`, at \
                     most {LONGEST_CONTAINER} in all",
                    shown(&self.container)
                )));
            }
            interface = Some(self.interface.parse().map_err(|_| {
                bad(format!(
                    "CNI_IFNAME `{}` is not an interface name: expected 1 to 15 bytes without `/`, `:`, `%` or white space, and not `.` or `..`",
                    shown(&self.interface)
                ))
            })?);
        }
        Ok(Invocation {
            command,
            container: self.container,
            netns: (!self.netns.is_empty()).then_some(self.netns),
            interface,
            path: self.path,
            args: self.args,
            netns_override: self.netns_override == "1" || self.netns_override.eq_ignore_ascii_case("true"),
        })
    }

    fn check_presence(&self, command: Command) -> Result<(), CniError> {
        let container = command.names_a_container();
        let missing: Vec<&str> = [
            ("CNI_CONTAINERID", container, &self.container),
            ("CNI_NETNS", matches!(command, Command::Add | Command::Check), &self.netns),
            ("CNI_IFNAME", container, &self.interface),
            // The specification lists it as optional for most verbs; the library, and so every runtime, does not.
            ("CNI_PATH", command != Command::Version, &self.path),
        ]
        .into_iter()
        .filter_map(|(name, required, value)| (required && value.is_empty()).then_some(name))
        .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(bad(format!("{} needs environment variables that are missing: {}", command.as_str(), missing.join(", "))))
    }
}

/// Whether `text` has the form of a container id or network name: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A foreign text fit for a message: escaped, and cut if it is long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let cut = text.char_indices().nth(LONGEST).map_or(text, |(at, _)| &text[..at]);
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_debug())
}

fn bad(msg: impl Into<String>) -> CniError {
    CniError::new(ErrorCode::BadEnvironment, msg)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c-1_a.b"),
        ("CNI_NETNS", "/var/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Environment, CniError> {
        Environment::read(|name| variables.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
    }

    fn called(variables: &[(&str, &str)]) -> Invocation {
        match read(variables).unwrap() {
            Environment::Called(invocation) => invocation,
            Environment::NotCalledByARuntime => panic!("no command"),
        }
    }

    fn with<'a>(variable: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
        ADD.into_iter().chain([variable]).collect()
    }

    #[test]
    fn a_complete_environment_is_read() {
        let add = called(&with(("CNI_ARGS", "K8S_POD_NAME=a")));
        assert_eq!((add.command, add.container.as_str()), (Command::Add, "c-1_a.b"));
        assert_eq!(add.netns.as_deref(), Some("/var/run/netns/x"));
        assert_eq!(add.interface.unwrap().as_str(), "eth0");
        assert_eq!(add.args, "K8S_POD_NAME=a");
        assert!(!add.netns_override);
        for (text, on) in [("1", true), ("TrUe", true), ("0", false), ("yes", false), ("", false)] {
            assert_eq!(called(&with(("CNI_NETNS_OVERRIDE", text))).netns_override, on, "{text}");
        }
        assert_eq!(read(&[]).unwrap(), Environment::NotCalledByARuntime);
    }

    #[test]
    fn each_verb_needs_its_own_variables_and_all_missing_ones_are_named_at_once() {
        for (verb, missing) in [
            ("ADD", "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
            ("CHECK", "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
            ("DEL", "CNI_CONTAINERID, CNI_IFNAME, CNI_PATH"),
            ("STATUS", "CNI_PATH"),
            ("GC", "CNI_PATH"),
        ] {
            let error = read(&[("CNI_COMMAND", verb)]).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadEnvironment);
            assert_eq!(error.msg, format!("{verb} needs environment variables that are missing: {missing}"));
        }
        assert_eq!(called(&[("CNI_COMMAND", "VERSION")]).command, Command::Version);
        let del =
            called(&with(("CNI_COMMAND", "DEL")).into_iter().filter(|(k, _)| *k != "CNI_NETNS").collect::<Vec<_>>());
        assert_eq!(del.netns, None);
        // Set but empty is missing too.
        let error = read(&with(("CNI_IFNAME", ""))).unwrap_err();
        assert_eq!(error.msg, "ADD needs environment variables that are missing: CNI_IFNAME");
    }

    #[test]
    fn a_wrong_value_is_refused_by_its_variable_s_name() {
        let too_long = "c".repeat(LONGEST_CONTAINER + 1);
        for (name, value) in [
            ("CNI_COMMAND", "add"),
            ("CNI_COMMAND", "FLY"),
            ("CNI_CONTAINERID", "-c"),
            ("CNI_CONTAINERID", "../../etc"),
            ("CNI_CONTAINERID", "c 1"),
            ("CNI_CONTAINERID", "c\n"),
            ("CNI_CONTAINERID", &too_long),
            ("CNI_IFNAME", "."),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "eth%d"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
        ] {
            let error = read(&with((name, value))).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadEnvironment, "{name}={value}");
            assert!(error.msg.starts_with(name), "{}", error.msg);
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_and_long_text_is_cut() {
        use std::os::unix::ffi::OsStringExt as _;
        let error = Environment::read(|name| match name {
            "CNI_COMMAND" => Some("ADD".into()),
            "CNI_CONTAINERID" => Some(OsString::from_vec(vec![0xff])),
            _ => Some("x".into()),
        })
        .unwrap_err();
        assert_eq!(error.msg, "CNI_CONTAINERID is not UTF-8 text");
        let long = "é".repeat(100_000);
        let error = read(&with(("CNI_CONTAINERID", &long))).unwrap_err();
        assert!(error.msg.len() < 600, "{}", error.msg.len());
    }
}
