//! The actions that change an ENI's addresses. Those for IPv6 answer with plain addresses and networks, without an element
//! around each, and take no certain addresses away from other ENIs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use vpc_model::{EniId, Prefix28};

use super::interface::Ipv4PrefixEntry;
use super::query::request;
use super::tags::Done;
use super::xml::xml_shape;

request! {
    /// Gives an ENI more addresses **or** prefixes. All or nothing. Not idempotent: EC2 takes no client token.
    AssignPrivateIpAddresses -> AssignPrivateIpAddressesResponse {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// So many addresses of EC2's choice.
        secondary_private_ip_address_count: Option<u32> = "SecondaryPrivateIpAddressCount",
        /// Certain addresses.
        private_ip_addresses: Vec<Ipv4Addr> = "PrivateIpAddress",
        /// So many /28s of EC2's choice.
        ipv4_prefix_count: Option<u32> = "Ipv4PrefixCount",
        /// Certain /28s.
        ipv4_prefixes: Vec<Prefix28> = "Ipv4Prefix",
        /// Whether addresses may be taken from another ENI.
        allow_reassignment: Option<bool> = "AllowReassignment",
    }
}

impl AssignPrivateIpAddresses {
    fn new(network_interface_id: EniId) -> Self {
        Self {
            network_interface_id,
            secondary_private_ip_address_count: None,
            private_ip_addresses: Vec::new(),
            ipv4_prefix_count: None,
            ipv4_prefixes: Vec::new(),
            allow_reassignment: None,
        }
    }

    /// So many addresses of EC2's choice.
    #[must_use]
    pub fn addresses(network_interface_id: EniId, count: u32) -> Self {
        Self { secondary_private_ip_address_count: Some(count), ..Self::new(network_interface_id) }
    }

    /// So many /28s of EC2's choice.
    #[must_use]
    pub fn prefixes(network_interface_id: EniId, count: u32) -> Self {
        Self { ipv4_prefix_count: Some(count), ..Self::new(network_interface_id) }
    }
}

xml_shape! {
    /// What the ENI got.
    AssignPrivateIpAddressesResponse {
        /// The ENI.
        network_interface_id: EniId = "networkInterfaceId",
        /// The new addresses.
        assigned_private_ip_addresses: Vec<AssignedPrivateIpAddress> = "assignedPrivateIpAddressesSet",
        /// The new /28s.
        assigned_ipv4_prefixes: Vec<Ipv4PrefixEntry> = "assignedIpv4PrefixSet",
    }
}

xml_shape! {
    /// An address just given.
    #[derive(Copy, Hash)]
    AssignedPrivateIpAddress {
        /// The address.
        private_ip_address: Ipv4Addr = "privateIpAddress",
    }
}

request! {
    /// Takes addresses or prefixes from an ENI; not the primary address.
    UnassignPrivateIpAddresses -> Done {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// The addresses.
        private_ip_addresses: Vec<Ipv4Addr> = "PrivateIpAddress",
        /// The /28s.
        ipv4_prefixes: Vec<Prefix28> = "Ipv4Prefix",
    }
}

request! {
    /// Gives an ENI more IPv6 addresses **or** prefixes. All or nothing. Not idempotent: EC2 takes no client token.
    AssignIpv6Addresses -> AssignIpv6AddressesResponse {
        /// The ENI, in a subnet with an IPv6 CIDR.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// So many addresses of EC2's choice.
        ipv6_address_count: Option<u32> = "Ipv6AddressCount",
        /// Certain addresses.
        ipv6_addresses: Vec<Ipv6Addr> = "Ipv6Addresses",
        /// So many /80s of EC2's choice.
        ipv6_prefix_count: Option<u32> = "Ipv6PrefixCount",
        /// Certain /80s.
        ipv6_prefixes: Vec<Ipv6Net> = "Ipv6Prefix",
    }
}

impl AssignIpv6Addresses {
    fn new(network_interface_id: EniId) -> Self {
        Self {
            network_interface_id,
            ipv6_address_count: None,
            ipv6_addresses: Vec::new(),
            ipv6_prefix_count: None,
            ipv6_prefixes: Vec::new(),
        }
    }

    /// So many addresses of EC2's choice.
    #[must_use]
    pub fn addresses(network_interface_id: EniId, count: u32) -> Self {
        Self { ipv6_address_count: Some(count), ..Self::new(network_interface_id) }
    }

    /// So many /80s of EC2's choice.
    #[must_use]
    pub fn prefixes(network_interface_id: EniId, count: u32) -> Self {
        Self { ipv6_prefix_count: Some(count), ..Self::new(network_interface_id) }
    }
}

xml_shape! {
    /// What the ENI got.
    AssignIpv6AddressesResponse {
        /// The ENI.
        network_interface_id: EniId = "networkInterfaceId",
        /// The new addresses.
        assigned_ipv6_addresses: Vec<Ipv6Addr> = "assignedIpv6Addresses",
        /// The new /80s.
        assigned_ipv6_prefixes: Vec<Ipv6Net> = "assignedIpv6PrefixSet",
    }
}

request! {
    /// Takes IPv6 addresses or prefixes from an ENI.
    UnassignIpv6Addresses -> UnassignIpv6AddressesResponse {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// The addresses.
        ipv6_addresses: Vec<Ipv6Addr> = "Ipv6Addresses",
        /// The /80s.
        ipv6_prefixes: Vec<Ipv6Net> = "Ipv6Prefix",
    }
}

xml_shape! {
    /// What the ENI no longer has.
    UnassignIpv6AddressesResponse {
        /// The ENI.
        network_interface_id: EniId = "networkInterfaceId",
        /// The addresses.
        unassigned_ipv6_addresses: Vec<Ipv6Addr> = "unassignedIpv6Addresses",
        /// The /80s.
        unassigned_ipv6_prefixes: Vec<Ipv6Net> = "unassignedIpv6PrefixSet",
    }
}
