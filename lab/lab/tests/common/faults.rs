//! Faults as tests begin and end them.

use vpc_lab::Lab;
use vpc_lab::fault::{Fault, FaultReport, FaultState};

/// A fault as people type it.
#[track_caller]
pub(crate) fn fault(text: &str) -> Fault {
    let mut words = text.split_whitespace();
    Fault::from_words(words.next().unwrap(), &words.collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"))
}

/// Begins it; its number.
#[track_caller]
pub(crate) fn add(lab: &Lab, text: &str) -> u64 {
    let report = lab.fault(&fault(text), None).unwrap_or_else(|e| panic!("{text}: {e}"));
    let wanted = if report.fault.happens_once() { FaultState::Happened } else { FaultState::Active };
    assert_eq!(report.state, wanted, "{report:?}");
    report.id
}

/// Why it can not begin.
#[track_caller]
pub(crate) fn refused(lab: &Lab, text: &str) -> String {
    lab.fault(&fault(text), None).expect_err(text).to_string()
}

/// How it stands.
#[track_caller]
pub(crate) fn report(lab: &Lab, id: u64) -> FaultReport {
    lab.faults().unwrap().into_iter().find(|report| report.id == id).unwrap()
}

/// Ends it, and checks that it is neither in the status any more nor without a trace among the calls.
#[track_caller]
pub(crate) fn lift(lab: &Lab, id: u64) -> FaultReport {
    let holds = |lab: &Lab| {
        lab.status().unwrap().faults.iter().any(|fault| fault.id == id && fault.state == FaultState::Active)
    };
    assert!(holds(lab));
    lab.lift(id).unwrap();
    assert!(!holds(lab));
    let lines: Vec<_> = lab.calls().unwrap().into_iter().filter(|call| call.faults.iter().any(|f| f.0 == id)).collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert!(first.action.starts_with("fault begins: ") && last.action.starts_with("fault lifted: "), "{lines:?}");
    let report = report(lab, id);
    assert!(report.until_ms.is_some_and(|until| until >= report.since_ms), "{report:?}");
    report
}
