//! Readings of the metadata: in rounds, as the daemon's client reads them, all values of a round at once.
//!
//! A round takes as long as its slowest value; all its values are those of its end.

use std::collections::BTreeSet;

use vpc_agent::{Input, OpId};
use vpc_aws::hand::facts;
use vpc_aws::imds::{ImdsError, ImdsFailure, Known, NodeMetadata, Reading, Walk};
use vpc_model::{Ipv4Net, Mac, Millis, SecurityGroupId, Time};

use crate::world::{Event, NodeAt, World};

/// How long the metadata are asked for at a start, and how often, as the daemon does.
const PATIENCE: Millis = Millis::seconds(30);
const PAUSE: Millis = Millis(500);
/// Attempts at a value that IMDS fails to give, and what they take together.
const ATTEMPTS: Millis = Millis(150);
/// A daemon that ended by itself is started again after this.
const RESTART: Millis = Millis::seconds(10);

/// A reading on its way.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    purpose: Purpose,
    reading: Reading,
    asked: BTreeSet<String>,
    refusal: Option<u16>,
    since: Time,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Everything a daemon needs to begin.
    Boot,
    /// The ENIs and the groups of the primary one.
    Enis(OpId),
    /// The VPC's CIDRs.
    Cidrs,
}

impl Round {
    pub(crate) fn boot(since: Time) -> Self {
        Self::new(Purpose::Boot, since)
    }

    pub(crate) fn enis(since: Time, op: OpId) -> Self {
        Self::new(Purpose::Enis(op), since)
    }

    pub(crate) fn cidrs(since: Time) -> Self {
        Self::new(Purpose::Cidrs, since)
    }

    fn new(purpose: Purpose, since: Time) -> Self {
        Self { purpose, reading: Reading::default(), asked: BTreeSet::new(), refusal: None, since }
    }
}

/// What a reading has come to.
enum Got {
    Boot(Box<(NodeMetadata, Walk)>),
    Enis(Walk, Vec<SecurityGroupId>),
    Cidrs(Vec<Ipv4Net>),
}

impl World {
    /// Begins a reading, or its next round.
    pub(crate) fn read_metadata(&mut self, node: NodeAt, life: u32, mut round: Round) {
        let Some(mac) = self.primary_mac(node) else { return };
        match got(&round, mac) {
            Known::Lacks(paths) => {
                let Some(instance) = self.nodes.get(node.0).map(|own| own.instance.clone()) else { return };
                let mut takes = Millis(0);
                round.refusal = None;
                for _ in &paths {
                    let arrival = self.cloud.imds_arrival(self.now, &instance, false);
                    takes = takes.max(arrival.delay);
                    round.refusal = round.refusal.or(arrival.refusal);
                }
                if round.refusal.is_some() {
                    takes = Millis(takes.0 + ATTEMPTS.0);
                }
                round.asked = paths;
                self.later(takes, Event::Round { node, life, round: Box::new(round) });
            }
            Known::Whole(result) => self.metadata_read(node, life, &round, result),
        }
    }

    pub(crate) fn round_done(&mut self, node: NodeAt, life: u32, mut round: Round) {
        let Some(own) = self.nodes.get(node.0) else { return };
        let (instance, shown) = (own.instance.clone(), own.shown.clone());
        for path in std::mem::take(&mut round.asked) {
            let full = format!("meta-data/{path}");
            let value = match round.refusal {
                Some(status) => {
                    Err(ImdsError { path: format!("/latest/{full}"), failure: ImdsFailure::Status(status) })
                }
                None if shown.contains_key(&path) => Ok(shown.get(&path).cloned().flatten()),
                None => Ok(self.cloud.imds_answer(self.now, &instance, &full).value),
            };
            round.reading.put(path, value);
        }
        self.read_metadata(node, life, round);
    }

    fn metadata_read(&mut self, node: NodeAt, life: u32, round: &Round, result: Result<Got, ImdsError>) {
        match (round.purpose, result) {
            (Purpose::Boot, Ok(Got::Boot(got))) => {
                let (metadata, walk) = *got;
                match facts::node_facts(&metadata, &walk, self.wall()) {
                    Ok(facts) => self.begin(node, metadata, facts),
                    Err(_) => self.boot_failed(node, life, round.since),
                }
            }
            (Purpose::Boot, _) => self.boot_failed(node, life, round.since),
            (Purpose::Enis(op), result) => {
                let result = match result {
                    Ok(Got::Enis(walk, groups)) => facts::metadata(&walk, groups).map_err(|error| error.to_string()),
                    Ok(_) => return,
                    Err(error) => Err(error.to_string()),
                };
                self.think(node, Input::MetadataRead { op, result });
            }
            (Purpose::Cidrs, Ok(Got::Cidrs(cidrs))) => self.think(node, Input::VpcCidrs(cidrs)),
            (Purpose::Cidrs, _) => {}
        }
    }

    /// Asked again for a while; then the daemon ends, and is started again.
    fn boot_failed(&mut self, node: NodeAt, life: u32, since: Time) {
        if self.now + PAUSE < since + PATIENCE {
            let round = Box::new(Round { asked: BTreeSet::new(), ..Round::boot(since) });
            return self.later(PAUSE, Event::Round { node, life, round });
        }
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.exits += 1;
        }
        self.later(RESTART, Event::Start { node });
    }

    fn primary_mac(&self, node: NodeAt) -> Option<Mac> {
        let own = self.nodes.get(node.0)?;
        own.enis.values().find(|eni| eni.device.0 == 0 && eni.card.0 == 0).map(|eni| eni.mac)
    }
}

/// What a reading says, or what else to read.
fn got(round: &Round, mac: Mac) -> Known<Got> {
    let reading = &round.reading;
    match round.purpose {
        Purpose::Boot => {
            both(reading.node(), reading.walk(), |node, walk| match walk.sick.iter().find(|e| e.mac == walk.primary) {
                Some(sick) => Err(sick.error.clone()),
                None => Ok(Got::Boot(Box::new((node, walk)))),
            })
        }
        Purpose::Enis(_) => {
            both(reading.walk(), reading.filled(mac, "security-group-ids"), |walk, groups| Ok(Got::Enis(walk, groups)))
        }
        Purpose::Cidrs => match reading.filled(mac, "vpc-ipv4-cidr-blocks") {
            Known::Lacks(paths) => Known::Lacks(paths),
            Known::Whole(cidrs) => Known::Whole(cidrs.map(Got::Cidrs)),
        },
    }
}

fn both<A, B, C>(a: Known<A>, b: Known<B>, join: impl FnOnce(A, B) -> Result<C, ImdsError>) -> Known<C> {
    match (a, b) {
        (Known::Lacks(a), Known::Lacks(b)) => Known::Lacks(a.union(&b).cloned().collect()),
        (Known::Lacks(paths), Known::Whole(Ok(_))) | (Known::Whole(Ok(_)), Known::Lacks(paths)) => Known::Lacks(paths),
        (Known::Whole(Err(error)), _) | (_, Known::Whole(Err(error))) => Known::Whole(Err(error)),
        (Known::Whole(Ok(a)), Known::Whole(Ok(b))) => Known::Whole(join(a, b)),
    }
}
