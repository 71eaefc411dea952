//! How EC2, IAM and IMDS behave: `[ec2]`, `[imds]`, `[latency]` and `[[roles]]` of a topology, and what each node may and shows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lab_cloud::{
    Bucket, Consistency, ImdsQuirks, Policy, Profile, ReservationKind, ReservationSpec, RoleSpec, Setup, Span,
    Throttle, ThrottleBase, VPC_CNI_POLICY,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vpc_model::{Millis, Subnet, WallTime};

use super::check::{Result, unique, value};
use super::{Cidr, Topology, TopologyFile};

/// The name of the policy that comes with the program.
const READY_POLICY: &str = "vpc-cni";
/// The role that every node has unless it says otherwise.
pub(super) const NODE_ROLE: &str = "node-role";

/// `[ec2]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ec2File {
    /// Token buckets: `off` (default), or `aws` for one bucket per action as AWS documents them. All nodes share them.
    pub throttle: Switch,
    /// Buckets of single actions, whatever `throttle` says: `CreateNetworkInterface = { capacity = 5, refill_per_second = 1 }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, super::document::BucketFile>"))]
    pub buckets: BTreeMap<String, Bucket>,
    /// How old what a call sees may be: `off` (default; everything at once), or `aws`.
    pub consistency: Switch,
    /// Lags of single kinds of reads, in milliseconds: `fresh_ids`, `tags` and `attributes`, each `[least, most]` or
    /// `[least, most, rare]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lags: BTreeMap<String, Vec<u64>>,
    /// Takes requests without a valid signature too; whose they are is then told by access key, else by source address. Default:
    /// false.
    pub unsigned: bool,
}

/// `[imds]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImdsFile {
    /// A newly listed MAC has nothing below it until its secondary addresses are listed. Default: false.
    pub hollow_when_new: bool,
    /// A detached MAC that is still listed has nothing below it. Default: false.
    pub hollow_when_gone: bool,
}

/// Off, or as on AWS.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Not at all.
    #[default]
    Off,
    /// As documented or observed on AWS.
    Aws,
}

/// `[[roles]]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFile {
    /// Name, unique; nodes have `node-role` unless they name another. A role that is not listed may do everything.
    pub name: String,
    /// What it may do, and nothing else: `["ec2:Describe*", "ec2:CreateNetworkInterface"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// A policy document in IAM's format: host path of a JSON file, or `vpc-cni` for what the CNI needs. One of `actions` and `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
}

/// A part of a subnet that is kept for a purpose: `{ cidr = "10.20.8.64/26", kind = "prefix" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationFile {
    /// The part.
    pub cidr: Cidr,
    /// `prefix`: EC2 takes delegated prefixes from it and nothing else; `explicit`: only addresses that are asked for by name.
    #[cfg_attr(test, schemars(with = "super::document::KindFile"))]
    pub kind: ReservationKind,
}

/// How EC2, IAM and IMDS behave, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudSettings {
    /// Token buckets.
    pub throttle: Throttle,
    /// Lags of reads.
    pub consistency: Consistency,
    /// Whether requests need no signature.
    pub unsigned: bool,
    /// Oddities of IMDS.
    pub imds: ImdsQuirks,
    /// Latencies that differ from the profile's, by name.
    pub latency: BTreeMap<String, Span>,
    /// Roles and their policy documents.
    pub roles: Vec<(String, Option<String>)>,
}

impl Topology {
    /// What the cloud is started with; `wall` is what its calendar shows.
    #[must_use]
    pub fn setup(&self, wall: WallTime) -> Setup {
        let mut profile = self.profile.profile();
        for (name, span) in &self.cloud.latency {
            if let Some(own) = profile.span_mut(name) {
                *own = *span;
            }
        }
        Setup {
            profile,
            seed: self.seed,
            wall,
            throttle: self.cloud.throttle.clone(),
            consistency: self.cloud.consistency,
            check_signatures: !self.cloud.unsigned,
            imds: self.cloud.imds,
            ..Setup::default()
        }
    }

    pub(super) fn roles(&self) -> Vec<RoleSpec> {
        let role = |(name, policy): &(String, Option<String>)| RoleSpec { name: name.clone(), policy: policy.clone() };
        let mut roles: Vec<_> = self.cloud.roles.iter().map(role).collect();
        // Nodes that are launched later may have it, also where no node is there from the start.
        if !roles.iter().any(|own| own.name == self.template.role) {
            roles.push(RoleSpec { name: self.template.role.clone(), policy: None });
        }
        roles
    }
}

impl TopologyFile {
    pub(super) fn cloud_settings(&self) -> Result<CloudSettings> {
        let base = match self.ec2.throttle {
            Switch::Off => ThrottleBase::Off,
            Switch::Aws => ThrottleBase::Aws,
        };
        let imds =
            ImdsQuirks { hollow_when_new: self.imds.hollow_when_new, hollow_when_gone: self.imds.hollow_when_gone };
        let latency = self.latency.iter().map(|(name, span)| {
            let field = format!("latency.{name}");
            if !Profile::SPANS.contains(&name.as_str()) {
                return value(
                    field,
                    format!("there is no such latency: expected one of {}", Profile::SPANS.join(", ")),
                );
            }
            Ok((name.clone(), checked_span(&field, span)?))
        });
        Ok(CloudSettings {
            throttle: Throttle { base, actions: self.checked_buckets()? },
            consistency: self.checked_lags()?,
            unsigned: self.ec2.unsigned,
            imds,
            latency: latency.collect::<Result<_>>()?,
            roles: self.checked_roles()?,
        })
    }

    fn checked_buckets(&self) -> Result<BTreeMap<String, Bucket>> {
        let known = vpc_aws::ec2::shapes::catalogue();
        for action in self.ec2.buckets.keys() {
            if !known.iter().any(|shape| shape.name == action) {
                let names = known.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
                return value(
                    format!("ec2.buckets.{action}"),
                    format!("EC2 has no such action here: expected one of {names}"),
                );
            }
        }
        Ok(self.ec2.buckets.clone())
    }

    fn checked_lags(&self) -> Result<Consistency> {
        let mut lags = match self.ec2.consistency {
            Switch::Off => Consistency::off(),
            Switch::Aws => Consistency::aws(),
        };
        for (name, span) in &self.ec2.lags {
            let field = format!("ec2.lags.{name}");
            let own = match name.as_str() {
                "fresh_ids" => &mut lags.fresh_ids,
                "tags" => &mut lags.tags,
                "attributes" => &mut lags.attributes,
                _ => return value(field, "there is no such lag: expected fresh_ids, tags or attributes"),
            };
            *own = checked_span(&field, span)?;
        }
        Ok(lags)
    }

    fn checked_roles(&self) -> Result<Vec<(String, Option<String>)>> {
        unique("roles", self.roles.iter().map(|role| role.name.as_str()))?;
        self.roles.iter().map(|role| Ok((role.name.clone(), self.policy_of(role)?))).collect()
    }

    fn policy_of(&self, role: &RoleFile) -> Result<Option<String>> {
        let field = |key: &str| format!("roles.{}.{key}", role.name);
        let (key, document) = match (&role.actions, &role.policy) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return value(field("policy"), "expected one of `actions` and `policy`, not both"),
            (Some(actions), None) => {
                let statement = json!([{"Effect": "Allow", "Action": actions, "Resource": "*"}]);
                ("actions", json!({"Version": "2012-10-17", "Statement": statement}).to_string())
            }
            (None, Some(path)) if path.as_os_str() == READY_POLICY => ("policy", VPC_CNI_POLICY.to_owned()),
            (None, Some(path)) => {
                let path = self.base.join(path);
                let read = std::fs::read_to_string(&path);
                (
                    "policy",
                    read.or_else(|e| {
                        value(
                            field("policy"),
                            format!(
                                "{}: {e}; `{READY_POLICY}` names the one that comes with the program",
                                path.display()
                            ),
                        )
                    })?,
                )
            }
        };
        match Policy::parse(&document) {
            Ok(_) => Ok(Some(document)),
            Err(e) => value(field(key), e.to_string()),
        }
    }
}

/// `[least, most]` or `[least, most, rare]`.
fn checked_span(field: &str, span: &[u64]) -> Result<Span> {
    let read = match *span {
        [least, most] => Span::between(least, most),
        [least, most, rare] => Span::with_tail(least, most, rare),
        _ => return value(field, "expected [least, most] or [least, most, rare], in milliseconds"),
    };
    if read.least > read.most || read.most > read.tail || read.tail > Millis(3_600_000) {
        return value(field, "expected numbers that do not fall, of one hour at most");
    }
    Ok(read)
}

/// Reservations lie in their subnet and share no addresses.
pub(super) fn checked_reservations(
    field: &str,
    subnet: Subnet,
    list: &[ReservationFile],
) -> Result<Vec<ReservationFile>> {
    for (index, own) in list.iter().enumerate() {
        if !subnet.net().contains(&own.cidr.0) {
            return value(field, format!("{} is not in {}", own.cidr, subnet.net()));
        }
        let before = list.get(..index).unwrap_or_default();
        if let Some(other) =
            before.iter().find(|other| other.cidr.0.contains(&own.cidr.0) || own.cidr.0.contains(&other.cidr.0))
        {
            return value(field, format!("{} and {} overlap", other.cidr, own.cidr));
        }
    }
    Ok(list.to_vec())
}

/// Reservations as EC2 takes them.
pub(super) fn reservations(list: &[ReservationFile]) -> Vec<ReservationSpec> {
    list.iter().map(|own| ReservationSpec { cidr: own.cidr.0, kind: own.kind }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolved(more: &str) -> std::result::Result<Topology, String> {
        let text = format!("{}\n{more}\n", TopologyFile::built_in_text());
        let file = TopologyFile::parse(&text).map_err(|e| e.to_string())?;
        file.resolve().map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_what_the_cloud_is_started_with() {
        let topology = resolved(
            r#"[ec2]
throttle = "aws"
buckets = { CreateNetworkInterface = { capacity = 1, refill_per_second = 2 } }
consistency = "aws"
lags = { tags = [1, 2, 3] }
unsigned = true
[imds]
hollow_when_new = true
[latency]
attach = [100, 200]
[[roles]]
name = "node-role"
policy = "vpc-cni"
[[roles]]
name = "reader"
actions = ["ec2:Describe*"]"#,
        )
        .unwrap();
        let setup = topology.setup(WallTime(0));
        assert_eq!(setup.profile.attach, Span::between(100, 200));
        assert_eq!(setup.throttle.base, ThrottleBase::Aws);
        assert_eq!(setup.throttle.actions["CreateNetworkInterface"].capacity, 1);
        assert_eq!((setup.consistency.tags, setup.check_signatures), (Span::with_tail(1, 2, 3), false));
        assert_eq!(setup.consistency.attributes, Consistency::aws().attributes);
        assert!(setup.imds.hollow_when_new && !setup.imds.hollow_when_gone);
        assert!(topology.roles().iter().all(|role| Policy::parse(role.policy.as_ref().unwrap()).is_ok()));
        topology.world().check().unwrap();
    }

    #[test]
    fn what_can_not_be_is_refused_by_name() {
        for (text, expected) in [
            ("[latency]\nsleep = [1, 2]", "latency.sleep: there is no such latency: expected one of describe"),
            ("[latency]\nattach = [2, 1]", "latency.attach: expected numbers that do not fall"),
            ("[latency]\nattach = [2]", "latency.attach: expected [least, most]"),
            ("[ec2]\nlags = { all = [1, 2] }", "ec2.lags.all: there is no such lag"),
            ("[ec2]\nthrottle = \"on\"", "expected `off` or `aws`"),
            (
                "[ec2]\nbuckets = { Create = { capacity = 1, refill_per_second = 1 } }",
                "ec2.buckets.Create: EC2 has no such action",
            ),
            ("[[roles]]\nname = \"r\"\npolicy = \"no-such.json\"", "roles.r.policy: no-such.json"),
            ("[[roles]]\nname = \"r\"\npolicy = \"vpc-cni\"\nactions = []", "expected one of `actions` and `policy`"),
            ("[[roles]]\nname = \"r\"\nactions = [\"Describe*\"]", "roles.r.actions"),
            (
                "[[subnets]]\nname = \"s\"\nzone = \"ap-northeast-2a\"\ncidr = \"10.20.99.0/24\"\nreservations = [{ cidr = \"10.20.98.0/28\", kind = \"prefix\" }]",
                "subnets.s.reservations",
            ),
        ] {
            let refused = resolved(text).map(|_| ()).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
