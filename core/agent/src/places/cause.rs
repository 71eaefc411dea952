//! Why there is no place for a new ENI, and what else people should hear of places.

use std::fmt;

use vpc_model::{IdError, Millis, SubnetId, VpcId};

use crate::cloud::CloudFailure;
use crate::cluster::{About, ClusterEvent};
use crate::message::Level;

/// What named the node's ENIConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// This label of the node.
    Label(String),
    /// This annotation of the node.
    Annotation(String),
    /// Nothing: the node has neither.
    Default {
        /// The annotation it could have.
        annotation: String,
        /// The label it could have.
        label: String,
    },
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "named by the node's label {key}"),
            Self::Annotation(key) => write!(f, "named by the node's annotation {key}"),
            Self::Default { annotation, label } => {
                write!(f, "the name where the node has neither an annotation {annotation} nor a label {label}")
            }
        }
    }
}

/// Why a subnet gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It has no free address.
    Exhausted,
    /// EC2 does not know it.
    Unknown,
}

/// Why no ENI can be made now. Its words are for people, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The API server has not shown the node object yet.
    #[error(
        "custom networking is on, and the node object has not been read yet, which names the ENIConfig: the API server must answer, \
         and aws-node must be allowed to get nodes"
    )]
    NodeUnread,
    /// The API server has not shown the ENIConfigs yet.
    #[error(
        "custom networking is on, and the ENIConfigs have not been read yet: the API server must answer, their definition must be \
         installed, and aws-node must be allowed to list them"
    )]
    EniConfigsUnread,
    /// The list of subnets is on its way.
    #[error("EC2 is being asked for the subnets")]
    Listing,
    /// There is no ENIConfig of that name.
    #[error("there is no ENIConfig {name} ({by}): create it, or name another one on the node")]
    NoEniConfig {
        /// Its name.
        name: String,
        /// What named it.
        by: NamedBy,
    },
    /// The ENIConfig names no subnet.
    #[error("ENIConfig {config} names no subnet: set spec.subnet")]
    NoSubnet {
        /// Its name.
        config: String,
    },
    /// The ENIConfig's subnet is no subnet id.
    #[error("ENIConfig {config}: spec.subnet: {error}")]
    BadSubnet {
        /// Its name.
        config: String,
        /// What is wrong.
        error: IdError,
    },
    /// One of the ENIConfig's security groups is no security group id.
    #[error("ENIConfig {config}: spec.securityGroups: {error}")]
    BadGroup {
        /// Its name.
        config: String,
        /// What is wrong.
        error: IdError,
    },
    /// The ENIConfig has more security groups than an ENI can have.
    #[error("ENIConfig {config}: spec.securityGroups has {count} groups; an ENI can have {most}")]
    TooManyGroups {
        /// Its name.
        config: String,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// EC2 does not know the ENIConfig's subnet.
    #[error("ENIConfig {config}: spec.subnet: EC2 knows no subnet {subnet}; name one of this account and region")]
    UnknownSubnet {
        /// Its name.
        config: String,
        /// The subnet.
        subnet: SubnetId,
    },
    /// The ENIConfig's subnet is in another VPC.
    #[error("ENIConfig {config}: spec.subnet: {subnet} is in {is}; the node is in {should}, and its ENIs must be too")]
    OtherVpc {
        /// Its name.
        config: String,
        /// The subnet.
        subnet: SubnetId,
        /// Where it is.
        is: VpcId,
        /// Where it should be.
        should: VpcId,
    },
    /// The ENIConfig's subnet is in another availability zone.
    #[error(
        "ENIConfig {config}: spec.subnet: {subnet} is in zone {is}; the node is in {should}, and its ENIs must be too: use one \
         ENIConfig for each zone (ENI_CONFIG_LABEL_DEF=topology.kubernetes.io/zone)"
    )]
    OtherZone {
        /// Its name.
        config: String,
        /// The subnet.
        subnet: SubnetId,
        /// Where it is.
        is: String,
        /// Where it should be.
        should: String,
    },
    /// Tags keep ENIs out of every subnet there is.
    #[error(
        "every subnet of the node's zone is closed to new ENIs by its tags, its own {home} too: tag one with \
         kubernetes.io/role/cni=1, or take the tag off {home}"
    )]
    AllExcluded {
        /// The primary ENI's subnet.
        home: SubnetId,
    },
    /// Every subnet that may be used refused a moment ago.
    #[error("{}; tried again in {retry_in}", list_refused(.refused))]
    AllRefused {
        /// Which, and why.
        refused: Vec<(SubnetId, Refused)>,
        /// When the first of them is tried again.
        retry_in: Millis,
    },
}

fn list_refused(refused: &[(SubnetId, Refused)]) -> String {
    let one = |(subnet, why): &(SubnetId, Refused)| match why {
        Refused::Exhausted => format!("{subnet} has no free addresses (free some, or tag another subnet for pods)"),
        Refused::Unknown => format!("EC2 knows no {subnet}"),
    };
    refused.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl NoPlace {
    /// The event that says it on the node; `None` where nothing is wrong yet.
    #[must_use]
    pub fn event(&self) -> Option<ClusterEvent> {
        let reason = match self {
            Self::Listing => return None,
            Self::NodeUnread | Self::EniConfigsUnread => "EniConfigUnread",
            Self::NoEniConfig { .. } => "EniConfigMissing",
            Self::NoSubnet { .. }
            | Self::BadSubnet { .. }
            | Self::BadGroup { .. }
            | Self::TooManyGroups { .. }
            | Self::UnknownSubnet { .. }
            | Self::OtherVpc { .. }
            | Self::OtherZone { .. } => "EniConfigWrong",
            Self::AllExcluded { .. } => "SubnetExcluded",
            Self::AllRefused { refused, .. } if refused.iter().any(|(_, why)| *why == Refused::Exhausted) => {
                "SubnetExhausted"
            }
            Self::AllRefused { .. } => "SubnetUnknown",
        };
        Some(on_node(true, reason, "ec2:CreateNetworkInterface", self.to_string()))
    }
}

/// Something people should hear of places. Its words are its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceNews {
    /// No ENI can be made: the node's ENIConfig is gone or wrong, or tags forbid it. The ENIs there are go on.
    Wrong(NoPlace),
    /// ENIs can be made again.
    Right {
        /// With custom networking: name and subnet of the ENIConfig.
        config: Option<(String, SubnetId)>,
    },
    /// The node's ENIConfig names no security groups: the primary ENI's are used.
    PrimaryGroups {
        /// Its name.
        config: String,
    },
    /// The subnets can not be listed. Said once for failures in a row.
    NotListed {
        /// What EC2 said.
        failure: CloudFailure,
    },
    /// A subnet has no free addresses.
    Exhausted {
        /// Which.
        subnet: SubnetId,
        /// When it is tried again.
        retry_in: Millis,
    },
    /// A subnet has no free /28.
    Fragmented {
        /// Which.
        subnet: SubnetId,
        /// When prefixes are tried again.
        retry_in: Millis,
    },
    /// EC2 does not know a subnet any more.
    Gone {
        /// Which.
        subnet: SubnetId,
        /// When it is tried again.
        retry_in: Millis,
    },
    /// Tags on a subnet keep pods out.
    Excluded {
        /// Which.
        subnet: SubnetId,
    },
}

impl PlaceNews {
    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Wrong(_) => Level::Error,
            Self::Right { .. } | Self::Excluded { .. } => Level::Info,
            _ => Level::Warn,
        }
    }

    /// The event that says it on the node.
    #[must_use]
    pub fn event(&self) -> Option<ClusterEvent> {
        let (reason, action) = match self {
            Self::Wrong(cause) => {
                return cause.event().map(|event| ClusterEvent { note: self.to_string(), ..event });
            }
            Self::Right { config: Some(_) } => ("EniConfigRight", "ec2:CreateNetworkInterface"),
            Self::Right { config: None } => ("SubnetUsable", "ec2:CreateNetworkInterface"),
            Self::PrimaryGroups { .. } => ("EniConfigWithoutGroups", "ec2:CreateNetworkInterface"),
            Self::NotListed { .. } => ("SubnetsNotListed", "ec2:DescribeSubnets"),
            Self::Exhausted { .. } => ("SubnetExhausted", "ec2:AssignPrivateIpAddresses"),
            Self::Fragmented { .. } => ("SubnetFragmented", "ec2:AssignPrivateIpAddresses"),
            Self::Gone { .. } => ("SubnetUnknown", "ec2:CreateNetworkInterface"),
            Self::Excluded { .. } => ("SubnetExcluded", "ec2:DescribeSubnets"),
        };
        Some(on_node(self.level() >= Level::Warn, reason, action, self.to_string()))
    }
}

impl fmt::Display for PlaceNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(cause) => write!(f, "no new ENIs: {cause}; the ENIs there are go on as they are"),
            Self::Right { config: Some((name, subnet)) } => {
                write!(f, "ENIConfig {name} is right: new ENIs are made in {subnet}")
            }
            Self::Right { config: None } => f.write_str("the tags of the subnets allow new ENIs again"),
            Self::PrimaryGroups { config } => {
                write!(f, "ENIConfig {config} names no security groups: the primary ENI's are used")
            }
            Self::NotListed { failure } => {
                write!(
                    f,
                    "the subnets can not be listed: {failure}; what was known of them holds, else new ENIs are made in "
                )?;
                f.write_str("the primary ENI's subnet or the ENIConfig's")
            }
            Self::Exhausted { subnet, retry_in } => {
                write!(
                    f,
                    "{subnet} has no free addresses; it is tried again in {retry_in}, others are used meanwhile: "
                )?;
                f.write_str(
                    "free some, or give the node another subnet (tag kubernetes.io/role/cni=1, or an ENIConfig)",
                )
            }
            Self::Fragmented { subnet, retry_in } => {
                write!(
                    f,
                    "{subnet} has no free /28 for a prefix: single addresses are used there, prefixes are tried again in "
                )?;
                write!(f, "{retry_in}; a reservation of a block for prefixes keeps one free")
            }
            Self::Gone { subnet, retry_in } => write!(f, "EC2 knows no {subnet}; it is tried again in {retry_in}"),
            Self::Excluded { subnet } => {
                write!(
                    f,
                    "the tags of {subnet} keep pods out: ENIs in it get no new ones and leave when they are empty"
                )
            }
        }
    }
}

fn on_node(warning: bool, reason: &'static str, action: &str, note: String) -> ClusterEvent {
    ClusterEvent { about: About::Node, warning, reason, action: action.to_owned(), note }
}
