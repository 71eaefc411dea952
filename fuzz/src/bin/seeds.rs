//! Writes the sound inputs that fuzzing begins with: `seeds FOLDER` makes FOLDER/<target>/<name>. `cargo xtask fuzz --write-seeds` runs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;
use vpc_aws::ec2::shapes::{ACTION_NAMES, ErrorAnswer, sample::Dice, samples};
use vpc_model::Millis;
use vpc_wire::cni::Version;
use vpc_wire::rpc::pb::{AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, IpAllocationMetadata};
use vpc_wire::rpc::{Cause, Refusal};

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: seeds FOLDER"))?;
    cni(&folder)?;
    grpc(&folder)?;
    checkpoint(&folder)?;
    cloud(&folder)?;
    for (name, _, datagram) in vpc_linux::fuzzing::sound() {
        write(&folder, "netlink", name, &datagram)?;
    }
    write(&folder, "planted", "harmless", b"bad")
}

fn write(folder: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

fn cni(folder: &Path) -> io::Result<()> {
    let result_040 = r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eni0761ccbeace"},{"name":"eth0","mac":"2","sandbox":"/var/run/netns/cni-1"},{"name":"dummy0761ccbeace","mac":"0","sandbox":"1"}],"ips":[{"version":"4","interface":1,"address":"10.20.10.201/32"}],"dns":{}}"#;
    let result_110 = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eni0761ccbeace","mtu":9001},{"name":"eth0","mac":"2","sandbox":"/var/run/netns/cni-1","socketPath":"","pciID":""}],"ips":[{"interface":1,"address":"10.20.10.201/32","gateway":"169.254.1.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1","mtu":1500,"advmss":0,"priority":100,"table":254,"scope":0}],"dns":{"nameservers":["10.0.0.2"],"domain":"local","search":["a"],"options":["ndots:5"]}}"#;
    let result_020 = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.20.10.201/32","gateway":"169.254.1.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"2001:db8::1/128"},"dns":{}}"#;
    let results = [(Version::V0_4_0, result_040), (Version::V1_1_0, result_110), (Version::V0_2_0, result_020)];
    for (version, result) in results {
        let first = Version::ALL.iter().position(|known| *known == version).unwrap_or_default();
        let mut bytes = vec![u8::try_from(first).unwrap_or_default()];
        bytes.extend(result.as_bytes());
        write(folder, "prev_result", version.as_str(), &bytes)?;
    }
    let add = r#"{"cniVersion":"1.1.0","name":"aws-cni","type":"aws-cni","vethPrefix":"eni","mtu":"9001","podSGEnforcingMode":"strict","pluginLogFile":"/var/log/aws-routed-eni/plugin.log","pluginLogLevel":"DEBUG","capabilities":{"io.kubernetes.cri.pod-annotations":true},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"k8s.amazonaws.com/nicConfig":"multi-nic-attachment"}}}"#;
    write(folder, "cni_stdin", "add", add.as_bytes())?;
    let del = format!(
        r#"{{"cniVersion":"0.4.0","name":"aws-cni","type":"aws-cni","vethPrefix":"eni","prevResult":{result_040}}}"#
    );
    write(folder, "cni_stdin", "del", del.as_bytes())?;
    let gc =
        r#"{"cniVersion":"1.1.0","name":"aws-cni","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}"#;
    write(folder, "cni_stdin", "gc", gc.as_bytes())?;
    let egress = r#"{"cniVersion":"0.4.0","name":"aws-cni","type":"egress-cni","mtu":"9001","enabled":"false","randomizeSNAT":"prng","nodeIP":"","ipam":{"type":"host-local","ranges":[[{"subnet":"fd00::ac:00/118"}]],"routes":[{"dst":"::/0"}],"dataDir":"/run/cni/v6pd/egress-v6-ipam"},"pluginLogFile":"stderr","pluginLogLevel":"INFO"}"#;
    write(folder, "cni_stdin", "egress", egress.as_bytes())?;
    let args =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1";
    write(folder, "cni_args", "args", args.as_bytes())?;
    let environment = [args, "ADD", "c1", "/var/run/netns/cni-1", "eth0", "/opt/cni/bin", "true"].join("\0");
    write(folder, "cni_args", "environment", environment.as_bytes())
}

fn grpc(folder: &Path) -> io::Result<()> {
    let kind = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let reply = AddNetworkReply {
        success: true,
        pod_vlan_id: 0,
        allocations: vec![IpAllocationMetadata {
            ipv4: "10.20.10.201".into(),
            device_number: 1,
            route_table_id: 2,
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = AddNetworkRequest {
        k8s_pod_name: "web-1".into(),
        k8s_pod_namespace: "default".into(),
        container_id: "c1".into(),
        netns: "/var/run/netns/cni-1".into(),
        if_name: "eth0".into(),
        network_name: "aws-cni".into(),
        ..Default::default()
    };
    let del = DelNetworkRequest {
        container_id: "c1".into(),
        if_name: "eth0".into(),
        network_name: "aws-cni".into(),
        ..Default::default()
    };
    let deleted = DelNetworkReply { success: true, allocations: reply.allocations.clone(), ..Default::default() };
    let refusal = Refusal::new(Cause::Warming, "an address is on its way").number("enis", 3).retry_after(Millis(1500));
    let status = refusal.into_status();
    write(folder, "grpc", "add-request", &kind(2, &request.encode_to_vec()))?;
    write(folder, "grpc", "add-reply", &kind(3, &reply.encode_to_vec()))?;
    write(folder, "grpc", "del-request", &kind(4, &del.encode_to_vec()))?;
    write(folder, "grpc", "del-reply", &kind(5, &deleted.encode_to_vec()))?;
    write(folder, "grpc", "refusal", &kind(1, status.details()))?;
    write(folder, "grpc", "connection", &kind(0, &connection(&reply.encode_to_vec())))
}

/// All a server says that answers a call with `message` (RFC 9113; header fields as in RFC 7541, none of them compressed).
fn connection(message: &[u8]) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(127)], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    let headers = [vec![0x88], field("content-type", "application/grpc")].concat();
    let data = [&[0], &length[..], message].concat();
    [
        frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(4, 1, 0, &[]),
        frame(8, 0, 0, &[0, 1, 0, 0]),
        frame(6, 0, 0, &[1, 2, 3, 4, 5, 6, 7, 8]),
        frame(1, 4, 1, &headers),
        frame(0, 0, 1, &data),
        frame(1, 5, 1, &field("grpc-status", "0")),
        frame(1, 5, 3, &[headers, field("grpc-status", "14"), field("grpc-message", "away%20now")].concat()),
        frame(3, 0, 3, &[0, 0, 0, 8]),
        frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn checkpoint(folder: &Path) -> io::Result<()> {
    let of_the_reference = r#"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"c1","ifName":"eth0","ipv4":"10.20.10.201","allocationTimestamp":1700000000000000000,"metadata":{"k8sPodNamespace":"default","k8sPodName":"web-1"}},{"networkName":"aws-cni","containerID":"c2","ifName":"eth0","ipv4":"","ipv6":"2001:db8::1","allocationTimestamp":1,"metadata":{"interfacesCount":1}}]}"#;
    let ours = r#"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"c1","ifName":"eth0","ipv4":"10.20.10.201","allocationTimestamp":1700000000000000000,"metadata":{},"podUID":"u1","netns":"/var/run/netns/cni-1","eni":"eni-0a","device":1,"table":2}],"pool":[{"id":"eni-0a","mac":"02:00:00:00:00:01","device":1,"card":0,"subnet":"10.20.0.0/16","subnetId":"subnet-0a","primary":"10.20.10.5","addresses":["10.20.10.201"],"prefixes":["10.20.11.0/28"],"leaving":["10.20.10.201"],"gone":["10.20.12.0/28"],"going":true}],"cooling":[{"ipv4":"10.20.11.3","releasedTimestamp":1700000000000000000}],"generation":7}"#;
    write(folder, "checkpoint", "of-the-reference", of_the_reference.as_bytes())?;
    write(folder, "checkpoint", "ours", ours.as_bytes())
}

fn cloud(folder: &Path) -> io::Result<()> {
    for (at, (request, answer)) in samples(&mut Dice::full(7)).into_iter().enumerate() {
        let name = request.name();
        write(folder, "ec2_request", name, request.query().encode().as_bytes())?;
        let body = answer.to_xml("4b5d");
        write(folder, "ec2_answer", name, &[&[u8::try_from(at).unwrap_or_default()], body.as_bytes()].concat())?;
    }
    let refused = ErrorAnswer {
        code: "InsufficientFreeAddressesInSubnet".into(),
        message: "insufficient free addresses to allocate 1 address".into(),
        request_id: "4b5d".into(),
    };
    let assign = ACTION_NAMES.iter().position(|name| *name == "AssignPrivateIpAddresses").unwrap_or_default();
    let first = u8::try_from(assign).unwrap_or_default();
    write(folder, "ec2_answer", "refused", &[&[first], refused.to_xml().as_bytes()].concat())?;

    // In the order in which they are asked for: first the node's values with the list of ENIs, then those of each ENI.
    let node = ["i-0a", "m5.large", "10.20.0.5", "02:00:00:00:00:01", "02:00:00:00:00:01/\n02:00:00:00:00:02/"];
    let place = ["eu-west-1a", "eu-west-1", "02:00:00:00:00:01"];
    let eni = [
        "0",
        "eni-0a",
        "10.20.0.5\n10.20.0.6",
        "10.20.1.0/28",
        "0",
        "sg-0a\nsg-0b",
        "subnet-0a",
        "10.20.0.0/16",
        "10.20.0.0/16",
        "vpc-0a",
    ];
    let all: Vec<&str> = node.into_iter().chain(place).chain(eni).chain(eni).collect();
    write(folder, "imds", "two-enis", all.join("\0").as_bytes())
}
