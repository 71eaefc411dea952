//! Results: one model inside, every version's form outside.
//!
//! ```text
//!   0.1.0, 0.2.0          { ip4: {ip, gateway, routes}, ip6: {..}, dns }
//!   0.3.0, 0.3.1, 0.4.0   { interfaces, ips: [{version, interface, address, gateway}], routes, dns }
//!   1.0.0                 the same, addresses without `version`
//!   1.1.0                 more fields of interfaces and routes
//! ```
//!
//! Printing leaves out what the version can not say; parsing takes what the version says and ignores the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use super::{CniError, ErrorCode, Version};

/// What a plugin did, or what the plugins before it did (`prevResult`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Links made, on either side. Since 0.3.0.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Hardware address; the reference stores other things here, so it is text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// MTU in bytes. Since 1.1.0.
    #[serde(skip_serializing_if = "is_default")]
    pub mtu: u32,
    /// The container's network namespace; empty for a link of the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Path of a socket that stands for the link. Since 1.1.0.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI address of the link. Since 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IpConfig {
    /// Position of its link in [`CniResult::interfaces`].
    #[serde(default)]
    pub interface: Option<usize>,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Default gateway, if any.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; none means the address's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes. Since 1.1.0, like all that follow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtu: u32,
    /// MSS to advertise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub advmss: u32,
    /// Metric.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u32,
    /// Route table; none means main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope as the kernel numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Why a result could not be read or said.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It does not have the form of its version.
    #[error("it does not have the form of a CNI {version} result: {}", in_short(source))]
    Form {
        /// The version it was read as.
        version: Version,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// An address points at no link.
    #[error("address {address} points at interface {interface}, but there are {interfaces}")]
    NoSuchInterface {
        /// The address.
        address: IpNet,
        /// Where it points.
        interface: usize,
        /// How many links are listed.
        interfaces: usize,
    },
    /// Versions before 0.3.0 can say one address of each family, at least one in all.
    #[error(
        "a CNI {version} result holds one or two addresses, one of each family at most; this one has {v4} IPv4 and {v6} IPv6"
    )]
    TooOld {
        /// The version asked for.
        version: Version,
        /// IPv4 addresses there are.
        v4: usize,
        /// IPv6 addresses there are.
        v6: usize,
    },
}

/// What is wrong, which may quote a text of any length in its middle.
fn in_short(error: &serde_json::Error) -> String {
    const HEAD: usize = 200;
    const TAIL: usize = 80;
    let text = error.to_string();
    let chars = text.chars().count();
    if chars <= HEAD + TAIL {
        return text;
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(chars - TAIL).collect();
    format!("{head}…{tail}")
}

impl From<ResultError> for CniError {
    fn from(error: ResultError) -> Self {
        let code = match error {
            ResultError::Form { .. } | ResultError::NoSuchInterface { .. } => ErrorCode::Decode,
            ResultError::TooOld { .. } => ErrorCode::IncompatibleVersion,
        };
        Self::new(code, error.to_string())
    }
}

impl CniResult {
    /// The result as text in the form of `version`, four spaces deep as the reference prints it.
    pub fn to_json(&self, version: Version) -> Result<String, ResultError> {
        if version < Version::V0_3_0 {
            return Ok(to_pretty(&self.as_legacy(version)?));
        }
        Ok(to_pretty(&Modern {
            cni_version: version.as_str(),
            interfaces: self.interfaces.iter().map(|interface| interface.as_of(version)).collect(),
            ips: self.ips.iter().map(|ip| IpOut::new(ip, version)).collect(),
            routes: self.routes.iter().map(|route| route.as_of(version)).collect(),
            dns: &self.dns,
        }))
    }

    /// Reads a result in the form of `version`.
    pub fn from_value(value: &Value, version: Version) -> Result<Self, ResultError> {
        let form = |source| ResultError::Form { version, source };
        // A list must not pass for an object whose members come in order, as serde would let it.
        if let Err(found) = members(value) {
            return Err(form(serde::de::Error::custom(format_args!("it is {found}: expected an object"))));
        }
        if version < Version::V0_3_0 {
            return Legacy::deserialize(value).map(Self::from).map_err(form);
        }
        let ModernIn { interfaces, ips, routes, dns } = ModernIn::deserialize(value).map_err(form)?;
        let mut result = Self {
            interfaces: interfaces.unwrap_or_default(),
            ips: ips.unwrap_or_default(),
            routes: routes.unwrap_or_default(),
            dns: dns.unwrap_or_default(),
        };
        if version < Version::V1_1_0 {
            result.interfaces = result.interfaces.iter().map(|interface| interface.as_of(version)).collect();
            result.routes = result.routes.iter().map(|route| route.as_of(version)).collect();
        }
        for ip in &result.ips {
            if let Some(interface) = ip.interface.filter(|interface| *interface >= result.interfaces.len()) {
                let (address, interfaces) = (ip.address, result.interfaces.len());
                return Err(ResultError::NoSuchInterface { address, interface, interfaces });
            }
        }
        Ok(result)
    }

    /// Adds what the plugins before this one did. Theirs follow ours: what our results are read for stands where it always stands, and
    /// their addresses go on pointing at their links.
    #[must_use]
    pub fn with_earlier(mut self, earlier: &Self) -> Self {
        let own = self.interfaces.len();
        let moved = |ip: &IpConfig| IpConfig { interface: ip.interface.map(|at| at + own), ..ip.clone() };
        self.interfaces.extend(earlier.interfaces.iter().cloned());
        self.ips.extend(earlier.ips.iter().map(moved));
        self.routes.extend(earlier.routes.iter().cloned());
        if self.dns == Dns::default() {
            self.dns = earlier.dns.clone();
        }
        self
    }

    fn as_legacy(&self, version: Version) -> Result<Legacy, ResultError> {
        let of_family = |v4: bool| self.ips.iter().filter(move |ip| ip.address.addr().is_ipv4() == v4);
        let (v4, v6) = (of_family(true).count(), of_family(false).count());
        if v4 > 1 || v6 > 1 || v4 + v6 == 0 {
            return Err(ResultError::TooOld { version, v4, v6 });
        }
        let one = |v4: bool| {
            of_family(v4).next().map(|ip| LegacyIp {
                ip: ip.address,
                gateway: ip.gateway,
                routes: self
                    .routes
                    .iter()
                    .filter(|route| route.dst.addr().is_ipv4() == v4)
                    .map(|route| route.as_of(version))
                    .collect(),
            })
        };
        Ok(Legacy { cni_version: version.as_str().to_owned(), ip4: one(true), ip6: one(false), dns: self.dns.clone() })
    }
}

impl Interface {
    fn as_of(&self, version: Version) -> Self {
        let Self { name, mac, sandbox, .. } = self.clone();
        if version < Version::V1_1_0 { Self { name, mac, sandbox, ..Self::default() } } else { self.clone() }
    }
}

impl Route {
    /// `to` through `gw`, without any field newer than 1.0.0.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }

    fn as_of(&self, version: Version) -> Self {
        if version < Version::V1_1_0 { Self::new(self.dst, self.gw) } else { self.clone() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize)]
struct Modern<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    // An object even when it is empty, as the reference prints it.
    dns: &'a Dns,
}

#[derive(Serialize)]
struct IpOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: &'a IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl<'a> IpOut<'a> {
    fn new(ip: &'a IpConfig, version: Version) -> Self {
        let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
        Self {
            version: (version < Version::V1_0_0).then_some(family),
            interface: ip.interface,
            address: &ip.address,
            gateway: ip.gateway,
        }
    }
}

/// Go's `null` for a list never made counts as an empty list.
#[derive(Deserialize)]
struct ModernIn {
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<IpConfig>>,
    routes: Option<Vec<Route>>,
    dns: Option<Dns>,
}

#[derive(Serialize, Deserialize)]
struct Legacy {
    #[serde(rename = "cniVersion", default)]
    cni_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<LegacyIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<LegacyIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct LegacyIp {
    ip: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl From<Legacy> for CniResult {
    fn from(legacy: Legacy) -> Self {
        let mut result = Self { dns: legacy.dns, ..Self::default() };
        for LegacyIp { ip, gateway, routes } in [legacy.ip4, legacy.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { interface: None, address: ip, gateway });
            result.routes.extend(routes);
        }
        result
    }
}

/// JSON four spaces deep. Only maps with keys that are not text can fail to be JSON, and none is ever given.
pub(super) fn to_pretty<T: Serialize>(value: &T) -> String {
    let mut out = Vec::with_capacity(512);
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    ")));
    debug_assert!(written.is_ok());
    String::from_utf8(out).unwrap_or_default()
}

/// The members of a JSON object; every other kind of value by its name.
pub(super) fn members(value: &Value) -> Result<&Map<String, Value>, &'static str> {
    match value {
        Value::Object(members) => Ok(members),
        other => Err(kind(other)),
    }
}

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
