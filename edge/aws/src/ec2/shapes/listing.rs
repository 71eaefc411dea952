//! The requests that list objects: all of them have filters, pages and a dry run.

/// Defines a request that lists objects and its answer. Besides the members written, the request has `filters`, `max_results`,
/// `next_token` and `dry_run`, and the answer `next_token`.
macro_rules! listing {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal),* $(,)? }
        $(#[$answer_meta:meta])*
        $answer:ident { $($(#[$list_meta:meta])* $list:ident: $item:ty = $element:literal),* $(,)? }
    ) => {
        $crate::ec2::shapes::query::request! {
            $(#[$meta])*
            $name -> $answer {
                $($(#[$field_meta])* $field: $type = $wire,)*
                /// Conditions.
                filters: Vec<$crate::ec2::shapes::Filter> = "Filter",
                /// Page size: 5 to 1000; 5 to 100 for instance types and route tables.
                max_results: Option<u32> = "MaxResults",
                /// Where the last page ended.
                next_token: Option<String> = "NextToken",
                /// Only ask whether it would be allowed.
                dry_run: Option<bool> = "DryRun",
            }
        }

        $crate::ec2::shapes::xml::xml_shape! {
            $(#[$answer_meta])*
            #[derive(Default)]
            $answer {
                $($(#[$list_meta])* $list: $item = $element,)*
                /// How to ask for the next page; absent on the last.
                next_token: Option<String> = "nextToken",
            }
        }
    };
}
pub(super) use listing;
