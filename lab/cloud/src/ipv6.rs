//! IPv6 addresses of ENIs. No subnet of this cloud has an IPv6 CIDR: requests are checked as EC2 checks them, and refused for
//! that reason when nothing else is wrong with them.

use vpc_aws::ec2::shapes::{
    AssignIpv6Addresses, AssignIpv6AddressesResponse, UnassignIpv6Addresses, UnassignIpv6AddressesResponse,
};

use crate::actions::one_kind;
use crate::cloud::Cloud;
use crate::error::ApiError;

impl Cloud {
    pub(crate) fn assign_ipv6(&self, request: &AssignIpv6Addresses) -> Result<AssignIpv6AddressesResponse, ApiError> {
        let eni = self.eni(&request.network_interface_id)?;
        one_kind(
            &[
                ("Ipv6AddressCount", request.ipv6_address_count.is_some()),
                ("Ipv6Addresses", !request.ipv6_addresses.is_empty()),
                ("Ipv6PrefixCount", request.ipv6_prefix_count.is_some()),
                ("Ipv6Prefix", !request.ipv6_prefixes.is_empty()),
            ],
            true,
        )?;
        Err(ApiError::no_ipv6(&eni.subnet))
    }

    pub(crate) fn unassign_ipv6(
        &self,
        request: &UnassignIpv6Addresses,
    ) -> Result<UnassignIpv6AddressesResponse, ApiError> {
        let id = &self.eni(&request.network_interface_id)?.id;
        one_kind(
            &[("Ipv6Addresses", !request.ipv6_addresses.is_empty()), ("Ipv6Prefix", !request.ipv6_prefixes.is_empty())],
            true,
        )?;
        // Whatever is named is not there.
        let addresses = request.ipv6_addresses.iter().map(ToString::to_string);
        let strangers: Vec<_> = addresses.chain(request.ipv6_prefixes.iter().map(ToString::to_string)).collect();
        let strangers = strangers.join(", ");
        Err(ApiError::value(format!("[{strangers}] is not assigned to the network interface '{id}'.")))
    }
}
