//! Whether a history that somebody wrote can be: every value within its bounds, every name of something there is, no word too many.

use toml::{Table, Value};

use super::{History, HistoryError};
use crate::world::NodeAt;

/// Nodes a history may have.
const MOST_NODES: usize = 20;
/// The longest span and the last moment, in milliseconds: a week. Drawn histories end within two hours.
const WEEK: i64 = 604_800_000;

const TEN_YEARS: i64 = 315_360_000_000;

/// Fields of milliseconds with bounds of their own, and why. All others may be from nothing to a week.
const BOUNDS: [(&str, i64, i64); 9] = [
    // Every audit is a look at the host and the metadata.
    ("audit-every-ms", 1_000, 86_400_000),
    // A write that takes as long as a caller waits shows nothing but that: an ADD's promise is on disk before it is answered.
    ("disk-ms", 0, 30_000),
    // The calm ends half an hour after the trouble: by then all of it must have gone its way.
    ("cool-down-ms", 0, 600_000),
    ("min-eni-age-ms", 0, 600_000),
    ("release-every-ms", 0, 600_000),
    // The calm waits for every daemon to run again.
    ("away-ms", 0, 600_000),
    ("start-ms", 0, 600_000),
    // Ten years, ahead or back.
    ("by-ms", -TEN_YEARS, TEN_YEARS),
    // The cloud's calendar; what else has this field can not be negative by its type.
    ("by_ms", -TEN_YEARS, TEN_YEARS),
];

impl History {
    /// What is wrong with it, as it was `written`.
    pub(super) fn check(&self, written: &Table) -> Result<(), HistoryError> {
        let nodes = self.nodes.len();
        if nodes == 0 || nodes > MOST_NODES {
            return Err(value("node", nodes, format!("1 to {MOST_NODES} nodes")));
        }
        spans(&Value::Table(written.clone()), "")?;
        if let Some(first) = self.acts.windows(2).position(|pair| pair[0].at_ms > pair[1].at_ms) {
            let (before, late) = (self.acts[first].at_ms, self.acts[first + 1].at_ms);
            let field = format!("act[{}].at-ms", first + 1);
            return Err(value(&field, late, format!("acts in order of time: {before} or later")));
        }
        for (index, timed) in self.acts.iter().enumerate() {
            if let Some(NodeAt(node)) = timed.act.nodes().find(|node| node.0 >= nodes) {
                return Err(value(&format!("act[{index}].node"), node, format!("a node from 0 to {}", nodes - 1)));
            }
        }
        self.check_words(written)?;
        self.check_faults()
    }

    /// Words in acts that say nothing: what an act has beside its time depends on what it does.
    fn check_words(&self, written: &Table) -> Result<(), HistoryError> {
        let acts = written.get("act").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, (own, timed)) in acts.iter().zip(&self.acts).enumerate() {
            let known = Table::try_from(timed)?;
            let unknown = own.as_table().into_iter().flat_map(Table::keys).find(|key| !known.contains_key(*key));
            if let Some(key) = unknown {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                return Err(value(&format!("act[{index}]"), key, format!("one of {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// Faults of actions, nodes and subnets that are not there would do nothing.
    fn check_faults(&self) -> Result<(), HistoryError> {
        let world = self.world()?;
        for (index, timed) in self.acts.iter().enumerate() {
            let super::Act::Fault { fault, .. } = &timed.act else { continue };
            if let Err(error) = world.cloud.clone().inject(world.now(), fault.clone()) {
                return Err(HistoryError::Fault { act: index, error });
            }
        }
        Ok(())
    }
}

/// All spans and moments, wherever they stand: `at-ms`, and `add_ms` as faults have it.
fn spans(part: &Value, path: &str) -> Result<(), HistoryError> {
    match part {
        Value::Table(table) => table.iter().try_for_each(|(key, part)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match part {
                Value::Integer(number) if key.ends_with("-ms") || key.ends_with("_ms") => span(key, *number, &path),
                _ => spans(part, &path),
            }
        }),
        Value::Array(parts) => {
            parts.iter().enumerate().try_for_each(|(index, part)| spans(part, &format!("{path}[{index}]")))
        }
        _ => Ok(()),
    }
}

fn span(key: &str, number: i64, path: &str) -> Result<(), HistoryError> {
    let own = BOUNDS.iter().find(|(field, ..)| *field == key);
    let (least, most) = own.map_or((0, WEEK), |(_, least, most)| (*least, *most));
    match (least..=most).contains(&number) {
        true => Ok(()),
        false => Err(value(path, number, format!("{least} to {most} milliseconds"))),
    }
}

fn value(field: &str, value: impl ToString, expected: String) -> HistoryError {
    HistoryError::Value { field: field.to_owned(), value: value.to_string(), expected }
}
