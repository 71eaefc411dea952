//! What concerns Kubernetes, and the shapes of its names.

use super::reader::{Origin, Reader};
use super::table::Variable;
use super::values::KubernetesSettings;
use super::{Verdict, table as var};

pub(super) fn read(reader: &mut Reader<'_>) -> KubernetesSettings {
    KubernetesSettings {
        node_name: name(reader, &var::MY_NODE_NAME),
        pod_name: name(reader, &var::MY_POD_NAME),
        endpoint: endpoint(reader),
    }
}

/// The name of an object. The reference checks none; one that no object can have is never found, and that is said.
fn name(reader: &mut Reader<'_>, var: &'static Variable) -> String {
    let text = reader.text(var);
    if !text.is_empty() && !is_object_name(&text) {
        reader.find(var, Verdict::Ineffective, "no object of Kubernetes has such a name, so it is not found");
    }
    text
}

/// The key of a label or annotation. The reference checks none; one that no object can bear never matches, and that is said.
pub(super) fn key(reader: &mut Reader<'_>, var: &'static Variable) -> String {
    let text = reader.text(var);
    if !is_key(&text) {
        let matter = format!("expected {}: no node can bear this one", var.accepted);
        reader.find(var, Verdict::Ineffective, matter);
    }
    text
}

/// The empty text counts as not set; to the reference it is the machine itself, where no API server is.
fn endpoint(reader: &mut Reader<'_>) -> Option<String> {
    let understand = |text: &str| is_endpoint(text).then(|| text.to_owned());
    let given = reader.take(&var::CLUSTER_ENDPOINT, understand, String::clone, String::new());
    if reader.environment_value(var::CLUSTER_ENDPOINT.name).is_some_and(|text| text.is_empty()) {
        reader.find(&var::CLUSTER_ENDPOINT, Verdict::Note, "it counts as not set");
        reader.amend("", Origin::Default);
    }
    Some(given).filter(|url| !url.is_empty())
}

fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_object_name(&host.to_ascii_lowercase()),
    };
    named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A DNS subdomain (RFC 1123) of at most 253 characters, as the names of nodes and pods are.
fn is_object_name(text: &str) -> bool {
    let label = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `[prefix/]name`: the prefix a DNS subdomain, the name at most 63 letters, digits, `-`, `_` and `.`, the first and last of them
/// letters or digits.
fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    prefix.is_none_or(is_object_name)
        && name.len() <= 63
        && name.bytes().all(inner)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in
            ["https://10.0.0.1", "https://api.example:6443/", "http://[fd00::1]:80", "10.0.0.1:443", "API.example"]
        {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in
            ["", " ", "https://", "ftp://x", "https://a b", "a:0", "a:99999", "https://[::g]", "https://a/b", "-1"]
        {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn keys() {
        for good in ["k8s.amazonaws.com/eniConfig", "topology.kubernetes.io/zone", "zone", "a/b_c.d"] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", " ", "a/", "/b", "a/b/c", "-a", "a b", "A.B/", "x/-1"] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
