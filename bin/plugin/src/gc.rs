//! GC: end what no valid attachment stands behind.
//!
//! ```text
//!   cni.dev/valid-attachments --Collect--> daemon: leases of this network that are not listed end, their links go
//!                                             \--what has ended--> rules and routes of each are removed, as by a DEL
//! ```
//!
//! A pod that was promised an address after the runtime called is not on its list, and keeps it. All that fails is told together.

use std::path::Path;
use std::time::Duration;

use vpc_hostnet::LinkAlias;
use vpc_model::{LinkName, PodRef, RouteTable, SandboxKey, host_veth};
use vpc_wire::cni::{CniError, ErrorCode, ValidAttachment};
use vpc_wire::rpc::DAEMON_SOCKET;
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::node::{Attachment, CollectRequest, Lease};

use crate::del::Tie;
use crate::host::{Host, Owner};
use crate::network::Network;

/// How long a connection may take, and how long the answer: it waits for the disk, never for the cloud.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) fn gc(network: &Network, input: &[u8]) -> Result<(), CniError> {
    let valid = ValidAttachment::parse_list(input)?;
    let mut host = Host::open()?;
    network.log.info(&format!("{} attachments are valid", valid.len()));
    let valid = valid.into_iter().map(|one| Attachment { container_id: one.container, interface: one.interface });
    let request =
        CollectRequest { network: network.conf.name.clone(), valid: valid.collect(), called_at_ns: network.called_at };
    let asked = Client::connect(Path::new(DAEMON_SOCKET), CONNECT).and_then(|daemon| daemon.collect(request, ANSWER));
    let ended = asked.map_err(|error| nothing_collected(&error))?.ended;
    let trouble: Vec<String> =
        ended.iter().filter_map(|lease| untie(network, &mut host, lease).err()).map(|error| error.msg).collect();
    if trouble.is_empty() {
        return Ok(());
    }
    let what = trouble.join("; ");
    Err(CniError::new(
        ErrorCode::Internal,
        format!("{} of {} stale attachments could not be cleaned up: {what}", trouble.len(), ended.len()),
    ))
}

/// Removes rules and route of a lease that has ended.
fn untie(network: &Network, host: &mut Host, lease: &Lease) -> Result<(), CniError> {
    let attachment = lease.attachment.clone().unwrap_or_default();
    let key = SandboxKey {
        network: network.conf.name.clone(),
        container: attachment.container_id,
        interface: attachment.interface,
    };
    let pod = PodRef { namespace: lease.pod_namespace.clone(), name: lease.pod_name.clone() };
    let whom = format!("pod {pod} (container {})", key.container);
    let Ok(address) = lease.ipv4.parse() else {
        let msg = format!("{whom}: the daemon tells the address `{}`: expected an IPv4 address", lease.ipv4);
        return Err(CniError::new(ErrorCode::Internal, msg));
    };
    let host_link: LinkName = host_veth(&network.conf.veth_prefix, &pod);
    let owner = Owner {
        whom: &whom,
        alias: LinkAlias::of(&key, &pod),
        veth_prefix: &network.conf.veth_prefix,
        log: &network.log,
    };
    network.log.info(&format!("{whom} is no valid attachment: {address} is taken back"));
    host.untie_of(&owner, &Tie { address, table: Some(RouteTable(lease.route_table)), host_link })
}

fn nothing_collected(error: &CallError) -> CniError {
    let code = if error.passes() { ErrorCode::TryAgainLater } else { ErrorCode::Internal };
    if error.is_unimplemented() {
        let way_out = "DEL of each container still works; update the daemon";
        let msg = format!("nothing is released: the node daemon is of a make that does not offer GC: {way_out}");
        return CniError::new(ErrorCode::NotOffered, msg);
    }
    let why = match error {
        CallError::Absent { .. } => "the node daemon is not running: ",
        CallError::Silent { .. } => "the node daemon hangs (what it has released by then stays released): ",
        _ => "",
    };
    CniError::new(code, format!("stale attachments are not cleaned up: {why}{error}"))
}
