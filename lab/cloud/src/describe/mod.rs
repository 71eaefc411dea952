//! The Describe actions: what there is, filtered and page by page.
//!
//! The path of a call: the action's [`Listing`] checks filters and page ([`Listing::ask`]), then ids are looked up (the first
//! one that is missing fails the call), then every object is shown as the answer will show it, and what is shown is
//! filtered and cut to a page ([`Question::answer`]).

mod catalogue;
mod filter;
mod instance_filters;
mod instance_status;
mod instance_types;
mod instances;
mod interface_attribute;
mod interfaces;
mod page;
mod reservations;
mod route_tables;
mod rules;
mod security_groups;
mod subnets;
mod tags;
mod vpcs;
mod zones;

use std::fmt::Display;

use vpc_aws::ec2::shapes::{Filter, GroupIdentifier, Tag, Timestamp};
use vpc_model::{SecurityGroupId, Time};

use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::Tags;
use crate::world::Eni;

pub(crate) use filter::matches;
pub(crate) use instances::state;
pub(crate) use vpcs::show_cidr;

pub use catalogue::{ActionFilters, DocumentedFilter, filter_catalogue};

use filter::{Conditions, Row};
use page::{Cursor, PageRequest, Pages};

/// What an action lists: objects shown as `T`, by these filters, in these pages.
#[derive(Debug)]
struct Listing<T: 'static> {
    /// The action.
    action: &'static str,
    /// Every filter AWS documents for it.
    filters: &'static [Row<T>],
    /// Its pages; `None`: everything comes at once.
    pages: Option<Pages>,
}

impl<T> Listing<T> {
    /// Checks what a caller asks for.
    ///
    /// # Errors
    /// Filters, a page size or a token that EC2 would not take, and filters the model has no values for.
    fn ask<'a>(
        &'static self,
        cloud: &Cloud,
        filters: &'a [Filter],
        page: PageRequest<'_>,
    ) -> Result<Question<'a, T>, ApiError> {
        Ok(Question {
            conditions: Conditions::new(self.action, self.filters, filters)?,
            cursor: Cursor::new(self.action, cloud.setup.seed, self.pages.unwrap_or(Pages::THOUSAND), page)?,
        })
    }
}

/// A checked request for a page of objects.
#[derive(Debug)]
struct Question<'a, T: 'static> {
    conditions: Conditions<'a, T>,
    cursor: Cursor,
}

impl<T> Question<'_, T> {
    /// The page out of all objects, each with a key that it never changes, and the token for the next page.
    fn answer(&self, objects: impl IntoIterator<Item = (String, T)>) -> (Vec<T>, Option<String>) {
        self.cursor.page(objects.into_iter().filter(|(_, object)| self.conditions.pass(object)).collect())
    }
}

impl Cloud {
    /// The ids of groups with their names.
    pub(crate) fn groups(&self, ids: &[SecurityGroupId]) -> Vec<GroupIdentifier> {
        let name = |id: &SecurityGroupId| self.world.groups.get(id).map(|group| group.name.clone());
        ids.iter().map(|id| GroupIdentifier { group_id: id.clone(), group_name: name(id) }).collect()
    }

    pub(crate) fn zone_of(&self, eni: &Eni) -> Option<String> {
        self.world.subnets.get(&eni.subnet).map(|subnet| subnet.spec.zone.clone())
    }

    /// The id of a zone, which is the same in every account.
    fn zone_id(&self, name: &str) -> Option<String> {
        self.world.spec.zones.iter().find(|zone| zone.name == name).map(|zone| zone.id.clone())
    }

    fn timestamp(&self, time: Time) -> Timestamp {
        Timestamp::from(self.wall(time))
    }

    fn account(&self) -> String {
        self.world.spec.account_id.clone()
    }
}

pub(crate) fn show_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::new(key, value)).collect()
}

/// Checks ids: first their form (the prefix, then 8 or 17 hexadecimal digits), then whether there is what they name.
///
/// # Errors
/// The code `malformed` for the first one that is no id; then whatever `missing` says of the first one of nothing.
fn look_up<I: Display>(
    ids: &[I],
    (prefix, malformed): (&str, &'static str),
    exists: impl Fn(&I) -> bool,
    missing: impl Fn(&I) -> ApiError,
) -> Result<(), ApiError> {
    well_formed(ids, prefix, malformed)?;
    ids.iter().find(|id| !exists(id)).map_or(Ok(()), |id| Err(missing(id)))
}

pub(crate) fn well_formed<I: Display>(ids: &[I], prefix: &str, malformed: &'static str) -> Result<(), ApiError> {
    let is_one = |id: &str| {
        let digits = id.strip_prefix(prefix).unwrap_or_default();
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        hexadecimal && matches!(digits.len(), 8 | 17)
    };
    match ids.iter().map(ToString::to_string).find(|id| !is_one(id)) {
        None => Ok(()),
        Some(id) => Err(ApiError::client(malformed, format!("Invalid id: \"{id}\" (expecting \"{prefix}...\")"))),
    }
}
