//! CIDRs of the VPC that come and go.

use ipnet::Ipv4Net;
use vpc_aws::ec2::shapes::{AssociateVpcCidrBlock, DisassociateVpcCidrBlock, VpcCidrBlockResponse};

use crate::cloud::{Cloud, Task};
use crate::describe::show_cidr;
use crate::describe::well_formed;
use crate::error::ApiError;
use crate::spec::RouteTarget;
use crate::world::{CidrBlock, CidrState};

/// IPv4 CIDRs a VPC may have (the account's default quota).
const MAX_CIDRS: usize = 5;

/// The private networks of RFC 1918: a VPC may have addresses of the one that its primary CIDR is of, if any.
const PRIVATE: [Ipv4Net; 3] = [net(10, 0, 8), net(172, 16, 12), net(192, 168, 16)];
/// Not to be added to a VPC whose primary CIDR is of 172.16.0.0/12.
const DEFAULT_VPCS: Ipv4Net = net(172, 31, 16);
/// Never to be added.
const PROVIDERS_OWN: Ipv4Net = net(198, 19, 16);
/// With addresses of the first, a VPC takes none of the second any more.
const FIRST_OF_TEN: (Ipv4Net, Ipv4Net) = (net(10, 0, 15), net(10, 0, 16));

const fn net(a: u8, b: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), length)
}

impl Cloud {
    pub(super) fn associate_cidr(&mut self, request: &AssociateVpcCidrBlock) -> Result<VpcCidrBlockResponse, ApiError> {
        self.check_vpc(&request.vpc_id)?;
        if request.amazon_provided_ipv6_cidr_block == Some(true) {
            return Err(ApiError::unsupported("This cloud has no IPv6."));
        }
        let cidr = request.cidr_block.ok_or_else(|| ApiError::missing("CidrBlock"))?.trunc();
        self.check_addable(cidr)?;
        if self.world.cidrs.len() >= MAX_CIDRS {
            let vpc = &request.vpc_id;
            let text = format!("This network '{vpc}' has met its maximum number of allowed CIDRs: {MAX_CIDRS}");
            return Err(ApiError::client("CidrLimitExceeded", text));
        }
        let block = CidrBlock { id: self.dice.id("vpc-cidr-assoc-"), cidr, state: CidrState::Associating };
        let answer = self.cidr_answer(&block);
        self.later(self.setup.profile.cidr, Task::CidrSettled(block.id.clone()));
        self.world.cidrs.push(block);
        Ok(answer)
    }

    /// Whether a network may be added to the VPC, by the rules of EC2's documentation ("IPv4 CIDR block association
    /// restrictions").
    fn check_addable(&self, cidr: Ipv4Net) -> Result<(), ApiError> {
        let refuse = |why: &str| Err(ApiError::client("InvalidVpc.Range", format!("The CIDR '{cidr}' {why}")));
        if !(16..=28).contains(&cidr.prefix_len()) {
            return refuse("is invalid.");
        }
        let first = cidr.network();
        if first.is_loopback() || first.is_link_local() || first.octets()[0] == 0 || first.octets()[0] >= 224 {
            return refuse("is reserved and cannot be a VPC's.");
        }
        let own = || self.world.cidrs.iter().map(|block| block.cidr);
        if own().any(|other| overlap(other, cidr)) {
            return refuse("conflicts with one of the CIDRs currently associated with the VPC.");
        }
        let spec = &self.world.spec;
        let peers = spec.peerings.iter().flat_map(|peering| &peering.cidrs);
        if peers.into_iter().any(|other| overlap(*other, cidr)) {
            return refuse("conflicts with one of the CIDRs of a peered VPC.");
        }
        let mut routes = self.world.route_tables.values().flat_map(|table| &table.routes);
        if routes.any(|route| route.target != RouteTarget::Local && cidr.contains(&route.destination)) {
            return refuse("is the same as or larger than the destination of an existing route.");
        }
        let family = |net: Ipv4Net| PRIVATE.iter().find(|private| private.contains(&net));
        let primary = own().next().and_then(family);
        let (ten, of_ten) = FIRST_OF_TEN;
        let restricted = family(cidr).is_some() && family(cidr) != primary
            || overlap(PROVIDERS_OWN, cidr)
            || overlap(DEFAULT_VPCS, cidr) && primary == Some(&PRIVATE[1])
            || overlap(of_ten, cidr) && own().any(|old| ten.contains(&old));
        if restricted {
            return refuse(
                "is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use a \
                 publicly-routable CIDR. For additional restrictions, see \
                 https://docs.aws.amazon.com/AmazonVPC/latest/UserGuide/VPC_Subnets.html",
            );
        }
        Ok(())
    }

    pub(super) fn disassociate_cidr(
        &mut self,
        request: &DisassociateVpcCidrBlock,
    ) -> Result<VpcCidrBlockResponse, ApiError> {
        let (id, vpc) = (&request.association_id, &self.world.spec.vpc.id);
        well_formed(&[id], "vpc-cidr-assoc-", "InvalidVpcCidrBlockAssociationID.Malformed")?;
        let place = self.world.cidrs.iter().position(|block| block.id == *id).ok_or_else(|| {
            let text = format!("The vpc CIDR block association ID '{id}' does not exist");
            ApiError::client("InvalidVpcCidrBlockAssociationID.NotFound", text)
        })?;
        if place == 0 {
            let why = "may not be disassociated. It is the primary IPv4 CIDR block of the VPC";
            let text = format!("The vpc CIDR block with association ID {id} {why}");
            return Err(ApiError::client("OperationNotPermitted", text));
        }
        let cidr = self.world.cidrs.get(place).map(|block| block.cidr).unwrap_or_default();
        if self.world.subnets.values().any(|subnet| cidr.contains(&subnet.spec.cidr.net())) {
            let text = format!("The vpc {vpc} currently has a subnet within CIDR block {cidr}");
            return Err(ApiError::client("InvalidCidrBlock.InUse", text));
        }
        let block = self.world.cidrs.get_mut(place).ok_or_else(|| ApiError::missing("AssociationId"))?;
        let before = std::mem::replace(&mut block.state, CidrState::Disassociating);
        let block = block.clone();
        match before {
            CidrState::Associated => self.later(self.setup.profile.cidr, Task::CidrSettled(block.id.clone())),
            // It never was there.
            CidrState::Associating => _ = self.world.cidrs.remove(place),
            CidrState::Disassociating => {}
        }
        Ok(self.cidr_answer(&block))
    }

    fn cidr_answer(&self, block: &CidrBlock) -> VpcCidrBlockResponse {
        VpcCidrBlockResponse {
            vpc_id: self.world.spec.vpc.id.clone(),
            cidr_block_association: Some(show_cidr(block)),
            ipv6_cidr_block_association: None,
        }
    }

    /// A CIDR that was on its way in or out has arrived there.
    pub(crate) fn cidr_settled(&mut self, id: &str) {
        match self.world.cidrs.iter_mut().find(|block| block.id == id) {
            Some(block) if block.state == CidrState::Associating => block.state = CidrState::Associated,
            Some(block) if block.state == CidrState::Disassociating => self.world.cidrs.retain(|block| block.id != id),
            _ => {}
        }
        self.network_changed();
        // IMDS learns of it as late as of everything else, ENI by ENI.
        let attached = self.world.enis.values().filter(|eni| eni.attachment.is_some());
        for eni in attached.map(|eni| eni.id.clone()).collect::<Vec<_>>() {
            self.later(self.setup.profile.imds_change, Task::ImdsRefresh(eni));
        }
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
