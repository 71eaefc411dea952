//! The Describe actions for what lies around ENIs: zones, VPCs, subnets, route tables, groups, tags.

use vpc_aws::ec2::shapes::{
    AvailabilityZone, BlockState, CidrBlockState, DescribeAvailabilityZones, DescribeAvailabilityZonesResponse,
    DescribeRouteTables, DescribeRouteTablesResponse, DescribeSecurityGroups, DescribeSecurityGroupsResponse,
    DescribeSubnets, DescribeSubnetsResponse, DescribeTags, DescribeTagsResponse, DescribeVpcs, DescribeVpcsResponse,
    IpPermission, IpRange, ResourceType, Route, RouteState, RouteTableAssociation, RouteTableAssociationState,
    RouteTableAssociationStateCode, RouteTableDescription, SecurityGroup, SubnetDescription, TagDescription,
    UserIdGroupPair, Vpc, VpcCidrBlockAssociation,
};

use crate::cloud::Cloud;
use crate::describe::show_tags;
use crate::error::ApiError;
use crate::filter::{Paging, check, passes};
use crate::spec::{RouteTableSpec, RouteTarget, SecurityGroupSpec, Tags, id_text};
use crate::world::SubnetState;

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
        let cidrs = || vpc.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tags = self.tags_of(vpc.id.as_str());
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
        if passes(&request.filters, &tags, &attributes)? {
            found.extend(vpc.cidrs.first().map(|first| (vpc.id.to_string(), self.show_vpc(*first, &tags))));
        }
        let (vpcs, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeVpcsResponse { vpcs, next_token })
    }

    fn show_vpc(&self, first: ipnet::Ipv4Net, tags: &Tags) -> Vpc {
        let vpc = &self.world.spec.vpc;
        let association = |cidr: &ipnet::Ipv4Net| VpcCidrBlockAssociation {
            association_id: Some(id_text("vpc-cidr-assoc-", &cidr.to_string())),
            cidr_block: *cidr,
            cidr_block_state: Some(BlockState { state: CidrBlockState::Associated }),
        };
        Vpc {
            vpc_id: vpc.id.clone(),
            owner_id: Some(self.world.spec.account_id.clone()),
            state: Some("available".to_owned()),
            cidr_block: first,
            cidr_block_associations: vpc.cidrs.iter().map(association).collect(),
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

    fn show_subnet(&self, subnet: &SubnetState) -> SubnetDescription {
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
        let (tables, ids) = (&self.world.spec.route_tables, &request.route_table_ids);
        if let Some(missing) = ids.iter().find(|id| !tables.iter().any(|table| table.id == **id)) {
            let text = format!("The routeTable ID '{missing}' does not exist");
            return Err(ApiError::client("InvalidRouteTableID.NotFound", text));
        }
        let mut found = Vec::new();
        for table in tables.iter().filter(|table| ids.is_empty() || ids.contains(&table.id)) {
            let shown = self.show_route_table(table);
            let attributes = |name: &str| route_table_attribute(&shown, name);
            if passes(&request.filters, &self.tags_of(&table.id), &attributes)? {
                found.push((table.id.clone(), shown));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let paging = Paging { largest: 100, ..thousand(request.max_results, request.next_token.as_ref()) };
        let (route_tables, next_token) = paging.page(found)?;
        Ok(DescribeRouteTablesResponse { route_tables, next_token })
    }

    fn show_route_table(&self, table: &RouteTableSpec) -> RouteTableDescription {
        let association = |subnet: Option<&vpc_model::SubnetId>| RouteTableAssociation {
            route_table_association_id: id_text(
                "rtbassoc-",
                &format!("{} {}", table.id, subnet.map_or("main", vpc_model::SubnetId::as_str)),
            ),
            route_table_id: table.id.clone(),
            subnet_id: subnet.cloned(),
            main: subnet.is_none(),
            association_state: Some(RouteTableAssociationState { state: RouteTableAssociationStateCode::Associated }),
        };
        let mut associations: Vec<_> = table.subnets.iter().map(|subnet| association(Some(subnet))).collect();
        if table.main {
            associations.push(association(None));
        }
        let local = self.world.spec.vpc.cidrs.iter().map(|cidr| Route {
            destination_cidr_block: Some(*cidr),
            gateway_id: Some("local".to_owned()),
            origin: Some("CreateRouteTable".to_owned()),
            state: Some(RouteState::Active),
            ..Route::default()
        });
        let written = table.routes.iter().filter(|route| route.target != RouteTarget::Local).map(|route| Route {
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
            state: Some(if route.target == RouteTarget::Blackhole {
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
            associations,
            routes: local.chain(written).collect(),
            tags: show_tags(&self.tags_of(&table.id)),
        }
    }

    pub(crate) fn describe_groups(
        &self,
        request: &DescribeSecurityGroups,
    ) -> Result<DescribeSecurityGroupsResponse, ApiError> {
        check(&request.filters)?;
        let (groups, ids) = (&self.world.spec.security_groups, &request.group_ids);
        if let Some(missing) = ids.iter().find(|id| !groups.iter().any(|group| group.id == **id)) {
            return Err(ApiError::no_group(missing));
        }
        if let Some(missing) = request.group_names.iter().find(|name| !groups.iter().any(|group| group.name == **name))
        {
            return Err(ApiError::no_group(missing));
        }
        let asked = |group: &&SecurityGroupSpec| {
            ids.is_empty() && request.group_names.is_empty()
                || ids.contains(&group.id)
                || request.group_names.contains(&group.name)
        };
        let mut found = Vec::new();
        for group in groups.iter().filter(asked) {
            let attributes = |name: &str| {
                Some(match name {
                    "group-id" => vec![group.id.to_string()],
                    "group-name" => vec![group.name.clone()],
                    "vpc-id" => vec![self.world.spec.vpc.id.to_string()],
                    "owner-id" => vec![self.world.spec.account_id.clone()],
                    "description" => vec![group.name.clone()],
                    _ => return None,
                })
            };
            if passes(&request.filters, &self.tags_of(group.id.as_str()), &attributes)? {
                found.push((group.id.to_string(), self.show_group(group)));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (security_groups, next_token) = thousand(request.max_results, request.next_token.as_ref()).page(found)?;
        Ok(DescribeSecurityGroupsResponse { security_groups, next_token })
    }

    /// A group with the rules EC2 gives a VPC's default group: members may talk to each other and to everybody.
    fn show_group(&self, group: &SecurityGroupSpec) -> SecurityGroup {
        let all = |groups: Vec<UserIdGroupPair>, ip_ranges: Vec<IpRange>| IpPermission {
            ip_protocol: "-1".to_owned(),
            from_port: None,
            to_port: None,
            groups,
            ip_ranges,
            ..IpPermission::default()
        };
        let itself = UserIdGroupPair {
            user_id: Some(self.world.spec.account_id.clone()),
            ..UserIdGroupPair::new(group.id.clone())
        };
        let everybody = IpRange { cidr_ip: ipnet::Ipv4Net::default(), description: None };
        SecurityGroup {
            group_id: group.id.clone(),
            group_name: group.name.clone(),
            description: Some(group.name.clone()),
            owner_id: Some(self.world.spec.account_id.clone()),
            vpc_id: Some(self.world.spec.vpc.id.clone()),
            ip_permissions: vec![all(vec![itself], Vec::new())],
            ip_permissions_egress: vec![all(Vec::new(), vec![everybody])],
            security_group_arn: Some(format!(
                "arn:aws:ec2:{}:{}:security-group/{}",
                self.world.spec.region, self.world.spec.account_id, group.id
            )),
            tags: show_tags(&self.tags_of(group.id.as_str())),
        }
    }

    pub(crate) fn describe_tags(&self, request: &DescribeTags) -> Result<DescribeTagsResponse, ApiError> {
        check(&request.filters)?;
        let mut found = Vec::new();
        for (id, kind, tags) in self.all_tags() {
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

    fn all_tags(&self) -> Vec<(String, ResourceType, &Tags)> {
        let world = &self.world;
        let enis = world.enis.values().map(|eni| (eni.id.to_string(), ResourceType::NetworkInterface, &eni.tags));
        let instances = world.instances.iter().map(|(id, own)| (id.to_string(), ResourceType::Instance, &own.tags));
        let subnets = world.subnets.iter().map(|(id, own)| (id.to_string(), ResourceType::Subnet, &own.tags));
        let others = world.other_tags.iter().map(|(id, tags)| {
            let kind = match id.split('-').next() {
                Some("vpc") => ResourceType::Vpc,
                Some("sg") => ResourceType::SecurityGroup,
                _ => ResourceType::RouteTable,
            };
            (id.clone(), kind, tags)
        });
        enis.chain(instances).chain(subnets).chain(others).collect()
    }

    fn tags_of(&self, id: &str) -> Tags {
        self.world.other_tags.get(id).cloned().unwrap_or_default()
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
