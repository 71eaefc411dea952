//! What a pod costs on a node that is full of pods, beside one that is empty: each pod has a link, a route and two rules there.

use std::sync::mpsc;

use anyhow::{Context, Result};

use crate::contest::{Turn, ms};
use crate::node;
use crate::plan::{Contestant, Plan};
use crate::pod::{Pod, gone_at};

/// Measures in turns on the empty node and on the full one. Where the daemon is, there is one node only: first it is empty, then full.
pub(crate) fn measure(turns: &mut [Turn<'_>], plan: &Plan) -> Result<()> {
    if plan.most_pods < 2 {
        return Ok(());
    }
    for turn in turns.iter_mut().filter(|turn| turn.who.grows) {
        let who = turn.who;
        let empty = turn.host.clone();
        let full = if plan.daemon_is_here { empty.clone() } else { node::host()? };
        if plan.daemon_is_here {
            for _ in 0..plan.pods {
                let first = empty.enter(|| add_and_del(who))??;
                turn.note("add_first", first);
            }
        }
        let fill = || (1..plan.most_pods).map(|_| added(who)).collect::<Result<Vec<_>>>();
        let others = full.enter(fill)?.with_context(|| format!("{}: filling a node", who.name))?;
        for _ in 0..plan.pods {
            if !plan.daemon_is_here {
                let first = empty.enter(|| add_and_del(who))??;
                turn.note("add_first", first);
            }
            let last = full.enter(|| add_and_del(who))??;
            turn.note("add_last", last);
        }
        full.enter(|| leave(who, others))??;
    }
    Ok(())
}

fn added(who: &Contestant) -> Result<Pod> {
    let mut pod = Pod::sandbox()?;
    pod.add(who)?;
    Ok(pod)
}

/// Milliseconds of the ADD. The next one comes when the link has gone: its end would be in the way.
fn add_and_del(who: &Contestant) -> Result<f64> {
    let mut pod = Pod::sandbox()?;
    let took = pod.add(who)?;
    leave(who, vec![pod])?;
    Ok(ms(took.wall))
}

fn leave(who: &Contestant, pods: Vec<Pod>) -> Result<()> {
    for pod in &pods {
        pod.del(who)?;
        pod.drop_namespace()?;
    }
    let (told, _gone) = mpsc::channel();
    gone_at(pods.into_iter().map(|pod| pod.link).collect(), &told)
}
