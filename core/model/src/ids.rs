//! Identifiers of EC2 objects, one type each, so that a subnet can not be passed where an ENI is meant. Copies share their text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text that is not an identifier of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: expected `{prefix}` followed by letters, digits or dashes")]
pub struct IdError {
    /// What was given.
    pub text: String,
    /// What was asked for, with its article ("an ENI id").
    pub kind: &'static str,
    /// How such an identifier begins.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// How every identifier of this kind begins.
            pub const PREFIX: &'static str = $prefix;

            /// The identifier as EC2 writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let rest = text.strip_prefix($prefix).filter(|rest| {
                    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                });
                match rest {
                    Some(_) => Ok(Self(text.into())),
                    None => Err(IdError { text: text.into(), kind: $kind, prefix: $prefix }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/// An elastic network interface: `eni-…`.
    EniId, "eni-", "an ENI id");
id!(/// The tie between an ENI and an instance: `eni-attach-…`.
    AttachmentId, "eni-attach-", "an ENI attachment id");
id!(/// An EC2 instance: `i-…`.
    InstanceId, "i-", "an instance id");
id!(/// A subnet: `subnet-…`.
    SubnetId, "subnet-", "a subnet id");
id!(/// A VPC: `vpc-…`.
    VpcId, "vpc-", "a VPC id");
id!(/// A security group: `sg-…`.
    SecurityGroupId, "sg-", "a security group id");
id!(/// An elastic IP allocation: `eipalloc-…`.
    AllocationId, "eipalloc-", "an elastic IP allocation id");

/// The position of an ENI on its network card, as EC2 counts it (not the Linux interface number). 0 is the primary ENI on card 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DeviceIndex(pub u8);

impl fmt::Display for DeviceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network card of an instance. Card 0 is the default card; most types have no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CardIndex(pub u8);

impl fmt::Display for CardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_taken_only_for_what_it_is() {
        assert_eq!("eni-0a1".parse::<EniId>().unwrap().as_str(), "eni-0a1");
        for bad in ["", "eni-", "subnet-0a1", "eni-0 a", "ENI-0a1", "eni-0/1"] {
            let error = bad.parse::<EniId>().unwrap_err();
            assert_eq!(error.prefix, "eni-", "{bad}");
        }
        assert!("subnet-0a1".parse::<VpcId>().is_err());
    }
}
