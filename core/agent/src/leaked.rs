//! ENIs that lost nodes of the cluster left behind: found once an hour, deleted by whichever node comes first.
//!
//! ```text
//!   (every hour, at a minute of this node's own) list -> old enough? noted, each with a delay of its own
//!   delay over -> EC2 is asked about it: still there, still unused? -> deleted
//! ```
//!
//! Every node of the cluster does this. So that they do not all list and delete at the same moment, the minute of the hour and the
//! delay of each ENI come from hashes in which the instance takes part: one node is first, the others find nothing left to do. An ENI
//! whose tag does not say when it was made is tagged with now and left: it may be somebody's who is just making it.

use std::collections::BTreeMap;

use vpc_model::{EniId, InstanceId, Millis, Time, WallTime};

use crate::agent::Agent;
use crate::cloud::{CloudFailure, EniKind, EniTruth, FailureClass, LeakedEni};
use crate::jobs::Job;
use crate::message::Notice;

/// Says when an ENI was made.
pub(crate) const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";

/// What is known of leaked ENIs.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    seed: u64,
    /// When they are listed next; `None` = never (it is switched off).
    next: Option<Time>,
    /// When each is looked at again.
    noted: BTreeMap<EniId, Time>,
}

impl Sweep {
    /// The reference's pause between two sweeps.
    pub(crate) const EVERY: Millis = Millis::seconds(3600);
    /// A node that just started has better things to ask.
    pub(crate) const NOT_BEFORE: Millis = Millis::seconds(300);
    /// Younger ones may be about to be attached (the reference's age).
    pub(crate) const AGE: Millis = Millis::seconds(300);
    /// Over how long the nodes spread their deletions.
    pub(crate) const SPREAD: Millis = Millis::seconds(600);
    /// Noted at once at most; the rest are found an hour later.
    pub(crate) const MOST: usize = 200;

    /// Begins switched off. `nonce` is different for each start of the daemon.
    pub(crate) fn new(instance: &InstanceId, nonce: u64) -> Self {
        Self { seed: hash(nonce, &[instance.as_str()]), next: None, noted: BTreeMap::new() }
    }

    /// Says whether ENIs are swept at all.
    pub(crate) fn enable(&mut self, now: Time, on: bool) {
        match (on, self.next) {
            (true, None) => self.next = Some(now + Self::NOT_BEFORE + Millis(self.seed % Self::EVERY.0)),
            (true, Some(_)) => {}
            (false, _) => {
                self.next = None;
                self.noted.clear();
            }
        }
    }

    /// Whether they should be listed now. Says so once.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        while let Some(at) = self.next.filter(|at| *at <= now) {
            self.next = Some(at + Self::EVERY);
        }
        due
    }

    /// EC2 has listed them: notes those that are old enough, and hands out those that must be tagged with the time.
    pub(crate) fn listed(&mut self, now: Time, wall: WallTime, enis: Vec<LeakedEni>) -> Vec<EniId> {
        if self.next.is_none() {
            return Vec::new();
        }
        let (dated, undated): (Vec<LeakedEni>, Vec<LeakedEni>) =
            enis.into_iter().partition(|eni| eni.created.is_some());
        // A time in the future is a clock that is wrong; once it has come, the ENI is of age.
        let old = |created: WallTime| wall.since(created).is_some_and(|age| age >= Self::AGE);
        let old = dated.into_iter().filter(|eni| eni.created.is_some_and(old)).map(|eni| eni.id);
        let mut delayed: Vec<(Millis, EniId)> = old.map(|id| (self.delay(&id), id)).collect();
        delayed.sort();
        delayed.truncate(Self::MOST);
        self.noted = delayed.into_iter().map(|(delay, id)| (id, now + delay)).collect();
        undated.into_iter().map(|eni| eni.id).take(Self::MOST).collect()
    }

    /// Those to look at now. Each is handed out once.
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<EniId> {
        let due: Vec<EniId> = self.noted.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        self.noted.retain(|_, at| *at > now);
        due
    }

    /// When something is to be done next.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.noted.values().copied().chain(self.next).min()
    }

    /// How long this node leaves an ENI to the others.
    fn delay(&self, eni: &EniId) -> Millis {
        Millis(hash(self.seed, &[eni.as_str()]) % Self::SPREAD.0)
    }
}

impl Agent {
    /// Lists what is due to be listed, looks at what is due to be looked at.
    pub(crate) fn sweep_leaked(&mut self, now: Time) {
        let on = self.config.leaked_cleanup && self.config.cloud.may_release() && !self.terminating;
        self.sweep.enable(now, on);
        if self.sweep.is_due(now) {
            self.start_job(Job::FindLeaked, 0);
        }
        for eni in self.sweep.take_due(now) {
            self.start_job(Job::LookAtLeaked(eni), 0);
        }
    }

    pub(crate) fn leaked_listed(&mut self, now: Time, enis: Vec<LeakedEni>) {
        let wall = self.calendar(now);
        let enis = enis.into_iter().filter(|eni| !self.has(&eni.id)).collect();
        let undated = self.sweep.listed(now, wall, enis);
        if !undated.is_empty() {
            self.start_job(Job::DateLeaked { enis: undated, created: wall.utc() }, 0);
        }
    }

    /// Deletes an ENI if EC2 still says that nothing uses it. If it is gone, another node was first.
    pub(crate) fn leaked_seen(&mut self, eni: EniId, truth: Option<&EniTruth>) {
        let on = self.config.leaked_cleanup && self.config.cloud.may_release();
        if on && truth.is_some_and(may_delete) && !self.has(&eni) {
            self.start_job(Job::DeleteLeaked(eni), 0);
        }
    }

    /// Takes in the failure of a call of the sweep: none is repeated, the next hour finds the same again.
    pub(crate) fn leaked_failed(&mut self, job: &Job, failure: &CloudFailure) -> bool {
        let what = match job {
            Job::LookAtLeaked(_) | Job::DeleteLeaked(_) if failure.class == FailureClass::NotFound => return true,
            Job::FindLeaked => "looking for ENIs that lost nodes left behind".to_owned(),
            Job::LookAtLeaked(eni) | Job::DeleteLeaked(eni) => {
                format!("deleting {eni}, which a lost node left behind,")
            }
            Job::DateLeaked { .. } => "giving ENIs that nothing uses a time".to_owned(),
            _ => return false,
        };
        self.say(Notice::CloudFailed { what, failure: failure.clone(), retry_in: None });
        true
    }

    /// Whether an ENI is this node's, or becomes it.
    fn has(&self, eni: &EniId) -> bool {
        self.pool.eni(eni).is_some() || self.others.contains_key(eni) || self.is_building(eni)
    }
}

/// Whether an ENI that was listed as leaked may be deleted, as EC2 shows it now.
pub(crate) fn may_delete(truth: &EniTruth) -> bool {
    let kept = truth.tags.get(crate::reconcile::NO_MANAGE_TAG).is_some_and(|value| value == "true");
    truth.available && truth.attachment.is_none() && truth.kind == EniKind::Ordinary && !kept
}

/// FNV-1a, then splitmix64's last steps: the same everywhere, and neighbours far apart.
fn hash(seed: u64, texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    let mixed =
        bytes.fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Time = Time(10_000_000);
    const WALL: WallTime = WallTime(1_800_000_000_000_000_000);

    fn ago(seconds: i64) -> Option<WallTime> {
        Some(WallTime(WALL.0 - seconds * 1_000_000_000))
    }

    fn leaked(id: &str, created: Option<WallTime>) -> LeakedEni {
        LeakedEni { id: id.parse().unwrap(), created }
    }

    fn sweep(instance: &str) -> Sweep {
        let mut sweep = Sweep::new(&instance.parse().unwrap(), 7);
        sweep.enable(NOW, true);
        sweep
    }

    /// When this node lists, and then when it looks at the ENI.
    fn looks_at(instance: &str, eni: &str) -> Time {
        let mut sweep = sweep(instance);
        let at = sweep.deadline().unwrap();
        assert!(sweep.is_due(at));
        sweep.listed(at, WALL, vec![leaked(eni, ago(600))]);
        sweep.deadline().unwrap()
    }

    #[test]
    fn only_what_is_surely_old_is_noted_and_what_has_no_time_gets_one() {
        let mut sweep = sweep("i-1");
        let rows = [
            ("eni-old", ago(600), true, false),
            ("eni-of-age", ago(300), true, false),
            ("eni-young", ago(299), false, false),
            ("eni-future", ago(-60), false, false),
            ("eni-undated", None, false, true),
        ];
        let tagged = sweep.listed(NOW, WALL, rows.iter().map(|row| leaked(row.0, row.1)).collect());
        let looked = sweep.take_due(NOW + Sweep::SPREAD);
        for (id, created, is_looked, is_tagged) in rows {
            let id: EniId = id.parse().unwrap();
            assert_eq!((looked.contains(&id), tagged.contains(&id)), (is_looked, is_tagged), "{id} of {created:?}");
        }
        assert_eq!(sweep.take_due(NOW + Sweep::EVERY), [], "each once");
    }

    #[test]
    fn the_nodes_of_a_cluster_spread_over_the_hour_and_each_eni_over_minutes() {
        let nodes: Vec<String> = (0..300).map(|i| format!("i-{i:017x}")).collect();
        let starts: Vec<u64> = nodes.iter().map(|node| sweep(node).deadline().unwrap().since(NOW).0).collect();
        assert!(starts.iter().all(|at| (300_000..3_900_000).contains(at)), "not right at start");
        for sixth in 0..6u64 {
            let here = starts.iter().filter(|at| (**at - 300_000) / 600_000 == sixth).count();
            assert!((20..=80).contains(&here), "{here} of 300 nodes list in the same ten minutes");
        }
        let delay = |node: &String| {
            let mut sweep = sweep(node);
            sweep.listed(NOW, WALL, vec![leaked("eni-1", ago(600))]);
            sweep.noted.values().next().unwrap().since(NOW).0
        };
        let mut delays: Vec<u64> = nodes.iter().map(delay).collect();
        delays.sort_unstable();
        assert!(delays[299] < Sweep::SPREAD.0 && delays[299] - delays[0] > 500_000);
        let same_second = delays.chunk_by(|a, b| a / 1000 == b / 1000).map(<[u64]>::len).max().unwrap();
        assert!(same_second <= 6, "{same_second} of 300 nodes would delete in the same second");
        assert_eq!(looks_at("i-1", "eni-1"), looks_at("i-1", "eni-1"), "the same for the same seed");
    }

    #[test]
    fn a_sweep_comes_every_hour_and_not_at_all_when_it_is_off() {
        let mut sweep = sweep("i-1");
        let first = sweep.deadline().unwrap();
        assert!(!sweep.is_due(NOW) && sweep.is_due(first) && !sweep.is_due(first));
        assert_eq!(sweep.deadline(), Some(first + Sweep::EVERY));
        let late = first + Millis(Sweep::EVERY.0 * 5 + 1);
        assert!(sweep.is_due(late) && !sweep.is_due(late), "missed ones are not made up for");
        sweep.listed(late, WALL, vec![leaked("eni-1", ago(600))]);
        sweep.enable(late, false);
        assert_eq!((sweep.deadline(), sweep.take_due(late + Sweep::EVERY)), (None, vec![]));
        assert_eq!(sweep.listed(late, WALL, vec![leaked("eni-1", None)]), [], "an answer that comes too late");
        sweep.enable(late, true);
        assert!(sweep.deadline().unwrap() >= late + Sweep::NOT_BEFORE);
    }

    #[test]
    fn more_than_can_be_handled_wait_for_the_next_hour() {
        let mut sweep = sweep("i-1");
        let many = |created| (0..1000).map(|i| leaked(&format!("eni-{i}"), created)).collect::<Vec<_>>();
        assert_eq!(sweep.listed(NOW, WALL, many(None)).len(), Sweep::MOST);
        sweep.listed(NOW, WALL, many(ago(600)));
        assert_eq!(sweep.take_due(NOW + Sweep::SPREAD).len(), Sweep::MOST);
    }

    #[test]
    fn an_eni_that_is_used_or_kept_by_somebody_is_left_alone() {
        let free = EniTruth {
            id: "eni-1".parse().unwrap(),
            mac: vpc_model::Mac([2; 6]),
            primary: "10.0.0.9".parse().unwrap(),
            slots: vec![],
            attachment: None,
            available: true,
            kind: EniKind::Ordinary,
            subnet: "subnet-1".parse().unwrap(),
            groups: vec![],
            tags: BTreeMap::new(),
            delete_on_termination: None,
        };
        let tags = |value: &str| BTreeMap::from([(crate::reconcile::NO_MANAGE_TAG.to_owned(), value.to_owned())]);
        assert!(may_delete(&free));
        assert!(may_delete(&EniTruth { tags: tags("false"), ..free.clone() }));
        for kept in [
            EniTruth { available: false, ..free.clone() },
            EniTruth { kind: EniKind::Other, ..free.clone() },
            EniTruth { kind: EniKind::Trunk, ..free.clone() },
            EniTruth { tags: tags("true"), ..free.clone() },
        ] {
            assert!(!may_delete(&kept), "{kept:?}");
        }
    }
}
