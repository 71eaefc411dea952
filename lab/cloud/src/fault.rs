//! What can be made to go wrong in the cloud while it runs, as people and scenario files write it.
//!
//! A [`CloudFault`] holds from the moment it is injected until it is lifted; an [`OutsideEvent`] happens once and stays.
//! Instances are named as people name them (by name or id; `*`: all), actions by a pattern with `*` and `?` as in EC2's filters. What
//! they do, `faults` and `outside` say.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vpc_model::{EniId, Slot};

/// A fault that was injected, by number from 1; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

impl std::fmt::Display for FaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A fault that holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFault {
    /// Its number: what [`crate::Cloud::lift`] takes.
    pub id: FaultId,
    /// When it was injected: milliseconds since the world began.
    pub since_ms: u64,
    /// What goes wrong.
    pub fault: CloudFault,
    /// How many requests it has touched so far (EC2 calls; for IMDS faults, requests whose answer is another because of
    /// it).
    pub hits: u64,
}

/// Something that somebody outside the lab does to the world, once. It stays done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OutsideEvent {
    /// Somebody detaches an ENI by force and deletes it. Not a primary one: EC2 does not let go of those.
    EniRemoved {
        /// Which.
        eni: EniId,
    },
    /// Somebody takes a secondary address or a prefix from its ENI.
    AddressRemoved {
        /// The address (`10.20.8.7`) or prefix (`10.20.8.16/28`).
        #[serde(with = "slot_text")]
        address: Slot,
    },
    /// Somebody takes tags from an ENI.
    TagsRemoved {
        /// Which.
        eni: EniId,
        /// Their keys; absent or empty: all tags.
        #[serde(default)]
        keys: Vec<String>,
    },
}

/// A fault or event that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FaultError {
    /// A value that is not accepted.
    #[error("{field}: `{value}` is not accepted: expected {expected}")]
    Value {
        /// Which field.
        field: String,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// A name or id of nothing there is.
    #[error("{field}: there is no {kind} `{name}`: expected {expected}")]
    Unknown {
        /// Which field.
        field: String,
        /// Kind of object referred to.
        kind: String,
        /// The name or id given.
        name: String,
        /// What there is.
        expected: String,
    },
}

/// Something wrong with EC2 or IMDS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CloudFault {
    /// Calls take longer.
    Latency {
        /// Which actions; `*`: all.
        #[serde(default = "everything")]
        action: String,
        /// Whose calls; absent: everybody's.
        #[serde(default)]
        node: Option<String>,
        /// How much longer, in milliseconds.
        add_ms: u64,
        /// And up to so much more, drawn from the seed.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// Token buckets are smaller.
    Throttle {
        /// Which actions; each has a bucket of its own.
        #[serde(default = "everything")]
        action: String,
        /// Requests at once.
        capacity: u32,
        /// Requests a second after that.
        refill_per_second: u32,
    },
    /// IAM refuses (`UnauthorizedOperation`).
    Deny {
        /// Which actions.
        action: String,
        /// Whose calls.
        #[serde(default)]
        node: Option<String>,
    },
    /// EC2 answers with an error, or not at all.
    Error {
        /// Which actions.
        action: String,
        /// Whose calls.
        #[serde(default)]
        node: Option<String>,
        /// The error's code; default `InternalError`.
        #[serde(default = "internal_error")]
        code: String,
        /// Its text; absent: that of the code.
        #[serde(default)]
        message: Option<String>,
        /// HTTP status; absent: that of the code (400, or 500 or 503).
        #[serde(default)]
        status: Option<u16>,
        /// Before or after the deed, or instead of the answer.
        #[serde(default)]
        when: ErrorWhen,
        /// Let so many such calls pass first.
        #[serde(default)]
        skip: u32,
        /// Then fail so many; absent: all.
        #[serde(default)]
        times: Option<u32>,
    },
    /// A subnet has hardly any free addresses: somebody outside has taken them.
    SubnetExhausted {
        /// Name or id.
        subnet: String,
        /// Addresses left free.
        #[serde(default)]
        leave: u32,
    },
    /// A subnet has free addresses but no free aligned /28.
    SubnetFragmented {
        /// Name or id.
        subnet: String,
        /// Whole /28 left free.
        #[serde(default)]
        leave: u32,
    },
    /// IMDS no longer learns of changes.
    ImdsStale {
        /// Whose.
        node: String,
    },
    /// IMDS lists ENIs with their primary address only.
    ImdsPartial {
        /// Whose.
        node: String,
    },
    /// IMDS lists MACs and secondary addresses in another order at each look; the primary address stays first.
    ImdsReordered {
        /// Whose.
        node: String,
    },
    /// IMDS does not list an attached ENI.
    ImdsMissing {
        /// Whose.
        node: String,
        /// Device number; absent: all but the primary one.
        #[serde(default)]
        device: Option<u32>,
    },
    /// IMDS lists the MAC of each secondary ENI, but what lies below it is 404.
    ImdsHollow {
        /// Whose.
        node: String,
    },
    /// IMDS refuses tokens: 401 on every GET.
    ImdsUnauthorized {
        /// Whose.
        node: String,
    },
    /// IMDS answers every request with this status (403 or 5xx).
    ImdsError {
        /// Whose.
        node: String,
        /// HTTP status; default 500.
        #[serde(default = "five_hundred")]
        status: u16,
    },
    /// IMDS answers late.
    ImdsSlow {
        /// Whose.
        node: String,
        /// By so many milliseconds.
        by_ms: u64,
    },
    /// Detaching takes longer.
    DetachSlow {
        /// Whose; absent: everybody's.
        #[serde(default)]
        node: Option<String>,
        /// By so many milliseconds.
        by_ms: u64,
    },
    /// Attachments that begin now stay in `attaching` until this is lifted.
    AttachStuck {
        /// Whose; absent: everybody's.
        #[serde(default)]
        node: Option<String>,
    },
    /// The cloud's calendar is ahead (or behind, if negative): launch and attach times, IMDS, and the check of signatures.
    ClockSkew {
        /// By so many milliseconds.
        by_ms: i64,
    },
}

/// When an injected error strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorWhen {
    /// Nothing is done.
    #[default]
    Before,
    /// It is done, and the error is answered all the same.
    After,
    /// It is done, and the connection ends without an answer.
    Lost,
}

/// A slot as text: an address, or a prefix with its length.
mod slot_text {
    use ipnet::Ipv4Net;
    use vpc_model::Prefix28;

    use super::{Deserialize, Deserializer, Serializer, Slot};

    pub(super) fn serialize<S: Serializer>(slot: &Slot, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(slot)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Slot, D::Error> {
        let text = String::deserialize(from)?;
        let slot = match text.contains('/') {
            true => text.parse::<Ipv4Net>().ok().and_then(|net| Prefix28::try_from(net).ok()).map(Slot::Prefix),
            false => text.parse().ok().map(Slot::Address),
        };
        slot.ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is not accepted: expected an address (10.20.8.7) or a /28 prefix (10.20.8.16/28)"
            ))
        })
    }
}

fn everything() -> String {
    "*".to_owned()
}

fn internal_error() -> String {
    "InternalError".to_owned()
}

fn five_hundred() -> u16 {
    500
}
