//! A fleet's history as a picture: nodes ready and calls over time.

use super::FleetReport;

/// As an SVG file.
#[must_use]
pub fn svg(_report: &FleetReport) -> String {
    String::new()
}

/// In text.
#[must_use]
pub fn text(_report: &FleetReport) -> String {
    String::new()
}
