//! What can be asked for, as data: the tables of all Describe actions in one list, for documents and tests.

use super::Listing;
use super::filter::Values;
use super::instance_status::STATUSES;
use super::instance_types::TYPES;
use super::instances::INSTANCES;
use super::interfaces::INTERFACES;
use super::reservations::RESERVATIONS;
use super::route_tables::ROUTE_TABLES;
use super::rules::RULES;
use super::security_groups::SECURITY_GROUPS;
use super::subnets::SUBNETS;
use super::tags::TAGS;
use super::vpcs::VPCS;
use super::zones::ZONES;

/// The filters of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionFilters {
    /// The action.
    pub action: &'static str,
    /// The least and the largest `MaxResults`; `None`: the action has no pages.
    pub max_results: Option<(u32, u32)>,
    /// Whether `MaxResults` is refused together with ids.
    pub ids_exclude_max_results: bool,
    /// Every filter AWS documents for it, in the order of the documentation. `tag:<key>` stands for any tag's key.
    pub filters: Vec<DocumentedFilter>,
}

/// A filter AWS documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentedFilter {
    /// Its name.
    pub name: &'static str,
    /// Whether the model holds what it compares; if not, it is refused by name.
    pub supported: bool,
}

/// The filters of every action that has some, by the action's name.
#[must_use]
pub fn filter_catalogue() -> Vec<ActionFilters> {
    let mut catalogue = vec![
        of(&INTERFACES),
        of(&INSTANCES),
        of(&TYPES),
        of(&SUBNETS),
        of(&VPCS),
        of(&SECURITY_GROUPS),
        of(&ROUTE_TABLES),
        of(&TAGS),
        of(&ZONES),
        of(&RULES),
        of(&RESERVATIONS),
        of(&STATUSES),
    ];
    catalogue.sort_by_key(|action| action.action);
    catalogue
}

fn of<T>(listing: &Listing<T>) -> ActionFilters {
    let filter = |row: &super::filter::Row<T>| DocumentedFilter {
        name: row.name,
        supported: !matches!(row.values, Values::NotHeld),
    };
    ActionFilters {
        action: listing.action,
        max_results: listing.pages.map(|pages| (pages.smallest, pages.largest)),
        ids_exclude_max_results: listing.pages.is_some_and(|pages| pages.not_with.is_some()),
        filters: listing.filters.iter().map(filter).collect(),
    }
}
