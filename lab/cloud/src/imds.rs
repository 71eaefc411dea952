//! The instance metadata service: what an instance is told about itself.
//!
//! IMDS is not EC2: it learns of changes later, and first of a MAC, then of what lies behind it. [`Imds`] is its own, older
//! picture of every instance's ENIs; [`Cloud::metadata`] builds the tree of paths from that picture.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_aws::ec2::shapes::Timestamp;
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, SubnetId, Time,
};

use crate::cloud::Cloud;
use crate::credentials::{profile_arn, profile_id};
use crate::imds_faults::Picture;
use crate::world::{Eni, Instance, World};

/// An ENI as IMDS has it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: EniId,
    attachment: AttachmentId,
    pub(crate) device: DeviceIndex,
    card: CardIndex,
    subnet: SubnetId,
    groups: Vec<SecurityGroupId>,
    primary: Ipv4Addr,
    pub(crate) secondary: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Prefix28>,
    public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// Of the VPC, the primary one first.
    cidrs: Vec<Ipv4Net>,
    /// Only the MAC is listed, with nothing below.
    pub(crate) hollow: bool,
}

impl Listed {
    /// The ENI as it is now; `None` if it is attached to nothing.
    fn of(world: &World, eni: &Eni) -> Option<Self> {
        let attachment = eni.attachment.as_ref()?;
        Some(Self {
            id: eni.id.clone(),
            attachment: attachment.id.clone(),
            device: attachment.device,
            card: attachment.card,
            subnet: eni.subnet.clone(),
            groups: eni.groups.clone(),
            primary: eni.primary,
            secondary: eni.secondary.clone(),
            prefixes: eni.prefixes.clone(),
            public: eni.public.clone(),
            cidrs: world.usable_cidrs(),
            hollow: false,
        })
    }
}

/// What IMDS knows of one instance's ENIs.
pub(crate) type Lists = BTreeMap<Mac, Listed>;

/// What IMDS knows of all instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Imds {
    lists: BTreeMap<InstanceId, Lists>,
}

impl Imds {
    /// Everything as it is.
    pub(crate) fn of(world: &World) -> Self {
        let mut imds = Self::default();
        for eni in world.enis.values() {
            if let (Some(listed), Some(attachment)) = (Listed::of(world, eni), &eni.attachment) {
                imds.lists.entry(attachment.instance.clone()).or_default().insert(eni.mac, listed);
            }
        }
        imds
    }

    /// Lists all ENIs of an instance that has just been launched.
    pub(crate) fn admit(&mut self, world: &World, instance: &InstanceId) {
        let enis = world.enis_of(instance).into_iter().filter_map(|eni| Some((eni.mac, Listed::of(world, eni)?)));
        self.lists.insert(instance.clone(), enis.collect());
    }

    /// Lists a newly attached ENI, with its primary address only, or with nothing at all.
    pub(crate) fn list(&mut self, world: &World, attachment: &AttachmentId, hollow: bool) {
        let Some(eni) = world.attached_as(attachment) else { return };
        let (Some(listed), Some(attachment)) = (Listed::of(world, eni), &eni.attachment) else { return };
        let bare = Listed { secondary: Vec::new(), prefixes: Vec::new(), hollow, ..listed };
        self.lists.entry(attachment.instance.clone()).or_default().insert(eni.mac, bare);
    }

    /// Takes over how an ENI is now, if it is listed already.
    pub(crate) fn refresh(&mut self, world: &World, id: &EniId) {
        let Some(eni) = world.enis.get(id) else { return };
        let Some(attachment) = &eni.attachment else { return };
        let listed = self.lists.get_mut(&attachment.instance).and_then(|list| list.get_mut(&eni.mac));
        if let (Some(listed), Some(now)) = (listed, Listed::of(world, eni)) {
            *listed = now;
        }
    }

    /// Empties what lies below a MAC.
    pub(crate) fn hollow(&mut self, instance: &InstanceId, mac: Mac) {
        if let Some(eni) = self.lists.get_mut(instance).and_then(|list| list.get_mut(&mac)) {
            eni.hollow = true;
        }
    }

    /// Drops a MAC, unless it is there by a newer attachment.
    pub(crate) fn drop_mac(&mut self, instance: &InstanceId, mac: Mac, attachment: &AttachmentId) {
        if let Some(list) = self.lists.get_mut(instance)
            && list.get(&mac).is_some_and(|listed| listed.attachment == *attachment)
        {
            list.remove(&mac);
        }
    }

    /// What it knows of an instance, if it knows it.
    pub(crate) fn known(&self, instance: &InstanceId) -> Option<&Lists> {
        self.lists.get(instance)
    }

    /// What it knows of an instance.
    pub(crate) fn of_instance(&self, instance: &InstanceId) -> Cow<'_, Lists> {
        self.lists.get(instance).map(Cow::Borrowed).unwrap_or_default()
    }

    /// Drops an instance.
    pub(crate) fn forget(&mut self, instance: &InstanceId) {
        self.lists.remove(instance);
    }
}

/// Where the ENIs are.
const MACS: &str = "meta-data/network/interfaces/macs";

/// The leaves of the tree below `/latest/` that an answer is made of: path to value.
///
/// A picture of a large instance has hundreds, of which a request asks for one, or for the names in one folder: only those are made.
#[derive(Debug)]
struct Leaves<'a> {
    /// What is asked for, without slashes at its ends.
    path: &'a str,
    values: BTreeMap<String, String>,
}

impl<'a> Leaves<'a> {
    fn of(path: &'a str) -> Self {
        Self { path, values: BTreeMap::new() }
    }

    /// Whether a leaf, or one below a folder, may count: it is what is asked for, lies below it, or above it.
    fn wants(&self, folder: &str, name: &str) -> bool {
        if self.path == folder || is_below(folder, self.path) {
            return true;
        }
        let rest = match folder {
            "" => Some(self.path),
            _ => self.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        rest.is_some_and(|rest| rest == name || is_below(name, rest) || is_below(rest, name))
    }

    fn put(&mut self, folder: &str, name: &str, value: impl FnOnce() -> String) {
        if self.wants(folder, name) {
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            self.values.insert(path, value());
        }
    }
}

/// Whether a path lies below a folder.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

impl Cloud {
    /// The value of [`Cloud::imds_answer`] alone.
    #[must_use]
    pub fn metadata(&mut self, now: Time, instance: &InstanceId, path: &str) -> Option<String> {
        self.imds_answer(now, instance, path).value
    }

    /// What there is at a path, as a picture shows it.
    pub(crate) fn look_up(&self, now: Time, own: &Instance, picture: &Picture<'_>, path: &str) -> Option<String> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            // The folders of the top are listed without slashes.
            let user_data = own.birth.user_data.as_ref().map(|_| "user-data");
            return Some(lines(["dynamic", "meta-data"].into_iter().chain(user_data)));
        }
        if path == MACS {
            // Whatever lies below them: there is always something.
            let folders: Vec<String> = picture.lists.keys().map(|mac| format!("{mac}/")).collect();
            return (!folders.is_empty()).then(|| picture.in_order(folders).join("\n"));
        }
        let leaves = self.leaves(now, own, picture, path).values;
        if let Some(value) = leaves.get(path) {
            return Some(value.clone());
        }
        Some(names_below(&leaves, path)?.join("\n"))
    }

    fn leaves<'a>(&self, now: Time, instance: &Instance, picture: &Picture<'_>, path: &'a str) -> Leaves<'a> {
        let mut leaves = Leaves::of(path);
        if let Some(below) = path.strip_prefix(MACS).and_then(|rest| rest.strip_prefix('/')) {
            // Most requests are for a value of an ENI: nothing else lies there.
            let (folder, field) = below.split_once('/').unwrap_or((below, ""));
            let found = folder.parse().ok().and_then(|mac: Mac| Some((mac, picture.lists.get(&mac)?)));
            if let Some((mac, eni)) = found.filter(|(mac, _)| mac.to_string() == folder) {
                self.add_eni(&mut leaves, instance, mac, eni, picture, field);
            }
            return leaves;
        }
        self.add_instance(&mut leaves, instance, picture);
        self.add_role(&mut leaves, now, instance);
        if leaves.wants("meta-data", "network") {
            for (mac, eni) in picture.lists.iter() {
                self.add_eni(&mut leaves, instance, *mac, eni, picture, "");
            }
        }
        leaves.put("dynamic", "instance-identity/document", || self.identity(instance));
        if let Some(text) = &instance.birth.user_data {
            leaves.put("", "user-data", || text.clone());
        }
        leaves
    }

    fn add_instance(&self, leaves: &mut Leaves<'_>, instance: &Instance, picture: &Picture<'_>) {
        const AT: &str = "meta-data";
        let world = &self.world;
        let spec = &instance.spec;
        let zone = || world.spec.zones.iter().find(|zone| zone.name == instance.zone);
        leaves.put(AT, "ami-id", || instance.birth.image.clone());
        leaves.put(AT, "ami-launch-index", || instance.birth.index.to_string());
        leaves.put(AT, "ami-manifest-path", || "(unknown)".to_owned());
        leaves.put(AT, "block-device-mapping/ami", || "/dev/xvda".to_owned());
        leaves.put(AT, "block-device-mapping/root", || "/dev/xvda".to_owned());
        leaves.put(AT, "events/maintenance/history", || "[]".to_owned());
        leaves.put(AT, "events/maintenance/scheduled", || "[]".to_owned());
        leaves.put(AT, "hibernation/configured", || "false".to_owned());
        leaves.put(AT, "hostname", || instance.private_dns_name.clone());
        leaves.put(AT, "instance-action", || "none".to_owned());
        leaves.put(AT, "instance-id", || spec.id.to_string());
        leaves.put(AT, "instance-life-cycle", || "on-demand".to_owned());
        leaves.put(AT, "instance-type", || spec.instance_type.clone());
        leaves.put(AT, "local-hostname", || instance.private_dns_name.clone());
        leaves.put(AT, "local-ipv4", || instance.private_ip.to_string());
        leaves.put(AT, "placement/availability-zone", || instance.zone.clone());
        leaves.put(AT, "placement/availability-zone-id", || zone().map(|zone| zone.id.clone()).unwrap_or_default());
        leaves.put(AT, "placement/region", || world.spec.region.clone());
        leaves.put(AT, "profile", || "default-hvm".to_owned());
        leaves.put(AT, "reservation-id", || instance.birth.reservation.clone());
        leaves.put(AT, "services/domain", || domain(&world.spec.region).to_owned());
        leaves.put(AT, "services/partition", || partition(&world.spec.region).to_owned());
        leaves.put(AT, "system", || if instance.limits.takes_prefixes() { "nitro" } else { "xen" }.to_owned());
        if spec.metadata_tags {
            let tags = instance.tags.iter();
            tags.for_each(|(key, value)| leaves.put(AT, &format!("tags/instance/{key}"), || value.clone()));
        }
        if let Some((mac, eni)) = picture.lists.iter().find(|(_, eni)| eni.id == instance.primary) {
            leaves.put(AT, "mac", || mac.to_string());
            leaves.put(AT, "security-groups", || self.group_names(eni));
            if let Some(public) = eni.public.get(&eni.primary) {
                leaves.put(AT, "public-ipv4", || public.to_string());
                leaves.put(AT, "public-hostname", || world.public_dns_name(*public));
            }
        }
    }

    fn add_role(&self, leaves: &mut Leaves<'_>, now: Time, instance: &Instance) {
        const AT: &str = "meta-data/iam";
        if !leaves.wants("meta-data", "iam") {
            return;
        }
        let Some((role, credentials)) = instance.spec.role.as_ref().zip(self.credentials(now, &instance.spec.id))
        else {
            return;
        };
        let account = &self.world.spec.account_id;
        let issued = seconds(self.wall(credentials.issued));
        let info = || {
            serde_json::json!({
                "Code": "Success",
                "LastUpdated": issued,
                "InstanceProfileArn": profile_arn(account, role),
                "InstanceProfileId": profile_id(role),
            })
        };
        let key = || {
            serde_json::json!({
                "Code": "Success",
                "LastUpdated": issued,
                "Type": "AWS-HMAC",
                "AccessKeyId": credentials.access_key,
                "SecretAccessKey": credentials.secret_key,
                "Token": credentials.session_token,
                "Expiration": seconds(self.wall(credentials.expires)),
            })
        };
        leaves.put(AT, "info", || pretty(&info()));
        leaves.put(AT, &format!("security-credentials/{role}"), || pretty(&key()));
    }

    /// What lies below an ENI's MAC: all of it, or what is at or below one field of it. Only the value that is asked for is made, of
    /// others there is the name.
    fn add_eni(
        &self,
        leaves: &mut Leaves<'_>,
        instance: &Instance,
        mac: Mac,
        eni: &Listed,
        picture: &Picture<'_>,
        field: &str,
    ) {
        let world = &self.world;
        let at = format!("{MACS}/{mac}");
        if eni.hollow {
            // A folder with nothing in it.
            leaves.values.insert(format!("{at}/"), String::new());
            return;
        }
        // What would be empty is not there.
        let mut put = |name: &str, is_there: bool, value: &dyn Fn() -> String| {
            if is_there && (field.is_empty() || name == field || is_below(name, field)) {
                let value = if name == field { value() } else { String::new() };
                leaves.values.insert(format!("{at}/{name}"), value);
            }
        };
        put("device-number", true, &|| eni.device.to_string());
        put("interface-id", true, &|| eni.id.to_string());
        put("local-hostname", true, &|| world.private_dns_name(eni.primary));
        put("local-ipv4s", true, &|| lines([eni.primary].into_iter().chain(picture.in_order(eni.secondary.clone()))));
        put("ipv4-prefix", !eni.prefixes.is_empty(), &|| lines(picture.in_order(eni.prefixes.clone())));
        put("mac", true, &|| mac.to_string());
        put("owner-id", true, &|| world.spec.account_id.clone());
        put("security-group-ids", !eni.groups.is_empty(), &|| lines(&eni.groups));
        let names = if field.is_empty() || field == "security-groups" { self.group_names(eni) } else { String::new() };
        put("security-groups", !names.is_empty(), &|| names.clone());
        put("subnet-id", true, &|| eni.subnet.to_string());
        put("vpc-id", true, &|| world.spec.vpc.id.to_string());
        let cidr = eni.cidrs.first();
        put("vpc-ipv4-cidr-block", cidr.is_some(), &|| cidr.map(ToString::to_string).unwrap_or_default());
        put("vpc-ipv4-cidr-blocks", cidr.is_some(), &|| lines(&eni.cidrs));
        let subnet = world.subnets.get(&eni.subnet).map(|subnet| subnet.spec.cidr);
        put("subnet-ipv4-cidr-block", subnet.is_some(), &|| subnet.map(|cidr| cidr.to_string()).unwrap_or_default());
        // Types with one card do not have the field.
        put("network-card", instance.limits.cards.len() > 1, &|| eni.card.to_string());
        let address = eni.public.get(&eni.primary);
        put("public-hostname", address.is_some(), &|| address.map(|a| world.public_dns_name(*a)).unwrap_or_default());
        put("public-ipv4s", !eni.public.is_empty(), &|| lines(eni.public.values()));
        for (private, public) in &eni.public {
            put(&format!("ipv4-associations/{public}"), true, &|| private.to_string());
        }
    }

    fn group_names(&self, eni: &Listed) -> String {
        lines(self.groups(&eni.groups).into_iter().filter_map(|group| group.group_name))
    }

    fn identity(&self, instance: &Instance) -> String {
        pretty(&serde_json::json!({
            "accountId": self.world.spec.account_id,
            "architecture": "x86_64",
            "availabilityZone": instance.zone,
            "billingProducts": null,
            "devpayProductCodes": null,
            "marketplaceProductCodes": null,
            "imageId": instance.birth.image,
            "instanceId": instance.spec.id,
            "instanceType": instance.spec.instance_type,
            "kernelId": null,
            "pendingTime": seconds(self.wall(instance.launched)),
            "privateIp": instance.private_ip,
            "ramdiskId": null,
            "region": self.world.spec.region,
            "version": "2017-09-30",
        }))
    }
}

/// The names below a folder: folders end in a slash.
fn names_below(leaves: &BTreeMap<String, String>, folder: &str) -> Option<Vec<String>> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut names: Vec<String> = Vec::new();
    for (path, _) in leaves.range(prefix.clone()..) {
        let Some(rest) = path.strip_prefix(&prefix) else { break };
        let name = match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        };
        if !name.is_empty() && names.last() != Some(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then_some(names)
}

/// The partition of a region.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The domain of a region's services.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

/// A moment as IMDS writes it: to the second.
fn seconds(wall: vpc_model::WallTime) -> String {
    let text = Timestamp::from(wall).to_string();
    match text.split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => text,
    }
}
