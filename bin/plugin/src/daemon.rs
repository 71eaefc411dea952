//! What is asked of the daemon, how long is waited, and what their answers mean for the runtime.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use vpc_model::RouteTable;
use vpc_wire::cni::{CniError, ErrorCode};
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::node::{Attachment, FindRequest, Lease, Matter, ReportRequest};
use vpc_wire::rpc::pb::{AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, IpAllocationMetadata};
use vpc_wire::rpc::{CLIENT_VERSION, DAEMON_SOCKET, SETUP_FAILED};

use crate::call::Call;

/// How long an ADD may take until the daemon has answered. The daemon's own wait for an address ends well before.
pub(crate) const ADD_BUDGET: Duration = Duration::from_secs(60);
/// How long a DEL may take until the daemon has answered. It never waits for the cloud.
pub(crate) const DEL_BUDGET: Duration = Duration::from_secs(10);
/// How long the daemon may look for a lease: it has it at hand.
const FIND_BUDGET: Duration = Duration::from_secs(5);
/// How long the daemon may take to hear of something.
const REPORT_BUDGET: Duration = Duration::from_secs(1);
/// How long the release of a failed ADD may take.
const RELEASE_BUDGET: Duration = Duration::from_secs(5);
/// How long a connection to the daemon's socket may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Why an address is given back: a label of the daemon's metrics.
const POD_DELETED: &str = "PodDeleted";

/// The address of a pod and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) address: Ipv4Addr,
    pub(crate) device: i32,
    pub(crate) table: RouteTable,
}

/// A connection to the daemon.
pub(crate) struct Daemon(Client);

impl Daemon {
    pub(crate) fn connect() -> Result<Self, CallError> {
        Client::connect(Path::new(DAEMON_SOCKET), CONNECT).map(Self)
    }

    pub(crate) fn add(&self, call: &Call) -> Result<AddNetworkReply, CallError> {
        self.add_within(call, call.left_of(ADD_BUDGET))
    }

    fn add_within(&self, call: &Call, within: Duration) -> Result<AddNetworkReply, CallError> {
        let request = AddNetworkRequest {
            k8s_pod_name: call.pod.name.clone(),
            k8s_pod_namespace: call.pod.namespace.clone(),
            k8s_pod_infra_container_id: call.args.infra_container.clone(),
            netns: call.netns.clone().unwrap_or_default(),
            if_name: call.sandbox.interface.clone(),
            network_name: call.sandbox.network.clone(),
            container_id: call.sandbox.container.clone(),
            client_version: CLIENT_VERSION.to_owned(),
            requires_multi_nic: call.conf.multi_nic,
        };
        self.0.add_network(request, within)
    }

    /// For DEL.
    pub(crate) fn del(&self, call: &Call) -> Result<DelNetworkReply, CallError> {
        self.0.del_network(del_request(call, POD_DELETED), call.left_of(DEL_BUDGET))
    }

    /// The address the daemon keeps for the sandbox, for CHECK. `None`: none.
    pub(crate) fn lease(&self, call: &Call) -> Result<Option<Lease>, CallError> {
        let attachment =
            Attachment { container_id: call.sandbox.container.clone(), interface: call.sandbox.interface.clone() };
        let request = FindRequest { network: call.sandbox.network.clone(), attachment: Some(attachment) };
        match self.0.find(request, FIND_BUDGET) {
            Ok(reply) => Ok(reply.lease),
            Err(error) if error.is_unknown_pod() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells what people should know of the pod. The daemon makes an event of it; one that does not know how (the reference's), or that is
    /// gone by now, keeps no pod from starting.
    pub(crate) fn report(&self, call: &Call, matter: Matter) {
        let attachment =
            Attachment { container_id: call.sandbox.container.clone(), interface: call.sandbox.interface.clone() };
        let request = ReportRequest {
            matter: matter.into(),
            network: call.sandbox.network.clone(),
            attachment: Some(attachment),
            pod_namespace: call.pod.namespace.clone(),
            pod_name: call.pod.name.clone(),
        };
        if let Err(error) = self.0.report(request, REPORT_BUDGET) {
            call.log.warn(&format!("the node daemon could not be told: {error}"));
        }
    }

    /// For an ADD that failed after the address was given. The address is the daemon's again, or the runtime's DEL will see to it: a
    /// failure here is only logged.
    pub(crate) fn release(&self, call: &Call) {
        match self.0.del_network(del_request(call, SETUP_FAILED), RELEASE_BUDGET) {
            Ok(reply) if reply.success && reply.allocations.is_empty() => {
                call.log
                    .warn("the address stays with the sandbox: another ADD was given it too; its DEL gives it back");
            }
            Ok(_) => call.log.info("the address is given back"),
            Err(error) if error.is_unknown_pod() => call.log.info("the daemon holds no address for the sandbox"),
            Err(error) => call.log.error(&format!("the address could not be given back: {error}")),
        }
    }
}

fn del_request(call: &Call, reason: &str) -> DelNetworkRequest {
    DelNetworkRequest {
        k8s_pod_name: call.pod.name.clone(),
        k8s_pod_namespace: call.pod.namespace.clone(),
        k8s_pod_infra_container_id: call.args.infra_container.clone(),
        reason: reason.to_owned(),
        if_name: call.sandbox.interface.clone(),
        network_name: call.sandbox.network.clone(),
        container_id: call.sandbox.container.clone(),
        client_version: CLIENT_VERSION.to_owned(),
        k8s_pod_uid: call.args.uid.clone(),
    }
}

/// The way out of a daemon that does not answer.
const LOOK_AT: &str = "see whether the node's pod of the DaemonSet aws-node runs, and its log";

/// The failed ask for an address, for the runtime and the person who reads its events.
pub(crate) fn no_address(call: &Call, error: &CallError) -> CniError {
    let code = if error.passes() { ErrorCode::TryAgainLater } else { ErrorCode::Internal };
    let whom = call.whom();
    CniError::new(
        code,
        match error {
            CallError::Refused(_) => format!("no address for {whom}: {error}"),
            CallError::Absent { .. } => {
                format!("no address for {whom}: the node daemon is not running: {error}; {LOOK_AT}")
            }
            CallError::Silent { .. } => format!("no address for {whom}: the node daemon hangs: {error}; {LOOK_AT}"),
            CallError::Broken { .. } => {
                format!("no address for {whom}: what listens there is not the node daemon, or it died: {error}")
            }
            CallError::Status { .. } => format!("no address for {whom}: {error}"),
        },
    )
}

/// `Success` = false: what a reference daemon says when it has no address. It never says why.
pub(crate) fn unexplained(call: &Call) -> CniError {
    CniError::new(
        ErrorCode::TryAgainLater,
        format!("no address for {}: the node daemon has none and does not say why; its log does", call.whom()),
    )
}

/// The one IPv4 address this plugin can wire, or what stands in the way.
pub(crate) fn the_one_address(call: &Call, reply: &AddNetworkReply) -> Result<Given, CniError> {
    let refuse = |code, what: String| Err(CniError::new(code, format!("{} can not be wired: {what}", call.whom())));
    if reply.pod_vlan_id != 0 {
        return refuse(
            ErrorCode::NotOffered,
            format!(
                "the daemon gives it branch ENI {} (VLAN {}), and security groups for pods are not offered by this plugin",
                reply.pod_eni_mac, reply.pod_vlan_id
            ),
        );
    }
    let entry = match reply.allocations.as_slice() {
        [] => return refuse(ErrorCode::Internal, "the daemon reports success and gives no address".to_owned()),
        [entry] => entry,
        several => {
            return refuse(
                ErrorCode::NotOffered,
                format!(
                    "the daemon gives it {} addresses on as many network cards; this plugin wires one",
                    several.len()
                ),
            );
        }
    };
    match address_of(entry) {
        Some(IpAddr::V4(address)) => {
            Ok(Given { address, device: entry.device_number, table: table_of(entry.route_table_id) })
        }
        Some(IpAddr::V6(address)) => {
            refuse(ErrorCode::NotOffered, format!("the daemon gives it {address}, and this plugin wires IPv4 only"))
        }
        None => refuse(
            ErrorCode::Internal,
            format!("the daemon gives the addresses `{}` and `{}`: expected one IPv4 address", entry.ipv4, entry.ipv6),
        ),
    }
}

/// The address of an entry, if it has one that is one.
pub(crate) fn address_of(entry: &IpAllocationMetadata) -> Option<IpAddr> {
    if entry.ipv4.is_empty() {
        entry.ipv6.parse().ok().map(IpAddr::V6)
    } else {
        entry.ipv4.parse().ok().map(IpAddr::V4)
    }
}

/// The table of an entry: 0 and 1 mean main, as in the reference.
pub(crate) fn table_of(number: i32) -> RouteTable {
    u32::try_from(number).ok().filter(|number| *number > 1).map_or(RouteTable::MAIN, RouteTable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use vpc_wire::cni::{Command, Invocation, NetConf};

    use super::*;

    fn call(pod: &str) -> Call {
        let invocation = Invocation {
            command: Command::Add,
            container: "c-1".into(),
            netns: Some("/x".into()),
            interface: Some("eth0".parse().unwrap()),
            path: "/opt/cni/bin".into(),
            args: if pod.is_empty() { String::new() } else { format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}") },
            netns_override: false,
        };
        let conf = NetConf::parse(br#"{"name":"aws-cni","pluginLogLevel":"fatal"}"#).unwrap();
        Call::new(invocation, conf).unwrap()
    }

    /// The deadline itself is sixty seconds; what happens at it is the same after a fifth of one.
    #[test]
    fn a_daemon_that_hangs_is_waited_for_and_then_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ipamd.sock");
        let _deaf = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let call = call("web-1");
        let error = Daemon(Client::connect(&socket, CONNECT).unwrap())
            .add_within(&call, Duration::from_millis(200))
            .unwrap_err();
        let error = no_address(&call, &error);
        assert_eq!(error.code, ErrorCode::TryAgainLater);
        assert!(
            error.msg.starts_with("no address for pod default/web-1: the node daemon hangs: no answer to AddNetwork"),
            "{error}"
        );
        assert_eq!((ADD_BUDGET.as_secs(), DEL_BUDGET.as_secs()), (60, 10));
    }

    #[test]
    fn a_budget_shrinks_with_the_call_and_ends_at_nothing() {
        let call = call("");
        assert!(call.left_of(ADD_BUDGET) <= ADD_BUDGET && call.left_of(ADD_BUDGET) > ADD_BUDGET / 2);
        assert_eq!(call.left_of(Duration::ZERO), Duration::ZERO);
        assert_eq!(call.whom(), "container c-1");
    }

    #[test]
    fn tables_are_read_as_the_reference_reads_them() {
        for (number, table) in [(-1, 254), (0, 254), (1, 254), (2, 2), (254, 254), (10101, 10101)] {
            assert_eq!(table_of(number).0, table, "{number}");
        }
    }
}
