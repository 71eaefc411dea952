//! What can be made to go wrong in the cloud while it runs.
//!
//! A fault holds from the moment it is injected until it is lifted. Instances are named as people name them (by name or
//! id), actions by a pattern with `*` and `?` as in EC2's filters.

use serde::{Deserialize, Serialize};

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

fn everything() -> String {
    "*".to_owned()
}

fn internal_error() -> String {
    "InternalError".to_owned()
}

fn five_hundred() -> u16 {
    500
}
