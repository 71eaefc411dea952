//! The Describe requests of what lies around ENIs: VPCs, subnets, route tables, security groups, zones.

use vpc_model::{SecurityGroupId, SubnetId, VpcId};

use super::query::request;
use super::tags::Filter;
use super::vpc::{
    DescribeAvailabilityZonesResponse, DescribeRouteTablesResponse, DescribeSecurityGroupsResponse,
    DescribeSubnetsResponse, DescribeVpcsResponse,
};

request! {
    /// Lists subnets.
    #[derive(Default)]
    DescribeSubnets -> DescribeSubnetsResponse {
        /// The subnets; empty = all that pass the filters.
        subnet_ids: Vec<SubnetId> = "SubnetId",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Page size, 5 to 1000.
        max_results: Option<u32> = "MaxResults",
        /// Where the last page ended.
        next_token: Option<String> = "NextToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lists VPCs.
    #[derive(Default)]
    DescribeVpcs -> DescribeVpcsResponse {
        /// The VPCs; empty = all that pass the filters.
        vpc_ids: Vec<VpcId> = "VpcId",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Page size, 5 to 1000.
        max_results: Option<u32> = "MaxResults",
        /// Where the last page ended.
        next_token: Option<String> = "NextToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lists route tables.
    #[derive(Default)]
    DescribeRouteTables -> DescribeRouteTablesResponse {
        /// The tables (`rtb-…`); empty = all that pass the filters.
        route_table_ids: Vec<String> = "RouteTableId",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Page size, 5 to 100.
        max_results: Option<u32> = "MaxResults",
        /// Where the last page ended.
        next_token: Option<String> = "NextToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lists security groups.
    #[derive(Default)]
    DescribeSecurityGroups -> DescribeSecurityGroupsResponse {
        /// The groups; empty = all that pass the filters.
        group_ids: Vec<SecurityGroupId> = "GroupId",
        /// The groups by name (default VPC only).
        group_names: Vec<String> = "GroupName",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Page size, 5 to 1000.
        max_results: Option<u32> = "MaxResults",
        /// Where the last page ended.
        next_token: Option<String> = "NextToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lists the zones of the region.
    #[derive(Default)]
    DescribeAvailabilityZones -> DescribeAvailabilityZonesResponse {
        /// Zones by name.
        zone_names: Vec<String> = "ZoneName",
        /// Zones by id.
        zone_ids: Vec<String> = "ZoneId",
        /// Zones that are not opted in, too.
        all_availability_zones: Option<bool> = "AllAvailabilityZones",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}
