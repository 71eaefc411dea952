//! Pages: how many objects of an answer come at once, and how the next ones are asked for.
//!
//! Objects are sorted by a key that no object ever changes, and a page's token is the key of its last object: objects that
//! come or go between two pages move nothing, so whatever is there all the time is given exactly once.

use crate::error::ApiError;
use crate::ids::hash64;

/// Digits of a token's seal.
const SEAL: usize = 16;

/// The pages of an action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    /// The least `MaxResults`.
    pub(crate) smallest: u32,
    /// The largest.
    pub(crate) largest: u32,
    /// Objects on a page when none was asked for; `None` = all.
    pub(crate) default: Option<u32>,
    /// The parameter of ids that may not come together with `MaxResults`.
    pub(crate) not_with: Option<&'static str>,
}

impl Pages {
    /// Five to a thousand objects, or all when no number is given.
    pub(crate) const THOUSAND: Self = Self { smallest: 5, largest: 1000, default: None, not_with: None };
    /// Five to a hundred.
    pub(crate) const HUNDRED: Self = Self { largest: 100, ..Self::THOUSAND };

    /// The same, but not together with ids.
    pub(crate) const fn not_with(self, ids: &'static str) -> Self {
        Self { not_with: Some(ids), ..self }
    }
}

/// How a caller asks for a page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRequest<'a> {
    pub(crate) max_results: Option<u32>,
    pub(crate) next_token: Option<&'a str>,
    /// Whether objects were named by id.
    pub(crate) by_id: bool,
}

/// A page to be cut out: after which key, how long, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    issuer: String,
    after: Option<String>,
    size: usize,
}

impl Cursor {
    /// Checks what the caller asks for. A token is only good for the action and the cloud that gave it.
    ///
    /// # Errors
    /// A page size or token that EC2 would not take.
    pub(crate) fn new(action: &str, seed: u64, pages: Pages, asked: PageRequest<'_>) -> Result<Self, ApiError> {
        if let Some(size) = asked.max_results {
            pages.check(size, asked.by_id)?;
        }
        let issuer = format!("{action} {seed}");
        let after = match asked.next_token {
            Some(token) => Some(opened(&issuer, token).ok_or_else(ApiError::next_token)?),
            None => None,
        };
        let size = asked.max_results.or(pages.default).map_or(usize::MAX, |size| size as usize);
        Ok(Self { issuer, after, size })
    }

    /// Cuts the page out of objects with their keys. Returns it with the token for the next.
    pub(crate) fn page<T>(&self, mut items: Vec<(String, T)>) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            items.retain(|(key, _)| key > after);
        }
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = items.len() > self.size;
        items.truncate(self.size);
        let last = if more { items.last() } else { None };
        let token = last.map(|(key, _)| sealed(&self.issuer, key));
        (items.into_iter().map(|(_, item)| item).collect(), token)
    }
}

impl Pages {
    fn check(self, size: u32, by_id: bool) -> Result<(), ApiError> {
        if let Some(ids) = self.not_with.filter(|_| by_id) {
            return Err(ApiError::combination(format!(
                "The parameter {ids} cannot be used with the parameter maxResults"
            )));
        }
        let (smallest, largest) = (self.smallest, self.largest);
        let expected = match size {
            _ if size < smallest => format!("a value greater than {smallest}"),
            _ if size > largest => format!("a value between {smallest} and {largest}"),
            _ => return Ok(()),
        };
        Err(ApiError::value(format!("Value ( {size} ) for parameter maxResults is invalid. Expecting {expected}.")))
    }
}

/// A token: a seal, then the key, so that nobody takes it for anything but a token.
fn sealed(issuer: &str, key: &str) -> String {
    let key_digits: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{:0SEAL$x}{key_digits}", hash64(issuer, key))
}

/// The key in a token of this issuer.
fn opened(issuer: &str, token: &str) -> Option<String> {
    let (_, digits) = token.split_at_checked(SEAL)?;
    let bytes: Option<Vec<u8>> =
        digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let key = String::from_utf8(bytes?).ok()?;
    (sealed(issuer, &key) == token).then_some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_where_it_was_made() {
        let token = sealed("DescribeTags 1", "eni-1 Größe");
        assert_eq!(opened("DescribeTags 1", &token).as_deref(), Some("eni-1 Größe"));
        assert!(!token.contains("eni"), "{token}");
        for (issuer, token) in [
            ("DescribeTags 2", token.as_str()),
            ("DescribeVpcs 1", &token),
            ("DescribeTags 1", &token[..token.len() - 2]),
            ("DescribeTags 1", &format!("{token}0")),
            ("DescribeTags 1", "after:eni-1"),
            ("DescribeTags 1", "0123456789abcdefé"),
            ("DescribeTags 1", ""),
        ] {
            assert_eq!(opened(issuer, token), None, "{issuer} {token}");
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = |token: Option<&str>| {
            let asked = PageRequest { max_results: Some(5), next_token: token, by_id: false };
            let items = (0..10).rev().map(|n| (format!("{n}"), n)).collect();
            Cursor::new("A", 1, Pages::THOUSAND, asked).unwrap().page(items)
        };
        let (first, token) = page(None);
        assert_eq!(first, [0, 1, 2, 3, 4]);
        assert_eq!(page(token.as_deref()), (vec![5, 6, 7, 8, 9], None));
    }
}
