//! Compiles the contract (`proto/`) without any external program, and keeps its descriptor for reflection and for the tests.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;
use prost_types::FileDescriptorSet;

/// Names of the contract that the mechanical rule would garble (`IPv4Addr` becomes `i_pv4_addr`), and what the generated
/// Rust calls them. Names never travel; numbers do.
const RUST_NAMES: &[(&str, &str)] = &[
    ("IPAllocationMetadata", "allocations"),
    ("IPv4Addr", "ipv4"),
    ("IPv6Addr", "ipv6"),
    ("ContainerID", "container_id"),
    ("RequiresMultiNICAttachment", "requires_multi_nic"),
    ("UseExternalSNAT", "use_external_snat"),
    ("VPCv4CIDRs", "vpc_v4_cidrs"),
    ("VPCv6CIDRs", "vpc_v6_cidrs"),
    ("PodENIMAC", "pod_eni_mac"),
    ("PodENISubnetGW", "pod_eni_subnet_gateway"),
    ("MultiNICEnabled", "multi_nic_enabled"),
    ("NodeIPv4", "node_ipv4"),
    ("NodeIPv6", "node_ipv6"),
    ("InstanceID", "instance_id"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let contract = protox::compile(["rpc.proto", "refusal.proto", "node.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("contract.bin"), contract.encode_to_vec())?;
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"async-client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .compile_fds(with_rust_names(contract))?;
    Ok(())
}

fn with_rust_names(mut contract: FileDescriptorSet) -> FileDescriptorSet {
    let fields =
        contract.file.iter_mut().flat_map(|file| &mut file.message_type).flat_map(|message| &mut message.field);
    for field in fields {
        if let Some((_, rust)) = RUST_NAMES.iter().find(|(name, _)| field.name() == *name) {
            field.name = Some((*rust).to_owned());
        }
    }
    contract
}
