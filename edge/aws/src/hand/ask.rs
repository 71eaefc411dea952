//! The few requests of EC2's that the hand makes, and their answers: one type for each, so that the machine in between needs to know
//! neither HTTP nor the other forty.

use std::fmt;
use std::time::Duration;

use super::Ec2Error;
#[cfg(feature = "client")]
use crate::ec2::Client;
use crate::ec2::resource;
use crate::ec2::shapes::{
    Action, AnyRequest, AnyResponse, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface,
    CreateTags, DeleteNetworkInterface, DescribeInstanceTypes, DescribeNetworkInterfaces, DescribeSubnets,
    DetachNetworkInterface, ErrorAnswer, ModifyNetworkInterfaceAttribute, Query, UnassignPrivateIpAddresses,
};

macro_rules! asks {
    ($($name:ident),* $(,)?) => {
        /// A request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant holds the request of its name")]
        pub enum Request {
            $($name(Box<$name>),)*
        }

        /// An answer.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant holds the answer to the request of its name")]
        #[allow(clippy::large_enum_variant, reason = "one is made for each call and taken apart at once")]
        pub enum Answer {
            $($name(<$name as Action>::Response),)*
        }

        impl Request {
            /// The action's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
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

        impl Answer {
            /// The answer, if it is one to such a request.
            #[must_use]
            pub fn of(any: AnyResponse) -> Option<Self> {
                match any {
                    $(AnyResponse::$name(answer) => Some(Self::$name(answer)),)*
                    _ => None,
                }
            }
        }

        $(impl From<$name> for Request {
            fn from(request: $name) -> Self {
                Self::$name(Box::new(request))
            }
        })*

        impl From<Request> for AnyRequest {
            fn from(request: Request) -> Self {
                match request {
                    $(Request::$name(request) => Self::$name(*request),)*
                }
            }
        }

        #[cfg(feature = "client")]
        impl Client {
            /// Makes one of the hand's requests.
            ///
            /// # Errors
            /// As [`Client::call`].
            pub async fn ask(&self, request: &Request) -> Result<Answer, Ec2Error> {
                match request {
                    $(Request::$name(request) => self.call(&**request).await.map(Answer::$name),)*
                }
            }
        }
    };
}

asks! {
    AssignPrivateIpAddresses,
    AttachNetworkInterface,
    CreateNetworkInterface,
    CreateTags,
    DeleteNetworkInterface,
    DescribeInstanceTypes,
    DescribeNetworkInterfaces,
    DescribeSubnets,
    DetachNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    UnassignPrivateIpAddresses,
}

impl Request {
    /// EC2's refusal of this request, as the client would report it: for whoever carries requests without HTTP.
    #[must_use]
    pub fn refused(&self, status: u16, answer: ErrorAnswer) -> Ec2Error {
        Ec2Error { resource: resource(&self.query()), ..Ec2Error::refused(self.name(), status, answer) }
    }

    /// No answer to this request within `limit`.
    #[must_use]
    pub fn timed_out(&self, limit: Duration) -> Ec2Error {
        Ec2Error { resource: resource(&self.query()), ..Ec2Error::timed_out(self.name(), limit) }
    }

    /// The end of a connection that this request was sent over, before its answer.
    #[must_use]
    pub fn lost(&self) -> Ec2Error {
        let message = "the connection ended before the answer".to_owned();
        Ec2Error { resource: resource(&self.query()), ..Ec2Error::lost(self.name(), message) }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
