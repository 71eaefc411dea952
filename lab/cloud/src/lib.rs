//! A VPC in EC2 as a state machine: no clock, no I/O, no randomness of its own.
//!
//! The path of a call: [`Cloud::submit`] judges it on arrival (`gate`: token buckets, faults) and puts it into a queue at
//! *now* plus its latency; [`Cloud::advance`] carries out what is due (`authorize`: may the caller's role do it?;
//! `consistency`: how old is the world it sees?; `actions`: checks in EC2's order and words, then the change in `world`, then
//! the answer in EC2's shapes) and hands out answers and [`FabricEvent`]s. [`Cloud::next_due`] says when to come again.
//! [`Cloud::imds_answer`] is the instance metadata service, which lags behind EC2 as the real one does.
//!
//! What goes wrong, [`Cloud::inject`] begins and [`Cloud::lift`] ends; [`Cloud::outside`] does what somebody else would.
//!
//! Time, the calendar and the seed are arguments: the same calls at the same times give the same history. A server in real
//! time and a simulator in made-up time run the same model. What is drawn: ids and MACs of new objects, addresses, latencies,
//! lags, jitter of faults, credentials. Whoever looks at IMDS moves the dice on too, where IMDS has a latency.

mod actions;
mod authorize;
mod check;
mod cloud;
mod consistency;
mod credentials;
mod default_world;
mod describe;
mod dice;
mod error;
mod event;
mod fault;
mod faults;
mod gate;
mod iam;
mod ids;
mod imds;
mod imds_faults;
mod ipv6;
mod life;
mod outside;
mod permissions;
mod plan;
mod pool;
mod profile;
mod snapshot;
mod spec;
mod throttle;
mod world;

pub use cloud::{CallId, Caller, Cloud, Output};
pub use consistency::Consistency;
pub use credentials::{ACCESS_KEY, Identity, RoleCredentials, SECRET_KEY};
pub use default_world::{NAT_PUBLIC_IP, PUBLIC_POOL};
pub use describe::{ActionFilters, DocumentedFilter, filter_catalogue};
pub use error::{ApiError, WorldError};
pub use event::{AttachedEni, EniAddresses, FabricEvent, LaunchedInstance};
pub use fault::{ActiveFault, CloudFault, ErrorWhen, FaultError, FaultId, OutsideEvent};
pub use iam::{Policy, PolicyError, VPC_CNI_POLICY};
pub use imds_faults::{ImdsAnswer, ImdsArrival};
pub use plan::{GroupRules, NetworkPlan, PlannedEndpoint, PlannedSubnet};
pub use profile::{ImdsQuirks, Profile, Setup, Span};
pub use snapshot::{
    AttachmentSnapshot, CidrSnapshot, EniSnapshot, InstanceSnapshot, ReservationSnapshot, Snapshot, SubnetSnapshot,
    TiedEni,
};
pub use spec::{
    EndpointSpec, ExtraEniSpec, GroupRule, INTERFACE_TYPES, InstanceSpec, NamedId, NatGatewaySpec, PeeringSpec,
    ReservationKind, ReservationSpec, RoleSpec, RouteSpec, RouteTableSpec, RouteTarget, RulePeer, SecurityGroupSpec,
    SubnetSpec, Tags, Traffic, VirtualGatewaySpec, VpcSpec, WorldSpec, ZoneSpec, id_for, id_text,
};
pub use throttle::{Bucket, Throttle, ThrottleBase};
