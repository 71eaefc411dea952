//! Whether a caller may do what it asks: what a call asks for in IAM's terms, held against the policy of the caller's role.
//!
//! The account's own key may do everything, and so may a role without a policy. A call asks for its action on every resource
//! it names (Describe calls: on `*`), on the ones it makes (`network-interface/*`), and, if it tags what it makes, for
//! `ec2:CreateTags` on those. All of it must be allowed.

use vpc_aws::ec2::shapes::AnyRequest;
use vpc_model::AttachmentId;

use crate::cloud::{Caller, Cloud};
use crate::error::ApiError;
use crate::iam::{Context, Decision};
use crate::ids::hash64;
use crate::imds::partition;
use crate::spec::Tags;

/// Beginnings of ids and the kinds of resource they stand for.
const KINDS: [(&str, &str); 9] = [
    ("eni-", "network-interface"),
    ("i-", "instance"),
    ("subnet-", "subnet"),
    ("sg-", "security-group"),
    ("vpc-", "vpc"),
    ("rtb-", "route-table"),
    ("scr-", "subnet-cidr-reservation"),
    ("sgr-", "security-group-rule"),
    ("ami-", "image"),
];

/// One thing a call asks for.
#[derive(Clone, Debug)]
struct Ask {
    action: String,
    resource: String,
    context: Context,
}

/// Tags for things of one kind.
struct NewTags {
    kind: String,
    tags: Tags,
}

impl Cloud {
    /// Checks that the caller may make a call.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
    pub(crate) fn permit(&self, caller: &Caller, request: &AnyRequest) -> Result<(), ApiError> {
        let Caller::Instance(id) = caller else { return Ok(()) };
        let role = self.world.instances.get(id).and_then(|instance| instance.spec.role.as_ref());
        let Some(policy) = role.and_then(|role| self.policies.get(role)) else { return Ok(()) };
        for ask in self.asks(request) {
            let decision = policy.decide(&ask.action, &ask.resource, &ask.context);
            if decision != Decision::Allowed {
                return Err(self.refusal(caller, &ask.action, &ask.resource, decision == Decision::Denied));
            }
        }
        Ok(())
    }

    /// EC2's refusal of an action.
    pub(crate) fn refusal(&self, caller: &Caller, action: &str, resource: &str, explicit: bool) -> ApiError {
        let spec = &self.world.spec;
        let (partition, account) = (partition(&spec.region), &spec.account_id);
        let who = match caller {
            Caller::Account => format!("arn:{partition}:iam::{account}:root"),
            Caller::Instance(id) => {
                let role = self.world.instances.get(id).and_then(|instance| instance.spec.role.clone());
                format!("arn:{partition}:sts::{account}:assumed-role/{}/{id}", role.unwrap_or_default())
            }
        };
        let why = if explicit {
            "with an explicit deny in an identity-based policy".to_owned()
        } else {
            format!("because no identity-based policy allows the {action} action")
        };
        let on = if resource == "*" { String::new() } else { format!(" on resource: {resource}") };
        // Opaque on AWS, too: only the account's owner can have it decoded.
        let encoded = format!("{:016x}{:016x}", hash64(action, &who), hash64(resource, &why));
        ApiError::unauthorized(format!(
            "User: {who} is not authorized to perform: {action}{on} {why}. Encoded authorization failure message: {encoded}"
        ))
    }

    /// Everything a call asks for.
    fn asks(&self, request: &AnyRequest) -> Vec<Ask> {
        let name = request.name();
        let action = format!("ec2:{name}");
        if name.starts_with("Describe") || name.starts_with("Get") {
            return vec![Ask { action, resource: "*".to_owned(), context: self.context(&Tags::new(), None) }];
        }
        let query = request.query();
        let new_tags = new_tags(query.pairs());
        let of_request: Tags = match name {
            "CreateTags" | "DeleteTags" => tags_below(query.pairs(), "Tag."),
            _ => Tags::new(),
        };
        let mut asks: Vec<Ask> = Vec::new();
        for (kind, id) in query.pairs().iter().flat_map(|(_, value)| self.named(value)) {
            let ask = Ask {
                action: action.clone(),
                resource: self.arn(kind, &id),
                context: self.context(&of_request, Some(&self.tags_of(&id))),
            };
            if !asks.iter().any(|own| own.resource == ask.resource) {
                asks.push(ask);
            }
        }
        for kind in made(name) {
            let own = new_tags.iter().find(|own| own.kind == *kind).map(|own| own.tags.clone()).unwrap_or_default();
            let context = self.context(&own, None);
            asks.push(Ask { action: action.clone(), resource: self.arn(kind, "*"), context });
        }
        for own in new_tags.iter().filter(|own| !own.tags.is_empty()) {
            let mut context = self.context(&own.tags, None);
            context.insert("ec2:createaction".to_owned(), vec![name.to_owned()]);
            asks.push(Ask { action: "ec2:CreateTags".to_owned(), resource: self.arn(&own.kind, "*"), context });
        }
        if asks.is_empty() {
            asks.push(Ask { action, resource: "*".to_owned(), context: self.context(&of_request, None) });
        }
        asks
    }

    /// The resources a parameter's value names.
    fn named(&self, value: &str) -> Vec<(&'static str, String)> {
        if value.starts_with(AttachmentId::PREFIX) {
            // An attachment is no resource; its two ends are.
            let eni = value.parse().ok().and_then(|id: AttachmentId| self.world.attached_as(&id));
            let ends = eni.and_then(|eni| Some((eni, eni.attachment.as_ref()?)));
            return ends.map_or_else(Vec::new, |(eni, attachment)| {
                vec![("network-interface", eni.id.to_string()), ("instance", attachment.instance.to_string())]
            });
        }
        let kind = KINDS.iter().find(|(prefix, _)| {
            value
                .strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
        });
        kind.map(|(_, kind)| (*kind, value.to_owned())).into_iter().collect()
    }

    fn arn(&self, kind: &str, id: &str) -> String {
        let spec = &self.world.spec;
        let account = if kind == "image" { "" } else { &spec.account_id };
        format!("arn:{}:ec2:{}:{account}:{kind}/{id}", partition(&spec.region), spec.region)
    }

    fn context(&self, of_request: &Tags, of_resource: Option<&Tags>) -> Context {
        let region = &self.world.spec.region;
        let mut context = Context::from([
            ("aws:requestedregion".to_owned(), vec![region.clone()]),
            ("ec2:region".to_owned(), vec![region.clone()]),
        ]);
        let mut put = |key: String, value: &String| _ = context.insert(key.to_ascii_lowercase(), vec![value.clone()]);
        for (key, value) in of_request {
            put(format!("aws:RequestTag/{key}"), value);
        }
        for (key, value) in of_resource.into_iter().flatten() {
            put(format!("aws:ResourceTag/{key}"), value);
            put(format!("ec2:ResourceTag/{key}"), value);
        }
        if !of_request.is_empty() {
            context.insert("aws:tagkeys".to_owned(), of_request.keys().cloned().collect());
        }
        context
    }

    /// The tags of whatever has this id.
    fn tags_of(&self, id: &str) -> Tags {
        let world = &self.world;
        let eni = id.parse().ok().and_then(|id| world.enis.get(&id)).map(|eni| &eni.tags);
        let instance = || id.parse().ok().and_then(|id| world.instances.get(&id)).map(|instance| &instance.tags);
        let subnet = || id.parse().ok().and_then(|id| world.subnets.get(&id)).map(|subnet| &subnet.tags);
        let group = || id.parse().ok().and_then(|id| world.groups.get(&id)).map(|group| &group.tags);
        eni.or_else(instance).or_else(subnet).or_else(group).cloned().unwrap_or_default()
    }
}

/// Kinds of resource an action makes.
fn made(action: &str) -> &'static [&'static str] {
    match action {
        "CreateNetworkInterface" => &["network-interface"],
        "CreateSecurityGroup" => &["security-group"],
        "CreateSubnet" => &["subnet"],
        "CreateSubnetCidrReservation" => &["subnet-cidr-reservation"],
        "RunInstances" => &["instance", "network-interface", "volume"],
        _ => &[],
    }
}

/// Tags of what a call makes, by kind.
fn new_tags(pairs: &[(String, String)]) -> Vec<NewTags> {
    let kinds = pairs.iter().filter_map(|(name, kind)| {
        let number = name.strip_prefix("TagSpecification.")?.strip_suffix(".ResourceType")?;
        Some((format!("TagSpecification.{number}.Tag."), kind))
    });
    kinds.map(|(below, kind)| NewTags { kind: kind.clone(), tags: tags_below(pairs, &below) }).collect()
}

/// The tags `PREFIX1.Key`, `PREFIX1.Value` and so on.
fn tags_below(pairs: &[(String, String)], prefix: &str) -> Tags {
    let keys = pairs.iter().filter_map(|(name, key)| {
        let number = name.strip_prefix(prefix)?.strip_suffix(".Key")?;
        let value = pairs.iter().find(|(name, _)| *name == format!("{prefix}{number}.Value"));
        Some((key.clone(), value.map(|(_, value)| value.clone()).unwrap_or_default()))
    });
    keys.collect()
}
