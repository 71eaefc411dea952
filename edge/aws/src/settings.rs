//! The standard AWS variables that these clients obey.
//!
//! Where AWS's SDK stops at a bad value, so do we ([`SettingError`]); where it or the reference falls back to a default,
//! we fall back to the same one and hand out a [`Fallback`], so that the program can say so.

use std::path::PathBuf;
use std::time::Duration;

/// A variable whose value cannot be used and has no fallback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is `{value}`: expected {expected}")]
pub struct SettingError {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is accepted.
    pub expected: &'static str,
}

/// A variable whose value was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is accepted.
    pub expected: &'static str,
    /// What is used instead.
    pub used: String,
}

impl std::fmt::Display for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is `{}`: expected {}; using {}", self.variable, self.value, self.expected, self.used)
    }
}

/// How EC2 is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Settings {
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`. `None`: ask IMDS.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_EC2`, else `AWS_ENDPOINT_URL`, else `AWS_EC2_ENDPOINT`. `None`: by region.
    pub endpoint: Option<String>,
    /// `AWS_USE_FIPS_ENDPOINT`.
    pub fips: bool,
    /// `AWS_USE_DUALSTACK_ENDPOINT`.
    pub dual_stack: bool,
    /// `AWS_CA_BUNDLE`: replaces the system's root certificates.
    pub ca_bundle: Option<PathBuf>,
    /// `HTTP_TIMEOUT`, for each attempt: seconds of at least 10, else 10.
    pub attempt_timeout: Duration,
    /// `AWS_MAX_ATTEMPTS`, the first included; 3 by default, as in AWS's SDK.
    pub max_attempts: u32,
    /// For a whole call, waits between attempts included.
    pub call_deadline: Duration,
}

/// `HTTP_TIMEOUT` by default and at least.
const LEAST_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Ec2Settings {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            fips: false,
            dual_stack: false,
            ca_bundle: None,
            attempt_timeout: LEAST_TIMEOUT,
            max_attempts: 3,
            call_deadline: Duration::from_secs(45),
        }
    }
}

impl Ec2Settings {
    /// Reads the variables through `lookup`; empty values count as unset. What was set aside is added to `fallbacks`.
    ///
    /// # Errors
    /// The first variable that has no fallback.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>, fallbacks: &mut Vec<Fallback>) -> Result<Self, SettingError> {
        let env = Lookup(lookup);
        env.words("AWS_RETRY_MODE", "`standard` or `adaptive`", &["standard", "adaptive"])?;
        let attempt_timeout = env.timeout(fallbacks);
        let max_attempts = match env.get("AWS_MAX_ATTEMPTS") {
            None => 3,
            Some(value) => match value.parse() {
                Ok(attempts @ 1..) => attempts,
                _ => return Err(error("AWS_MAX_ATTEMPTS", value, "an integer of at least 1")),
            },
        };
        Ok(Self {
            region: env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")),
            endpoint: env.ec2_endpoint()?,
            fips: env.switch("AWS_USE_FIPS_ENDPOINT")?,
            dual_stack: env.switch("AWS_USE_DUALSTACK_ENDPOINT")?,
            ca_bundle: env.get("AWS_CA_BUNDLE").map(PathBuf::from),
            attempt_timeout,
            max_attempts,
            ..Self::default()
        })
    }
}

/// How the instance metadata service is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsSettings {
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, else by `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4`, `IPv6`).
    pub endpoint: String,
    /// `AWS_EC2_METADATA_DISABLED`: every call fails at once.
    pub disabled: bool,
    /// Whether sessions may be given up for the old protocol where IMDS has none; not with `AWS_EC2_METADATA_V1_DISABLED`.
    pub allow_v1: bool,
    /// For each connection.
    pub connect_timeout: Duration,
    /// For each attempt.
    pub attempt_timeout: Duration,
    /// For a whole read, waits between attempts included.
    pub deadline: Duration,
    /// The first included.
    pub max_attempts: u32,
    /// Reads at one time. IMDS drops packets beyond about 1024 a second for each ENI.
    pub concurrency: usize,
}

/// Where IMDS answers on every instance, over IPv4.
pub const IMDS_V4: &str = "http://169.254.169.254";
/// Where IMDS answers on every instance that has it over IPv6.
pub const IMDS_V6: &str = "http://[fd00:ec2::254]";

impl Default for ImdsSettings {
    fn default() -> Self {
        Self {
            endpoint: IMDS_V4.into(),
            disabled: false,
            allow_v1: true,
            // The SDK's client waits 250 ms for the connection, 500 ms for the answer, 5 s over all three attempts.
            connect_timeout: Duration::from_millis(250),
            attempt_timeout: Duration::from_millis(750),
            deadline: Duration::from_secs(5),
            max_attempts: 3,
            concurrency: 16,
        }
    }
}

impl ImdsSettings {
    /// Reads the variables through `lookup`; empty values count as unset. What was set aside is added to `fallbacks`.
    ///
    /// # Errors
    /// The first variable that has no fallback.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>, fallbacks: &mut Vec<Fallback>) -> Result<Self, SettingError> {
        let env = Lookup(lookup);
        let mode = env.words("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "`IPv4` or `IPv6`", &["ipv4", "ipv6"])?;
        let by_mode = if mode.as_deref() == Some("ipv6") { IMDS_V6 } else { IMDS_V4 };
        let endpoint = match env.url("AWS_EC2_METADATA_SERVICE_ENDPOINT")? {
            Some(url) => url,
            None => by_mode.to_owned(),
        };
        let disabled = match env.switch("AWS_EC2_METADATA_DISABLED") {
            Ok(disabled) => disabled,
            // The SDK passes over a bad value here.
            Err(SettingError { variable, value, expected }) => {
                fallbacks.push(Fallback { variable, value, expected, used: "false".into() });
                false
            }
        };
        let allow_v1 = !env.switch("AWS_EC2_METADATA_V1_DISABLED")?;
        Ok(Self { endpoint, disabled, allow_v1, ..Self::default() })
    }
}

fn error(variable: &'static str, value: impl Into<String>, expected: &'static str) -> SettingError {
    SettingError { variable, value: value.into(), expected }
}

struct Lookup<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Lookup<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn switch(&self, name: &'static str) -> Result<bool, SettingError> {
        let word = self.words(name, "`true` or `false`", &["true", "false"])?;
        Ok(word.as_deref() == Some("true"))
    }

    /// One of `words`, in lower case; case does not matter.
    fn words(
        &self,
        name: &'static str,
        expected: &'static str,
        words: &[&str],
    ) -> Result<Option<String>, SettingError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = value.to_ascii_lowercase();
        if words.contains(&word.as_str()) { Ok(Some(word)) } else { Err(error(name, value, expected)) }
    }

    fn url(&self, name: &'static str) -> Result<Option<String>, SettingError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let uri: Option<http::Uri> = value.parse().ok();
        let good = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
        });
        match good {
            true => Ok(Some(value.trim_end_matches('/').to_owned())),
            false => Err(error(name, value, "a URL such as http://127.0.0.1:8080")),
        }
    }

    fn ec2_endpoint(&self) -> Result<Option<String>, SettingError> {
        let ignored = self.switch("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?;
        let standard = match ignored {
            true => None,
            false => match self.url("AWS_ENDPOINT_URL_EC2")? {
                Some(url) => Some(url),
                None => self.url("AWS_ENDPOINT_URL")?,
            },
        };
        match standard {
            Some(url) => Ok(Some(url)),
            None => self.url("AWS_EC2_ENDPOINT"),
        }
    }

    fn timeout(&self, fallbacks: &mut Vec<Fallback>) -> Duration {
        let Some(value) = self.get("HTTP_TIMEOUT") else { return LEAST_TIMEOUT };
        match value.parse().ok().map(Duration::from_secs).filter(|timeout| *timeout >= LEAST_TIMEOUT) {
            Some(timeout) => timeout,
            None => {
                let expected = "whole seconds of at least 10";
                fallbacks.push(Fallback { variable: "HTTP_TIMEOUT", value, expected, used: "10".into() });
                LEAST_TIMEOUT
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn ec2(pairs: &[(&str, &str)]) -> (Result<Ec2Settings, SettingError>, Vec<Fallback>) {
        let mut fallbacks = Vec::new();
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        (Ec2Settings::read(&lookup, &mut fallbacks), fallbacks)
    }

    fn imds(pairs: &[(&str, &str)]) -> (Result<ImdsSettings, SettingError>, Vec<Fallback>) {
        let mut fallbacks = Vec::new();
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        (ImdsSettings::read(&lookup, &mut fallbacks), fallbacks)
    }

    #[test]
    fn the_nearest_endpoint_variable_wins() {
        let endpoint = |pairs: &[(&str, &str)]| ec2(pairs).0.unwrap().endpoint;
        let all =
            [("AWS_EC2_ENDPOINT", "http://c"), ("AWS_ENDPOINT_URL", "http://b"), ("AWS_ENDPOINT_URL_EC2", "http://a/")];
        assert_eq!(endpoint(&all).as_deref(), Some("http://a"));
        assert_eq!(endpoint(&all[..2]).as_deref(), Some("http://b"));
        assert_eq!(endpoint(&all[..1]).as_deref(), Some("http://c"));
        assert_eq!(endpoint(&[]), None);
        let ignored = [all[1], ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")];
        assert_eq!(endpoint(&ignored), None);
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "localhost:80"),
            ("AWS_ENDPOINT_URL_EC2", "ftp://x"),
            ("AWS_EC2_ENDPOINT", "http://x/?a=b"),
            ("AWS_USE_FIPS_ENDPOINT", "yes"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "1"),
            ("AWS_MAX_ATTEMPTS", "0"),
            ("AWS_MAX_ATTEMPTS", "many"),
            ("AWS_RETRY_MODE", "legacy"),
        ] {
            let error = ec2(&[(name, value)]).0.unwrap_err();
            assert_eq!((error.variable, error.value.as_str()), (name, value));
        }
        for (name, value) in [
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v6"),
            ("AWS_EC2_METADATA_V1_DISABLED", "maybe"),
        ] {
            let error = imds(&[(name, value)]).0.unwrap_err();
            assert_eq!((error.variable, error.value.as_str()), (name, value));
        }
    }

    #[test]
    fn where_the_reference_falls_back_so_do_we_and_say_so() {
        for bad in ["9", "-1", "10s", "1e9"] {
            let (settings, fallbacks) = ec2(&[("HTTP_TIMEOUT", bad)]);
            assert_eq!(settings.unwrap().attempt_timeout, Duration::from_secs(10), "{bad}");
            assert_eq!(
                fallbacks[0].to_string(),
                format!("HTTP_TIMEOUT is `{bad}`: expected whole seconds of at least 10; using 10")
            );
        }
        assert_eq!(ec2(&[("HTTP_TIMEOUT", "30")]).0.unwrap().attempt_timeout, Duration::from_secs(30));
        let (settings, fallbacks) = imds(&[("AWS_EC2_METADATA_DISABLED", "yes")]);
        assert!(!settings.unwrap().disabled);
        assert_eq!(fallbacks.len(), 1);
    }

    #[test]
    fn imds_lies_where_the_variables_say() {
        let endpoint = |pairs: &[(&str, &str)]| imds(pairs).0.unwrap().endpoint;
        assert_eq!(endpoint(&[]), IMDS_V4);
        assert_eq!(endpoint(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]), IMDS_V6);
        let both = [
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1:80/"),
        ];
        assert_eq!(endpoint(&both), "http://10.0.0.1:80");
        let settings =
            imds(&[("AWS_EC2_METADATA_DISABLED", "True"), ("AWS_EC2_METADATA_V1_DISABLED", "true")]).0.unwrap();
        assert!(settings.disabled && !settings.allow_v1);
    }
}
