//! Instance types.

use vpc_model::CardIndex;

use super::listing::listing;
use super::xml::xml_shape;

listing! {
    /// Lists what instance types can do.
    #[derive(Default)]
    DescribeInstanceTypes {
        /// The types; empty = all that pass the filters.
        instance_types: Vec<String> = "InstanceType",
    }
    /// A page of instance types.
    DescribeInstanceTypesResponse {
        /// The types.
        instance_types: Vec<InstanceTypeInfo> = "instanceTypeSet",
    }
}

xml_shape! {
    /// What a type can do.
    InstanceTypeInfo {
        /// Its name.
        instance_type: String = "instanceType",
        /// Whether the instance is the bare machine.
        bare_metal: Option<bool> = "bareMetal",
        /// `nitro` or `xen`; absent on bare metal.
        hypervisor: Option<String> = "hypervisor",
        /// Its network.
        network_info: Option<NetworkInfo> = "networkInfo",
    }
}

xml_shape! {
    /// The network of a type.
    NetworkInfo {
        /// For people.
        network_performance: Option<String> = "networkPerformance",
        /// ENIs over all cards.
        maximum_network_interfaces: Option<u32> = "maximumNetworkInterfaces",
        /// Cards.
        maximum_network_cards: Option<u32> = "maximumNetworkCards",
        /// The card with the primary ENI.
        default_network_card_index: Option<CardIndex> = "defaultNetworkCardIndex",
        /// The cards.
        network_cards: Vec<NetworkCardInfo> = "networkCards",
        /// IPv4 addresses of an ENI, the primary one included.
        ipv4_addresses_per_interface: Option<u32> = "ipv4AddressesPerInterface",
        /// IPv6 addresses of an ENI.
        ipv6_addresses_per_interface: Option<u32> = "ipv6AddressesPerInterface",
        /// Whether ENIs may have IPv6 addresses.
        ipv6_supported: Option<bool> = "ipv6Supported",
        /// `unsupported`, `supported` or `required`.
        ena_support: Option<String> = "enaSupport",
        /// Whether an EFA is possible.
        efa_supported: Option<bool> = "efaSupported",
    }
}

xml_shape! {
    /// A network card of a type.
    NetworkCardInfo {
        /// Which.
        network_card_index: CardIndex = "networkCardIndex",
        /// For people.
        network_performance: Option<String> = "networkPerformance",
        /// ENIs it takes, the primary one included.
        maximum_network_interfaces: Option<u32> = "maximumNetworkInterfaces",
    }
}
