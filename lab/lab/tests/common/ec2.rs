//! EC2 as a node's program calls it: a signed request over the lab's own network.

use std::time::{Duration, Instant, SystemTime};

use vpc_aws::ec2::Credentials;
use vpc_aws::ec2::shapes::{
    Action, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface, DetachNetworkInterface,
    ErrorAnswer, NetworkInterface, answer_from_xml,
};
use vpc_aws::ec2::signature::sign;
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::fabric::EC2_ADDRESS;
use vpc_model::{AttachmentId, DeviceIndex, EniId};

/// Calls EC2 from a node with the account's keys.
pub(crate) fn call<A: Action>(lab: &Lab, node: &str, request: &A) -> Result<A::Response, ErrorAnswer> {
    attempt(lab, node, request).expect("an answer")
}

/// As [`call`]; `None`: there was no answer.
pub(crate) fn attempt<A: Action>(lab: &Lab, node: &str, request: &A) -> Option<Result<A::Response, ErrorAnswer>> {
    let form = request.query().encode();
    let url = format!("http://{EC2_ADDRESS}/");
    let keys = Credentials::new(lab_cloud::ACCESS_KEY, lab_cloud::SECRET_KEY, None, None, "test");
    let signed = sign(&url, &[], form.as_bytes(), "ap-northeast-2", &keys, SystemTime::now()).unwrap();
    let headers: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = form.len();
    let text = format!(
        "POST / HTTP/1.1\r\nhost: {EC2_ADDRESS}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{form}"
    );
    let talk = format!("exec 3<>/dev/tcp/{EC2_ADDRESS}/80; cat >&3; cat <&3");
    let output = lab.run_with_input(&Place::Node(node.to_owned()), &["bash", "-c", &talk], text.as_bytes()).unwrap();
    let (head, body) = output.stdout.split_once("\r\n\r\n")?;
    Some(if head.starts_with("HTTP/1.1 200 ") {
        Ok(answer_from_xml::<A>(body).unwrap_or_else(|e| panic!("{e}: {body}")).body)
    } else {
        Err(ErrorAnswer::from_xml(body).unwrap_or_else(|e| panic!("{e}: {head}\n{body}")))
    })
}

/// A new ENI in a subnet with so many secondary addresses.
pub(crate) fn create(lab: &Lab, subnet: &str, secondary: u32) -> NetworkInterface {
    let mut request = CreateNetworkInterface::new(lab_cloud::id_for(subnet));
    request.secondary_private_ip_address_count = (secondary > 0).then_some(secondary);
    call(lab, "a", &request).unwrap().network_interface
}

/// What it takes to attach an ENI to a node.
pub(crate) fn attachment(lab: &Lab, eni: &EniId, node: &str) -> AttachNetworkInterface {
    let status = lab.status().unwrap();
    let instance = &status.nodes.iter().find(|own| own.name == node).unwrap().instance;
    AttachNetworkInterface {
        network_interface_id: eni.clone(),
        instance_id: instance.parse().unwrap(),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    }
}

/// Attaches an ENI as device 1 and waits for its link.
pub(crate) fn attach(lab: &Lab, eni: &EniId, node: &str) -> AttachmentId {
    let id = call(lab, "a", &attachment(lab, eni, node)).unwrap().attachment_id;
    wait_until(|| links(lab, node), |links| links.contains(&"eth1".to_owned()));
    id
}

/// Detaches it and waits until its link is gone.
pub(crate) fn detach(lab: &Lab, id: AttachmentId, node: &str) {
    call(lab, "a", &DetachNetworkInterface { attachment_id: id, force: None, dry_run: None }).unwrap();
    wait_until(|| links(lab, node), |links| !links.contains(&"eth1".to_owned()));
}

/// One more address for an ENI.
pub(crate) fn one_more(lab: &Lab, eni: &EniId) -> std::net::Ipv4Addr {
    let answer = call(lab, "a", &AssignPrivateIpAddresses::addresses(eni.clone(), 1)).unwrap();
    answer.assigned_private_ip_addresses[0].private_ip_address
}

/// The links a node's kernel has.
pub(crate) fn links(lab: &Lab, node: &str) -> Vec<String> {
    let state = lab.kernel_state(&Place::Node(node.to_owned())).unwrap();
    state.links.iter().map(|link| link.name.to_string()).collect()
}

/// Asks until the answer is right; shows the last one if it never is.
#[track_caller]
pub(crate) fn wait_until<T: std::fmt::Debug>(mut read: impl FnMut() -> T, done: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let last = read();
        if done(&last) {
            return last;
        }
        assert!(Instant::now() < deadline, "still not so; last seen: {last:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
