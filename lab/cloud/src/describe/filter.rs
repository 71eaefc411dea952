//! Filters: what every Describe action can be asked to give only some objects by.
//!
//! Each action has one table ([`Listing`](super::Listing)) with every filter that AWS documents for it, in the order of the documentation. A
//! filter compares the values an object shows in the answer, so that nobody can filter by what they would not see. What AWS
//! documents but no answer here shows is in the table too, without values: it is refused by name. Everything else is no
//! filter at all. `docs/lab-filters.md` is written from these tables.

use vpc_aws::ec2::shapes::{Filter, Tag};

use crate::error::ApiError;

/// Filters a request may have.
const MAX_FILTERS: usize = 50;
/// Values a filter may have.
const MAX_VALUES: usize = 200;
/// Characters a value may have.
const MAX_VALUE_LENGTH: usize = 255;
/// The family of filters by the value of one tag; what follows the colon is the tag's key.
pub(crate) const BY_TAG: &str = "tag:<key>";
const TAG: &str = "tag:";

/// One filter AWS documents.
#[derive(Debug)]
pub(crate) struct Row<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) values: Values<T>,
}

/// What a filter compares.
#[derive(Debug)]
pub(crate) enum Values<T: 'static> {
    /// Any of these.
    Of(fn(&T) -> Vec<String>),
    /// The value of the tag whose key is part of the filter's name.
    Tag(fn(&T) -> &[Tag]),
    /// Nothing: the model does not hold it.
    NotHeld,
}

/// A filter with its values.
pub(crate) const fn held<T>(name: &'static str, values: fn(&T) -> Vec<String>) -> Row<T> {
    Row { name, values: Values::Of(values) }
}

/// The filters by the value of a tag.
pub(crate) const fn by_tag<T>(tags: fn(&T) -> &[Tag]) -> Row<T> {
    Row { name: BY_TAG, values: Values::Tag(tags) }
}

/// A filter that AWS documents and the model has no values for.
pub(crate) const fn not_held<T>(name: &'static str) -> Row<T> {
    Row { name, values: Values::NotHeld }
}

/// The one value of a filter.
pub(crate) fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

/// All values of a filter: of an option, a list, or whatever gives some.
pub(crate) fn all<V: ToString>(values: impl IntoIterator<Item = V>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

/// The keys of tags.
pub(crate) fn keys(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(|tag| tag.key.clone()).collect()
}

/// One filter of a request with what it compares.
type Condition<'a, T> = (&'a Filter, &'static Values<T>);

/// The checked filters of a request.
#[derive(Debug)]
pub(crate) struct Conditions<'a, T: 'static>(Vec<Condition<'a, T>>);

impl<'a, T> Conditions<'a, T> {
    /// Checks the filters of a request and finds what they compare, whatever the objects are.
    ///
    /// # Errors
    /// Too many filters or values, a filter without values, one that does not exist, one that is not modelled.
    pub(crate) fn new(action: &str, rows: &'static [Row<T>], filters: &'a [Filter]) -> Result<Self, ApiError> {
        if filters.len() > MAX_FILTERS {
            return Err(too_many(format!("The maximum number of filters is {MAX_FILTERS}.")));
        }
        let conditions = filters.iter().map(|filter| Ok((filter, compared(action, rows, filter)?)));
        conditions.collect::<Result<_, ApiError>>().map(Self)
    }

    /// Whether an object passes: every filter must have one value that fits.
    pub(crate) fn pass(&self, object: &T) -> bool {
        self.0.iter().all(|(filter, values)| {
            let fits = |value: &str| filter.values.iter().any(|pattern| matches(pattern, value));
            match values {
                Values::Of(values) => values(object).iter().any(|value| fits(value)),
                Values::Tag(tags) => {
                    let key = filter.name.strip_prefix(TAG).unwrap_or_default();
                    tags(object).iter().any(|tag| tag.key == key && fits(&tag.value))
                }
                Values::NotHeld => false,
            }
        })
    }
}

/// What a filter compares.
fn compared<T>(action: &str, rows: &'static [Row<T>], filter: &Filter) -> Result<&'static Values<T>, ApiError> {
    let name = filter.name.as_str();
    let row = rows.iter().find(|row| match row.values {
        Values::Tag(_) => name.strip_prefix(TAG).is_some_and(|key| !key.is_empty()),
        _ => row.name == name,
    });
    let row = row.ok_or_else(|| ApiError::value(format!("The filter '{name}' is invalid")))?;
    if matches!(row.values, Values::NotHeld) {
        return Err(ApiError::filter_not_held(name, action));
    }
    if filter.values.is_empty() {
        return Err(ApiError::value(format!("The filter '{name}' has no values.")));
    }
    if filter.values.len() > MAX_VALUES {
        return Err(too_many(format!("The maximum number of filter values is {MAX_VALUES}.")));
    }
    if let Some(long) = filter.values.iter().find(|value| value.chars().count() > MAX_VALUE_LENGTH) {
        return Err(ApiError::value(format!(
            "The value '{long}' of the filter '{name}' exceeds {MAX_VALUE_LENGTH} characters."
        )));
    }
    Ok(&row.values)
}

fn too_many(message: String) -> ApiError {
    ApiError::client("FilterLimitExceeded", message)
}

/// Whether a text is what a pattern says: `*` is any text, `?` any one character, `\` takes away the meaning of the next.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // `reach[i]`: the pattern read so far can stand for the first `i` characters.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    let mut symbols = pattern.iter();
    while let Some(symbol) = symbols.next() {
        if *symbol == '*' {
            let from = reach.iter().position(|reached| *reached).unwrap_or(reach.len());
            reach.iter_mut().skip(from).for_each(|reached| *reached = true);
            continue;
        }
        let (wanted, any) = match symbol {
            '?' => ('?', true),
            '\\' => (*symbols.next().unwrap_or(&'\\'), false),
            plain => (*plain, false),
        };
        let mut next = vec![false; reach.len()];
        for (i, character) in text.iter().enumerate() {
            next[i + 1] = reach[i] && (any || *character == wanted);
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_are_those_of_ec2() {
        for (pattern, text, expected) in [
            ("available", "available", true),
            ("available", "Available", false),
            ("avail", "available", false),
            ("avail*", "available", true),
            ("*", "", true),
            ("?", "", false),
            ("a?c*e", "abcde", true),
            ("a?c*e", "abcd", false),
            ("*b*", "abc", true),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            (r"a\?c", "a?c", true),
            (r"a\?c", "abc", false),
            (r"a\\c", r"a\c", true),
            ("2021-09-29T*", "2021-09-29T11:04:43.000Z", true),
            ("2021-09-29T*", "2021-09-30T11:04:43.000Z", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
