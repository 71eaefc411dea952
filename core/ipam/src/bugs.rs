//! Deliberate bugs: mistakes that could have been made here, to show that they would be found.
//!
//! All of this is only there with the feature `deliberate-bugs`, which no program that is shipped has. Each bug is marked in the code,
//! at the place of the mistake, with [`crate::bug!`]; at most one is switched on, for the whole process. That makes it the one thing
//! in these crates that is neither an argument nor state of its owner, and the price is paid only with the feature.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// The runtime is told before the disk has it.
    AnswerBeforeCheckpoint,
    /// What one reading of the metadata does not show is taken to be gone.
    TrustOneMetadataAnswer,
    /// Resting addresses are free after a restart.
    CoolDownForgottenAtRestart,
    /// A second DEL is carried out on whoever has the address now.
    DoubleDelFreesAnothers,
    /// Resting addresses are taken for ready ones.
    CoolingCountsAsWarm,
    /// An assign whose answer was lost is asked again.
    LostAssignTakenForFailure,
    /// An ENI that becomes ours also stays among the strangers'.
    EniAdoptedTwice,
    /// Off by one where a prefix is empty; and nobody looks at the host, which would have shown it.
    PrefixGivenBackWithOnePod,
    /// The create is repeated under another token.
    RetryWithoutToken,
    /// An ADD whose time is up is dropped without an answer.
    WaiterForgottenOnTimeout,
    /// A rest that began in the future has long ended.
    ClockSetBackEndsRests,
    /// An ADD for a sandbox that has an address begins anew.
    SecondAddSecondAddress,
    /// What a failed write was to say is not said again.
    FailedWriteForgotten,
    /// An attach whose answer was lost is given up.
    LostAttachTakenForFailure,
    /// What the metadata show at the start is given to pods without asking EC2.
    MetadataBelievedAtStart,
    /// A lease ends when one look at the host does not show its link.
    LeaseEndedAtFirstLook,
    /// A position on which an address rests is empty.
    GivenBackWhileResting,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AnswerBeforeCheckpoint,
        Self::TrustOneMetadataAnswer,
        Self::CoolDownForgottenAtRestart,
        Self::DoubleDelFreesAnothers,
        Self::CoolingCountsAsWarm,
        Self::LostAssignTakenForFailure,
        Self::EniAdoptedTwice,
        Self::PrefixGivenBackWithOnePod,
        Self::RetryWithoutToken,
        Self::WaiterForgottenOnTimeout,
        Self::ClockSetBackEndsRests,
        Self::SecondAddSecondAddress,
        Self::FailedWriteForgotten,
        Self::LostAttachTakenForFailure,
        Self::MetadataBelievedAtStart,
        Self::LeaseEndedAtFirstLook,
        Self::GivenBackWhileResting,
    ];

    /// Its name, as it is chosen by. No other text of the programs has it: a program without the names is one without the bugs.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What was done wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.words().1
    }

    /// The promise that it breaks.
    #[must_use]
    pub fn breaks(self) -> &'static str {
        self.words().2
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        const ON_DISK: &str = "nothing is promised that is not on disk";
        const ONE_OWNER: &str = "one owner for each address";
        const LIVE: &str = "no live pod's address is released, given to another or unrouted";
        const RESTED: &str = "an address rests before it is given again";
        const NO_LEAK: &str = "nothing is left over once all is quiet";
        const BACKED: &str = "an address that is promised is on the node";
        const SERVED: &str = "who can be served is served, and every refusal names a true cause";
        const BOUNDED: &str = "every wait is bounded";
        const STEADY: &str = "a pool at its target asks EC2 to change nothing";
        match self {
            Self::AnswerBeforeCheckpoint => {
                ("answer-before-checkpoint", "an ADD is answered while its lease is being written", ON_DISK)
            }
            Self::TrustOneMetadataAnswer => (
                "trust-one-metadata-answer",
                "leases whose address one reading of the metadata does not show are ended",
                LIVE,
            ),
            Self::CoolDownForgottenAtRestart => {
                ("cool-down-forgotten-at-restart", "the checkpoint's rests are not taken up again", RESTED)
            }
            Self::DoubleDelFreesAnothers => {
                ("double-del-frees-anothers", "a second DEL goes by the address that the sandbox had", LIVE)
            }
            Self::CoolingCountsAsWarm => {
                ("cooling-counts-as-warm", "resting addresses count as free when the pool is planned", SERVED)
            }
            Self::LostAssignTakenForFailure => {
                ("lost-assign-taken-for-failure", "EC2 is not asked what an assign did whose answer was lost", NO_LEAK)
            }
            Self::EniAdoptedTwice => {
                ("eni-adopted-twice", "an ENI found at the start counts as ours and as a stranger's", SERVED)
            }
            Self::PrefixGivenBackWithOnePod => {
                ("prefix-given-back-with-one-pod", "a prefix with one pod counts as empty", LIVE)
            }
            Self::RetryWithoutToken => {
                ("retry-without-token", "a create whose answer was lost is repeated under another token", NO_LEAK)
            }
            Self::WaiterForgottenOnTimeout => {
                ("waiter-forgotten-on-timeout", "an ADD whose wait is over is never answered", BOUNDED)
            }
            Self::ClockSetBackEndsRests => {
                ("clock-set-back-ends-rests", "a rest that began after now counts as one that began in 1970", RESTED)
            }
            Self::SecondAddSecondAddress => {
                ("second-add-second-address", "an ADD for a sandbox that has an address gives it another", ONE_OWNER)
            }
            Self::FailedWriteForgotten => {
                ("failed-write-forgotten", "after a failed write only what changed since is written", ON_DISK)
            }
            Self::LostAttachTakenForFailure => {
                ("lost-attach-taken-for-failure", "an ENI whose attach got no answer is thrown away", STEADY)
            }
            Self::MetadataBelievedAtStart => {
                ("metadata-believed-at-start", "addresses that only the metadata show are given to pods", BACKED)
            }
            Self::LeaseEndedAtFirstLook => {
                ("lease-ended-at-first-look", "a lease without a link ends although its pod is just being wired", LIVE)
            }
            Self::GivenBackWhileResting => {
                ("given-back-while-resting", "a position is given back on which an address still rests", NO_LEAK)
            }
        }
    }

    /// The bug of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The one that is switched on, by its place in [`Bug::ALL`] counted from 1; 0 = none.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// Switches this one on, or all off. Not while an agent is at work.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
}

/// Whether it is switched on.
#[must_use]
pub fn on(bug: Bug) -> bool {
    // Wherever a mistake is in a program, so is its name: that is what programs are searched for.
    std::hint::black_box(bug.name());
    CHOSEN.load(Ordering::Relaxed) == bug as usize + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_at_a_time_each_by_its_name() {
        for bug in Bug::ALL {
            choose(Bug::named(bug.name()));
            let on: Vec<Bug> = Bug::ALL.into_iter().filter(|other| super::on(*other)).collect();
            assert_eq!(on, [bug]);
        }
        choose(None);
        assert!(!Bug::ALL.into_iter().any(on));
        let names: BTreeSet<&str> = Bug::ALL.into_iter().map(Bug::name).collect();
        assert_eq!(names.len(), Bug::ALL.len());
    }
}
