//! Why a request was refused, typed, across the socket.
//!
//! ```text
//!   Refusal --into_status--> gRPC status: code, message, details = google.rpc.Status { [Any(Refusal)] } --from_status--> Refusal
//! ```
//!
//! A reference plugin sees an ordinary gRPC error with a text; a reference daemon sends a status without our detail, and
//! [`Refusal::from_status`] then says so by `None`.

use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};
use vpc_model::Millis;

use super::refusal_pb;

/// Text by which a reference plugin recognises that the daemon knows nothing of a sandbox (then its DEL succeeds).
pub const UNKNOWN_POD_TEXT: &str = "datastore: unknown pod";

/// Longest message that travels, in bytes. It goes twice, once percent-encoded; HTTP/2 clients take 8 to 16 KiB of headers.
const LONGEST_MESSAGE: usize = 1500;

/// The full name of our detail; a type URL ends with it, whatever stands before the last slash.
const TYPE_NAME: &str = "vpccni.v1.Refusal";

/// Why the daemon could not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The subnet of every usable ENI has no free address.
    SubnetExhausted,
    /// No further ENI fits the instance.
    EniLimit,
    /// Every address the instance can hold is in use.
    AddressLimit,
    /// EC2 asks for fewer calls.
    Throttled,
    /// EC2 does not allow the node's role to make the call.
    Unauthorized,
    /// An address is on its way and did not arrive in time.
    Warming,
    /// Free addresses exist but still rest after their last pod.
    Cooling,
    /// EC2 or the metadata service failed in another way.
    CloudError,
    /// The host's network could not be changed.
    HostError,
    /// The promise could not be put on disk.
    Checkpoint,
    /// The daemon is about to stop.
    ShuttingDown,
    /// The request itself is wrong.
    BadRequest,
    /// The request asks for something this daemon does not offer.
    Unsupported,
    /// Nothing is known of this sandbox.
    UnknownPod,
    /// The daemon has not finished its start.
    Starting,
    /// The node takes no pods, so no address is kept ready.
    NotSchedulable,
    /// There is nowhere to make an ENI: the node's ENIConfig is missing or wrong, or tags forbid every subnet.
    NoPlace,
    /// EC2 has not said since the daemon's start what is on the node.
    Unconfirmed,
    /// The settings forbid to fetch more addresses.
    CloudOff,
    /// The subnet has free addresses and no free /28 for a prefix.
    SubnetFragmented,
    /// A cause of a later version that this program has no name for.
    Unknown,
}

impl Cause {
    /// Every cause but [`Cause::Unknown`].
    pub const ALL: [Self; 20] = [
        Self::SubnetExhausted,
        Self::EniLimit,
        Self::AddressLimit,
        Self::Throttled,
        Self::Unauthorized,
        Self::Warming,
        Self::Cooling,
        Self::CloudError,
        Self::HostError,
        Self::Checkpoint,
        Self::ShuttingDown,
        Self::BadRequest,
        Self::Unsupported,
        Self::UnknownPod,
        Self::Starting,
        Self::NotSchedulable,
        Self::NoPlace,
        Self::Unconfirmed,
        Self::CloudOff,
        Self::SubnetFragmented,
    ];

    /// The gRPC status code that programs without our detail go by.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::SubnetExhausted
            | Self::SubnetFragmented
            | Self::EniLimit
            | Self::AddressLimit
            | Self::Cooling
            | Self::CloudOff => Code::ResourceExhausted,
            Self::Throttled
            | Self::Warming
            | Self::CloudError
            | Self::ShuttingDown
            | Self::Starting
            | Self::NotSchedulable
            | Self::Unconfirmed => Code::Unavailable,
            Self::Unauthorized => Code::PermissionDenied,
            Self::HostError | Self::Checkpoint => Code::Internal,
            Self::BadRequest => Code::InvalidArgument,
            Self::Unsupported | Self::NoPlace => Code::FailedPrecondition,
            Self::UnknownPod => Code::NotFound,
            Self::Unknown => Code::Unknown,
        }
    }

    /// Whether the same request may succeed later without anyone changing a setting or a permission.
    #[must_use]
    pub fn passes(self) -> bool {
        match self {
            Self::SubnetExhausted
            | Self::EniLimit
            | Self::AddressLimit
            | Self::Throttled
            | Self::Warming
            | Self::Cooling
            | Self::CloudError
            | Self::ShuttingDown
            | Self::Starting
            | Self::NotSchedulable
            | Self::Unconfirmed
            | Self::CloudOff
            | Self::SubnetFragmented => true,
            Self::Unauthorized
            | Self::HostError
            | Self::Checkpoint
            | Self::BadRequest
            | Self::Unsupported
            | Self::UnknownPod
            | Self::NoPlace
            | Self::Unknown => false,
        }
    }

    /// The cause as logs and metrics name it (`subnet_exhausted`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SubnetExhausted => "subnet_exhausted",
            Self::EniLimit => "eni_limit",
            Self::AddressLimit => "address_limit",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Warming => "warming",
            Self::Cooling => "cooling",
            Self::CloudError => "cloud_error",
            Self::HostError => "host_error",
            Self::Checkpoint => "checkpoint",
            Self::ShuttingDown => "shutting_down",
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::UnknownPod => "unknown_pod",
            Self::Starting => "starting",
            Self::NotSchedulable => "not_schedulable",
            Self::NoPlace => "no_place",
            Self::Unconfirmed => "unconfirmed",
            Self::CloudOff => "cloud_off",
            Self::SubnetFragmented => "subnet_fragmented",
            Self::Unknown => "unknown",
        }
    }

    fn to_wire(self) -> refusal_pb::Cause {
        match self {
            Self::SubnetExhausted => refusal_pb::Cause::SubnetExhausted,
            Self::EniLimit => refusal_pb::Cause::EniLimit,
            Self::AddressLimit => refusal_pb::Cause::AddressLimit,
            Self::Throttled => refusal_pb::Cause::Throttled,
            Self::Unauthorized => refusal_pb::Cause::Unauthorized,
            Self::Warming => refusal_pb::Cause::Warming,
            Self::Cooling => refusal_pb::Cause::Cooling,
            Self::CloudError => refusal_pb::Cause::CloudError,
            Self::HostError => refusal_pb::Cause::HostError,
            Self::Checkpoint => refusal_pb::Cause::Checkpoint,
            Self::ShuttingDown => refusal_pb::Cause::ShuttingDown,
            Self::BadRequest => refusal_pb::Cause::BadRequest,
            Self::Unsupported => refusal_pb::Cause::Unsupported,
            Self::UnknownPod => refusal_pb::Cause::UnknownPod,
            Self::Starting => refusal_pb::Cause::Starting,
            Self::NotSchedulable => refusal_pb::Cause::NotSchedulable,
            Self::NoPlace => refusal_pb::Cause::NoPlace,
            Self::Unconfirmed => refusal_pb::Cause::Unconfirmed,
            Self::CloudOff => refusal_pb::Cause::CloudOff,
            Self::SubnetFragmented => refusal_pb::Cause::SubnetFragmented,
            Self::Unknown => refusal_pb::Cause::Unspecified,
        }
    }

    fn from_wire(number: i32) -> Self {
        Self::ALL.into_iter().find(|cause| cause.to_wire() as i32 == number).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A typed refusal with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// For people: what failed, on which object, and the way out.
    pub message: String,
    /// When trying again may help, where that is known.
    pub retry_after: Option<Millis>,
    /// What the cause is about, in numbers (`("enis", 3)`), in the order to show them.
    pub numbers: Vec<(String, i64)>,
}

impl Refusal {
    /// A refusal without numbers.
    #[must_use]
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry_after: None, numbers: Vec::new() }
    }

    /// The answer to a DEL for a sandbox nobody knows: carries the text a reference plugin looks for.
    #[must_use]
    pub fn unknown_pod(sandbox: &vpc_model::SandboxKey) -> Self {
        Self::new(Cause::UnknownPod, format!("{UNKNOWN_POD_TEXT}: no address is held by sandbox {sandbox}"))
    }

    /// Adds a number to show.
    #[must_use]
    pub fn number(mut self, name: impl Into<String>, value: i64) -> Self {
        self.numbers.push((name.into(), value));
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, span: Millis) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// The refusal as a gRPC status: code by cause, the message as text, the whole of it as a detail. A message above 1,500 bytes is cut.
    #[must_use]
    pub fn into_status(mut self) -> Status {
        self.message.truncate(self.message.floor_char_boundary(LONGEST_MESSAGE));
        let code = self.cause.code();
        let detail = refusal_pb::Refusal {
            cause: self.cause.to_wire() as i32,
            message: self.message.clone(),
            retry_after_ms: self.retry_after.map_or(0, |span| span.0),
            numbers: self.numbers.into_iter().map(|(name, value)| refusal_pb::Number { name, value }).collect(),
        };
        let rich = RichStatus {
            code: code as i32,
            message: self.message.clone(),
            details: vec![Any { type_url: format!("type.googleapis.com/{TYPE_NAME}"), value: detail.encode_to_vec() }],
        };
        Status::with_details(code, self.message, rich.encode_to_vec().into())
    }

    /// The refusal a status carries; `None` if it is not one of ours (a reference daemon, a broken connection, a detail that does
    /// not parse).
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        Self::from_details(status.details())
    }

    /// The same, of the details alone (`grpc-status-details-bin`).
    #[must_use]
    pub fn from_details(details: &[u8]) -> Option<Self> {
        let rich = RichStatus::decode(details).ok()?;
        let any = rich.details.iter().find(|any| any.type_url.rsplit('/').next() == Some(TYPE_NAME))?;
        let detail = refusal_pb::Refusal::decode(any.value.as_slice()).ok()?;
        Some(Self {
            cause: Cause::from_wire(detail.cause),
            message: detail.message,
            retry_after: (detail.retry_after_ms > 0).then_some(Millis(detail.retry_after_ms)),
            numbers: detail.numbers.into_iter().map(|number| (number.name, number.value)).collect(),
        })
    }

    /// Whether a status of DelNetwork says that the daemon knows nothing of the sandbox: by our detail, by the code, or by the text
    /// of a reference daemon.
    #[must_use]
    pub fn is_unknown_pod(status: &Status) -> bool {
        Self::from_status(status).is_some_and(|refusal| refusal.cause == Cause::UnknownPod)
            || status.code() == Code::NotFound
            || status.message().contains(UNKNOWN_POD_TEXT)
    }
}

impl fmt::Display for Refusal {
    /// The message, then the numbers: `no free address (eni_limit: enis 3, addresses 27; try again in 5 s)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.message, self.cause)?;
        for (at, (name, value)) in self.numbers.iter().enumerate() {
            write!(f, "{}{name} {value}", if at == 0 { ": " } else { ", " })?;
        }
        if let Some(span) = self.retry_after {
            write!(f, "; try again in {span}")?;
        }
        f.write_str(")")
    }
}

/// `google.rpc.Status`: what the trailer `grpc-status-details-bin` holds by convention.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`: a message with the name of its type.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_survives_the_socket_with_its_numbers() {
        for cause in Cause::ALL {
            let refusal =
                Refusal::new(cause, "no free address").number("enis", 3).number("free", 0).retry_after(Millis(5000));
            let status = refusal.clone().into_status();
            assert_eq!(status.code(), cause.code());
            assert_eq!(status.message(), "no free address");
            // As it arrives: through headers and back.
            let arrived = Status::from_header_map(&{
                let mut headers = tonic::codegen::http::HeaderMap::new();
                status.add_header(&mut headers).unwrap();
                headers
            })
            .unwrap();
            assert_eq!(Refusal::from_status(&arrived), Some(refusal));
        }
    }

    #[test]
    fn a_status_that_is_not_ours_is_not_taken_for_a_refusal() {
        assert_eq!(Refusal::from_status(&Status::unavailable("connection refused")), None);
        let rubbish = Status::with_details(Code::Internal, "x", vec![0xff, 0xff, 0xff].into());
        assert_eq!(Refusal::from_status(&rubbish), None);
        let foreign = RichStatus {
            code: 8,
            message: String::new(),
            details: vec![Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: vec![] }],
        };
        let foreign = Status::with_details(Code::ResourceExhausted, "x", foreign.encode_to_vec().into());
        assert_eq!(Refusal::from_status(&foreign), None);
    }

    #[test]
    fn a_cause_of_a_later_version_is_kept_with_its_text() {
        let detail = refusal_pb::Refusal { cause: 99, message: "the moon is full".into(), ..Default::default() };
        let any = Any { type_url: "elsewhere/vpccni.v1.Refusal".into(), value: detail.encode_to_vec() };
        let rich = RichStatus { code: 2, message: String::new(), details: vec![any] };
        let status = Status::with_details(Code::Unknown, "x", rich.encode_to_vec().into());
        let refusal = Refusal::from_status(&status).unwrap();
        assert_eq!((refusal.cause, refusal.message.as_str()), (Cause::Unknown, "the moon is full"));
    }

    #[test]
    fn an_unknown_pod_is_recognised_from_either_make_of_daemon() {
        let sandbox =
            vpc_model::SandboxKey { network: "aws-cni".into(), container: "c1".into(), interface: "eth0".into() };
        let ours = Refusal::unknown_pod(&sandbox).into_status();
        assert!(ours.message().contains("datastore: unknown pod"));
        assert_eq!(ours.code(), Code::NotFound);
        assert!(Refusal::is_unknown_pod(&ours));
        let reference = Status::unknown("1 error occurred:\n\t* datastore: unknown pod\n\n");
        assert!(Refusal::is_unknown_pod(&reference));
        assert!(!Refusal::is_unknown_pod(&Status::unknown("datastore: unknown ENI")));
    }

    #[test]
    fn a_refusal_reads_as_a_sentence_with_numbers() {
        let refusal = Refusal::new(Cause::EniLimit, "no address is free on this node")
            .number("enis", 3)
            .number("addresses", 27)
            .retry_after(Millis::seconds(5));
        assert_eq!(
            refusal.to_string(),
            "no address is free on this node (eni_limit: enis 3, addresses 27; try again in 5 s)"
        );
        assert_eq!(Refusal::new(Cause::Checkpoint, "disk full").to_string(), "disk full (checkpoint)");
    }
}
