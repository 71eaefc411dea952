//! Custom networking: the node's ENIConfig by its name, and what it says.

use vpc_ipam::EniFacts;
use vpc_model::{SecurityGroupId, SubnetId};

use super::{NamedBy, NoPlace, PlaceNews, Places};
use crate::cluster::{EniConfig, NodeView};
use crate::config::EniConfigKeys;

/// The label that wins over the keys of the settings.
const EXTERNAL_LABEL: &str = "vpc.amazonaws.com/externalEniConfig";
/// The name where the node names none.
const DEFAULT_NAME: &str = "default";
/// Security groups EC2 lets an ENI have at most.
const MAX_GROUPS: usize = 16;

/// What the node's ENIConfig asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) subnet: SubnetId,
    pub(super) groups: Vec<SecurityGroupId>,
    /// The groups are the ENIConfig's, not the primary ENI's.
    pub(super) own_groups: bool,
}

/// The last ENIConfig that was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Good {
    pub(super) name: String,
    pub(super) subnet: SubnetId,
    pub(super) own_groups: bool,
}

/// The name of a node's ENIConfig and what names it: the external label, the annotation, the label, `default`.
#[must_use]
pub fn name_of_eni_config(node: &NodeView, keys: &EniConfigKeys) -> (String, NamedBy) {
    let label = |key: &str| node.labels.get(key).filter(|name| !name.is_empty()).cloned();
    let annotation = |key: &str| node.annotations.get(key).filter(|name| !name.is_empty()).cloned();
    if let Some(name) = label(EXTERNAL_LABEL) {
        (name, NamedBy::Label(EXTERNAL_LABEL.to_owned()))
    } else if let Some(name) = annotation(&keys.annotation) {
        (name, NamedBy::Annotation(keys.annotation.clone()))
    } else if let Some(name) = label(&keys.label) {
        (name, NamedBy::Label(keys.label.clone()))
    } else {
        (DEFAULT_NAME.to_owned(), NamedBy::Default { annotation: keys.annotation.clone(), label: keys.label.clone() })
    }
}

impl Places {
    /// What the node's ENIConfig asks for now, as far as it can be checked.
    pub(super) fn wanted(&self) -> Result<Wanted, NoPlace> {
        let wanted = self.written()?;
        if let Some(list) = &self.list
            && let Some(subnet) = list.subnets.iter().find(|subnet| subnet.id == wanted.subnet)
        {
            let (config, subnet) = (wanted.name.clone(), subnet.clone());
            if subnet.vpc != self.home.vpc {
                let (is, should) = (subnet.vpc, self.home.vpc.clone());
                return Err(NoPlace::OtherVpc { config, subnet: subnet.id, is, should });
            }
            if subnet.zone != self.home.zone {
                let (is, should) = (subnet.zone, self.home.zone.clone());
                return Err(NoPlace::OtherZone { config, subnet: subnet.id, is, should });
            }
            return Ok(wanted);
        }
        let looked_up = self.list.as_ref().is_some_and(|list| list.also.contains(&wanted.subnet));
        if looked_up {
            Err(NoPlace::UnknownSubnet { config: wanted.name, subnet: wanted.subnet })
        } else if self.list_failed.is_some() {
            // It can not be checked; EC2 checks it.
            Ok(wanted)
        } else {
            Err(NoPlace::Listing)
        }
    }

    /// The subnet the node's ENIConfig names, right or wrong.
    pub(super) fn named_subnet(&self) -> Option<SubnetId> {
        self.placing.custom.as_ref()?;
        self.written().ok().map(|wanted| wanted.subnet)
    }

    /// What is written in the node's ENIConfig.
    fn written(&self) -> Result<Wanted, NoPlace> {
        let keys = self.placing.custom.as_ref().ok_or(NoPlace::NodeUnread)?;
        // Whatever the node says must have been read: `default` is not the answer to a question nobody answered.
        let node = self.node.as_ref().ok_or(NoPlace::NodeUnread)?;
        let configs = self.eni_configs.as_ref().ok_or(NoPlace::EniConfigsUnread)?;
        let (name, by) = name_of_eni_config(node, keys);
        match configs.iter().find(|config| config.name == name) {
            Some(config) => read(config, &self.home.groups),
            None => Err(NoPlace::NoEniConfig { name, by }),
        }
    }

    /// A subnet gave addresses: if the node's ENIConfig names it, that is right, though nobody could list it.
    pub(super) fn vouch(&mut self, subnet: &SubnetId) {
        if self.placing.custom.is_some()
            && let Ok(wanted) = self.wanted()
            && wanted.subnet == *subnet
        {
            self.is_good(wanted);
        }
    }

    /// Whether an ENI is known to be in another subnet than the last right ENIConfig's.
    pub(super) fn is_outside_eni_config(&self, eni: &EniFacts) -> bool {
        match (&self.good, &eni.subnet_id) {
            (Some(good), Some(subnet)) => good.subnet != *subnet,
            (Some(good), None) => self.net_of(&good.subnet).is_some_and(|net| net != eni.subnet),
            // No ENIConfig was seen yet. In another subnet than the primary ENI's it was made for one; in the same it may be from
            // before custom networking, and a pod that comes now must not land beside the network it was meant for.
            (None, Some(subnet)) => self.home.subnet == *subnet,
            (None, None) => self.home.net == Some(eni.subnet),
        }
    }

    pub(super) fn is_good(&mut self, wanted: Wanted) {
        let good = Good { name: wanted.name, subnet: wanted.subnet, own_groups: wanted.own_groups };
        if self.good.as_ref() != Some(&good) {
            if !good.own_groups {
                self.news.push(PlaceNews::PrimaryGroups { config: good.name.clone() });
            }
            self.good = Some(good);
        }
    }
}

/// Reads an ENIConfig's texts.
fn read(config: &EniConfig, of_primary: &[SecurityGroupId]) -> Result<Wanted, NoPlace> {
    let name = config.name.clone();
    let subnet = match config.subnet.trim() {
        "" => return Err(NoPlace::NoSubnet { config: name }),
        text => text.parse().map_err(|error| NoPlace::BadSubnet { config: name.clone(), error })?,
    };
    if config.security_groups.len() > MAX_GROUPS {
        return Err(NoPlace::TooManyGroups { config: name, count: config.security_groups.len(), most: MAX_GROUPS });
    }
    let group = |text: &String| text.trim().parse::<SecurityGroupId>();
    let own: Result<Vec<SecurityGroupId>, _> = config.security_groups.iter().map(group).collect();
    let own = own.map_err(|error| NoPlace::BadGroup { config: name.clone(), error })?;
    let own_groups = !own.is_empty();
    let groups = if own_groups { own } else { of_primary.to_vec() };
    Ok(Wanted { name, subnet, groups, own_groups })
}
