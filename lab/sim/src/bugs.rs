//! The hunt for deliberate bugs ([`vpc_ipam::bugs`]): shows that the auditor finds what is wrong.
//!
//! ```text
//!   a bug is switched on -> histories of a campaign, one after another -> the first that goes wrong
//!                                                                             |
//!                       switched off, the same history again <----------------+
//!                       silent: found.  Wrong all the same: it was not the bug, on with the next
//! ```

use vpc_ipam::bugs::{Bug, choose};

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
    /// Histories that went wrong with the bug and without it.
    pub wrong_anyway: u64,
}

/// Looks for a bug in the histories of a campaign (one after another, whatever its jobs), until its steps are made. `None`: no bug is
/// switched on, and whatever is found is found.
///
/// The choice of a bug is the process's: no two hunts at once.
#[must_use]
pub fn hunt(campaign: &Campaign, bug: Option<Bug>) -> Hunt {
    let mut hunt = Hunt { steps: 0, histories: 0, found: None, wrong_anyway: 0 };
    while hunt.found.is_none() && hunt.steps < campaign.steps {
        let number = hunt.histories;
        let history = campaign.history(number);
        choose(bug);
        let outcome = attempt(&history);
        choose(None);
        hunt.histories += 1;
        let why = match outcome {
            Ok(report) => {
                hunt.steps += report.steps;
                report.wrong.map(|wrong| Why::Wrong(Box::new(wrong)))
            }
            Err(why) => Some(why),
        };
        let Some(why) = why else { continue };
        if bug.is_some() && !attempt(&history).is_ok_and(|report| report.wrong.is_none()) {
            hunt.wrong_anyway += 1;
            continue;
        }
        hunt.found = Some(Found { number, history, why });
    }
    hunt
}
