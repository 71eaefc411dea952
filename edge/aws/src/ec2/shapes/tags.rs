//! Tags, filters, and the answers that say nothing but "done".

use super::listing::listing;
use super::query::{param_shape, request};
use super::scalar::words;
use super::xml::xml_shape;

words! {
    open
    /// Kinds of resources that carry tags.
    ResourceType {
        /// An ENI.
        NetworkInterface = "network-interface",
        /// An instance.
        Instance = "instance",
        /// A subnet.
        Subnet = "subnet",
        /// A VPC.
        Vpc = "vpc",
        /// A security group.
        SecurityGroup = "security-group",
        /// A route table.
        RouteTable = "route-table",
        /// A rule of a security group.
        SecurityGroupRule = "security-group-rule",
        /// A part of a subnet that is kept for a purpose.
        SubnetCidrReservation = "subnet-cidr-reservation",
        /// A volume.
        Volume = "volume",
    }
}

xml_shape! {
    /// A tag as answers show it.
    #[derive(PartialOrd, Ord, Hash)]
    Tag {
        /// At most 128 characters, not beginning with `aws:`.
        key: String = "key",
        /// At most 256 characters.
        value: String = "value",
    }
}

/// Tags are spelt with capital letters in requests.
impl super::query::Param for Tag {
    fn write(&self, name: &str, out: &mut super::Query) {
        out.push(format!("{name}.Key"), &self.key);
        out.push(format!("{name}.Value"), &self.value);
    }
    fn read(name: &str, from: &mut super::Reader<'_>) -> Result<Option<Self>, super::ParamError> {
        let (key, value) = (format!("{name}.Key"), format!("{name}.Value"));
        match (from.take(&key), from.take(&value)) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(super::ParamError::Missing { name: key }),
            // EC2 takes a tag without a value as one with the empty value.
            (Some(key), value) => Ok(Some(Self { key: key.into(), value: value.unwrap_or_default().into() })),
        }
    }
    fn parameters(name: &str, out: &mut Vec<super::Member>) {
        out.extend(
            [format!("{name}.Key"), format!("{name}.Value")].iter().map(|name| super::Member::of::<String>(name)),
        );
    }
}

impl Tag {
    /// A tag.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

param_shape! {
    /// A condition of a Describe call: any of the values; `*` and `?` are wildcards. Several filters must all hold.
    Filter {
        /// For example `vpc-id` or `tag:Name`.
        name: String = "Name",
        /// At most 200.
        values: Vec<String> = "Value",
    }
}

impl Filter {
    /// A filter.
    pub fn new<V: Into<String>>(name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        Self { name: name.into(), values: values.into_iter().map(Into::into).collect() }
    }
}

param_shape! {
    /// The tags a created resource gets at once.
    TagSpecification {
        /// The kind of the resource.
        resource_type: ResourceType = "ResourceType",
        /// The tags.
        tags: Vec<Tag> = "Tag",
    }
}

xml_shape! {
    /// The answer of actions that give back nothing: `<return>true</return>`.
    #[derive(Copy)]
    Done {
        /// True; EC2 answers failure as an error.
        done: Option<bool> = "return",
    }
}

impl Default for Done {
    fn default() -> Self {
        Self { done: Some(true) }
    }
}

request! {
    /// Sets tags on resources; existing keys are overwritten.
    #[derive(Default)]
    CreateTags -> Done {
        /// Ids of the resources.
        resources: Vec<String> = "ResourceId",
        /// The tags.
        tags: Vec<Tag> = "Tag",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

param_shape! {
    /// A tag to be removed.
    TagToDelete {
        /// Its key.
        key: String = "Key",
        /// Remove it only if it has this value (which may be the empty one); absent = whatever its value.
        value: Option<String> = "Value",
    }
}

request! {
    /// Removes tags from resources; those that are not there are no error.
    #[derive(Default)]
    DeleteTags -> Done {
        /// Ids of the resources.
        resources: Vec<String> = "ResourceId",
        /// The tags; empty = all but those of AWS itself.
        tags: Vec<TagToDelete> = "Tag",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

listing! {
    /// Lists tags.
    #[derive(Default)]
    DescribeTags {}
    /// A page of tags.
    DescribeTagsResponse {
        /// The tags.
        tags: Vec<TagDescription> = "tagSet",
    }
}

xml_shape! {
    /// A tag and what carries it.
    TagDescription {
        /// The resource's id.
        resource_id: String = "resourceId",
        /// The resource's kind.
        resource_type: ResourceType = "resourceType",
        /// The key.
        key: String = "key",
        /// The value.
        value: String = "value",
    }
}
