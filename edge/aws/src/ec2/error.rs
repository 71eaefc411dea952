//! What can go wrong with a call, sorted by what to do about it.

use std::fmt;
use std::time::Duration;

use super::shapes::{ErrorAnswer, Query};

/// A call that did not give its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Error {
    /// The action.
    pub action: &'static str,
    /// The object it was about: the first id among the parameters.
    pub resource: Option<String>,
    /// What kind of failure.
    pub class: ErrorClass,
    /// EC2's error code, or ours in the same style for failures without one (`RequestTimeout`, `TransportError`, …). A
    /// label for metrics; decide by `class`.
    pub code: String,
    /// What EC2 said, or what broke.
    pub message: String,
    /// EC2's id of the request.
    pub request_id: Option<String>,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Whether the request may have been carried out.
    pub outcome: Outcome,
    /// An attempt before this one was lost: whatever EC2 says to this one, it may have carried that one out, or do so yet.
    pub lost_before: bool,
    /// Attempts made.
    pub attempts: u32,
    /// How long EC2 asked to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// Kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Too many requests.
    Throttled,
    /// The role may not do this (`ec2:<action>`).
    Unauthorized,
    /// There are no credentials, or EC2 does not take them (unknown, expired, wrong clock).
    Credentials,
    /// An object does not exist (any more, or yet: EC2 is eventually consistent).
    NotFound {
        /// Which one, if EC2 said so.
        id: Option<String>,
    },
    /// The subnet cannot give what was asked for.
    SubnetExhausted(Shortage),
    /// The ENI holds as many addresses and prefixes as its instance type allows.
    AddressLimit,
    /// The instance holds as many ENIs as its type allows.
    AttachmentLimit,
    /// Another quota of the account, the region or the object.
    Quota,
    /// The object is attached or in use.
    InUse,
    /// The object is in a state that does not allow it (now).
    IncorrectState,
    /// EC2 does not allow it on this object (the primary ENI, a managed one).
    NotPermitted,
    /// The client token was used with other parameters.
    IdempotencyMismatch,
    /// The answer to a dry run: it would have been allowed.
    DryRun,
    /// The request is wrong in itself.
    Invalid,
    /// EC2 failed.
    ServerSide,
    /// No connection, or it broke.
    Transport,
    /// No answer in time.
    Timeout,
    /// An answer that cannot be read.
    BadAnswer,
    /// A code this list does not have.
    Other,
}

/// How a subnet falls short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Too few free addresses (`InsufficientFreeAddressesInSubnet`).
    Addresses,
    /// Addresses are free, but no aligned /28 (`InsufficientCidrBlocks`): fragmentation.
    Blocks,
    /// More was asked for than is free at all (`InvalidParameterValue`).
    Total,
}

/// Whether a request without a good answer may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not.
    NotDone,
    /// The answer was lost: nobody knows. Look before asking again, unless the action may be repeated.
    Unknown,
}

/// What to do with the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Send it again after a while.
    Again,
    /// Find out first whether it was done.
    LookFirst,
    /// Change something first; the same request gets the same answer.
    GiveUp,
}

/// Whether an action may be carried out twice without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It may.
    Harmless,
    /// A second run would do more than was asked for.
    Harmful,
}

impl Repeat {
    /// Judges a request. Unknown actions count as harmful.
    pub(crate) fn of(query: &Query) -> Self {
        match query.get("Action").unwrap_or_default() {
            name if name.starts_with("Describe") => Self::Harmless,
            "CreateNetworkInterface" if query.get("ClientToken").is_some() => Self::Harmless,
            // Ids are never used again, and setting something twice is setting it.
            "DetachNetworkInterface" | "DeleteNetworkInterface" => Self::Harmless,
            "ModifyNetworkInterfaceAttribute" | "CreateTags" => Self::Harmless,
            // Assign would give twice as many. Attach would report the index as taken. Between two runs of Unassign the
            // same address may have been given anew.
            _ => Self::Harmful,
        }
    }
}

impl Ec2Error {
    /// A refusal by EC2.
    #[must_use]
    pub fn refused(action: &'static str, status: u16, answer: ErrorAnswer) -> Self {
        let class = classify(status, &answer.code, &answer.message);
        // A failing server may have failed after the deed; a refusing one has not begun.
        let outcome = if class == ErrorClass::ServerSide { Outcome::Unknown } else { Outcome::NotDone };
        Self {
            action,
            resource: None,
            class,
            code: answer.code,
            message: answer.message,
            request_id: Some(answer.request_id).filter(|id| !id.is_empty()),
            status: Some(status),
            outcome,
            lost_before: false,
            attempts: 1,
            retry_after: None,
        }
    }

    /// The connection ended before the answer: nobody knows whether the request was carried out.
    #[must_use]
    pub fn lost(action: &'static str, message: impl Into<String>) -> Self {
        Self::own(action, ErrorClass::Transport, Outcome::Unknown, message)
    }

    /// No answer came within `limit`: nobody knows whether the request was carried out.
    #[must_use]
    pub fn timed_out(action: &'static str, limit: Duration) -> Self {
        Self::own(action, ErrorClass::Timeout, Outcome::Unknown, format!("no answer in {:.1} s", limit.as_secs_f64()))
    }

    pub(crate) fn own(action: &'static str, class: ErrorClass, outcome: Outcome, message: impl Into<String>) -> Self {
        let code = match class {
            ErrorClass::Credentials => "CredentialsError",
            ErrorClass::Timeout => "RequestTimeout",
            ErrorClass::BadAnswer => "DeserializationError",
            _ => "TransportError",
        };
        Self {
            action,
            resource: None,
            class,
            code: code.into(),
            message: message.into(),
            request_id: None,
            status: None,
            outcome,
            lost_before: false,
            attempts: 1,
            retry_after: None,
        }
    }

    /// What to do with the same request. Attempts inside [`super::Client::call`] follow the same advice.
    #[must_use]
    pub fn advice(&self) -> Advice {
        use ErrorClass as C;
        match (&self.class, self.outcome) {
            (_, Outcome::Unknown) => Advice::LookFirst,
            (C::Throttled | C::ServerSide | C::Transport | C::Timeout | C::Credentials, _) => Advice::Again,
            _ => Advice::GiveUp,
        }
    }

    /// Whether the object that the call was about does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.class, ErrorClass::NotFound { .. })
    }
}

impl fmt::Display for Ec2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ec2:{}", self.action)?;
        if let Some(resource) = &self.resource {
            write!(f, " on {resource}")?;
        }
        write!(f, " failed: {}: {}", self.code, self.message)?;
        if self.outcome == Outcome::Unknown {
            f.write_str(" (it may have been carried out: the answer was lost)")?;
        } else if self.lost_before {
            f.write_str(" (an attempt before may have been carried out: its answer was lost)")?;
        }
        if self.attempts > 1 {
            write!(f, " (attempts: {})", self.attempts)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        f.write_str(match self.class {
            ErrorClass::Unauthorized => "; allow the action in the policy of the node's or the service account's role",
            ErrorClass::Credentials => "; check the role, its trust policy and the clock",
            _ => "",
        })
    }
}

impl std::error::Error for Ec2Error {}

/// Sorts EC2's codes. Three of them can only be told by their sentence; that happens here and nowhere else.
fn classify(status: u16, code: &str, message: &str) -> ErrorClass {
    use ErrorClass as C;
    let code = code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code);
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "TransactionInProgressException"
        | "ProvisionedThroughputExceededException"
        | "LimitExceededException" => C::Throttled,
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => C::Unauthorized,
        "AuthFailure"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "OptInRequired"
        | "PendingVerification" => C::Credentials,
        "InsufficientFreeAddressesInSubnet" => C::SubnetExhausted(Shortage::Addresses),
        "InsufficientCidrBlocks" => C::SubnetExhausted(Shortage::Blocks),
        "InvalidParameterValue" if message.contains("sufficient free Ipv4 addresses or prefixes") => {
            C::SubnetExhausted(Shortage::Total)
        }
        "PrivateIpAddressLimitExceeded" => C::AddressLimit,
        "AttachmentLimitExceeded" => C::AttachmentLimit,
        "InvalidNetworkInterface.InUse" => C::InUse,
        "InvalidParameterValue" if message.contains("is currently in use") => C::InUse,
        "IncorrectState" | "IncorrectInstanceState" => C::IncorrectState,
        "OperationNotPermitted" => C::NotPermitted,
        "IdempotentParameterMismatch" => C::IdempotencyMismatch,
        "DryRunOperation" => C::DryRun,
        "InternalError"
        | "InternalFailure"
        | "Internal"
        | "ServerInternal"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => C::ServerSide,
        _ if code.ends_with(".NotFound") => C::NotFound { id: quoted_id(message) },
        _ if code.ends_with("LimitExceeded") => C::Quota,
        _ if status == 429 => C::Throttled,
        _ if status >= 500 => C::ServerSide,
        _ if ["Invalid", "Missing", "Unknown", "Malformed", "Unsupported", "NoSuchVersion"]
            .iter()
            .any(|begin| code.starts_with(begin)) =>
        {
            C::Invalid
        }
        _ => C::Other,
    }
}

/// The first id between single quotes, as in `The networkInterface ID 'eni-0a' does not exist`.
fn quoted_id(message: &str) -> Option<String> {
    let is_id = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    message.split('\'').skip(1).step_by(2).find(is_id).map(str::to_owned)
}

/// The first parameter that names an object of the cloud.
pub(crate) fn resource(query: &Query) -> Option<String> {
    const KINDS: [&str; 6] = ["eni-", "i-", "subnet-", "vpc-", "sg-", "rtb-"];
    let values = query.pairs().iter().map(|(_, value)| value);
    values.filter(|value| KINDS.iter().any(|kind| value.starts_with(kind))).map(Clone::clone).next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str, message: &str) -> Ec2Error {
        let answer = ErrorAnswer { code: code.into(), message: message.into(), request_id: "r-1".into() };
        Ec2Error::refused("AssignPrivateIpAddresses", status, answer)
    }

    #[test]
    fn codes_are_sorted_by_what_to_do() {
        use Advice::{Again, GiveUp, LookFirst};
        use ErrorClass as C;
        let not_found = |id: &str| C::NotFound { id: Some(id.into()) };
        let cases = [
            (503, "RequestLimitExceeded", "Request limit exceeded.", C::Throttled, Again),
            (403, "UnauthorizedOperation", "You are not authorized.", C::Unauthorized, GiveUp),
            (401, "AuthFailure", "", C::Credentials, Again),
            (
                400,
                "InvalidNetworkInterfaceID.NotFound",
                "The networkInterface ID 'eni-0a' does not exist",
                not_found("eni-0a"),
                GiveUp,
            ),
            (400, "InvalidGroup.NotFound", "no quotes", C::NotFound { id: None }, GiveUp),
            (400, "InsufficientFreeAddressesInSubnet", "", C::SubnetExhausted(Shortage::Addresses), GiveUp),
            (400, "InsufficientCidrBlocks", "", C::SubnetExhausted(Shortage::Blocks), GiveUp),
            (
                400,
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                C::SubnetExhausted(Shortage::Total),
                GiveUp,
            ),
            (400, "InvalidParameterValue", "Network interface 'eni-1' is currently in use.", C::InUse, GiveUp),
            (400, "InvalidParameterValue", "Value (x)", C::Invalid, GiveUp),
            (400, "PrivateIpAddressLimitExceeded", "", C::AddressLimit, GiveUp),
            (400, "AttachmentLimitExceeded", "", C::AttachmentLimit, GiveUp),
            (400, "TagLimitExceeded", "", C::Quota, GiveUp),
            (400, "IncorrectState", "", C::IncorrectState, GiveUp),
            (400, "IdempotentParameterMismatch", "", C::IdempotencyMismatch, GiveUp),
            (400, "OperationNotPermitted", "", C::NotPermitted, GiveUp),
            (412, "DryRunOperation", "", C::DryRun, GiveUp),
            (500, "InternalError", "", C::ServerSide, LookFirst),
            (500, "ServerInternal", "", C::ServerSide, LookFirst),
            // The codes of EC2's list of server errors say it, whatever the status.
            (400, "ServerInternal", "", C::ServerSide, LookFirst),
            (503, "Unavailable", "", C::ServerSide, LookFirst),
            (503, "ServiceUnavailable", "", C::ServerSide, LookFirst),
            (502, "SomethingNew", "", C::ServerSide, LookFirst),
            (429, "SomethingNew", "", C::Throttled, Again),
            (400, "SomethingNew", "", C::Other, GiveUp),
        ];
        for (status, code, message, class, advice) in cases {
            let error = of(status, code, message);
            assert_eq!((&error.class, error.advice()), (&class, advice), "{code}");
        }
    }

    #[test]
    fn an_error_says_what_failed_on_which_object_and_the_way_out() {
        let mut error = of(403, "UnauthorizedOperation", "You are not authorized to perform this operation.");
        error.resource = Some("eni-1".into());
        error.attempts = 2;
        assert_eq!(
            error.to_string(),
            "ec2:AssignPrivateIpAddresses on eni-1 failed: UnauthorizedOperation: You are not authorized to perform this \
             operation. (attempts: 2) (request r-1); allow the action in the policy of the node's or the service \
             account's role"
        );
        let lost = Ec2Error::own("AttachNetworkInterface", ErrorClass::Timeout, Outcome::Unknown, "no answer in 10 s");
        assert!(lost.to_string().contains("the answer was lost"), "{lost}");
    }

    #[test]
    fn only_harmless_requests_may_be_repeated() {
        let repeat = |form: &str| Repeat::of(&Query::parse(form.as_bytes()));
        assert_eq!(repeat("Action=DescribeVpcs"), Repeat::Harmless);
        assert_eq!(repeat("Action=CreateNetworkInterface&ClientToken=x"), Repeat::Harmless);
        assert_eq!(repeat("Action=CreateNetworkInterface"), Repeat::Harmful);
        assert_eq!(repeat("Action=AssignPrivateIpAddresses"), Repeat::Harmful);
        assert_eq!(repeat("Action=SomethingNew"), Repeat::Harmful);
    }
}
