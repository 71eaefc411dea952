//! `CNI_ARGS`: what a kubelet adds to a call.

use vpc_model::PodRef;

use super::env::shown;
use super::{CniError, ErrorCode};

/// The pod behind a sandbox, as the runtime names it. All of it may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`.
    pub pod: PodRef,
    /// `K8S_POD_INFRA_CONTAINER_ID`.
    pub infra_container: String,
    /// `K8S_POD_UID`.
    pub uid: String,
}

/// Longest value taken, in bytes: the longest name Kubernetes allows (a DNS subdomain, RFC 1123).
const LONGEST: usize = 253;

const KNOWN: &str = "IgnoreUnknown, K8S_POD_NAME, K8S_POD_NAMESPACE, K8S_POD_INFRA_CONTAINER_ID, K8S_POD_UID";

impl PodArgs {
    /// Parses `KEY=VALUE;KEY=VALUE`. Keys are case sensitive; of a key given twice the last counts.
    ///
    /// # Errors
    /// Code 4: a pair without exactly one `=`; an unknown key, unless `IgnoreUnknown` is `1` or `true`; a value that is too long or holds
    /// control characters, since values end up in kernel objects, logs and requests.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        if text.is_empty() {
            return Ok(args);
        }
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';') {
            let (key, value) = split(pair)?;
            let field = match key {
                "IgnoreUnknown" => {
                    ignore_unknown = switch(value)?;
                    continue;
                }
                "K8S_POD_NAME" => &mut args.pod.name,
                "K8S_POD_NAMESPACE" => &mut args.pod.namespace,
                "K8S_POD_INFRA_CONTAINER_ID" => &mut args.infra_container,
                "K8S_POD_UID" => &mut args.uid,
                _ => {
                    unknown.push(key);
                    continue;
                }
            };
            *field = checked(key, value)?.to_owned();
        }
        if unknown.is_empty() || ignore_unknown {
            return Ok(args);
        }
        Err(bad(format!(
            "CNI_ARGS has unknown keys {}: expected {KNOWN}, or IgnoreUnknown=1 among them",
            shown(&unknown.join(", "))
        )))
    }
}

fn split(pair: &str) -> Result<(&str, &str), CniError> {
    match pair.split_once('=') {
        Some((key, value)) if !value.contains('=') => Ok((key, value)),
        _ => Err(bad(format!("CNI_ARGS has the pair `{}`: expected KEY=VALUE with exactly one `=`", shown(pair)))),
    }
}

fn switch(value: &str) -> Result<bool, CniError> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ if value.eq_ignore_ascii_case("true") => Ok(true),
        _ if value.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(bad(format!("CNI_ARGS: IgnoreUnknown is `{}`: expected 1, true, 0 or false", shown(value)))),
    }
}

fn checked<'a>(key: &str, value: &'a str) -> Result<&'a str, CniError> {
    if value.len() > LONGEST {
        return Err(bad(format!("CNI_ARGS: {key} has {} bytes: expected at most {LONGEST}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(bad(format!("CNI_ARGS: {key} is `{}`: expected text without control characters", shown(value))));
    }
    Ok(value)
}

fn bad(msg: impl Into<String>) -> CniError {
    CniError::new(ErrorCode::BadEnvironment, msg)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_sends_is_read() {
        let args = PodArgs::parse(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1;FOO=x",
        )
        .unwrap();
        assert_eq!(args.pod, PodRef { namespace: "default".into(), name: "web-1".into() });
        assert_eq!((args.infra_container.as_str(), args.uid.as_str()), ("c1", "u-1"));
        assert_eq!(PodArgs::parse("").unwrap(), PodArgs::default());
        // The switch counts wherever it stands; the last of a key counts; an empty value is a value.
        let args = PodArgs::parse("FOO=;K8S_POD_NAME=a;K8S_POD_NAME=;IgnoreUnknown=TRUE").unwrap();
        assert_eq!(args.pod.name, "");
    }

    #[test]
    fn what_nobody_should_send_is_refused() {
        let long = format!("K8S_POD_NAME={}", "a".repeat(254));
        for (text, word) in [
            ("K8S_POD_NAME", "`K8S_POD_NAME`"),
            ("K8S_POD_NAME=a=b", "exactly one `=`"),
            ("K8S_POD_NAME=a;", "KEY=VALUE"),
            (";", "KEY=VALUE"),
            ("FOO=x", "unknown keys FOO"),
            ("k8s_pod_name=x", "unknown keys k8s_pod_name"),
            ("IgnoreUnknown=0;FOO=x", "unknown keys FOO"),
            ("IgnoreUnknown=yes;FOO=x", "expected 1, true, 0 or false"),
            ("IgnoreUnknown=1;K8S_POD_NAME=a\nb", "control characters"),
            ("K8S_POD_NAMESPACE=\u{1b}[31m", "control characters"),
            (long.as_str(), "at most 253"),
        ] {
            let error = PodArgs::parse(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadEnvironment, "{text}");
            assert!(error.msg.contains(word) && error.msg.contains("CNI_ARGS"), "{text}: {}", error.msg);
            assert!(!error.msg.chars().any(char::is_control), "{:?}", error.msg);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_every_pair_it_takes_is_clean(text in "\\PC{0,40}|[K8S_PODNAME=;\\x00-\\x1f]{0,60}") {
            if let Ok(args) = PodArgs::parse(&text) {
                for value in [&args.pod.name, &args.pod.namespace, &args.uid, &args.infra_container] {
                    proptest::prop_assert!(value.len() <= LONGEST && !value.chars().any(char::is_control));
                }
            }
        }
    }
}
