//! Refusals: EC2's own codes and words, and the faults of a world's description.

use std::borrow::Cow;
use std::fmt::Display;

use vpc_aws::ec2::shapes::query::ParamError;

use crate::iam::PolicyError;
use vpc_model::InstanceId;

/// A refused call, as EC2 words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// EC2's error code (`InvalidParameterValue`).
    pub code: Cow<'static, str>,
    /// EC2's text.
    pub message: String,
    /// HTTP status: 400 for what the caller did wrong, 503 for throttling, 5xx for what EC2 did wrong.
    pub status: u16,
}

impl ApiError {
    /// An error with status 400.
    #[must_use]
    pub fn client(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status: 400 }
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::client("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::client("InvalidParameterCombination", message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::client("UnsupportedOperation", message)
    }

    pub(crate) fn dependency(message: impl Into<String>) -> Self {
        Self::client("DependencyViolation", message)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::client("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    pub(crate) fn no_eni(id: &impl Display) -> Self {
        Self::client("InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{id}' does not exist"))
    }

    pub(crate) fn no_attachment(id: &impl Display) -> Self {
        Self::client("InvalidAttachmentID.NotFound", format!("Interface attachment '{id}' does not exist."))
    }

    pub(crate) fn no_instance(id: &impl Display) -> Self {
        Self::client("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
    }

    /// EC2 names all missing instances, where it names only the first of other kinds.
    pub(crate) fn no_instances(ids: &[&InstanceId]) -> Self {
        match ids {
            [id] => Self::no_instance(id),
            ids => {
                let ids: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
                Self::client(
                    "InvalidInstanceID.NotFound",
                    format!("The instance IDs '{}' do not exist", ids.join(", ")),
                )
            }
        }
    }

    pub(crate) fn no_vpc(id: &impl Display) -> Self {
        Self::client("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
    }

    pub(crate) fn no_route_table(id: &impl Display) -> Self {
        Self::client("InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist"))
    }

    pub(crate) fn no_rule(id: &impl Display) -> Self {
        Self::client("InvalidSecurityGroupRuleId.NotFound", format!("The security group rule ID '{id}' does not exist"))
    }

    /// The VPC is not the account's default VPC, and in others groups have no names of their own.
    pub(crate) fn no_default_vpc() -> Self {
        Self::client(
            "VPCIdNotSpecified",
            "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
        )
    }

    pub(crate) fn next_token() -> Self {
        Self::client("InvalidNextToken", "The specified NextToken is not valid.")
    }

    /// What AWS documents and this model cannot compare: better refused than passed over.
    pub(crate) fn filter_not_held(filter: &str, action: &str) -> Self {
        Self::client(
            "UnsupportedOperation",
            format!("The lab does not model what the filter '{filter}' of {action} compares: leave it out."),
        )
    }

    pub(crate) fn no_subnet(id: &impl Display) -> Self {
        Self::client("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    }

    pub(crate) fn no_group(id: &impl Display) -> Self {
        Self::client("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
    }

    pub(crate) fn no_ipv6(subnet: &impl Display) -> Self {
        Self::value(format!("The subnet {subnet} has no IPv6 CIDR block"))
    }

    pub(crate) fn too_many_addresses() -> Self {
        Self::client("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
    }

    pub(crate) fn too_few_addresses() -> Self {
        Self::client(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
        )
    }

    pub(crate) fn no_public_address() -> Self {
        Self::client("InsufficientAddressCapacity", "Not enough available addresses to satisfy request.")
    }

    pub(crate) fn too_few_blocks() -> Self {
        Self::client(
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
        )
    }

    pub(crate) fn too_few_for_prefixes() -> Self {
        Self::value("There aren't sufficient free Ipv4 addresses or prefixes")
    }

    pub(crate) fn in_use(id: &impl Display) -> Self {
        Self::value(format!("Network interface '{id}' is currently in use."))
    }

    /// IAM refuses: `why` says on what grounds.
    pub(crate) fn unauthorized(why: impl Display) -> Self {
        Self {
            code: "UnauthorizedOperation".into(),
            message: format!("You are not authorized to perform this operation. {why}"),
            status: 403,
        }
    }

    pub(crate) fn dry_run() -> Self {
        Self {
            code: "DryRunOperation".into(),
            message: "Request would have succeeded, but DryRun flag is set.".into(),
            status: 412,
        }
    }
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> Self {
        if let ParamError::Invalid { name, value, .. } = &error
            && name == "AttachmentId"
            && value.starts_with("ela-attach-")
        {
            return Self::client("OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.");
        }
        Self::client(error.code(), error.to_string())
    }
}

/// A description of a world that EC2 would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// A field with a value that is not accepted.
    #[error("{what}: `{value}` is not accepted: expected {expected}")]
    Value {
        /// Which field of which object.
        what: String,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// Two objects with one id or name.
    #[error("two {kind}s are called `{name}`: names and ids must be unique")]
    Twice {
        /// Kind of object.
        kind: &'static str,
        /// The id or name.
        name: String,
    },
    /// A reference to nothing.
    #[error("{what}: there is no {kind} `{name}`: expected one of {known}")]
    Unknown {
        /// Which field of which object.
        what: String,
        /// Kind of object referred to.
        kind: &'static str,
        /// The id or name given.
        name: String,
        /// What there is.
        known: String,
    },
    /// Networks that share addresses.
    #[error("{first} and {second} overlap: give each addresses of its own")]
    Overlap {
        /// One, with its name.
        first: String,
        /// The other, with its name.
        second: String,
    },
    /// An instance with more than its type takes.
    #[error("instance {instance}: {what} exceed the limit of {limit} of its type {instance_type}")]
    Limit {
        /// Which instance.
        instance: String,
        /// What there are too many of, with their number.
        what: String,
        /// How many there may be.
        limit: u32,
        /// Its type.
        instance_type: String,
    },
    /// A role with a policy that cannot be used.
    #[error("role {role}, policy: {error}")]
    Policy {
        /// Which role.
        role: String,
        /// What is wrong.
        #[source]
        error: PolicyError,
    },
    /// A subnet that cannot give what is asked.
    #[error("subnet {subnet} has no room for {what}: take a larger subnet or ask for less")]
    Full {
        /// Which subnet.
        subnet: String,
        /// What was to be placed.
        what: String,
    },
}
