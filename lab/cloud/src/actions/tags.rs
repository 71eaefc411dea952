//! Tags.

use std::sync::Arc;

use std::collections::{BTreeMap, BTreeSet};

use vpc_aws::ec2::shapes::{CreateTags, DeleteTags, Done, ResourceType, Tag, TagSpecification, TagToDelete};
use vpc_model::EniId;

use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::Tags;

/// Tags an object may have.
const MAX_TAGS: usize = 50;
/// Characters of a tag's key and of its value.
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;

impl Cloud {
    pub(super) fn create_tags(&mut self, request: &CreateTags) -> Result<Done, ApiError> {
        if request.resources.is_empty() {
            return Err(ApiError::missing("ResourceId"));
        }
        if request.tags.is_empty() {
            return Err(ApiError::missing("Tag"));
        }
        let new = checked_tags(&request.tags)?;
        for id in &request.resources {
            let tags = self.tags_mut(id)?;
            let sum = tags.keys().chain(new.keys()).collect::<BTreeSet<_>>().len();
            if sum > MAX_TAGS {
                return Err(too_many_tags());
            }
        }
        for id in &request.resources {
            self.tags_mut(id)?.extend(new.clone());
        }
        Ok(Done::default())
    }

    pub(super) fn delete_tags(&mut self, request: &DeleteTags) -> Result<Done, ApiError> {
        if request.resources.is_empty() {
            return Err(ApiError::missing("ResourceId"));
        }
        if let Some(own) = request.tags.iter().find(|tag| is_reserved(&tag.key)) {
            return Err(ApiError::value(format!("Tag key '{}' is reserved for internal use", own.key)));
        }
        for id in &request.resources {
            self.tags_mut(id)?;
        }
        let goes = |key: &str, value: &str| {
            let named = |tag: &TagToDelete| tag.key == key && tag.value.as_deref().is_none_or(|wanted| wanted == value);
            if request.tags.is_empty() { !is_reserved(key) } else { request.tags.iter().any(named) }
        };
        for id in &request.resources {
            self.tags_mut(id)?.retain(|key, value| !goes(key, value));
        }
        Ok(Done::default())
    }

    /// The tags of an object, whatever its kind.
    pub(crate) fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, ApiError> {
        if let Ok(eni) = id.parse::<EniId>() {
            return self.world.enis.get_mut(&eni).map(|eni| &mut eni.tags).ok_or_else(|| ApiError::no_eni(&id));
        }
        if let Ok(instance) = id.parse() {
            let tags = self.world.instances.get_mut(&instance).map(|instance| &mut instance.tags);
            return tags.ok_or_else(|| ApiError::no_instance(&id));
        }
        if let Ok(subnet) = id.parse() {
            let tags = self.world.subnets.get_mut(&subnet).map(|subnet| &mut subnet.tags);
            return tags.ok_or_else(|| ApiError::no_subnet(&id));
        }
        if let Ok(group) = id.parse() {
            let tags = Arc::make_mut(&mut self.world.groups).get_mut(&group).map(|group| &mut group.tags);
            return tags.ok_or_else(|| ApiError::no_group(&id));
        }
        if id == self.world.spec.vpc.id.as_str() {
            return Ok(&mut self.world.vpc_tags);
        }
        let world = &mut self.world;
        let table = Arc::make_mut(&mut world.route_tables).get_mut(id).map(|table| &mut table.tags);
        let of = world.subnets.iter().find(|(_, own)| own.reservations.contains_key(id)).map(|(of, _)| of.clone());
        let reservation =
            of.and_then(|of| world.subnets.get_mut(&of)?.reservations.get_mut(id)).map(|own| &mut own.tags);
        let mut rules = Arc::make_mut(&mut world.groups)
            .values_mut()
            .flat_map(|group| group.ingress.iter_mut().chain(&mut group.egress));
        let rule = rules.find(|rule| rule.id == id).map(|rule| &mut rule.tags);
        let found = table.or(reservation).or(rule);
        found.ok_or_else(|| ApiError::client("InvalidID", format!("The ID '{id}' is not valid")))
    }
}

/// The tags of a creation whose objects are all of one kind.
pub(super) fn tags_of(specifications: &[TagSpecification], kind: &ResourceType) -> Result<Tags, ApiError> {
    let mut tags = tags_by_kind(specifications, std::slice::from_ref(kind))?;
    Ok(tags.remove(kind).unwrap_or_default())
}

/// The tags of a creation that makes objects of several kinds.
pub(super) fn tags_by_kind(
    specifications: &[TagSpecification],
    kinds: &[ResourceType],
) -> Result<BTreeMap<ResourceType, Tags>, ApiError> {
    let mut by_kind = BTreeMap::new();
    for specification in specifications {
        let kind = &specification.resource_type;
        if !kinds.contains(kind) {
            return Err(ApiError::value(format!("'{kind}' is not a valid taggable resource type for this operation.")));
        }
        if specification.tags.is_empty() {
            return Err(ApiError::value("Tag specification must have at least one tag"));
        }
        if by_kind.insert(kind.clone(), checked_tags(&specification.tags)?).is_some() {
            return Err(ApiError::value(format!("Duplicate TagSpecification for the resource type '{kind}'.")));
        }
    }
    Ok(by_kind)
}

fn checked_tags(tags: &[Tag]) -> Result<Tags, ApiError> {
    let mut checked = Tags::new();
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > MAX_TAG_KEY {
            return Err(ApiError::value(format!("Tag key '{}' must have 1 to {MAX_TAG_KEY} characters.", tag.key)));
        }
        if tag.value.chars().count() > MAX_TAG_VALUE {
            return Err(ApiError::value(format!("The value of tag '{}' exceeds {MAX_TAG_VALUE} characters.", tag.key)));
        }
        if is_reserved(&tag.key) {
            return Err(ApiError::value("Tag keys starting with 'aws:' are reserved for internal use"));
        }
        if checked.insert(tag.key.clone(), tag.value.clone()).is_some() {
            return Err(ApiError::value(format!("Duplicate tag key '{}' specified.", tag.key)));
        }
    }
    if checked.len() > MAX_TAGS { Err(too_many_tags()) } else { Ok(checked) }
}

/// Whether a tag is one of AWS itself.
fn is_reserved(key: &str) -> bool {
    key.to_ascii_lowercase().starts_with("aws:")
}

fn too_many_tags() -> ApiError {
    ApiError::client("TagLimitExceeded", format!("More than {MAX_TAGS} tags are not allowed on one resource."))
}
