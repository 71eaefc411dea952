//! Scene 8: a hundred pods come and go, and the pool with them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::stage::{Play, SceneError, Stage, node, open_file, within};
use crate::Lab;
use crate::control::NodeStatus;
use crate::topology::TopologyFile;

const PODS: u32 = 100;

/// 5 addresses ahead of the pods, 10 at least; what is too much is given back after 1 s instead of the reference's 30 s and 60 s, so
/// that the audience need not wait.
const SETTINGS: [(&str, &str); 6] = [
    ("WARM_IP_TARGET", "5"),
    ("MINIMUM_IP_TARGET", "10"),
    ("IP_COOLDOWN_PERIOD", "1"),
    ("VPC_CNI_RELEASE_INTERVAL", "1"),
    ("VPC_CNI_MIN_ENI_AGE", "1"),
    ("VPC_CNI_ADD_WAIT", "15"),
];

/// The node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    pods: usize,
    addresses: usize,
    enis: usize,
}

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let mut file = TopologyFile::built_in()?;
    let mut big = node("node-a", "private-a", &SETTINGS);
    big.instance_type = Some("c5.4xlarge".to_owned());
    file.nodes = vec![big];
    let lab = open_file(file)?;
    let start = within(Duration::from_secs(10), || Ok(sample(&lab)?.addresses == 10))?;
    stage.check("at rest: MINIMUM_IP_TARGET=10 addresses on one ENI", start && sample(&lab)?.enis == 1);

    let watching = AtomicBool::new(true);
    let (added, failed, back, samples) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&lab, &watching));
        let played = play_burst(&lab);
        watching.store(false, Ordering::Release);
        let samples = watcher.join().map_err(|_| anyhow::anyhow!("the watcher ended badly"))??;
        let (added, failed, back) = played?;
        Ok::<_, SceneError>((added, failed, back, samples))
    })?;
    draw(stage, &samples);
    stage.same("100 pods were started", &added, &(PODS as usize));
    stage.same("none failed", &failed, &0);
    let peak = samples.iter().map(|sample| sample.addresses).max().unwrap_or_default();
    stage.check(format!("the pool grew to pods and warm: 105 addresses ({peak})"), peak == 105);
    let enis = samples.iter().map(|sample| sample.enis).max().unwrap_or_default();
    stage.same("on as few ENIs as carry them: ceil(105 / 29) = 4", &enis, &4);
    stage.check("and went back to 10 addresses on one ENI", back);
    let never_short = samples.iter().all(|sample| sample.addresses >= sample.pods);
    stage.check("at no time had it fewer addresses than pods", never_short);
    Ok(())
}

/// How many pods were started, how many failed, and whether the pool came back.
fn play_burst(lab: &Lab) -> Result<(usize, usize, bool), SceneError> {
    let up = lab.pod_scale("node-a", PODS, 1)?;
    within(Duration::from_secs(10), || Ok(sample(lab)?.addresses == PODS as usize + 5))?;
    lab.pod_scale("node-a", 0, 1)?;
    let at_rest = Sample { pods: 0, addresses: 10, enis: 1 };
    let back = within(Duration::from_secs(60), || Ok(sample(lab)? == at_rest))?;
    Ok((up.added.len(), up.failed.len(), back))
}

fn watch(lab: &Lab, watching: &AtomicBool) -> Result<Vec<Sample>, SceneError> {
    let mut samples = vec![sample(lab)?];
    while watching.load(Ordering::Acquire) {
        let next = Instant::now() + Duration::from_millis(100);
        samples.push(sample(lab)?);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    samples.push(sample(lab)?);
    Ok(samples)
}

fn sample(lab: &Lab) -> Result<Sample, SceneError> {
    let NodeStatus { enis, pods, .. } = lab.node_status("node-a")?;
    let addresses = enis.iter().map(|eni| eni.secondary.len()).sum();
    let pods = pods.iter().filter(|pod| pod.address.is_some()).count();
    Ok(Sample { pods, addresses, enis: enis.len() })
}

/// Addresses over time, the pods' part of them filled; below, the number of ENIs.
fn draw(stage: &Stage, samples: &[Sample]) {
    const COLUMNS: usize = 72;
    const STEP: usize = 15;
    let columns: Vec<Sample> =
        (0..COLUMNS.min(samples.len())).map(|at| samples[at * samples.len() / COLUMNS.min(samples.len())]).collect();
    for level in (0..8).rev() {
        let least = level * STEP;
        let mut row = String::new();
        for column in &columns {
            row.push_str(&match () {
                () if column.pods > least => stage.paint("1;33", "█"),
                () if column.addresses > least => stage.paint("32", "░"),
                () => " ".to_owned(),
            });
        }
        stage.line(&format!("     {:>4} {row}", least + STEP));
    }
    let enis: String = columns.iter().map(|column| column.enis.to_string()).collect();
    stage.line(&format!("     ENIs {enis}"));
    let (pods, warm) = (stage.paint("1;33", "█"), stage.paint("32", "░"));
    let seconds = samples.len() as f64 / 10.0;
    stage.line(&format!("     {pods} pods   {warm} warm or resting   about {seconds:.0} s from left to right"));
}
