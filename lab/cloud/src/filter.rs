//! Which objects a Describe call gives: by id, by filter, page by page.

use vpc_aws::ec2::shapes::Filter;

use crate::error::ApiError;
use crate::spec::Tags;

/// Values a filter may have.
const MAX_VALUES: usize = 200;
/// How a page's token begins; the id of the last object follows.
const TOKEN: &str = "after:";

/// The values an object has for the name of a filter. `None`: objects of this kind have no such filter.
pub(crate) type Attributes<'a> = dyn Fn(&str) -> Option<Vec<String>> + 'a;

/// Whether an object passes all filters.
///
/// # Errors
/// A filter that this kind of object does not have.
pub(crate) fn passes(filters: &[Filter], tags: &Tags, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
    let mut all = true;
    for filter in filters {
        let name = filter.name.as_str();
        let values = match name.strip_prefix("tag:") {
            Some(key) => Some(tags.get(key).cloned().into_iter().collect()),
            None if name == "tag-key" => Some(tags.keys().cloned().collect()),
            None if name == "tag-value" => Some(tags.values().cloned().collect()),
            None => attributes(name),
        };
        let values = values.ok_or_else(|| ApiError::value(format!("The filter '{name}' is invalid")))?;
        all &= values.iter().any(|value| filter.values.iter().any(|pattern| matches(pattern, value)));
    }
    Ok(all)
}

/// Checks what can be wrong with filters whatever the objects are.
pub(crate) fn check(filters: &[Filter]) -> Result<(), ApiError> {
    for filter in filters {
        if filter.values.is_empty() {
            return Err(ApiError::value(format!("The filter '{}' has no values.", filter.name)));
        }
        if filter.values.len() > MAX_VALUES {
            return Err(ApiError::client(
                "FilterLimitExceeded",
                format!("The maximum number of filter values is {MAX_VALUES}."),
            ));
        }
    }
    Ok(())
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

/// How a caller asks for pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging<'a> {
    pub(crate) max_results: Option<u32>,
    pub(crate) next_token: Option<&'a str>,
    /// Whether objects were named by id, which excludes `MaxResults`.
    pub(crate) by_id: Option<&'static str>,
    /// Largest page.
    pub(crate) largest: u32,
    /// Page when none was asked for; `None` = everything.
    pub(crate) default: Option<u32>,
}

impl Paging<'_> {
    /// Cuts a page out of objects sorted by id. Returns it with the token for the next.
    ///
    /// # Errors
    /// A page size or token that EC2 would not take.
    pub(crate) fn page<T>(&self, mut items: Vec<(String, T)>) -> Result<(Vec<T>, Option<String>), ApiError> {
        if let Some(size) = self.max_results {
            if let Some(ids) = self.by_id {
                return Err(ApiError::combination(format!(
                    "The parameter {ids} cannot be used with the parameter maxResults"
                )));
            }
            if !(5..=self.largest).contains(&size) {
                return Err(ApiError::value(format!(
                    "Value ( {size} ) for parameter maxResults is invalid. Expecting a value between 5 and {}.",
                    self.largest
                )));
            }
        }
        if let Some(token) = self.next_token {
            let last = token
                .strip_prefix(TOKEN)
                .ok_or_else(|| ApiError::client("InvalidNextToken", "The specified NextToken is not valid."))?;
            items.retain(|(id, _)| id.as_str() > last);
        }
        let size = self.max_results.or(self.default).map_or(usize::MAX, |size| size as usize);
        let more = items.len() > size;
        items.truncate(size);
        let token = if more { items.last().map(|(id, _)| format!("{TOKEN}{id}")) } else { None };
        Ok((items.into_iter().map(|(_, item)| item).collect(), token))
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_are_those_of_ec2() {
        for (pattern, text, expected) in [
            ("available", "available", true),
            ("avail", "available", false),
            ("avail*", "available", true),
            ("*", "", true),
            ("?", "", false),
            ("a?c*e", "abcde", true),
            ("a?c*e", "abcd", false),
            ("*b*", "abc", true),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
