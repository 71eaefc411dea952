//! The reference's manager as its formulas say, on a list of ENIs: what its column in `cases.txt` is checked against. It takes
//! ENIs in arbitrary order; here in the one given.

use vpc_ipam::{EniRole, SlotState, Target, Unit, WarmTarget};
use vpc_model::Millis;

use super::Paper;

#[derive(Clone, Debug)]
struct Eni {
    name: String,
    primary: bool,
    excluded: bool,
    young: bool,
    /// Pods and resting addresses on each position of the mode's unit.
    slots: Vec<(u32, u32)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Reference {
    target: Target,
    foreign: i64,
    may_change: bool,
    may_shrink: bool,
    enis: Vec<Eni>,
}

impl Reference {
    pub(crate) fn of(paper: &Paper, backwards: bool) -> Self {
        let now = paper.now;
        let mut enis: Vec<Eni> = paper
            .pool
            .enis()
            .map(|eni| Eni {
                name: format!("E{}", eni.facts.device),
                primary: eni.facts.is_primary(),
                excluded: eni.role != EniRole::Pods,
                young: now.since(eni.since) < Millis::seconds(60),
                slots: paper
                    .pool
                    .positions(&eni.facts.id)
                    .filter(|at| at.state == SlotState::Held && Unit::of(at.slot) == paper.target.unit)
                    .map(|at| (at.held, at.cooling))
                    .collect(),
            })
            .collect();
        if backwards {
            enis.reverse();
        }
        let recently = paper.pending.last_release.is_some_and(|at| now.since(at) <= Millis::seconds(30));
        Self {
            target: paper.target,
            foreign: paper.pending.foreign_enis.into(),
            may_change: !paper.pending.no_growth,
            may_shrink: !recently,
            enis,
        }
    }

    fn size(&self) -> i64 {
        self.target.unit.size().into()
    }

    fn positions(&self) -> i64 {
        self.target.slots_per_eni.into()
    }

    fn counted(&self) -> impl Iterator<Item = &(u32, u32)> {
        self.enis.iter().filter(|eni| !eni.excluded).flat_map(|eni| &eni.slots)
    }

    fn total(&self) -> i64 {
        self.counted().count() as i64 * self.size()
    }

    fn assigned(&self) -> i64 {
        self.counted().map(|(held, _)| i64::from(*held)).sum()
    }

    pub(crate) fn available(&self) -> i64 {
        self.total() - self.assigned()
    }

    /// Prefixes without a pod, resting or not.
    fn free_prefixes(&self) -> i64 {
        self.enis.iter().flat_map(|eni| &eni.slots).filter(|(held, _)| *held == 0).count() as i64
    }

    fn prefixes(&self) -> bool {
        self.target.unit == Unit::Prefix
    }

    /// `WARM_IP_TARGET` and `MINIMUM_IP_TARGET`, if any of them is set.
    fn defined(&self) -> Option<(i64, i64)> {
        match self.target.warm {
            WarmTarget::Addresses { warm, minimum } => Some((warm.into(), minimum.into())),
            WarmTarget::Enis(_) | WarmTarget::Prefixes(_) => None,
        }
    }

    fn warm(&self) -> i64 {
        match self.target.warm {
            WarmTarget::Enis(warm) | WarmTarget::Prefixes(warm) => warm.into(),
            WarmTarget::Addresses { .. } => 0,
        }
    }

    fn short(&self) -> i64 {
        let (w, m) = self.defined().unwrap_or_default();
        let short = 0.max(w - self.available()).max(m - self.total());
        if self.prefixes() { ceil16(short) } else { short }
    }

    fn over(&self) -> i64 {
        let Some((w, m)) = self.defined() else {
            return if self.prefixes() { 0.max(self.free_prefixes() - self.warm()) } else { 0 };
        };
        if !self.prefixes() {
            return 0.max((self.available() - w).min(self.total() - m));
        }
        let all = self.enis.iter().map(|eni| eni.slots.len() as i64).sum::<i64>();
        0.max(self.free_prefixes().min(all - ceil16(self.assigned() + w)).min(all - ceil16(m)))
    }

    fn is_low(&self) -> bool {
        if self.target.max_pods.is_some_and(|max| self.total() >= i64::from(max)) {
            return false;
        }
        let unit = if self.prefixes() { 16 } else { self.positions() };
        let low = self.available() < unit * self.warm() || (self.warm() == 0 && self.available() == 0);
        if self.defined().is_some() { self.short() > 0 } else { low }
    }

    /// One turn of its manager, as text in the form of `cases.txt`.
    pub(crate) fn tick(&mut self) -> String {
        let mut said = Vec::new();
        let gate = {
            let many = (self.warm() + 1) * self.positions() * self.size();
            let idle = |eni: &Eni| !eni.primary && eni.slots.iter().all(|(held, _)| *held == 0);
            self.defined().is_some() || self.available() >= many || (self.prefixes() && self.enis.iter().any(idle))
        };
        if self.is_low() {
            said.extend(self.may_change.then(|| self.grow()).flatten());
        } else if self.over() > 0 && self.may_shrink {
            self.shrink(&mut said);
        }
        if gate && self.may_change {
            said.extend(self.free_eni());
        }
        said.sort();
        if said.is_empty() { "-".into() } else { said.join(", ") }
    }

    fn grow(&mut self) -> Option<String> {
        let want = match (self.prefixes(), self.defined()) {
            (true, Some(_)) => self.short().max(1),
            (true, None) => (self.warm() - self.free_prefixes()).max(1),
            (false, Some(_)) => self.short(),
            (false, None) => self.positions(),
        };
        let most = self.positions();
        if let Some(eni) = self.enis.iter_mut().find(|eni| !eni.excluded && (eni.slots.len() as i64) < most) {
            let count = want.min(most - eni.slots.len() as i64);
            eni.slots.extend((0..count).map(|_| (0, 0)));
            return Some(format!("{} +{count}", eni.name));
        }
        if self.enis.len() as i64 >= i64::from(self.target.max_enis) - self.foreign {
            return None;
        }
        let count = want.min(most);
        let name = format!("E{}", self.enis.len());
        let slots = (0..count).map(|_| (0, 0)).collect();
        // Ticks of the cases are far enough apart for it to be of age.
        self.enis.push(Eni { name, primary: false, excluded: false, young: false, slots });
        Some(format!("new {count}"))
    }

    fn shrink(&mut self, said: &mut Vec<String>) {
        let mut left = self.over();
        for eni in &mut self.enis {
            let before = eni.slots.len() as i64;
            eni.slots.retain(|(held, _)| {
                let goes = *held == 0 && left > 0;
                left -= i64::from(goes);
                !goes
            });
            let gone = before - eni.slots.len() as i64;
            said.extend((gone > 0).then(|| format!("{} -{gone}", eni.name)));
        }
    }

    fn free_eni(&mut self) -> Option<String> {
        let size = self.size();
        let up = |n: i64| if size == 16 { ceil16(n) * 16 } else { n };
        let (w, m) = self.defined().unwrap_or_default();
        let prefixes = if self.prefixes() { self.warm() } else { 0 };
        let may_go = |at: &usize| {
            let eni = &self.enis[*at];
            let others = || {
                let others = self.enis.iter().enumerate().filter(|(other, eni)| other != at && !eni.excluded);
                others.flat_map(|(_, eni)| &eni.slots)
            };
            let free: i64 = others().map(|(held, _)| size - i64::from(*held)).sum();
            let empty = others().filter(|(held, _)| *held == 0).count() as i64;
            let unused = eni.slots.iter().all(|slot| *slot == (0, 0));
            let rest_is_enough = free >= up(w) && others().count() as i64 * size >= up(m) && empty >= prefixes;
            !eni.primary && !eni.young && unused && rest_is_enough
        };
        let at = (0..self.enis.len()).find(may_go)?;
        Some(format!("{} gone", self.enis.remove(at).name))
    }

    /// Places pods where most are, and lets the manager run, until it is quiet: `3,3,1 unused 2`.
    pub(crate) fn at_rest(mut self, pods: u32) -> String {
        for _ in 0..pods {
            while self.tick() != "-" {}
            let size = self.target.unit.size();
            let free = self.enis.iter_mut().flat_map(|eni| &mut eni.slots).filter(|(held, _)| *held < size);
            free.max_by_key(|(held, _)| *held).expect("an address").0 += 1;
        }
        while self.tick() != "-" {}
        let positions: Vec<String> = self.enis.iter().map(|eni| eni.slots.len().to_string()).collect();
        let free = if self.prefixes() { format!(" free {}", self.free_prefixes()) } else { String::new() };
        format!("{} unused {}{free}", positions.join(","), self.available())
    }
}

fn ceil16(addresses: i64) -> i64 {
    (addresses + 15) / 16
}
