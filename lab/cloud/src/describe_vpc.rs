//! The Describe actions for what lies around ENIs: zones, VPCs, subnets, route tables, groups, tags.

use vpc_aws::ec2::shapes::{
    AvailabilityZone, BlockState, CidrBlockState, DescribeAvailabilityZones, DescribeAvailabilityZonesResponse,
    DescribeRouteTables, DescribeRouteTablesResponse, DescribeSecurityGroups, DescribeSecurityGroupsResponse,
    DescribeSubnets, DescribeSubnetsResponse, DescribeTags, DescribeTagsResponse, DescribeVpcs, DescribeVpcsResponse,
    Route, RouteState, RouteTableAssociation, RouteTableDescription, SecurityGroup, SubnetDescription, TagDescription,
    Vpc, VpcCidrBlockAssociation,
};

use crate::cloud::Cloud;
use crate::describe::show_tags;
use crate::error::ApiError;
use crate::filter::{Paging, check, passes};
use crate::permissions::permissions;
use crate::spec::{RouteTarget, Tags, id_text};
use crate::world::{CidrBlock, CidrState, Group, RouteTable, SubnetState, TableTie};

/// Pages of these actions hold 5 to 1000 objects; all of them come at once when no size is given.
fn thousand<'a>(max_results: Option<u32>, next_token: Option<&'a String>) -> Paging<'a> {
    Paging { max_results, next_token: next_token.map(String::as_str), by_id: None, largest: 1000, default: None }
}

impl Cloud {
    pub(crate) fn describe_zones(
        &self,
        request: &DescribeAvailabilityZones,
    ) -> Result<DescribeAvailabilityZonesResponse, ApiError> {
        check(&request.filters)?;
        let zones = &self.world.spec.zones;
        let stranger = request.zone_names.iter().find(|name| !zones.iter().any(|zone| zone.name == **name));
        let stranger =
            stranger.or_else(|| request.zone_ids.iter().find(|id| !zones.iter().any(|zone| zone.id == **id)));
        if let Some(stranger) = stranger {
            return Err(ApiError::value(format!("Invalid availability zone: [{stranger}]")));
        }
        let mut found = Vec::new();
        for zone in zones {
            let asked = request.zone_names.is_empty() && request.zone_ids.is_empty()
                || request.zone_names.contains(&zone.name)
                || request.zone_ids.contains(&zone.id);
            let attributes = |name: &str| {
                Some(match name {
                    "zone-name" => vec![zone.name.clone()],
                    "zone-id" => vec![zone.id.clone()],
                    "region-name" | "group-name" => vec![self.world.spec.region.clone()],
                    "state" => vec!["available".to_owned()],
                    "zone-type" => vec!["availability-zone".to_owned()],
                    "opt-in-status" => vec!["opt-in-not-required".to_owned()],
                    _ => return None,
                })
            };
            if asked && passes(&request.filters, &Tags::new(), &attributes)? {
                found.push(AvailabilityZone {
                    zone_name: zone.name.clone(),
                    zone_id: Some(zone.id.clone()),
                    state: Some("available".to_owned()),
                    region_name: Some(self.world.spec.region.clone()),
                    zone_type: Some("availability-zone".to_owned()),
                    opt_in_status: Some("opt-in-not-required".to_owned()),
                    network_border_group: Some(self.world.spec.region.clone()),
                    group_name: Some(self.world.spec.region.clone()),
                });
            }
        }
        Ok(DescribeAvailabilityZonesResponse { availability_zones: found })
    }

    pub(crate) fn describe_vpcs(&self, request: &DescribeVpcs) -> Result<DescribeVpcsResponse, ApiError> {
        check(&request.filters)?;
        let vpc = &self.world.spec.vpc;
        if let Some(stranger) = request.vpc_ids.iter().find(|id| **id != vpc.id) {
            return Err(ApiError::client("InvalidVpcID.NotFound", format!("The vpc ID '{stranger}' does not exist")));
        }
        let cidrs = || self.world.cidrs.iter().map(|block| block.cidr.to_string()).collect::<Vec<_>>();
        let tags = &self.world.vpc_tags;
        let attributes = |name: &str| {
            Some(match name {
                "vpc-id" => vec![vpc.id.to_string()],
                "cidr" => cidrs().into_iter().take(1).collect(),
                "cidr-block-association.cidr-block" => cidrs(),
                "owner-id" => vec![self.world.spec.account_id.clone()],
                "state" => vec!["available".to_owned()],
                "is-default" => vec!["false".to_owned()],
                _ => return None,
            })
        };
        let mut found = Vec::new();
        if passes(&request.filters, tags, &attributes)? {
            found.extend(self.world.cidrs.first().map(|first| (vpc.id.to_string(), self.show_vpc(first.cidr, tags))));
        }
        let (vpcs, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeVpcsResponse { vpcs, next_token })
    }

    fn show_vpc(&self, first: ipnet::Ipv4Net, tags: &Tags) -> Vpc {
        let vpc = &self.world.spec.vpc;
        Vpc {
            vpc_id: vpc.id.clone(),
            owner_id: Some(self.world.spec.account_id.clone()),
            state: Some("available".to_owned()),
            cidr_block: first,
            cidr_block_associations: self.world.cidrs.iter().map(show_cidr).collect(),
            ipv6_cidr_block_associations: Vec::new(),
            dhcp_options_id: Some(id_text("dopt-", vpc.id.as_str())),
            instance_tenancy: Some("default".to_owned()),
            is_default: Some(false),
            tags: show_tags(tags),
        }
    }

    pub(crate) fn describe_subnets(&self, request: &DescribeSubnets) -> Result<DescribeSubnetsResponse, ApiError> {
        check(&request.filters)?;
        let ids = &request.subnet_ids;
        if let Some(missing) = ids.iter().find(|id| !self.world.subnets.contains_key(id)) {
            return Err(ApiError::no_subnet(missing));
        }
        let mut found = Vec::new();
        for (id, subnet) in self.world.subnets.iter().filter(|(id, _)| ids.is_empty() || ids.contains(id)) {
            let shown = self.show_subnet(subnet);
            let attributes = |name: &str| subnet_attribute(&shown, name);
            if passes(&request.filters, &subnet.tags, &attributes)? {
                found.push((id.to_string(), shown));
            }
        }
        let (subnets, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeSubnetsResponse { subnets, next_token })
    }

    pub(crate) fn show_subnet(&self, subnet: &SubnetState) -> SubnetDescription {
        let spec = &subnet.spec;
        let (region, account) = (&self.world.spec.region, &self.world.spec.account_id);
        let zone = self.world.spec.zones.iter().find(|zone| zone.name == spec.zone);
        SubnetDescription {
            subnet_id: spec.id.clone(),
            subnet_arn: Some(format!("arn:aws:ec2:{region}:{account}:subnet/{}", spec.id)),
            vpc_id: self.world.spec.vpc.id.clone(),
            owner_id: Some(account.clone()),
            state: Some("available".to_owned()),
            cidr_block: Some(spec.cidr),
            ipv6_cidr_block_associations: Vec::new(),
            available_ip_address_count: subnet.pool.free(),
            availability_zone: spec.zone.clone(),
            availability_zone_id: zone.map(|zone| zone.id.clone()),
            default_for_az: Some(false),
            map_public_ip_on_launch: Some(spec.map_public_ip),
            assign_ipv6_address_on_creation: Some(false),
            tags: show_tags(&subnet.tags),
        }
    }

    pub(crate) fn describe_route_tables(
        &self,
        request: &DescribeRouteTables,
    ) -> Result<DescribeRouteTablesResponse, ApiError> {
        check(&request.filters)?;
        let (tables, ids) = (&self.world.route_tables, &request.route_table_ids);
        if let Some(missing) = ids.iter().find(|id| !tables.contains_key(*id)) {
            let text = format!("The routeTable ID '{missing}' does not exist");
            return Err(ApiError::client("InvalidRouteTableID.NotFound", text));
        }
        let mut found = Vec::new();
        for table in tables.values().filter(|table| ids.is_empty() || ids.contains(&table.id)) {
            let shown = self.show_route_table(table);
            let attributes = |name: &str| route_table_attribute(&shown, name);
            if passes(&request.filters, &table.tags, &attributes)? {
                found.push((table.id.clone(), shown));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let paging = Paging { largest: 100, ..thousand(request.max_results, request.next_token.as_ref()) };
        let (route_tables, next_token) = paging.page(found)?;
        Ok(DescribeRouteTablesResponse { route_tables, next_token })
    }

    pub(crate) fn show_route_table(&self, table: &RouteTable) -> RouteTableDescription {
        let association = |tie: &TableTie| RouteTableAssociation {
            route_table_association_id: tie.id.clone(),
            route_table_id: table.id.clone(),
            subnet_id: tie.subnet.clone(),
            main: tie.subnet.is_none(),
        };
        let local = self.world.usable_cidrs().into_iter().map(|cidr| Route {
            destination_cidr_block: Some(cidr),
            gateway_id: Some("local".to_owned()),
            origin: Some("CreateRouteTable".to_owned()),
            state: Some(RouteState::Active),
            ..Route::default()
        });
        let written = table.routes.iter().map(|route| Route {
            destination_cidr_block: Some(route.destination),
            gateway_id: match route.target {
                RouteTarget::InternetGateway => self.world.spec.internet_gateway.clone(),
                _ => None,
            },
            nat_gateway_id: match &route.target {
                RouteTarget::NatGateway(id) => Some(id.clone()),
                _ => None,
            },
            origin: Some("CreateRoute".to_owned()),
            state: Some(if self.world.is_blackhole(&route.target) {
                RouteState::Blackhole
            } else {
                RouteState::Active
            }),
            ..Route::default()
        });
        RouteTableDescription {
            route_table_id: table.id.clone(),
            vpc_id: self.world.spec.vpc.id.clone(),
            owner_id: Some(self.world.spec.account_id.clone()),
            associations: table.ties.iter().map(association).collect(),
            routes: local.chain(written).collect(),
            tags: show_tags(&table.tags),
        }
    }

    pub(crate) fn describe_groups(
        &self,
        request: &DescribeSecurityGroups,
    ) -> Result<DescribeSecurityGroupsResponse, ApiError> {
        check(&request.filters)?;
        let (groups, ids) = (&self.world.groups, &request.group_ids);
        if let Some(missing) = ids.iter().find(|id| !groups.contains_key(*id)) {
            return Err(ApiError::no_group(missing));
        }
        if let Some(missing) =
            request.group_names.iter().find(|name| !groups.values().any(|group| group.name == **name))
        {
            return Err(ApiError::no_group(missing));
        }
        let asked = |group: &&Group| {
            ids.is_empty() && request.group_names.is_empty()
                || ids.contains(&group.id)
                || request.group_names.contains(&group.name)
        };
        let mut found = Vec::new();
        for group in groups.values().filter(asked) {
            let attributes = |name: &str| {
                Some(match name {
                    "group-id" => vec![group.id.to_string()],
                    "group-name" => vec![group.name.clone()],
                    "vpc-id" => vec![self.world.spec.vpc.id.to_string()],
                    "owner-id" => vec![self.world.spec.account_id.clone()],
                    "description" => vec![group.description.clone()],
                    _ => return None,
                })
            };
            if passes(&request.filters, &group.tags, &attributes)? {
                found.push((group.id.to_string(), self.show_group(group)));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (security_groups, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeSecurityGroupsResponse { security_groups, next_token })
    }

    pub(crate) fn show_group(&self, group: &Group) -> SecurityGroup {
        let account = &self.world.spec.account_id;
        SecurityGroup {
            group_id: group.id.clone(),
            group_name: group.name.clone(),
            description: Some(group.description.clone()),
            owner_id: Some(account.clone()),
            vpc_id: Some(self.world.spec.vpc.id.clone()),
            ip_permissions: permissions(&group.ingress, account),
            ip_permissions_egress: permissions(&group.egress, account),
            tags: show_tags(&group.tags),
        }
    }

    pub(crate) fn describe_tags(&self, request: &DescribeTags) -> Result<DescribeTagsResponse, ApiError> {
        check(&request.filters)?;
        let mut found = Vec::new();
        for (id, kind, tags) in self.world.all_tags() {
            for (key, value) in tags {
                let attributes = |name: &str| {
                    Some(match name {
                        "resource-id" => vec![id.clone()],
                        "resource-type" => vec![kind.as_str().to_owned()],
                        "key" => vec![key.clone()],
                        "value" => vec![value.clone()],
                        _ => return None,
                    })
                };
                let own = Tags::from([(key.clone(), value.clone())]);
                if passes(&request.filters, &own, &attributes)? {
                    let description = TagDescription {
                        resource_id: id.clone(),
                        resource_type: kind.clone(),
                        key: key.clone(),
                        value: value.clone(),
                    };
                    found.push((format!("{id} {key}"), description));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (tags, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeTagsResponse { tags, next_token })
    }
}

/// A CIDR of the VPC as EC2 shows it.
pub(crate) fn show_cidr(block: &CidrBlock) -> VpcCidrBlockAssociation {
    let state = match block.state {
        CidrState::Associating => CidrBlockState::Associating,
        CidrState::Associated => CidrBlockState::Associated,
        CidrState::Disassociating => CidrBlockState::Disassociating,
    };
    VpcCidrBlockAssociation {
        association_id: Some(block.id.clone()),
        cidr_block: block.cidr,
        cidr_block_state: Some(BlockState { state }),
    }
}

fn subnet_attribute(subnet: &SubnetDescription, name: &str) -> Option<Vec<String>> {
    Some(match name {
        "subnet-id" => vec![subnet.subnet_id.to_string()],
        "vpc-id" => vec![subnet.vpc_id.to_string()],
        "availability-zone" | "availabilityZone" => vec![subnet.availability_zone.clone()],
        "availability-zone-id" | "availabilityZoneId" => subnet.availability_zone_id.clone().into_iter().collect(),
        "cidr-block" | "cidr" | "cidrBlock" => subnet.cidr_block.map(|cidr| cidr.to_string()).into_iter().collect(),
        "available-ip-address-count" => vec![subnet.available_ip_address_count.to_string()],
        "state" => vec!["available".to_owned()],
        "default-for-az" | "defaultForAz" => vec!["false".to_owned()],
        "map-public-ip-on-launch" => subnet.map_public_ip_on_launch.map(|maps| maps.to_string()).into_iter().collect(),
        "owner-id" => subnet.owner_id.clone().into_iter().collect(),
        "subnet-arn" => subnet.subnet_arn.clone().into_iter().collect(),
        _ => return None,
    })
}

fn route_table_attribute(table: &RouteTableDescription, name: &str) -> Option<Vec<String>> {
    let (associations, routes) = (&table.associations, &table.routes);
    Some(match name {
        "route-table-id" | "association.route-table-id" => vec![table.route_table_id.clone()],
        "vpc-id" => vec![table.vpc_id.to_string()],
        "owner-id" => table.owner_id.clone().into_iter().collect(),
        "association.main" => associations.iter().map(|own| own.main.to_string()).collect(),
        "association.subnet-id" => {
            associations.iter().filter_map(|own| own.subnet_id.as_ref()).map(ToString::to_string).collect()
        }
        "association.route-table-association-id" => {
            associations.iter().map(|own| own.route_table_association_id.clone()).collect()
        }
        "route.destination-cidr-block" => {
            routes.iter().filter_map(|route| route.destination_cidr_block).map(|cidr| cidr.to_string()).collect()
        }
        "route.gateway-id" => routes.iter().filter_map(|route| route.gateway_id.clone()).collect(),
        "route.nat-gateway-id" => routes.iter().filter_map(|route| route.nat_gateway_id.clone()).collect(),
        _ => return None,
    })
}
