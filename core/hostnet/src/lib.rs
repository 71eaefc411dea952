//! What the host's network looks like and should look like: layouts, wiring, the difference.
//!
//! ```text
//!   ENIs, VPC CIDRs, pods, settings --desired--> Desired --plan(observed)--> [HostOp] --> edge/linux or PaperHost
//!   one pod's assignment ------------wiring---> Wiring ----------------------------> edge/linux or PaperHost
//! ```
//!
//! Both arrows come from the same layout, so what the plugin wires and what the daemon repairs can not disagree.

mod alias;
mod classic;
mod desired;
mod filter;
mod paper;
mod plan;
mod state;
mod ties;
mod wiring;

pub use alias::{LinkAlias, ParseAliasError};
pub use desired::{Claims, Desired, DesiredError, DesiredLink, EniOnHost, HostView, PodOnHost, desired};
pub use paper::{PaperEnd, PaperHost, PaperLoss, PaperPath, PaperPod, PaperRefusal, PaperTurn};
pub use plan::plan;
pub use state::{
    Filter, FilterSeen, HostLayout, HostOp, HostSettings, HostState, Link, LinkKind, Mark, Neighbour, Route,
    RouteScope, RpFilter, Rule, SnatRandom, priority,
};
pub use ties::{PodTies, is_pod_link, pod_ties};
pub use wiring::{POD_GATEWAY, PodOp, PodWiring, VethPair, Wiring, unwiring, wiring};
