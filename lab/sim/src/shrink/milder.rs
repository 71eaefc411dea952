//! Milder conditions and milder acts: nearer to an ordinary node on an ordinary day.

use lab_cloud::CloudFault;

use super::Shrinking;
use crate::history::{Act, Buckets, History, Pace, Settings};

/// A subnet with room for everybody.
const ROOMY: u8 = 20;
/// A span that is long enough for most things to come about, in milliseconds.
const SHORT: u64 = 1_000;

impl Shrinking<'_> {
    pub(super) fn milder_conditions(&mut self) {
        for pace in [Pace::Instant, Pace::Aws] {
            if pace < self.best.history.pace {
                self.try_with(|history| history.pace = pace);
            }
        }
        self.try_with(|history| history.lagging = false);
        self.try_with(|history| history.disk_ms = 1);
        for buckets in [Buckets::Off, Buckets::Aws] {
            if buckets < self.best.history.buckets {
                self.try_with(|history| history.buckets = buckets);
            }
        }
        self.try_with(roomy);
        for index in 0..self.best.history.nodes.len() {
            self.try_with(|history| history.nodes[index].start_ms = 0);
            self.try_with(|history| history.nodes[index].settings = Settings::default());
            for field in FIELDS {
                self.try_with(|history| field(&mut history.nodes[index].settings));
            }
        }
    }

    /// One act, one step milder; false if no step can be made.
    fn milder_act(&mut self, index: usize) -> bool {
        let steps = milder(&self.best.history.acts[index].act);
        steps.into_iter().any(|milder| self.try_with(|history| history.acts[index].act = milder))
    }

    pub(super) fn milder_acts(&mut self) {
        for index in 0..self.best.history.acts.len() {
            while self.milder_act(index) {}
            if let Act::Settings { .. } = self.best.history.acts[index].act {
                for field in FIELDS {
                    self.try_with(|history| {
                        if let Act::Settings { settings, .. } = &mut history.acts[index].act {
                            field(settings);
                        }
                    });
                }
            }
        }
    }
}

fn roomy(history: &mut History) {
    if let Ok(net) = vpc_model::Ipv4Net::new(history.subnet.network(), ROOMY)
        && history.subnet.prefix_len() > ROOMY
    {
        history.subnet = net.trunc();
    }
}

/// Each setting, back to its default.
const FIELDS: [fn(&mut Settings); 13] = [
    |own| own.prefixes = Settings::default().prefixes,
    |own| own.warm = Settings::default().warm,
    |own| own.max_enis = Settings::default().max_enis,
    |own| own.max_pods = Settings::default().max_pods,
    |own| own.cool_down_ms = Settings::default().cool_down_ms,
    |own| own.add_wait_ms = Settings::default().add_wait_ms,
    |own| own.min_eni_age_ms = Settings::default().min_eni_age_ms,
    |own| own.release_every_ms = Settings::default().release_every_ms,
    |own| own.audit_every_ms = Settings::default().audit_every_ms,
    |own| own.ec2 = Settings::default().ec2,
    |own| own.custom_networking = Settings::default().custom_networking,
    |own| own.look_ahead = Settings::default().look_ahead,
    |own| own.manage_untagged = Settings::default().manage_untagged,
];

/// What may be tried in an act's place, each from what has been reached: the mildest first.
fn milder(act: &Act) -> Vec<Act> {
    let with = |change: &dyn Fn(&mut Act)| {
        let mut milder = act.clone();
        change(&mut milder);
        milder
    };
    let mut found = Vec::new();
    match act {
        Act::Kill { after, .. } => {
            let less = |to: u32| {
                with(&|act| {
                    if let Act::Kill { after, .. } = act {
                        *after = to;
                    }
                })
            };
            found.extend([0, *after / 2].map(less));
            found.extend(spans(act));
        }
        Act::Terminate { .. } | Act::DiskFull { .. } | Act::HostFails { .. } => found.extend(spans(act)),
        Act::Fault { .. } => {
            found.extend(spans(act));
            found.push(with(&|act| {
                if let Act::Fault { fault, .. } = act {
                    plainer(fault);
                }
            }));
        }
        Act::Clock { by_ms } => {
            let less = |to: i64| Act::Clock { by_ms: to * by_ms.signum() };
            found.extend([60_000, 600_000, 3_600_000].into_iter().filter(|to| *to < by_ms.abs()).map(less));
        }
        Act::Outside { node, what, .. } => found.push(Act::Outside { node: *node, what: *what, pick: 0 }),
        Act::Settings { node, .. } => {
            found.push(Act::Settings { node: *node, settings: Box::new(Settings::default()) });
        }
        Act::NodeObject { node, unschedulable, max_pods } => {
            found.push(Act::NodeObject { node: *node, unschedulable: false, max_pods: *max_pods });
            found.push(Act::NodeObject { node: *node, unschedulable: *unschedulable, max_pods: None });
        }
        Act::RulesLost { node, .. } => found.push(Act::RulesLost { node: *node, every: 1 }),
        _ => {}
    }
    found
}

/// The same for a shorter time.
fn spans(act: &Act) -> Vec<Act> {
    let mut found = Vec::new();
    let Some(now) = span_mut(&mut act.clone()).map(|span| *span) else { return found };
    for less in [0, SHORT, now / 2] {
        let mut shorter = act.clone();
        if let Some(span) = span_mut(&mut shorter).filter(|span| less < **span) {
            *span = less;
            found.push(shorter);
        }
    }
    found
}

fn span_mut(act: &mut Act) -> Option<&mut u64> {
    match act {
        Act::Kill { away_ms: span, .. }
        | Act::Terminate { away_ms: span, .. }
        | Act::DiskFull { for_ms: span, .. }
        | Act::HostFails { for_ms: span, .. }
        | Act::Fault { for_ms: span, .. } => Some(span),
        _ => None,
    }
}

fn plainer(fault: &mut CloudFault) {
    match fault {
        CloudFault::Latency { jitter_ms, .. } => *jitter_ms = 0,
        CloudFault::Error { skip, times, .. } => (*skip, *times) = (0, Some(1)),
        CloudFault::SubnetExhausted { leave, .. } | CloudFault::SubnetFragmented { leave, .. } => *leave = 0,
        _ => {}
    }
}

/// Whose fault it is, if it is one node's.
pub(super) fn node_of(fault: &mut CloudFault) -> Option<&mut String> {
    match fault {
        CloudFault::Latency { node, .. }
        | CloudFault::Deny { node, .. }
        | CloudFault::Error { node, .. }
        | CloudFault::DetachSlow { node, .. }
        | CloudFault::AttachStuck { node } => node.as_mut(),
        CloudFault::ImdsStale { node }
        | CloudFault::ImdsPartial { node }
        | CloudFault::ImdsReordered { node }
        | CloudFault::ImdsMissing { node, .. }
        | CloudFault::ImdsHollow { node }
        | CloudFault::ImdsUnauthorized { node }
        | CloudFault::ImdsError { node, .. }
        | CloudFault::ImdsSlow { node, .. } => Some(node),
        CloudFault::Throttle { .. }
        | CloudFault::SubnetExhausted { .. }
        | CloudFault::SubnetFragmented { .. }
        | CloudFault::ClockSkew { .. } => None,
    }
}
