//! DescribeAvailabilityZones.

use vpc_aws::ec2::shapes::{AvailabilityZone, DescribeAvailabilityZones, DescribeAvailabilityZonesResponse};

use super::Listing;
use super::filter::{Row, all, held, not_held, one};
use super::page::PageRequest;
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::ZoneSpec;

pub(super) const ZONES: Listing<AvailabilityZone> =
    Listing { action: "DescribeAvailabilityZones", filters: FILTERS, pages: None };

const FILTERS: &[Row<AvailabilityZone>] = &[
    not_held("group-long-name"),
    held("group-name", |own| all(&own.group_name)),
    not_held("message"),
    held("opt-in-status", |own| all(&own.opt_in_status)),
    not_held("parent-zone-id"),
    not_held("parent-zone-name"),
    held("region-name", |own| all(&own.region_name)),
    held("state", |own| all(&own.state)),
    held("zone-id", |own| all(&own.zone_id)),
    held("zone-name", |own| one(&own.zone_name)),
    held("zone-type", |own| all(&own.zone_type)),
];

impl Cloud {
    pub(crate) fn describe_zones(
        &self,
        request: &DescribeAvailabilityZones,
    ) -> Result<DescribeAvailabilityZonesResponse, ApiError> {
        let question = ZONES.ask(self, &request.filters, PageRequest::default())?;
        let (names, ids) = (&request.zone_names, &request.zone_ids);
        let zones = &self.world.spec.zones;
        let stranger = names.iter().find(|name| !zones.iter().any(|zone| zone.name == **name));
        let stranger = stranger.or_else(|| ids.iter().find(|id| !zones.iter().any(|zone| zone.id == **id)));
        if let Some(stranger) = stranger {
            return Err(ApiError::value(format!("Invalid availability zone: [{stranger}]")));
        }
        let everything = names.is_empty() && ids.is_empty();
        let asked = zones.iter().filter(|zone| everything || names.contains(&zone.name) || ids.contains(&zone.id));
        let (availability_zones, _) = question.answer(asked.map(|zone| (zone.name.clone(), self.show_zone(zone))));
        Ok(DescribeAvailabilityZonesResponse { availability_zones })
    }

    fn show_zone(&self, zone: &ZoneSpec) -> AvailabilityZone {
        let region = &self.world.spec.region;
        AvailabilityZone {
            zone_name: zone.name.clone(),
            zone_id: Some(zone.id.clone()),
            state: Some("available".to_owned()),
            region_name: Some(region.clone()),
            zone_type: Some("availability-zone".to_owned()),
            opt_in_status: Some("opt-in-not-required".to_owned()),
            network_border_group: Some(region.clone()),
            group_name: Some(format!("{region}-zg-1")),
        }
    }
}
