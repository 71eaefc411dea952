//! Misspelt variables. A setting that is not noticed is a setting that is silently ignored.

use super::finding::{Finding, Verdict};
use super::reader::Reader;
use super::sections::{NOT_LOOKED_AT, all};

/// Letters that may be wrong. Two catch a swapped pair, a missing and a doubled letter; in a short name they would match
/// strangers (`POD_CPU` and `POD_MTU`).
fn tolerance(name: &str) -> usize {
    match name.len() {
        0..7 => 0,
        7..10 => 1,
        _ => 2,
    }
}

/// Names every variable of the environment that is nearly one of ours and not one.
pub(super) fn find_misspelt(reader: &mut Reader<'_>) {
    for (name, value) in reader.environment().filter(|(name, _)| !is_known(name)) {
        if let Some(near) = nearest(name).filter(|near| distance(near, name) <= tolerance(name)) {
            reader.findings.push(Finding {
                variable: name.to_owned(),
                value: Some(value.to_owned()),
                matter: format!("there is no such setting, `{near}` is perhaps meant"),
                verdict: Verdict::Ineffective,
            });
        }
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    all().map(|var| var.name).chain(NOT_LOOKED_AT.iter().copied())
}

fn is_known(name: &str) -> bool {
    known().any(|known| known == name)
}

/// The known name that is nearest to this one.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    known().min_by_key(|known| distance(known, name))
}

/// How many letters must be changed, added or removed to get from one text to the other, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_uppercase().into_bytes(), b.to_ascii_uppercase().into_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, n) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "ABD", 1), ("abc", "ac", 1), ("abc", "acb", 2), ("", "xy", 2)]
        {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
    }
}
