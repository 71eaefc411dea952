//! The gRPC contract: numbers and names that travel, and both halves over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};
use vpc_model::{Millis, SandboxKey};
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, IpAllocationMetadata,
    NetworkPolicyAgentConfigReply,
};
use vpc_wire::rpc::server::{CniBackend, ConfigServerBackend, Health, ServeError, listen, serve};
use vpc_wire::rpc::{Cause, DESCRIPTOR, Refusal};

const SOON: Duration = Duration::from_secs(5);

/// The contract, one line for each message: `number name type`, repeated ones with `*`.
const MESSAGES: &[(&str, &str)] = &[
    (
        "AddNetworkRequest",
        "1 K8S_POD_NAME string, 2 K8S_POD_NAMESPACE string, 3 K8S_POD_INFRA_CONTAINER_ID string, 4 Netns string, 5 IfName string, \
         6 NetworkName string, 7 ContainerID string, 8 ClientVersion string, 9 RequiresMultiNICAttachment bool",
    ),
    ("IPAllocationMetadata", "1 IPv4Addr string, 2 IPv6Addr string, 3 DeviceNumber int32, 4 RouteTableId int32"),
    (
        "AddNetworkReply",
        "1 Success bool, 2 IPAllocationMetadata .rpc.IPAllocationMetadata*, 5 UseExternalSNAT bool, 6 VPCv4CIDRs string*, \
         7 PodVlanId int32, 8 PodENIMAC string, 9 PodENISubnetGW string, 10 ParentIfIndex int32, 12 VPCv6CIDRs string*, \
         13 NetworkPolicyMode string",
    ),
    (
        "DelNetworkRequest",
        "1 K8S_POD_NAME string, 2 K8S_POD_NAMESPACE string, 3 K8S_POD_INFRA_CONTAINER_ID string, 5 Reason string, 6 IfName string, \
         7 NetworkName string, 8 ContainerID string, 9 ClientVersion string, 10 K8S_POD_UID string",
    ),
    (
        "DelNetworkReply",
        "1 Success bool, 2 IPAllocationMetadata .rpc.IPAllocationMetadata*, 4 PodVlanId int32, 6 NetworkPolicyMode string",
    ),
    (
        "EnforceNpRequest",
        "1 K8S_POD_NAME string, 2 K8S_POD_NAMESPACE string, 3 NETWORK_POLICY_MODE string, 4 InterfaceCount int32",
    ),
    ("EnforceNpReply", "1 Success bool"),
    ("DeleteNpRequest", "1 K8S_POD_NAME string, 2 K8S_POD_NAMESPACE string"),
    ("DeleteNpReply", "1 Success bool"),
    (
        "NetworkPolicyAgentConfigReply",
        "1 NetworkPolicyMode string, 2 MultiNICEnabled bool, 3 NodeIPv4 string, 4 NodeIPv6 string, 5 InstanceID string, 6 Region string",
    ),
];

#[test]
fn numbers_names_and_types_are_the_contract_s() {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let file = set.file.iter().find(|file| file.package() == "rpc").unwrap();
    assert_eq!(file.syntax(), "proto3");
    let found: BTreeMap<_, _> = file
        .message_type
        .iter()
        .map(|message| {
            let fields: Vec<_> = message
                .field
                .iter()
                .map(|field| {
                    let kind = match field.r#type() {
                        Type::String => "string",
                        Type::Bool => "bool",
                        Type::Int32 => "int32",
                        Type::Message => field.type_name(),
                        other => panic!("{other:?}"),
                    };
                    let many = if field.label() == Label::Repeated { "*" } else { "" };
                    format!("{} {} {kind}{many}", field.number(), field.name())
                })
                .collect();
            (message.name(), fields.join(", "))
        })
        .collect();
    let want: BTreeMap<_, _> = MESSAGES.iter().map(|(name, fields)| (*name, (*fields).to_owned())).collect();
    assert_eq!(found, want);
    let methods: Vec<_> = file
        .service
        .iter()
        .flat_map(|service| {
            service.method.iter().map(|method| {
                format!("/rpc.{}/{} {} {}", service.name(), method.name(), method.input_type(), method.output_type())
            })
        })
        .collect();
    assert_eq!(
        methods,
        [
            "/rpc.CNIBackend/AddNetwork .rpc.AddNetworkRequest .rpc.AddNetworkReply",
            "/rpc.CNIBackend/DelNetwork .rpc.DelNetworkRequest .rpc.DelNetworkReply",
            "/rpc.ConfigServerBackend/GetNetworkPolicyConfigs .google.protobuf.Empty .rpc.NetworkPolicyAgentConfigReply",
            "/rpc.NPBackend/EnforceNpToPod .rpc.EnforceNpRequest .rpc.EnforceNpReply",
            "/rpc.NPBackend/DeletePodNp .rpc.DeleteNpRequest .rpc.DeleteNpReply",
        ]
    );
}

/// What is ours beside it: never in the reference's package.
#[test]
fn our_own_service_has_a_package_of_its_own() {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let ours = set.file.iter().filter(|file| file.package() == "vpccni.v1");
    let methods: Vec<_> = ours
        .flat_map(|file| &file.service)
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
        .collect();
    assert_eq!(methods, ["Node/Status", "Node/Collect", "Node/Find", "Node/Report"]);
}

#[test]
fn generated_code_puts_fields_under_their_numbers() {
    let request = AddNetworkRequest {
        k8s_pod_name: "n".into(),
        k8s_pod_namespace: "s".into(),
        k8s_pod_infra_container_id: "i".into(),
        netns: "x".into(),
        if_name: "e".into(),
        network_name: "w".into(),
        container_id: "c".into(),
        client_version: "v".into(),
        requires_multi_nic: true,
    };
    let want = b"\x0a\x01n\x12\x01s\x1a\x01i\x22\x01x\x2a\x01e\x32\x01w\x3a\x01c\x42\x01v\x48\x01";
    assert_eq!(request.encode_to_vec(), want);
    let entry = IpAllocationMetadata { ipv4: "4".into(), ipv6: "6".into(), device_number: 1, route_table_id: 2 };
    assert_eq!(entry.encode_to_vec(), b"\x0a\x014\x12\x016\x18\x01\x20\x02");
}

/// A daemon that answers by the pod's name.
struct Daemon;

#[tonic::async_trait]
impl CniBackend for Daemon {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        match request.get_ref().k8s_pod_name.as_str() {
            "refused" => Err(Refusal::new(Cause::EniLimit, "no address is free").number("enis", 3).into_status()),
            "long" => Err(Refusal::new(Cause::Unauthorized, "é".repeat(40_000))
                .retry_after(Millis::seconds(60))
                .into_status()),
            "plain" => Err(Status::unavailable("not now")),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Err(Status::internal("too late"))
            }
            _ => Ok(Response::new(AddNetworkReply {
                success: true,
                allocations: vec![IpAllocationMetadata {
                    ipv4: "10.0.0.9".into(),
                    ipv6: String::new(),
                    device_number: 1,
                    route_table_id: 2,
                }],
                ..AddNetworkReply::default()
            })),
        }
    }

    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        match request.get_ref().k8s_pod_name.as_str() {
            "reference" => Err(Status::unknown("1 error occurred:\n\t* datastore: unknown pod\n\n")),
            _ => Err(Refusal::unknown_pod(&SandboxKey {
                network: "n".into(),
                container: "c".into(),
                interface: "eth0".into(),
            })
            .into_status()),
        }
    }
}

#[tonic::async_trait]
impl ConfigServerBackend for Daemon {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply { region: "eu-x".into(), ..Default::default() }))
    }
}

/// A daemon on a thread of its own; it stops when dropped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<(), ServeError>>>,
    health: Health,
}

impl Running {
    fn on(socket: &Path) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let socket = socket.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = listen(&socket)?;
                let until = async {
                    let _ = stopped.await;
                };
                serve(listener, Daemon, Daemon, move |health| ready.send(health).unwrap(), until).await
            })
        });
        let health = is_ready.recv_timeout(SOON).unwrap();
        Self { stop: Some(stop), thread: Some(thread), health }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.unwrap().unwrap();
            }
        }
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("aws-node/ipamd.sock");
    (folder, socket)
}

fn named(name: &str) -> AddNetworkRequest {
    AddNetworkRequest { k8s_pod_name: name.into(), ..AddNetworkRequest::default() }
}

#[test]
fn an_answer_a_refusal_and_a_plain_status_arrive_as_what_they_are() {
    let (_folder, socket) = folder();
    let _daemon = Running::on(&socket);
    let client = Client::connect(&socket, SOON).unwrap();
    let reply = client.add_network(named("web"), SOON).unwrap();
    assert_eq!((reply.success, reply.allocations[0].ipv4.as_str()), (true, "10.0.0.9"));
    match client.add_network(named("refused"), SOON).unwrap_err() {
        CallError::Refused(refusal) => {
            assert_eq!((refusal.cause, refusal.numbers), (Cause::EniLimit, vec![("enis".to_owned(), 3)]));
        }
        other => panic!("{other}"),
    }
    match client.add_network(named("long"), SOON).unwrap_err() {
        CallError::Refused(refusal) => {
            assert_eq!(
                (refusal.cause, refusal.message, refusal.retry_after),
                (Cause::Unauthorized, "é".repeat(750), Some(Millis(60_000)))
            );
        }
        other => panic!("{other}"),
    }
    let plain = client.add_network(named("plain"), SOON).unwrap_err();
    assert!(
        matches!(&plain, CallError::Status { code: Code::Unavailable, message, .. } if message == "not now"),
        "{plain}"
    );
    assert!(plain.passes());
    for name in ["ours", "reference"] {
        let request = DelNetworkRequest { k8s_pod_name: name.into(), ..DelNetworkRequest::default() };
        let error = client.del_network(request, SOON).unwrap_err();
        assert!(error.is_unknown_pod() && !error.passes(), "{name}: {error}");
    }
}

#[test]
fn a_call_ends_at_its_deadline() {
    let (_folder, socket) = folder();
    let _daemon = Running::on(&socket);
    let client = Client::connect(&socket, SOON).unwrap();
    let begin = Instant::now();
    let error = client.add_network(named("slow"), Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, CallError::Silent { .. }) && error.passes(), "{error}");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    // The connection is still good.
    assert!(client.add_network(named("web"), SOON).unwrap().success);
}

#[test]
fn nobody_a_deaf_one_and_one_who_talks_rubbish_are_told_apart() {
    let (folder, socket) = folder();
    let connect = || {
        Client::connect(&socket, Duration::from_millis(300))
            .and_then(|client| client.add_network(named("web"), Duration::from_millis(300)))
    };
    assert!(matches!(connect().unwrap_err(), CallError::Absent { .. }));
    std::fs::create_dir(socket.parent().unwrap()).unwrap();
    // A socket file whose process is dead.
    drop(StdListener::bind(&socket).unwrap());
    let dead = connect().unwrap_err();
    assert!(matches!(dead, CallError::Absent { .. }), "{dead}");
    assert!(dead.to_string().contains("ipamd.sock"), "{dead}");
    std::fs::remove_file(&socket).unwrap();
    // One that takes connections and never says a word.
    let deaf = StdListener::bind(&socket).unwrap();
    let error = connect().unwrap_err();
    assert!(matches!(error, CallError::Silent { .. }), "{error}");
    drop(deaf);
    std::fs::remove_file(&socket).unwrap();
    for rubbish in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0_u8; 64], &[0xff; 4096], b""] {
        let talker = StdListener::bind(&socket).unwrap();
        let words = rubbish.to_vec();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = talker.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&words);
        });
        let error = connect().unwrap_err();
        assert!(matches!(error, CallError::Broken { .. }), "{rubbish:?}: {error:?}");
        assert!(!error.passes() && error.to_string().contains("is not usable"), "{error}");
        thread.join().unwrap();
        std::fs::remove_file(&socket).unwrap();
    }
    drop(folder);
}

#[test]
fn the_socket_is_private_a_dead_one_is_replaced_and_a_live_one_respected() {
    let (_folder, socket) = folder();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let first = listen(&socket).unwrap();
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o660, 0o755));
    assert!(matches!(listen(&socket), Err(ServeError::InUse(_))));
    drop(first);
    drop(listen(&socket).unwrap());
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "precious").unwrap();
    assert!(matches!(listen(&socket), Err(ServeError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn probes_and_reflection_are_answered_as_the_reference_does() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let (_folder, socket) = folder();
    let daemon = Running::on(&socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = socket.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let mut health = HealthClient::new(channel.clone());
        let mut status = async |service: &str| {
            health.check(HealthCheckRequest { service: service.into() }).await.map(|reply| reply.into_inner().status)
        };
        for service in ["", "grpc.health.v1.aws-node"] {
            assert_eq!(status(service).await.unwrap(), 1, "{service}");
        }
        assert_eq!(status("no.such.Service").await.unwrap_err().code(), Code::NotFound);
        daemon.health.set_serving(false).await;
        assert_eq!(status("grpc.health.v1.aws-node").await.unwrap(), 2);

        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(channel)
            .server_reflection_info(tokio_stream::once(ask))
            .await
            .unwrap()
            .into_inner();
        let Some(ServerReflectionResponse {
            message_response: Some(MessageResponse::ListServicesResponse(list)), ..
        }) = answers.message().await.unwrap()
        else {
            panic!("no list of services");
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        for name in ["grpc.health.v1.Health", "rpc.CNIBackend", "rpc.ConfigServerBackend"] {
            assert!(names.iter().any(|own| own == name), "{name} in {names:?}");
        }
    });
}
