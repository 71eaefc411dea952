//! Scene 9: a subnet without addresses, and three ways out.

use std::net::Ipv4Addr;
use std::time::Duration;

use vpc_aws::Ec2Settings;
use vpc_aws::ec2::shapes::{CreateTags, Tag};
use vpc_aws::ec2::{Client, Credentials, SharedCredentialsProvider};
use vpc_model::SubnetId;

use super::stage::{Play, SceneError, Stage, address, node, open_file, pod_name, within};
use crate::Lab;
use crate::fault::{Fault, FaultReport};
use crate::kubelet::PodStatus;
use crate::topology::TopologyFile;

const SETTINGS: [(&str, &str); 4] =
    [("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "1"), ("VPC_CNI_ADD_WAIT", "3")];

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let mut file = TopologyFile::built_in()?;
    let prefixes = [&SETTINGS[..], &[("ENABLE_PREFIX_DELEGATION", "true")]].concat();
    file.nodes = vec![node("node-a", "private-a", &SETTINGS), node("node-b", "private-b", &prefixes)];
    let lab = open_file(file)?;
    let first = exhausted(stage, &lab)?;
    a_pod_ends(stage, &lab, &first)?;
    another_subnet(stage, &lab)?;
    no_whole_prefix(stage, &lab)
}

/// The subnet is full: a pod is refused, and told why.
fn exhausted(stage: &mut Stage, lab: &Lab) -> Result<PodStatus, SceneError> {
    within(Duration::from_secs(10), || Ok(secondaries(lab, "node-a")? == 2))?;
    fault(lab, "subnet-exhausted", &[("subnet", "private-a")])?;
    let first = lab.pod("node-a", "one")?;
    lab.pod("node-a", "two")?;
    stage.draw_node(&lab.node_status("node-a")?);
    match lab.pod_add("node-a", &pod_name("three")?, 1) {
        Ok(pod) => {
            stage.check(format!("private-a is empty: the third pod is refused (it got {:?})", pod.address), false)
        }
        Err(error) => {
            let words = error.to_string();
            stage.line(&format!("     {}", stage.paint("33", &words)));
            let told = words.contains("no free addresses") && words.contains("subnet-");
            stage.check("private-a is empty: the third pod is refused, and the words name the subnet", told);
        }
    }
    Ok(first)
}

/// First way: an address of the node itself comes free. No call to EC2 is needed.
fn a_pod_ends(stage: &mut Stage, lab: &Lab, first: &PodStatus) -> Result<(), SceneError> {
    lab.pod_del("node-a", &first.pod)?;
    let next = lab.pod("node-a", "three")?;
    stage.same(
        "way out 1: a pod ends, and the next one gets its address when that has rested",
        &next.address,
        &first.address,
    );
    Ok(())
}

/// Second way: another subnet of the zone is tagged for pods. The next ENI is made there.
fn another_subnet(stage: &mut Stage, lab: &Lab) -> Result<(), SceneError> {
    tag_subnet(lab, "pods-a", "kubernetes.io/role/cni", "1")?;
    let next = lab.pod_add("node-a", &pod_name("four")?, 30)?;
    stage.draw_node(&lab.node_status("node-a")?);
    let own = address(&next)?;
    let there = Ipv4Addr::new(100, 64, 0, 0).octets()[..2] == own.octets()[..2];
    stage.check(format!("way out 2: pods-a is tagged kubernetes.io/role/cni=1, and the pod gets {own} of it"), there);
    Ok(())
}

/// Third way: single addresses where the subnet has no whole /28 left.
fn no_whole_prefix(stage: &mut Stage, lab: &Lab) -> Result<(), SceneError> {
    within(Duration::from_secs(10), || Ok(!lab.node_status("node-b")?.enis.iter().all(|eni| eni.prefixes.is_empty())))?;
    let broken = fault(lab, "subnet-fragmented", &[("subnet", "private-b")])?;
    let scaled = lab.pod_scale("node-b", 18, 10)?;
    let status = lab.node_status("node-b")?;
    stage.draw_node(&status);
    stage.same(
        "way out 3: private-b has no free /28, and the 18 pods of node-b start all the same",
        &scaled.added.len(),
        &18,
    );
    let mixed = status.enis.iter().any(|eni| !eni.prefixes.is_empty()) && secondaries(lab, "node-b")? > 0;
    stage.check("on one prefix, and on single addresses for the rest", mixed);
    lab.lift(broken.id)?;
    Ok(())
}

fn secondaries(lab: &Lab, node: &str) -> Result<usize, SceneError> {
    Ok(lab.node_status(node)?.enis.iter().map(|eni| eni.secondary.len()).sum())
}

fn fault(lab: &Lab, kind: &str, keys: &[(&str, &str)]) -> Result<FaultReport, SceneError> {
    let words: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Ok(lab.fault(&Fault::from_words(kind, &words)?, None)?)
}

/// `aws ec2 create-tags`, as anybody on the host would call it.
fn tag_subnet(lab: &Lab, subnet: &str, key: &str, value: &str) -> Result<(), SceneError> {
    let environment = lab.host_environment()?;
    let value_of = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let mut fallbacks = Vec::new();
    let settings = Ec2Settings::read(&value_of, &mut fallbacks)?;
    let region = value_of("AWS_REGION").unwrap_or_default();
    let credentials = Credentials::new(lab_cloud::ACCESS_KEY, lab_cloud::SECRET_KEY, None, None, "demo");
    let request = CreateTags {
        resources: vec![lab_cloud::id_for::<SubnetId>(subnet).to_string()],
        tags: vec![Tag::new(key, value)],
        dry_run: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder(settings, &region, SharedCredentialsProvider::new(credentials)).build()?;
        client.call(&request).await?;
        Ok(())
    })
}
