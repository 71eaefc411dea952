//! What is asked of EC2 and what it answers, one structure for each action and object. Client and lab use the same ones:
//! the client writes requests and reads answers, the lab the other way round.
//!
//! Parameter and element names are those of EC2's published model, version 2016-11-15; each is written once, beside its
//! field ([`query`] for requests, [`xml`] for answers). Members nobody here needs are left out: they are refused in
//! requests ([`ParamError::Unknown`]) and passed over in answers.

mod addresses;
mod catalogue;
mod groups;
mod instance;
mod instance_types;
mod interface;
mod interface_actions;
mod launch;
mod listing;
pub mod query;
mod routes;
#[cfg(any(test, feature = "samples"))]
pub mod sample;
pub mod scalar;
mod subnets;
mod tags;
mod vpc;
pub mod xml;

pub use addresses::*;
pub use catalogue::{ActionShape, Kind, Member};
pub use groups::*;
pub use instance::*;
pub use instance_types::*;
pub use interface::*;
pub use interface_actions::*;
pub use launch::*;
pub use query::{ParamError, Query, Reader, VERSION};
pub use routes::*;
pub use scalar::Timestamp;
pub use subnets::*;
pub use tags::*;
pub use vpc::*;
pub use xml::{Element, XmlError, XmlWriter};

use xml::XmlValue;

/// A request of EC2's Query API.
pub trait Action: Sized {
    /// The action's name.
    const NAME: &'static str;
    /// What EC2 answers.
    type Response: XmlValue;

    /// Writes the action's own parameters (without `Action` and `Version`).
    fn to_query(&self, out: &mut Query);

    /// Reads the action's own parameters.
    ///
    /// # Errors
    /// What is missing or wrong.
    fn read(from: &mut Reader<'_>) -> Result<Self, ParamError>;

    /// All its parameters, list entries as `N` (`Filter.N.Value.N`).
    fn parameters() -> Vec<Member>;

    /// Reads a whole request strictly: a parameter that the action does not have is an error. `Action` is not looked at
    /// (see [`AnyRequest::from_query`]).
    ///
    /// # Errors
    /// What is missing, wrong, repeated or unknown.
    fn from_query(query: &Query) -> Result<Self, ParamError> {
        let mut from = Reader::new(query)?;
        let request = Self::read(&mut from)?;
        from.finish()?;
        Ok(request)
    }

    /// The whole request: `Action`, `Version`, then the action's parameters.
    fn query(&self) -> Query {
        let mut out = Query::default();
        out.push("Action", Self::NAME);
        out.push("Version", VERSION);
        self.to_query(&mut out);
        out
    }
}

/// An answer with the id EC2 gave the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// EC2's id of the request; support asks for it.
    pub request_id: String,
    /// What was answered.
    pub body: T,
}

/// Writes the document that answers action `A`.
#[must_use]
pub fn answer_to_xml<A: Action>(request_id: &str, body: &A::Response) -> String {
    XmlWriter::document(&format!("{}Response", A::NAME), |out| {
        out.element("requestId", |out| out.text(request_id));
        body.write(out);
    })
}

/// Reads the document that answers action `A`.
///
/// # Errors
/// What is not well-formed, missing or wrong, with its path.
pub fn answer_from_xml<A: Action>(document: &str) -> Result<Answer<A::Response>, XmlError> {
    let root = Element::parse(document)?;
    let expected = format!("{}Response", A::NAME);
    if root.name != expected {
        return Err(XmlError::WrongRoot { found: root.name, expected });
    }
    let request_id = root.child("requestId").map(|id| id.text.clone()).unwrap_or_default();
    Ok(Answer { request_id, body: A::Response::read(&root)? })
}

/// EC2's answer to a request it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The error code, for example `InvalidNetworkInterfaceID.NotFound`.
    pub code: String,
    /// The sentence for people.
    pub message: String,
    /// EC2's id of the request.
    pub request_id: String,
}

impl ErrorAnswer {
    /// Writes the document.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = XmlWriter::default();
        out.element("Response", |out| {
            out.element("Errors", |out| {
                out.element("Error", |out| {
                    out.element("Code", |out| out.text(&self.code));
                    out.element("Message", |out| out.text(&self.message));
                });
            });
            out.element("RequestID", |out| out.text(&self.request_id));
        });
        out.finish()
    }

    /// Reads the document.
    ///
    /// # Errors
    /// It is not well-formed or not such a document.
    pub fn from_xml(document: &str) -> Result<Self, XmlError> {
        let root = Element::parse(document)?;
        let error = root.child("Errors").and_then(|errors| errors.child("Error"));
        let code = error.and_then(|error| error.child("Code"));
        let (Some(error), Some(code)) = (error, code) else {
            return Err(XmlError::Missing { path: "Errors/Error/Code".into() });
        };
        let text = |element: Option<&Element>| element.map(|e| e.text.clone()).unwrap_or_default();
        Ok(Self {
            code: code.text.trim().to_owned(),
            message: text(error.child("Message")),
            request_id: text(root.child("RequestID")),
        })
    }
}

macro_rules! actions {
    ($($name:ident),* $(,)?) => {
        /// A request of any action.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant holds the request of its name")]
        pub enum AnyRequest {
            $($name($name),)*
        }

        /// An answer of any action.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant holds the answer to the request of its name")]
        #[allow(clippy::large_enum_variant, reason = "one is made for each call and written at once")]
        pub enum AnyResponse {
            $($name(<$name as Action>::Response),)*
        }

        impl AnyRequest {
            /// The action's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                }
            }

            /// Reads a request as a server does: `Action` and `Version` must be there and known, every other parameter
            /// must belong to the action.
            ///
            /// # Errors
            /// What is missing, wrong, repeated or unknown.
            pub fn from_query(query: &Query) -> Result<Self, ParamError> {
                match checked_action(query)? {
                    $($name::NAME => $name::from_query(query).map(Self::$name),)*
                    other => Err(ParamError::UnknownAction { name: other.to_owned() }),
                }
            }

            /// The whole request as parameters.
            #[must_use]
            pub fn query(&self) -> Query {
                match self {
                    $(Self::$name(request) => request.query(),)*
                }
            }
        }

        impl AnyResponse {
            /// The name of the action answered.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                }
            }

            /// Writes the document.
            #[must_use]
            pub fn to_xml(&self, request_id: &str) -> String {
                match self {
                    $(Self::$name(body) => answer_to_xml::<$name>(request_id, body),)*
                }
            }

            /// Reads the answer to the action `name`.
            ///
            /// # Errors
            /// What is not well-formed, missing or wrong; [`XmlError::WrongRoot`] also for an action that is not known.
            pub fn from_xml(name: &str, document: &str) -> Result<Answer<Self>, XmlError> {
                match name {
                    $($name::NAME => answer_from_xml::<$name>(document)
                        .map(|answer| Answer { request_id: answer.request_id, body: Self::$name(answer.body) }),)*
                    other => Err(XmlError::WrongRoot {
                        found: Element::parse(document)?.name,
                        expected: format!("{other}Response"),
                    }),
                }
            }
        }

        $(impl From<$name> for AnyRequest {
            fn from(request: $name) -> Self {
                Self::$name(request)
            }
        })*

        /// A request and an answer of every action, with values of all kinds: see [`sample`].
        #[cfg(any(test, feature = "samples"))]
        #[must_use]
        pub fn samples(dice: &mut sample::Dice) -> Vec<(AnyRequest, AnyResponse)> {
            use sample::Sample;
            vec![$((
                AnyRequest::$name($name::sample(dice)),
                AnyResponse::$name(<$name as Action>::Response::sample(dice)),
            ),)*]
        }

        /// The names of all actions.
        pub const ACTION_NAMES: &[&str] = &[$($name::NAME,)*];

        /// Every action with its parameters and elements.
        #[must_use]
        pub fn catalogue() -> Vec<ActionShape> {
            vec![$(catalogue::shape_of::<$name>(),)*]
        }
    };
}

actions! {
    AssignIpv6Addresses,
    AssignPrivateIpAddresses,
    AssociateRouteTable,
    AssociateVpcCidrBlock,
    AttachNetworkInterface,
    AuthorizeSecurityGroupEgress,
    AuthorizeSecurityGroupIngress,
    CreateNetworkInterface,
    CreateRoute,
    CreateRouteTable,
    CreateSecurityGroup,
    CreateSubnet,
    CreateSubnetCidrReservation,
    CreateTags,
    DeleteNetworkInterface,
    DeleteRoute,
    DeleteRouteTable,
    DeleteSecurityGroup,
    DeleteSubnet,
    DeleteSubnetCidrReservation,
    DeleteTags,
    DescribeAvailabilityZones,
    DescribeInstanceStatus,
    DescribeInstanceTypes,
    DescribeInstances,
    DescribeNetworkInterfaceAttribute,
    DescribeNetworkInterfaces,
    DescribeRouteTables,
    DescribeSecurityGroupRules,
    DescribeSecurityGroups,
    DescribeSubnets,
    DescribeTags,
    DescribeVpcs,
    DetachNetworkInterface,
    DisassociateRouteTable,
    DisassociateVpcCidrBlock,
    GetSubnetCidrReservations,
    ModifyNetworkInterfaceAttribute,
    ModifySubnetAttribute,
    RebootInstances,
    ReplaceRoute,
    ReplaceRouteTableAssociation,
    RevokeSecurityGroupEgress,
    RevokeSecurityGroupIngress,
    RunInstances,
    StartInstances,
    StopInstances,
    TerminateInstances,
    UnassignIpv6Addresses,
    UnassignPrivateIpAddresses,
}

impl AnyRequest {
    /// Whether only the permission is asked about (`DryRun=true`): EC2 then answers `DryRunOperation` or
    /// `UnauthorizedOperation`, both as errors, and does nothing.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.query().get("DryRun") == Some("true")
    }
}

fn checked_action(query: &Query) -> Result<&str, ParamError> {
    let action = query.get("Action").ok_or_else(|| ParamError::Missing { name: "Action".into() })?;
    match query.get("Version") {
        Some(VERSION) => Ok(action),
        Some(other) => Err(ParamError::Version { version: other.to_owned() }),
        None => Err(ParamError::Missing { name: "Version".into() }),
    }
}

#[cfg(test)]
mod tests;
