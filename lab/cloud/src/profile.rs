//! How long things take.

use vpc_model::{Millis, WallTime};

use crate::consistency::Consistency;
use crate::throttle::Throttle;

/// A span drawn evenly between two ends, with a rare long tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Shortest, in milliseconds.
    pub least: Millis,
    /// Longest of the usual ones.
    pub most: Millis,
    /// Longest of the unusual ones (1 in 100); equal to `most`: there are none.
    pub tail: Millis,
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self::between(0, 0);

    /// Milliseconds, without a tail.
    #[must_use]
    pub const fn between(least: u64, most: u64) -> Self {
        Self { least: Millis(least), most: Millis(most), tail: Millis(most) }
    }

    /// Always the same.
    #[must_use]
    pub const fn exactly(time: Millis) -> Self {
        Self::between(time.0, time.0)
    }

    /// Milliseconds, with a tail.
    #[must_use]
    pub const fn with_tail(least: u64, most: u64, tail: u64) -> Self {
        Self { least: Millis(least), most: Millis(most), tail: Millis(tail) }
    }

    /// The same, later by so much.
    #[must_use]
    pub fn longer(self, by: Millis) -> Self {
        let add = |span: Millis| Millis(span.0.saturating_add(by.0));
        Self { least: add(self.least), most: add(self.most), tail: add(self.tail) }
    }
}

/// How long EC2 and IMDS take. The figures of [`Profile::aws`] are observations of users and AWS's own documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Answer of a Describe call.
    pub describe: Span,
    /// CreateNetworkInterface.
    pub create: Span,
    /// AttachNetworkInterface: until the answer.
    pub attach: Span,
    /// From that answer until the guest has the device.
    pub guest_sees: Span,
    /// Assign and Unassign of addresses and prefixes.
    pub assign: Span,
    /// Every other call that changes something.
    pub modify: Span,
    /// DetachNetworkInterface: until the answer.
    pub detach: Span,
    /// From that answer until the device is gone and the ENI is `available`.
    pub detached: Span,
    /// RunInstances: until the answer.
    pub run: Span,
    /// From RunInstances or StartInstances until the instance is `running`.
    pub boot: Span,
    /// From `running` until the status checks have passed.
    pub checks: Span,
    /// From StopInstances or TerminateInstances until the instance is down.
    pub down: Span,
    /// From AssociateVpcCidrBlock or DisassociateVpcCidrBlock until it has come about.
    pub cidr: Span,
    /// Any request to IMDS.
    pub imds: Span,
    /// From the attachment until IMDS lists the MAC.
    pub imds_mac: Span,
    /// From there until IMDS lists secondary addresses and prefixes.
    pub imds_secondaries: Span,
    /// From a change of addresses of an attached ENI until IMDS shows it.
    pub imds_change: Span,
    /// From the end of an attachment until IMDS drops the MAC.
    pub imds_drop: Span,
}

impl Profile {
    /// Everything happens at once.
    #[must_use]
    pub const fn instant() -> Self {
        const Z: Span = Span::ZERO;
        Self {
            describe: Z,
            create: Z,
            attach: Z,
            guest_sees: Z,
            assign: Z,
            modify: Z,
            detach: Z,
            detached: Z,
            run: Z,
            boot: Z,
            checks: Z,
            down: Z,
            cidr: Z,
            imds: Z,
            imds_mac: Z,
            imds_secondaries: Z,
            imds_change: Z,
            imds_drop: Z,
        }
    }

    /// As AWS.
    #[must_use]
    pub const fn aws() -> Self {
        Self {
            describe: Span::between(50, 200),
            create: Span::between(400, 600),
            attach: Span::between(500, 1200),
            guest_sees: Span::between(500, 3000),
            assign: Span::between(300, 700),
            modify: Span::between(100, 400),
            detach: Span::between(200, 500),
            detached: Span::between(1000, 10_000),
            run: Span::between(1000, 2500),
            boot: Span::between(5000, 15_000),
            checks: Span::between(60_000, 180_000),
            down: Span::between(5000, 30_000),
            cidr: Span::between(2000, 8000),
            imds: Span::with_tail(1, 4, 30),
            imds_mac: Span::between(1000, 2100),
            imds_secondaries: Span::with_tail(500, 5000, 30_000),
            imds_change: Span::with_tail(1000, 10_000, 60_000),
            imds_drop: Span::with_tail(1000, 8000, 85_000),
        }
    }

    /// Names of the single spans.
    pub const SPANS: [&'static str; 18] = [
        "describe",
        "create",
        "attach",
        "guest_sees",
        "assign",
        "modify",
        "detach",
        "detached",
        "run",
        "boot",
        "checks",
        "down",
        "cidr",
        "imds",
        "imds_mac",
        "imds_secondaries",
        "imds_change",
        "imds_drop",
    ];

    /// A single span by its name (one of [`Profile::SPANS`]), to set it to something else; `None`: there is none.
    pub fn span_mut(&mut self, name: &str) -> Option<&mut Span> {
        Some(match name {
            "describe" => &mut self.describe,
            "create" => &mut self.create,
            "attach" => &mut self.attach,
            "guest_sees" => &mut self.guest_sees,
            "assign" => &mut self.assign,
            "modify" => &mut self.modify,
            "detach" => &mut self.detach,
            "detached" => &mut self.detached,
            "run" => &mut self.run,
            "boot" => &mut self.boot,
            "checks" => &mut self.checks,
            "down" => &mut self.down,
            "cidr" => &mut self.cidr,
            "imds" => &mut self.imds,
            "imds_mac" => &mut self.imds_mac,
            "imds_secondaries" => &mut self.imds_secondaries,
            "imds_change" => &mut self.imds_change,
            "imds_drop" => &mut self.imds_drop,
            _ => return None,
        })
    }

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "instant" => Some(Self::instant()),
            "aws" => Some(Self::aws()),
            _ => None,
        }
    }

    /// Names that [`Profile::named`] takes.
    pub const NAMES: [&'static str; 2] = ["instant", "aws"];
}

/// What a world is started with, beside its [`crate::WorldSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How long things take.
    pub profile: Profile,
    /// Where all randomness comes from: same seed and same calls, same history.
    pub seed: u64,
    /// What the calendar shows at `Time(0)`.
    pub wall: WallTime,
    /// How many requests EC2 takes.
    pub throttle: Throttle,
    /// How old what calls see may be.
    pub consistency: Consistency,
    /// Whether requests must be signed. If not, a caller is whoever the access key belongs to, else the instance with the
    /// source address, else the account.
    pub check_signatures: bool,
    /// Oddities of IMDS.
    pub imds: ImdsQuirks,
    /// ENIs the account may have in the region.
    pub max_enis: u32,
}

/// ENIs a region may have unless the account asks for more (the quota "Network interfaces per Region").
const MAX_ENIS: u32 = 5000;

/// Oddities of IMDS that users have seen on AWS. All off: it is late, but consistent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImdsQuirks {
    /// A newly listed MAC has nothing below it (404) until its secondary addresses are listed.
    pub hollow_when_new: bool,
    /// A detached MAC has nothing below it (404) while it is still listed.
    pub hollow_when_gone: bool,
}

impl Default for Setup {
    /// `instant`, AWS's default quota of ENIs, seed 1, the calendar at 2026-01-01T00:00:00Z, no throttling, reads up to date, signatures
    /// checked.
    fn default() -> Self {
        Self {
            profile: Profile::instant(),
            seed: 1,
            wall: WallTime(1_767_225_600_000_000_000),
            throttle: Throttle::off(),
            consistency: Consistency::off(),
            check_signatures: true,
            imds: ImdsQuirks::default(),
            max_enis: MAX_ENIS,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_span_can_be_set_by_its_name() {
        let (mut profile, other) = (Profile::instant(), Profile::aws());
        let mut source = other;
        for name in Profile::SPANS {
            *profile.span_mut(name).unwrap() = *source.span_mut(name).unwrap();
        }
        assert_eq!(profile, other, "a span without a name");
        assert!(profile.span_mut("nothing").is_none());
    }
}
