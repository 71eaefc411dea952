//! What belongs to no pod: leases without a sandbox, rules without a lease, links nobody knows. Found with every look at the host.
//!
//! ```text
//!   lease, no link of its sandbox -------- seen at two looks, older than any plugin --> it ends, its address rests
//!   the same, a newer sandbox of its pod - seen at two looks -------------------------> it ends, its address rests
//!   rules, neither lease nor link -------- seen at two looks -------------------------> the host pass removes them
//!   link, no lease, an address is routed - seen at two looks -------------------------> it becomes a lease again
//!   the same, and an ADD asks for its sandbox ----------------------------------------> it becomes a lease again, and the answer
//!   link, no lease, an address is routed - gone at the next look ---------------------> the address rests
//!   link, no lease, nothing is routed ---- older than any plugin, its pod not known --> said, once
//! ```
//!
//! The proof that a sandbox is gone is its link's absence: the pair of links goes with the sandbox's network namespace, and with nothing
//! else of ours. So a link is never removed, and what is routed to one is never taken away: a pod keeps its network until its DEL.

use std::cell::{LazyCell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_hostnet::{HostState, Link, LinkAlias, PodTies, is_pod_link, pod_ties};
use vpc_ipam::{Allocation, EniUse, Held, PoolEni, SlotState, Use, bug};
use vpc_model::{LinkName, Millis, PodRef, SandboxKey, Slot, Time, veth_suffix};

use crate::agent::Agent;
use crate::message::{Notice, Outcome, Wake};

/// Two looks are at least so far apart.
const LOOK_AGAIN: Millis = Millis::seconds(1);
/// How long a link whose lease is gone is watched before it becomes a lease again: a DEL under way takes its route away.
const ADOPT_AFTER: Millis = Millis::seconds(5);
/// Things of a kind that are ended or removed after one look. The others follow with the next, soon.
const AT_ONCE: usize = 128;
/// Hexadecimal digits of a pod's name in its link's.
const SUFFIX: usize = 11;

/// What was seen at earlier looks and belongs to nobody, each with the time of the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    leases: BTreeMap<SandboxKey, Time>,
    ties: BTreeMap<Ipv4Addr, Time>,
    links: BTreeMap<(u32, LinkName), Lonely>,
    /// Leases asked for again by an ADD: a plugin is at work on them once more.
    asked: BTreeMap<SandboxKey, Time>,
    /// Addresses of links without a lease: nobody else gets them.
    routed: BTreeSet<Ipv4Addr>,
    /// What the sandboxes have that such links name.
    living: BTreeMap<SandboxKey, (Ipv4Addr, LinkName)>,
    /// Those of them of which the books knew nothing: no lease, no DEL.
    unknown: BTreeSet<Ipv4Addr>,
    look_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Lonely {
    since: Time,
    said: bool,
}

impl Orphans {
    /// An ADD was answered with a lease that was there.
    pub(crate) fn asked_again(&mut self, key: &SandboxKey, now: Time) {
        self.leases.remove(key);
        self.asked.insert(key.clone(), now);
    }

    /// Addresses that were routed to a link without a lease at the last look: a sandbox may live behind it.
    pub(crate) fn routed(&self) -> &BTreeSet<Ipv4Addr> {
        &self.routed
    }

    /// Whether it is time for the next look.
    pub(crate) fn are_due(&self, now: Time) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        self.look_at.map(|at| (at, Wake::Audit)).into_iter()
    }

    /// Whether the host showed sandboxes that live without a lease.
    pub(crate) fn has_living(&self) -> bool {
        !self.living.is_empty()
    }

    /// A sandbox was deleted: what the host showed of it is no more.
    pub(crate) fn was_deleted(&mut self, key: &SandboxKey) {
        self.living.remove(key);
    }

    fn look_again(&mut self, at: Time) {
        self.look_at = Some(self.look_at.map_or(at, |other| other.min(at)));
    }
}

/// A look at the host, arranged by what is asked of it.
struct Look<'a> {
    state: &'a HostState,
    ties: BTreeMap<Ipv4Addr, PodTies>,
    /// Made when a link is looked for that its alias does not tell.
    by_suffix: OnceCell<BTreeMap<&'a str, Vec<&'a Link>>>,
    aliases: BTreeSet<&'a str>,
    by_name: BTreeMap<&'a LinkName, &'a Link>,
}

impl<'a> Look<'a> {
    fn new(state: &'a HostState, ties: BTreeMap<Ipv4Addr, PodTies>) -> Self {
        Self {
            ties,
            by_suffix: OnceCell::new(),
            aliases: state.links.iter().filter_map(|link| link.alias.as_deref()).collect(),
            by_name: state.links.iter().map(|link| (&link.name, link)).collect(),
            state,
        }
    }

    /// Links whose name ends so.
    fn ending(&self, suffix: &str) -> Option<&Vec<&'a Link>> {
        let by_suffix = self.by_suffix.get_or_init(|| {
            let mut by_suffix: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
            for link in &self.state.links {
                by_suffix.entry(suffix_of(link)).or_default().push(link);
            }
            by_suffix
        });
        by_suffix.get(suffix)
    }

    /// The addresses that are routed to each link.
    fn routed(&self) -> BTreeMap<&LinkName, BTreeSet<Ipv4Addr>> {
        let mut routed: BTreeMap<&LinkName, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for (address, ties) in &self.ties {
            ties.links.iter().for_each(|link| _ = routed.entry(link).or_default().insert(*address));
        }
        routed
    }

    /// A link of another sandbox that the lease's address is routed to.
    fn heir(&self, held: &Held) -> Option<&'a Link> {
        let routed = self.ties.get(&held.allocation.address).into_iter().flat_map(|ties| &ties.links);
        routed.filter_map(|name| self.by_name.get(name).copied()).next()
    }

    /// Whether the host has a link of this very sandbox. The pod's name ends the link's, and its alias, where it has one of ours,
    /// names the same container (a successor of the same pod has the same link name); or the alias alone says so; or the address is
    /// routed to a link that is not another's.
    fn backs(&self, held: &Held) -> bool {
        if self.aliases.contains(LinkAlias::text_of(&held.key, &held.pod).as_str()) {
            return true;
        }
        let same = |alias: &LinkAlias| {
            (alias.container(), &alias.sandbox().interface) == (&held.key.container, &held.key.interface)
        };
        let may_be = |link: &Link| alias_of(link).is_none_or(|alias| same(&alias) || alias.is_shortened());
        let named = self.ending(&veth_suffix(&held.pod));
        let routed = self.ties.get(&held.allocation.address).into_iter().flat_map(|ties| &ties.links);
        named.is_some_and(|links| links.iter().any(|link| may_be(link)))
            || routed.filter_map(|name| self.by_name.get(name)).any(|link| may_be(link))
    }

    fn is_of_the_host(&self, address: Ipv4Addr) -> bool {
        self.state.links.iter().any(|link| link.addresses.iter().any(|net| net.addr() == address))
    }
}

/// The end of the link's name: for a pod's, what depends on the pod alone.
fn suffix_of(link: &Link) -> &str {
    let name = link.name.as_str();
    name.len().checked_sub(SUFFIX).and_then(|at| name.get(at..)).unwrap_or(name)
}

/// The leases as links without an alias of ours tell of them.
#[derive(Default)]
struct Leased {
    suffixes: BTreeSet<String>,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Leased {
    /// Whether a lease stands behind a link that is not told by its alias: that of the pod its name ends with, or of an address that is
    /// routed to it.
    fn has(&self, link: &Link, routed: &BTreeSet<Ipv4Addr>) -> bool {
        self.suffixes.contains(suffix_of(link)) || !self.addresses.is_disjoint(routed)
    }
}

fn alias_of(link: &Link) -> Option<LinkAlias> {
    link.alias.as_deref().and_then(|text| text.parse().ok())
}

impl Agent {
    /// Judges what was seen on the host by the books.
    pub(crate) fn judge_orphans(&mut self, now: Time, state: &HostState) {
        self.orphans.look_at = None;
        let age = self.config.orphan_age;
        self.orphans.asked.retain(|_, at| now.since(*at) < age);
        let look = Look::new(state, pod_ties(state, &self.config.host));
        self.judge_leases(now, &look);
        let unknown = std::mem::take(&mut self.orphans.unknown);
        self.judge_links(now, &look);
        self.rest_what_was_unknown(now, unknown);
        self.judge_ties(now, &look);
    }

    fn judge_leases(&mut self, now: Time, look: &Look<'_>) {
        let mut lonely: BTreeMap<SandboxKey, (Held, Time)> = BTreeMap::new();
        let mut seen: Vec<SandboxKey> = Vec::new();
        // Asked only of leases without a link.
        let newest = LazyCell::new(|| self.newest_sandboxes());
        for held in self.pool.held() {
            let backed = match self.by_link.get(&held.key) {
                Some(link) => look.by_name.contains_key(link),
                // Nothing is known that its link could be told by.
                None if held.pod.name.is_empty() => continue,
                // Not on disk yet, so nobody was told of it: there can be no link, and its caller waits for the answer.
                None if self.disk.unrecorded.contains_key(&held.key) => continue,
                None => look.backs(held),
            };
            if backed {
                if self.suspects.contains(&held.key) {
                    seen.push(held.key.clone());
                }
                continue;
            }
            let since = self.last_asked(held);
            // A runtime makes one sandbox of a pod after the other: nobody is at work on one that has a successor.
            let newest = newest.get(&(&held.pod, held.key.interface.as_str()));
            let succeeded = newest.is_some_and(|(_, container)| *container != held.key.container);
            if self.by_link.contains_key(&held.key)
                || succeeded
                || now.since(since) >= self.config.orphan_age
                || bug!(LeaseEndedAtFirstLook)
            {
                let first = self.orphans.leases.get(&held.key).copied().unwrap_or(now);
                lonely.insert(held.key.clone(), (held.clone(), first));
            }
        }
        for key in seen {
            self.suspects.remove(&key);
        }
        self.orphans.leases = lonely.iter().map(|(key, (_, first))| (key.clone(), *first)).collect();
        let ripe = |first: Time| now.since(first) >= LOOK_AGAIN || bug!(LeaseEndedAtFirstLook);
        let (ripe, young): (Vec<_>, Vec<_>) = lonely.into_values().partition(|(_, first)| ripe(*first));
        if !young.is_empty() || ripe.len() > AT_ONCE {
            self.orphans.look_again(now + LOOK_AGAIN);
        }
        for (held, _) in ripe.into_iter().take(AT_ONCE) {
            match look.heir(&held) {
                Some(link) => self.rename_lease(now, &held, link),
                None => self.end_lease(now, &held.key, held.allocation.address),
            }
        }
    }

    /// An ADD is answered now, maybe long after its address was chosen: its plugin begins only now.
    pub(crate) fn was_told(&mut self, now: Time, outcome: &Outcome) {
        let Outcome::Added(reply) = outcome else { return };
        if let Some(Use::Held(held)) = self.pool.use_of(reply.allocation.address)
            && now.since(held.since) >= LOOK_AGAIN
        {
            self.orphans.asked.insert(held.key.clone(), now);
        }
    }

    pub(crate) fn last_asked(&self, held: &Held) -> Time {
        self.orphans.asked.get(&held.key).copied().unwrap_or(held.since)
    }

    /// The container that was asked for last, for each pod and interface.
    fn newest_sandboxes(&self) -> BTreeMap<(&PodRef, &str), (Time, &str)> {
        let held = self.pool.held().map(|held| (&held.key, &held.pod, self.last_asked(held)));
        let waiting = self.waiters.iter().map(|waiter| (&waiter.request.key, &waiter.request.pod, waiter.since));
        let mut newest: BTreeMap<(&PodRef, &str), (Time, &str)> = BTreeMap::new();
        for (key, pod, since) in held.chain(waiting).filter(|(_, pod, _)| !pod.name.is_empty()) {
            let own = (since, key.container.as_str());
            let known = newest.entry((pod, key.interface.as_str())).or_insert(own);
            *known = own.max(*known);
        }
        newest
    }

    /// An ADD has come. If another sandbox of its pod has a lease, the host tells soon whether that one still is.
    pub(crate) fn expect_successor(&mut self, now: Time, key: &SandboxKey, pod: &PodRef) {
        let other = |held: &Held| {
            held.pod == *pod && held.key.container != key.container && held.key.interface == key.interface
        };
        if !pod.name.is_empty() && self.pool.held().any(other) {
            self.orphans.look_again(now + LOOK_AGAIN);
        }
    }

    /// The books name a sandbox that is gone, and the address is a living one's: theirs is the wrong name.
    fn rename_lease(&mut self, now: Time, held: &Held, link: &Link) {
        let Some((key, alias)) = owner_of(link).filter(|(key, _)| self.pool.of(key).is_none()) else { return };
        self.forget_lease(&held.key);
        self.pool.release(&held.key, now, Millis(0));
        self.take_over(now, key, &alias, held.allocation, link);
    }

    fn forget_lease(&mut self, key: &SandboxKey) {
        self.suspects.remove(key);
        self.given_once.remove(key);
        self.by_link.remove(key);
        self.orphans.leases.remove(key);
        self.disk.unrecorded.remove(key);
    }

    fn end_lease(&mut self, now: Time, key: &SandboxKey, address: Ipv4Addr) {
        self.forget_lease(key);
        self.pool.release(key, now, self.config.target.cool_down);
        self.podless.insert(address);
        self.touch_disk();
        self.say(Notice::LeasePruned { key: key.clone(), address, why: "no link of its sandbox is on the host" });
    }

    /// Rules that neither a lease nor a link stands behind.
    fn judge_ties(&mut self, now: Time, look: &Look<'_>) {
        let before = std::mem::take(&mut self.orphans.ties);
        let nobodys = look.ties.iter().filter(|(address, ties)| {
            ties.has_only_our_rules() && ties.links.is_empty() && self.was_a_pods(**address, ties, look)
        });
        let found: Vec<Ipv4Addr> = nobodys.map(|(address, _)| *address).collect();
        let mut removed = 0;
        for address in found {
            let first = before.get(&address).copied().unwrap_or(now);
            if now.since(first) >= LOOK_AGAIN && removed < AT_ONCE {
                removed += 1;
                self.podless.insert(address);
                self.say(Notice::TiesOfNobody {
                    address,
                    why: "no lease holds it and no pod's link has a route to it, at two looks",
                });
            } else {
                self.orphans.ties.insert(address, first);
            }
        }
        if !self.orphans.ties.is_empty() {
            self.orphans.look_again(now + LOOK_AGAIN);
        }
    }

    /// Whether a rule for this address is what is left of a pod: nobody holds it, it is not the host's own, and it is, or was, of this
    /// node: of a position or a subnet of its ENIs; or of the VPC, with the pair of rules that only a pod of an ENI has.
    fn was_a_pods(&self, address: Ipv4Addr, ties: &PodTies, look: &Look<'_>) -> bool {
        let held = matches!(self.pool.use_of(address), Some(Use::Held(_)));
        let of_an_eni = self.pool.enis().any(|eni| eni.facts.primary == address);
        let here = self.pool.locate(address).is_some()
            || self.pool.enis().any(|eni| eni.facts.subnet.net().contains(&address))
            || (ties.to && ties.from && self.vpc_cidrs.iter().any(|net| net.contains(&address)));
        !held && !of_an_eni && !self.podless.contains(&address) && here && !look.is_of_the_host(address)
    }

    /// Pods' links that no lease is about.
    fn judge_links(&mut self, now: Time, look: &Look<'_>) {
        let before = std::mem::take(&mut self.orphans.links);
        self.orphans.routed.clear();
        self.orphans.living.clear();
        let by_link: BTreeSet<&LinkName> = self.by_link.values().collect();
        let prefix = &self.config.host.veth_prefix;
        let pods_links =
            look.state.links.iter().filter(|link| is_pod_link(link, prefix) && !by_link.contains(&link.name));
        // Almost every link is that of a lease, by its alias.
        let leases: BTreeSet<String> = self.pool.held().map(|held| LinkAlias::text_of(&held.key, &held.pod)).collect();
        let told = |link: &Link| link.alias.as_ref().is_some_and(|text| leases.contains(text));
        let others: Vec<&Link> = pods_links.filter(|link| !told(link)).collect();
        if others.is_empty() {
            return;
        }
        let mut leased = Leased::default();
        for held in self.pool.held() {
            leased.suffixes.insert(veth_suffix(&held.pod));
            leased.addresses.insert(held.allocation.address);
        }
        let (nothing, routed) = (BTreeSet::new(), look.routed());
        for link in others {
            let routed = routed.get(&link.name).unwrap_or(&nothing);
            // Its alias names a sandbox without a lease, or it has none of ours.
            if alias_of(link).is_some() || !leased.has(link, routed) {
                let id = (link.index, link.name.clone());
                let seen = before.get(&id).copied().unwrap_or(Lonely { since: now, said: false });
                if let Some(seen) = self.judge_link(now, link, routed.first().copied(), seen) {
                    self.orphans.links.insert(id, seen);
                    self.orphans.routed.extend(routed);
                }
            }
        }
        let knows = |address: &Ipv4Addr| self.pool.use_of(*address).is_some() || self.podless.contains(address);
        self.orphans.unknown = self.orphans.routed.iter().copied().filter(|address| !knows(address)).collect();
    }

    /// Sandboxes whose leases a lost checkpoint had may end before they are leases again. Nobody told when: their addresses rest from now
    /// on. What is being given back rests nowhere, unless it stays after all.
    fn rest_what_was_unknown(&mut self, now: Time, before: BTreeSet<Ipv4Addr>) {
        for address in before.into_iter().filter(|address| !self.orphans.routed.contains(address)).collect::<Vec<_>>() {
            let stays = |(eni, slot): (&PoolEni, Slot)| {
                eni.usage != EniUse::Leaving && eni.slots.get(&slot) != Some(&SlotState::Leaving)
            };
            match self.pool.locate(address).map(stays).filter(|_| self.pool.use_of(address).is_none()) {
                Some(true) => {
                    self.pool.restore_cooling(address, now, now + self.config.target.cool_down);
                    self.touch_disk();
                }
                Some(false) => _ = self.orphans.unknown.insert(address),
                None => {}
            }
        }
    }

    /// Positions that were being given back stay after all: what ended there unknown rests from now on.
    pub(crate) fn rest_unknown_of(&mut self, now: Time, slots: &[Slot]) {
        let stays = |address: &&Ipv4Addr| slots.iter().any(|slot| slot.contains(**address));
        let ended = self.orphans.unknown.difference(&self.orphans.routed).filter(stays);
        for address in ended.copied().collect::<Vec<_>>() {
            self.orphans.unknown.remove(&address);
            self.pool.restore_cooling(address, now, now + self.config.target.cool_down);
        }
    }

    /// `None` if it is a lease's now.
    fn judge_link(&mut self, now: Time, link: &Link, routed: Option<Ipv4Addr>, mut seen: Lonely) -> Option<Lonely> {
        let age = now.since(seen.since);
        if let Some(address) = routed {
            if age >= ADOPT_AFTER && self.adopt_link(now, link, address) {
                return None;
            }
            if age < ADOPT_AFTER {
                self.orphans.look_again(seen.since + ADOPT_AFTER);
            }
            if let Some((key, _)) = owner_of(link) {
                self.orphans.living.insert(key, (address, link.name.clone()));
            }
        }
        if age >= self.config.orphan_age && !seen.said && !self.is_of_a_bound_pod(link) {
            seen.said = true;
            let owner = link.alias.clone().filter(|text| !text.is_empty());
            self.say(Notice::LinkOfNobody { link: link.name.clone(), owner, routed });
        }
        Some(seen)
    }

    fn is_of_a_bound_pod(&self, link: &Link) -> bool {
        let suffix = |pod| link.name.as_str().ends_with(&veth_suffix(pod));
        match alias_of(link) {
            Some(alias) if !alias.is_shortened() => self.bound.contains(alias.pod()),
            Some(_) | None => self.bound.iter().any(suffix),
        }
    }

    /// A live sandbox's address is kept from others: the books take it in under the name its link bears. Says whether they did.
    fn adopt_link(&mut self, now: Time, link: &Link, address: Ipv4Addr) -> bool {
        let Some((key, alias)) = owner_of(link) else { return false };
        let asks = self.waiters.iter().any(|waiter| waiter.request.key == key);
        let Some((eni, _)) = self.pool.locate(address) else { return false };
        let allocation = Allocation { address, device: eni.facts.device, table: eni.facts.table() };
        let ending = self.podless.contains(&address);
        !asks
            && !ending
            && !self.holds(address)
            && self.pool.of(&key).is_none()
            && self.take_over(now, key, &alias, allocation, link)
    }

    /// An ADD asks for a sandbox that lives, and whose lease is lost: by its link on the host it has an address, and gets no other.
    /// `None`: the books can not take it in.
    pub(crate) fn has_already(&mut self, now: Time, key: &SandboxKey, pod: &PodRef) -> Option<Allocation> {
        let (address, link) = self.orphans.living.remove(key)?;
        let (eni, _) = self.pool.locate(address)?;
        let allocation = Allocation { address, device: eni.facts.device, table: eni.facts.table() };
        if self.podless.contains(&address) || self.holds(address) {
            return None;
        }
        let held = Held { key: key.clone(), pod: pod.clone(), allocation, since: now };
        self.pool.restore(held).ok()?;
        self.say(Notice::LeaseAdopted { key: key.clone(), address, link });
        Some(allocation)
    }

    fn take_over(
        &mut self,
        now: Time,
        key: SandboxKey,
        alias: &LinkAlias,
        allocation: Allocation,
        link: &Link,
    ) -> bool {
        let held = Held { key: key.clone(), pod: alias.pod().clone(), allocation, since: now };
        if let Err(error) = self.pool.restore(held) {
            self.say(Notice::Disagreement { what: format!("link {}: {error}", link.name) });
            return false;
        }
        self.touch_disk();
        self.say(Notice::LeaseAdopted { key, address: allocation.address, link: link.name.clone() });
        true
    }
}

/// The sandbox a link names, if it names one whole.
fn owner_of(link: &Link) -> Option<(SandboxKey, LinkAlias)> {
    let alias = alias_of(link).filter(|alias| !alias.is_shortened())?;
    Some((alias.sandbox().clone(), alias))
}
