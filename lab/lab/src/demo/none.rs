//! Scene 6: no address left.

use std::time::{Duration, Instant};

use super::stage::{Play, SceneError, Stage, address, node, open, pod_name};

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let short = [("MAX_ENI", "1"), ("VPC_CNI_ADD_WAIT", "3")];
    let long = [("MAX_ENI", "1"), ("VPC_CNI_ADD_WAIT", "15"), ("IP_COOLDOWN_PERIOD", "0")];
    let lab = open(vec![node("node-a", "private-a", &short), node("node-b", "private-b", &long)])?;
    for name in ["node-a", "node-b"] {
        let scaled = lab.pod_scale(name, 9, 1)?;
        stage.same(format!("nine pods on {name}, which may have one ENI"), &scaled.added.len(), &9);
        stage.draw_node(&lab.node_status(name)?);
    }

    let asked = Instant::now();
    let refused = lab.pod_add("node-a", &pod_name("tenth")?, 1);
    let took = asked.elapsed();
    match refused {
        Ok(pod) => stage.check(format!("the tenth is refused (it got {:?})", pod.address), false),
        Err(error) => {
            let words = error.to_string();
            stage.line(&format!("     {}", stage.paint("33", &words)));
            let numbers = ["all 9 addresses", "9 by pods", "1 of 1 ENIs"].iter().all(|part| words.contains(part));
            stage.check("the tenth is refused, with the cause and its numbers", numbers);
        }
    }
    let fits = (Duration::from_millis(2_800)..Duration::from_millis(4_500)).contains(&took);
    stage.check(format!("after the 3 s it may wait ({:.1} s)", took.as_secs_f64()), fits);

    let victim =
        lab.node_status("node-b")?.pods.into_iter().next().ok_or_else(|| anyhow::anyhow!("node-b has no pods"))?;
    let freed = address(&victim)?;
    let (waited, late) = std::thread::scope(|scope| {
        let asked = Instant::now();
        let late = scope.spawn(|| lab.pod("node-b", "late"));
        std::thread::sleep(Duration::from_millis(700));
        let still_waiting = !late.is_finished();
        let deleted = lab.pod_del("node-b", &victim.pod);
        let late = late.join().map_err(|_| anyhow::anyhow!("the ADD's thread ended badly"))??;
        deleted?;
        Ok::<_, SceneError>((still_waiting.then(|| asked.elapsed()), late))
    })?;
    stage.check("on node-b an eleventh hour pod waits", waited.is_some());
    stage.same("a DEL lets it through with the freed address", &late.address, &Some(freed));
    let took = waited.unwrap_or_default();
    stage.check(
        format!("as soon as that is free ({:.2} s after it asked)", took.as_secs_f64()),
        took < Duration::from_secs(3),
    );
    stage.draw_node(&lab.node_status("node-b")?);
    Ok(())
}
