//! The file's text: the reference's fields in the order its encoder writes them, then ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use vpc_model::{
    CardIndex, DeviceIndex, EniId, Mac, PodRef, Prefix28, RouteTable, SandboxKey, Slot, SubnetId, WallTime,
};

use super::{Allocation, AllocationExtra, Checkpoint, Cooling, PoolEni, VERSION, go_json};

/// Why a text is not a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON at all: cut off or overwritten.
    #[error("it is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// JSON of another kind or of a version nobody knows.
    #[error("its version is `{found}`; this program reads `{VERSION}`")]
    OtherVersion {
        /// The version it has; empty if none.
        found: String,
    },
    /// The right version with a field of the wrong type.
    #[error("a field is wrong: {0}")]
    WrongShape(serde_json::Error),
    /// An allocation with no address or with one of each family.
    #[error("the allocation of container {container} has {found}; expected exactly one of `ipv4` and `ipv6`")]
    AddressCount {
        /// `containerID`.
        container: String,
        /// `no address` or `two addresses`.
        found: &'static str,
    },
    /// Every field is well formed, but together they can not be true.
    #[error("it can not be true: {0}")]
    Impossible(#[from] super::Impossible),
}

impl Checkpoint {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        go_json::to_vec(&Document::from(self))
    }

    /// Reads the file's bytes and checks them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(ParseError::NotJson)?;
        match value.get("version") {
            Some(serde_json::Value::String(version)) if version == VERSION => {}
            Some(serde_json::Value::String(other)) => return Err(ParseError::OtherVersion { found: other.clone() }),
            Some(other) => return Err(ParseError::OtherVersion { found: other.to_string() }),
            // A list or a number is a file of another kind, which is what an unknown version is.
            None => return Err(ParseError::OtherVersion { found: String::new() }),
        }
        // From the bytes again, because only then an error tells line and column.
        let document: Document = serde_json::from_slice(bytes).map_err(ParseError::WrongShape)?;
        let checkpoint = Self::try_from(document)?;
        checkpoint.check()?;
        Ok(checkpoint)
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: String,
    // Go writes `null` for a list never made; the reference does not, a hand may.
    #[serde(default, deserialize_with = "null_is_empty")]
    allocations: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<Vec<EniEntry>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cooling: Vec<CoolingEntry>,
    #[serde(default, skip_serializing_if = "is_zero")]
    generation: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    network_name: String,
    #[serde(default, rename = "containerID")]
    container_id: String,
    #[serde(default)]
    if_name: String,
    #[serde(default, with = "address_or_empty", skip_serializing_if = "Option::is_none")]
    ipv4: Option<Ipv4Addr>,
    #[serde(default, with = "address_or_empty", skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    allocation_timestamp: WallTime,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    pod_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eni: Option<EniId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceIndex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<RouteTable>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    k8s_pod_namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    k8s_pod_name: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    interfaces_count: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EniEntry {
    id: EniId,
    mac: Mac,
    device: DeviceIndex,
    card: CardIndex,
    subnet: Ipv4Net,
    #[serde(default, rename = "subnetId", skip_serializing_if = "Option::is_none")]
    subnet_id: Option<SubnetId>,
    primary: Ipv4Addr,
    #[serde(default)]
    addresses: Vec<Ipv4Addr>,
    #[serde(default)]
    prefixes: Vec<Prefix28>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leaving: Vec<Slot>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Slot>,
    #[serde(default, skip_serializing_if = "is_zero")]
    going: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CoolingEntry {
    ipv4: Ipv4Addr,
    released_timestamp: WallTime,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An address as text, where the empty text means none, as in Go.
mod address_or_empty {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[allow(clippy::ref_option)] // serde hands the field itself
    pub(super) fn serialize<T: Display, S: Serializer>(address: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format_args!("`{text}` is not an address of the family its key names")))
    }
}

impl From<&Checkpoint> for Document {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            version: VERSION.to_owned(),
            allocations: checkpoint.allocations.iter().map(Entry::from).collect(),
            pool: checkpoint.pool.as_ref().map(|enis| enis.iter().map(EniEntry::from).collect()),
            cooling: checkpoint.cooling.iter().map(CoolingEntry::from).collect(),
            generation: checkpoint.generation,
        }
    }
}

impl TryFrom<Document> for Checkpoint {
    type Error = ParseError;
    fn try_from(document: Document) -> Result<Self, ParseError> {
        Ok(Self {
            allocations: document.allocations.into_iter().map(Allocation::try_from).collect::<Result<_, _>>()?,
            pool: document.pool.map(|enis| enis.into_iter().map(PoolEni::from).collect()),
            cooling: document
                .cooling
                .into_iter()
                .map(|entry| Cooling { address: entry.ipv4, released: entry.released_timestamp })
                .collect(),
            generation: document.generation,
        })
    }
}

impl From<&Allocation> for Entry {
    fn from(allocation: &Allocation) -> Self {
        let Allocation { key, address, since, pod, interfaces, extra } = allocation.clone();
        let (ipv4, ipv6) = match address {
            IpAddr::V4(address) => (Some(address), None),
            IpAddr::V6(address) => (None, Some(address)),
        };
        Self {
            network_name: key.network,
            container_id: key.container,
            if_name: key.interface,
            ipv4,
            ipv6,
            allocation_timestamp: since,
            metadata: Metadata {
                k8s_pod_namespace: pod.namespace,
                k8s_pod_name: pod.name,
                interfaces_count: interfaces,
            },
            pod_uid: extra.pod_uid,
            netns: extra.netns,
            eni: extra.eni,
            device: extra.device,
            table: extra.table,
        }
    }
}

impl TryFrom<Entry> for Allocation {
    type Error = ParseError;
    fn try_from(entry: Entry) -> Result<Self, ParseError> {
        let address = match (entry.ipv4, entry.ipv6) {
            (Some(address), None) => IpAddr::V4(address),
            (None, Some(address)) => IpAddr::V6(address),
            (None, None) => {
                return Err(ParseError::AddressCount { container: entry.container_id, found: "no address" });
            }
            (Some(_), Some(_)) => {
                return Err(ParseError::AddressCount { container: entry.container_id, found: "two addresses" });
            }
        };
        Ok(Self {
            key: SandboxKey { network: entry.network_name, container: entry.container_id, interface: entry.if_name },
            address,
            since: entry.allocation_timestamp,
            pod: PodRef { namespace: entry.metadata.k8s_pod_namespace, name: entry.metadata.k8s_pod_name },
            interfaces: entry.metadata.interfaces_count,
            extra: AllocationExtra {
                pod_uid: entry.pod_uid,
                netns: entry.netns,
                eni: entry.eni,
                device: entry.device,
                table: entry.table,
            },
        })
    }
}

impl From<&Cooling> for CoolingEntry {
    fn from(cooling: &Cooling) -> Self {
        Self { ipv4: cooling.address, released_timestamp: cooling.released }
    }
}

impl From<&PoolEni> for EniEntry {
    fn from(eni: &PoolEni) -> Self {
        let PoolEni { id, mac, device, card, subnet, subnet_id, primary, addresses, prefixes, leaving, gone, going } =
            eni.clone();
        Self { id, mac, device, card, subnet, subnet_id, primary, addresses, prefixes, leaving, gone, going }
    }
}

impl From<EniEntry> for PoolEni {
    fn from(entry: EniEntry) -> Self {
        let EniEntry { id, mac, device, card, subnet, subnet_id, primary, addresses, prefixes, leaving, gone, going } =
            entry;
        Self { id, mac, device, card, subnet, subnet_id, primary, addresses, prefixes, leaving, gone, going }
    }
}
