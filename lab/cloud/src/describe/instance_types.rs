//! DescribeInstanceTypes.

use vpc_aws::ec2::shapes::{
    DescribeInstanceTypes, DescribeInstanceTypesResponse, InstanceTypeInfo, NetworkCardInfo, NetworkInfo,
};
use vpc_model::{Hypervisor, InstanceLimits, all_instance_limits, instance_limits};

use super::Listing;
use super::filter::{Row, all, held, not_held, one};
use super::page::{PageRequest, Pages};
use crate::cloud::Cloud;
use crate::error::ApiError;

pub(super) const TYPES: Listing<InstanceTypeInfo> = Listing {
    action: "DescribeInstanceTypes",
    filters: FILTERS,
    pages: Some(Pages { default: Some(100), ..Pages::HUNDRED }),
};

const FILTERS: &[Row<InstanceTypeInfo>] = &[
    not_held("auto-recovery-supported"),
    held("bare-metal", |own| all(own.bare_metal)),
    not_held("burstable-performance-supported"),
    not_held("current-generation"),
    not_held("dedicated-hosts-supported"),
    not_held("ebs-info.attachment-limit-type"),
    not_held("ebs-info.maximum-ebs-attachments"),
    not_held("ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps"),
    not_held("ebs-info.ebs-optimized-info.baseline-iops"),
    not_held("ebs-info.ebs-optimized-info.baseline-throughput-in-mbps"),
    not_held("ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps"),
    not_held("ebs-info.ebs-optimized-info.maximum-iops"),
    not_held("ebs-info.ebs-optimized-info.maximum-throughput-in-mbps"),
    not_held("ebs-info.ebs-optimized-support"),
    not_held("ebs-info.encryption-support"),
    not_held("ebs-info.nvme-support"),
    not_held("free-tier-eligible"),
    not_held("hibernation-supported"),
    held("hypervisor", |own| all(&own.hypervisor)),
    not_held("instance-storage-info.disk.count"),
    not_held("instance-storage-info.disk.size-in-gb"),
    not_held("instance-storage-info.disk.type"),
    not_held("instance-storage-info.encryption-support"),
    not_held("instance-storage-info.nvme-support"),
    not_held("instance-storage-info.total-size-in-gb"),
    not_held("instance-storage-supported"),
    held("instance-type", |own| one(&own.instance_type)),
    not_held("memory-info.size-in-mib"),
    not_held("network-info.bandwidth-weightings"),
    not_held("network-info.efa-info.maximum-efa-interfaces"),
    not_held("network-info.efa-supported"),
    not_held("network-info.ena-support"),
    not_held("network-info.flexible-ena-queues-support"),
    not_held("network-info.encryption-in-transit-supported"),
    held("network-info.ipv4-addresses-per-interface", |own| network(own, |info| info.ipv4_addresses_per_interface)),
    not_held("network-info.ipv6-addresses-per-interface"),
    not_held("network-info.ipv6-supported"),
    held("network-info.maximum-network-cards", |own| network(own, |info| info.maximum_network_cards)),
    held("network-info.maximum-network-interfaces", |own| network(own, |info| info.maximum_network_interfaces)),
    not_held("network-info.network-performance"),
    not_held("nitro-enclaves-support"),
    not_held("nitro-tpm-support"),
    not_held("nitro-tpm-info.supported-versions"),
    not_held("processor-info.supported-architecture"),
    not_held("processor-info.sustained-clock-speed-in-ghz"),
    not_held("processor-info.supported-features"),
    not_held("reboot-migration-support"),
    not_held("supported-boot-mode"),
    not_held("supported-root-device-type"),
    not_held("supported-usage-class"),
    not_held("supported-virtualization-type"),
    not_held("vcpu-info.default-cores"),
    not_held("vcpu-info.default-threads-per-core"),
    not_held("vcpu-info.default-vcpus"),
    not_held("vcpu-info.valid-cores"),
    not_held("vcpu-info.valid-threads-per-core"),
];

/// Values of the network of a type.
fn network<V: ToString>(shown: &InstanceTypeInfo, value: impl Fn(&NetworkInfo) -> Option<V>) -> Vec<String> {
    all(shown.network_info.as_ref().and_then(value))
}

impl Cloud {
    pub(crate) fn describe_instance_types(
        &self,
        request: &DescribeInstanceTypes,
    ) -> Result<DescribeInstanceTypesResponse, ApiError> {
        let names = &request.instance_types;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !names.is_empty(),
        };
        let question = TYPES.ask(self, &request.filters, page)?;
        let missing: Vec<_> = names.iter().filter(|name| instance_limits(name).is_none()).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(ApiError::client(
                "InvalidInstanceType",
                format!("The following supplied instance types do not exist: [{}]", missing.join(", ")),
            ));
        }
        let asked = all_instance_limits().iter().filter(|row| names.is_empty() || names.contains(&row.instance_type));
        let (instance_types, next_token) =
            question.answer(asked.map(|limits| (limits.instance_type.clone(), show_type(limits))));
        Ok(DescribeInstanceTypesResponse { instance_types, next_token })
    }
}

fn hypervisor(limits: &InstanceLimits) -> Option<String> {
    match limits.hypervisor {
        Hypervisor::Nitro => Some("nitro".to_owned()),
        Hypervisor::Xen => Some("xen".to_owned()),
        Hypervisor::Unknown => None,
    }
}

fn all_enis(limits: &InstanceLimits) -> u32 {
    limits.cards.iter().map(|card| card.max_enis).sum()
}

fn show_type(limits: &InstanceLimits) -> InstanceTypeInfo {
    InstanceTypeInfo {
        instance_type: limits.instance_type.clone(),
        bare_metal: Some(limits.bare_metal),
        hypervisor: hypervisor(limits),
        network_info: Some(NetworkInfo {
            network_performance: None,
            maximum_network_interfaces: Some(all_enis(limits)),
            maximum_network_cards: u32::try_from(limits.cards.len()).ok(),
            default_network_card_index: Some(limits.default_card),
            network_cards: limits
                .cards
                .iter()
                .map(|card| NetworkCardInfo {
                    network_card_index: card.card,
                    network_performance: None,
                    maximum_network_interfaces: Some(card.max_enis),
                })
                .collect(),
            ipv4_addresses_per_interface: Some(limits.ipv4_per_eni),
            ipv6_addresses_per_interface: None,
            ipv6_supported: None,
            ena_support: None,
            efa_supported: None,
        }),
    }
}
