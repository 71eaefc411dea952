//! DescribeTags.

use vpc_aws::ec2::shapes::{DescribeTags, DescribeTagsResponse, Tag, TagDescription};

use super::Listing;
use super::filter::{Row, by_tag, held, one};
use super::page::{PageRequest, Pages};
use crate::cloud::Cloud;
use crate::error::ApiError;

/// A tag with itself as a tag, for the filter by key and value.
pub(super) type Tagged = (TagDescription, [Tag; 1]);

pub(super) const TAGS: Listing<Tagged> =
    Listing { action: "DescribeTags", filters: FILTERS, pages: Some(Pages::THOUSAND) };

const FILTERS: &[Row<Tagged>] = &[
    held("key", |(own, _)| one(&own.key)),
    held("resource-id", |(own, _)| one(&own.resource_id)),
    held("resource-type", |(own, _)| one(own.resource_type.as_str())),
    by_tag(|(_, tag)| tag),
    held("value", |(own, _)| one(&own.value)),
];

impl Cloud {
    pub(crate) fn describe_tags(&self, request: &DescribeTags) -> Result<DescribeTagsResponse, ApiError> {
        let page =
            PageRequest { max_results: request.max_results, next_token: request.next_token.as_deref(), by_id: false };
        let question = TAGS.ask(self, &request.filters, page)?;
        let shown = self.world.all_tags().into_iter().flat_map(|(id, kind, tags)| {
            tags.iter().map(move |(key, value)| {
                let description = TagDescription {
                    resource_id: id.clone(),
                    resource_type: kind.clone(),
                    key: key.clone(),
                    value: value.clone(),
                };
                (format!("{id} {key}"), (description, [Tag::new(key, value)]))
            })
        });
        let (found, next_token) = question.answer(shown);
        Ok(DescribeTagsResponse { tags: found.into_iter().map(|(tag, _)| tag).collect(), next_token })
    }
}
