//! The hunt for deliberate bugs ([`vpc_ipam::bugs`]): shows that the auditor finds what is wrong.
//!
//! ```text
//!   a bug is switched on -> histories of a campaign, one after another -> one that goes wrong as the bug makes it go ([`shows`])
//!                                                                             |
//!                       switched off, the same history again <----------------+
//!                       silent: found.  Wrong all the same: it was not the bug, on with the next
//! ```
//!
//! Both are needed. A mistake changes the course of a history, so that something else may go wrong in it that would not have
//! without: what counts is the promise that this bug breaks.

use vpc_ipam::bugs::{Bug, choose};

use crate::audit::Fault;
use crate::campaign::{Campaign, Found, Why, attempt};

/// How a hunt ended.
#[derive(Debug)]
pub struct Hunt {
    /// Steps made up to the end of the history in which it was found, or all of them. What the controls took is not counted.
    pub steps: u64,
    /// Histories they were made in.
    pub histories: u64,
    /// The history that shows the bug, and how; `None` = it was missed.
    pub found: Option<Found>,
    /// Histories that went wrong in another way than the bug makes them go.
    pub wrong_otherwise: u64,
    /// Histories that went wrong in its way, and without it too (in whatever way).
    pub wrong_anyway: u64,
}

/// Looks for a bug in the histories of a campaign (one after another, whatever its jobs), until its steps are made.
///
/// The choice of a bug is the process's: no two hunts at once.
#[must_use]
pub fn hunt(campaign: &Campaign, bug: Bug) -> Hunt {
    let mut hunt = Hunt { steps: 0, histories: 0, found: None, wrong_otherwise: 0, wrong_anyway: 0 };
    while hunt.found.is_none() && hunt.steps < campaign.steps {
        let number = hunt.histories;
        let history = campaign.history(number);
        choose(Some(bug));
        let outcome = attempt(&history);
        choose(None);
        hunt.histories += 1;
        let Ok(report) = outcome else {
            hunt.wrong_otherwise += 1;
            continue;
        };
        hunt.steps += report.steps;
        let Some(wrong) = report.wrong else { continue };
        if !shows(bug, &wrong.fault) {
            hunt.wrong_otherwise += 1;
        } else if attempt(&history).is_ok_and(|report| report.wrong.is_none()) {
            hunt.found = Some(Found { number, history, why: Why::Wrong(Box::new(wrong)) });
        } else {
            hunt.wrong_anyway += 1;
        }
    }
    hunt
}

/// Whether a fault is what comes of a bug: the promise named by [`Bug::breaks`] is the one that was broken.
#[must_use]
pub fn shows(bug: Bug, fault: &Fault) -> bool {
    let lives = matches!(
        fault,
        Fault::Forgotten { .. }
            | Fault::TwoOwners { .. }
            | Fault::Taken { .. }
            | Fault::CutOff { .. }
            | Fault::NotInEc2 { .. }
    );
    match bug {
        Bug::AnswerBeforeCheckpoint => matches!(fault, Fault::NotOnDisk { .. }),
        // A lease whose end was not written is one that nobody has.
        Bug::FailedWriteForgotten => {
            matches!(fault, Fault::NotOnDisk { .. } | Fault::Forgotten { .. } | Fault::Leaked { .. })
        }
        Bug::TrustOneMetadataAnswer
        | Bug::DoubleDelFreesAnothers
        | Bug::LeaseEndedAtFirstLook
        | Bug::PrefixGivenBackWithOnePod => lives,
        Bug::CoolDownForgottenAtRestart | Bug::ClockSetBackEndsRests => matches!(fault, Fault::NotRested { .. }),
        Bug::CoolingCountsAsWarm | Bug::EniAdoptedTwice => {
            matches!(fault, Fault::FalseCause { .. } | Fault::Unserved { .. } | Fault::Unsettled { .. })
        }
        Bug::LostAssignTakenForFailure => matches!(fault, Fault::AskedTwice { .. }),
        Bug::RetryWithoutToken => matches!(fault, Fault::Abandoned { .. }),
        Bug::LostAttachTakenForFailure => matches!(fault, Fault::ThrownAway { .. }),
        Bug::WaiterForgottenOnTimeout => {
            matches!(fault, Fault::Waits { .. } | Fault::Agent { fault: vpc_agent::Fault::Overdue { .. }, .. })
        }
        // The disk has one address of a sandbox, so that the first is no longer there.
        Bug::SecondAddSecondAddress => matches!(fault, Fault::SecondAddress { .. }) || lives,
        Bug::MetadataBelievedAtStart => matches!(fault, Fault::NotHere { .. }),
        Bug::GivenBackWhileResting => matches!(fault, Fault::GivenBackResting { .. } | Fault::NotRested { .. }),
    }
}
