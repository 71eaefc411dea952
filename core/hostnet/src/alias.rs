//! The text a host veth carries (`IFLA_IFALIAS`): whose it is.
//!
//! ```text
//!   vpc-cni/1 aws-cni 3f0c…9a default/web-0             network, container id, namespace/pod
//!   vpc-cni/1 aws-cni 3f0c…9a/net1 default/web-0        the same for an interface that is not `eth0`
//!   vpc-cni/1~1b9e03aa55c0ffee0123 aws-cni 3f0c…9a default/a-name-as-long-as-names-g
//! ```
//!
//! The kernel takes 255 bytes. Where the full text is longer, the second form is written: each field is cut to its share and a
//! digest of the full text stands behind the version. So a reader knows that he sees heads only, and two owners still never share
//! a text. A [`LinkAlias`] always *is* what was written: comparing one made from an owner with one read from the kernel is exact,
//! cut or not.
//!
//! Bytes other than letters, digits, `.`, `_` and `-` are written as `%XX`, since not every caller of a plugin is a kubelet.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha1::{Digest, Sha1};
use vpc_model::{PodRef, SandboxKey};

/// Longest alias in bytes (`IFALIASZ` less the terminating zero).
const MAX: usize = 255;
/// What every alias of ours begins with, whatever its version.
const SIGN: &str = "vpc-cni/";
/// The version written.
const VERSION: &str = "1";
/// Hexadecimal digits of the digest in a shortened text: 80 bits.
const DIGEST: usize = 20;
/// The pod's interface as long as a runtime says nothing else: all runtimes of Kubernetes call it so. It is not written.
const INTERFACE: &str = "eth0";
/// Shares of a shortened text, in bytes as written. A container id of a runtime (64) and a Kubernetes namespace (63) are never cut.
const NETWORK_SHARE: usize = 40;
const CONTAINER_SHARE: usize = 64;
const INTERFACE_SHARE: usize = 15;
const NAMESPACE_SHARE: usize = 63;

/// Whom a host veth belongs to, as its alias says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAlias {
    sandbox: SandboxKey,
    pod: PodRef,
    /// Of the full text, where that was too long.
    digest: Option<String>,
}

impl LinkAlias {
    /// The alias of a sandbox's host veth.
    #[must_use]
    pub fn of(sandbox: &SandboxKey, pod: &PodRef) -> Self {
        let whole = Self { sandbox: sandbox.clone(), pod: pod.clone(), digest: None };
        let length: usize = SIGN.len() + VERSION.len() + whole.owner().iter().map(|part| part.len()).sum::<usize>();
        if length <= MAX { whole } else { whole.shortened(&whole.to_string()) }
    }

    /// What is written for a sandbox known by its key.
    #[must_use]
    pub fn text_of(sandbox: &SandboxKey, pod: &PodRef) -> String {
        let text =
            [SIGN, VERSION].into_iter().chain(owner(sandbox, pod).iter().map(|part| &**part)).collect::<String>();
        if text.len() <= MAX { text } else { Self::of(sandbox, pod).to_string() }
    }

    /// Whether a link with this alias is the owner's: whether the text says nothing else.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        let digest = self.digest.as_deref();
        let begin = [SIGN, VERSION, if digest.is_some() { "~" } else { "" }, digest.unwrap_or_default()];
        let owner = self.owner();
        let parts = begin.into_iter().chain(owner.iter().map(|part| &**part));
        let rest = parts.into_iter().try_fold(text, |rest, part| rest.strip_prefix(part));
        rest.is_some_and(str::is_empty)
    }

    fn owner(&self) -> [Cow<'_, str>; 10] {
        owner(&self.sandbox, &self.pod)
    }

    /// Network, container and interface.
    #[must_use]
    pub fn sandbox(&self) -> &SandboxKey {
        &self.sandbox
    }

    /// Name of the CNI configuration list.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.sandbox.network
    }

    /// `CNI_CONTAINERID`.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.sandbox.container
    }

    /// The pod.
    #[must_use]
    pub fn pod(&self) -> &PodRef {
        &self.pod
    }

    /// The owner did not fit: the fields are heads of what they name (the container id of any known runtime is still whole).
    /// Whether it is a certain owner's is told by comparing with [`LinkAlias::of`] of that owner.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        self.digest.is_some()
    }

    /// Whether both are sandboxes of one pod, so that the newer may take the older's place: not two interfaces of one container, which
    /// live side by side. Containers without a pod's name have nothing in common. Of names cut short only the heads are compared.
    #[must_use]
    pub fn is_of_same_pod(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| {
            a == b || self.is_shortened() && b.starts_with(a) || other.is_shortened() && a.starts_with(b)
        };
        let (own, others) = (&self.pod, &other.pod);
        !own.name.is_empty()
            && !others.name.is_empty()
            && same(&own.namespace, &others.namespace)
            && same(&own.name, &others.name)
            && !self.is_beside(other)
    }

    /// Whether both are of one container and differ in the interface or the network.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        let place = |alias: &Self| (alias.sandbox.network.clone(), alias.sandbox.interface.clone());
        self.sandbox.container == other.sandbox.container && place(self) != place(other)
    }

    fn shortened(&self, text: &str) -> Self {
        let digest: String =
            Sha1::digest(text.as_bytes()).iter().take(DIGEST / 2).map(|b| format!("{b:02x}")).collect();
        let sandbox = SandboxKey {
            network: head(&self.sandbox.network, NETWORK_SHARE),
            container: head(&self.sandbox.container, CONTAINER_SHARE),
            interface: head(&self.sandbox.interface, INTERFACE_SHARE),
        };
        let namespace = head(&self.pod.namespace, NAMESPACE_SHARE);
        let pod = PodRef { namespace, name: String::new() };
        let mut short = Self { sandbox, pod, digest: Some(digest) };
        short.pod.name = head(&self.pod.name, MAX - short.to_string().len());
        short
    }
}

/// What stands behind the version, piece by piece.
fn owner<'a>(sandbox: &'a SandboxKey, pod: &'a PodRef) -> [Cow<'a, str>; 10] {
    let (slash, interface) = if sandbox.interface == INTERFACE { ("", "") } else { ("/", &*sandbox.interface) };
    let (network, container) = (escape(&sandbox.network), escape(&sandbox.container));
    let (namespace, name) = (escape(&pod.namespace), escape(&pod.name));
    let said = Cow::Borrowed;
    [said(" "), network, said(" "), container, said(slash), escape(interface), said(" "), namespace, said("/"), name]
}

impl fmt::Display for LinkAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIGN)?;
        f.write_str(VERSION)?;
        if let Some(digest) = &self.digest {
            write!(f, "~{digest}")?;
        }
        self.owner().iter().try_for_each(|part| f.write_str(part))
    }
}

/// A link's alias that does not name an owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAliasError {
    /// Somebody else's link, or one made by the reference, which writes no alias.
    #[error("`{0}` is not an alias of ours: those begin with `vpc-cni/`")]
    Foreign(String),
    /// Written by another version of ours.
    #[error("the alias `{0}` is of a version this program does not know: it reads version 1")]
    Version(String),
    /// Ours by its beginning, and damaged.
    #[error(
        "the alias `{0}` is damaged: expected `vpc-cni/1 <network> <container id>[/<interface>] <namespace>/<pod>`, at most 255 bytes"
    )]
    Damaged(String),
}

impl FromStr for LinkAlias {
    type Err = ParseAliasError;

    fn from_str(text: &str) -> Result<Self, ParseAliasError> {
        let Some(rest) = text.strip_prefix(SIGN) else { return Err(ParseAliasError::Foreign(text.into())) };
        let damaged = || ParseAliasError::Damaged(text.into());
        let (head, owner) = rest.split_once(' ').ok_or_else(damaged)?;
        let (version, digest) = head.split_once('~').map_or((head, None), |(version, digest)| (version, Some(digest)));
        if version != VERSION {
            return Err(ParseAliasError::Version(text.into()));
        }
        let alias = fields(owner, digest).ok_or_else(damaged)?;
        // One owner, one text: what we would not write that way, we did not write. Without `%XX` there is but one way.
        let ours = text.len() <= MAX && (!text.contains('%') || alias.to_string() == text);
        if ours { Ok(alias) } else { Err(damaged()) }
    }
}

fn fields(owner: &str, digest: Option<&str>) -> Option<LinkAlias> {
    let (network, rest) = owner.split_once(' ')?;
    let (container, pod) = rest.split_once(' ')?;
    let (namespace, name) = pod.split_once('/')?;
    let pod = PodRef { namespace: unescape(namespace)?, name: unescape(name)? };
    let (container, interface) = match container.split_once('/') {
        None => (container, INTERFACE),
        // One owner, one text.
        Some((_, INTERFACE)) => return None,
        Some(both) => both,
    };
    let digest = match digest {
        Some(text) if text.len() == DIGEST && text.bytes().all(is_digit) => Some(text.to_owned()),
        Some(_) => return None,
        None => None,
    };
    let (network, container, interface) = (unescape(network)?, unescape(container)?, unescape(interface)?);
    Some(LinkAlias { sandbox: SandboxKey { network, container, interface }, pod, digest })
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// As it is written. Almost every text is written as it is.
fn escape(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string can not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    }))
}

fn unescape(text: &str) -> Option<String> {
    if text.bytes().all(is_plain) {
        return Some(text.to_owned());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            plain if is_plain(plain) => out.push(plain),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

/// As many whole characters of the text's beginning as fit `share` bytes when written.
fn head(text: &str, share: usize) -> String {
    let mut left = share;
    text.chars()
        .take_while(|c| {
            let bytes = c.len_utf8();
            let cost = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { 1 } else { 3 * bytes };
            let fits = cost <= left;
            left = left.saturating_sub(if fits { cost } else { left });
            fits
        })
        .collect()
}
