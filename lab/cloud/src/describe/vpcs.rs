//! DescribeVpcs.

use ipnet::Ipv4Net;
use vpc_aws::ec2::shapes::{
    BlockState, CidrBlockState, DescribeVpcs, DescribeVpcsResponse, Vpc, VpcCidrBlockAssociation,
};

use vpc_model::VpcId;

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::id_text;
use crate::world::{CidrBlock, CidrState};

pub(super) const VPCS: Listing<Vpc> =
    Listing { action: "DescribeVpcs", filters: FILTERS, pages: Some(Pages::THOUSAND) };

const FILTERS: &[Row<Vpc>] = &[
    held("cidr", |own| one(own.cidr_block)),
    held("cidr-block-association.cidr-block", |own| {
        all(own.cidr_block_associations.iter().map(|block| block.cidr_block))
    }),
    held("cidr-block-association.association-id", |own| {
        all(own.cidr_block_associations.iter().filter_map(|block| block.association_id.as_ref()))
    }),
    held("cidr-block-association.state", |own| all(block_states(own))),
    held("dhcp-options-id", |own| all(&own.dhcp_options_id)),
    not_held("ipv6-cidr-block-association.ipv6-cidr-block"),
    not_held("ipv6-cidr-block-association.ipv6-pool"),
    not_held("ipv6-cidr-block-association.association-id"),
    not_held("ipv6-cidr-block-association.state"),
    held("is-default", |own| all(own.is_default)),
    held("owner-id", |own| all(&own.owner_id)),
    held("state", |own| all(&own.state)),
    by_tag(|own| &own.tags),
    held("tag-key", |own| keys(&own.tags)),
    held("vpc-id", |own| one(&own.vpc_id)),
];

fn block_states(vpc: &Vpc) -> impl Iterator<Item = &str> {
    let states = vpc.cidr_block_associations.iter().filter_map(|block| block.cidr_block_state.as_ref());
    states.map(|block| block.state.as_str())
}

impl Cloud {
    pub(crate) fn describe_vpcs(&self, request: &DescribeVpcs) -> Result<DescribeVpcsResponse, ApiError> {
        let ids = &request.vpc_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = VPCS.ask(self, &request.filters, page)?;
        let vpc = &self.world.spec.vpc;
        look_up(ids, (VpcId::PREFIX, "InvalidVpcID.Malformed"), |id| *id == vpc.id, ApiError::no_vpc)?;
        let shown = self.world.cidrs.first().map(|first| (vpc.id.to_string(), self.show_vpc(first.cidr)));
        let (vpcs, next_token) = question.answer(shown);
        Ok(DescribeVpcsResponse { vpcs, next_token })
    }

    fn show_vpc(&self, first: Ipv4Net) -> Vpc {
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
            tags: show_tags(&self.world.vpc_tags),
        }
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
