//! Which form of an answer the client wants, by its `Accept` header. JSON is the only encoding.

use crate::error::KubeError;

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects.
    Objects,
    /// Rows and columns, as kubectl prints them. The version of `meta.k8s.io`.
    Table(&'static str),
    /// The objects' metadata alone.
    Metadata,
}

/// The version of `meta.k8s.io` that a type names.
fn meta_version(parameters: &[(&str, &str)]) -> Option<&'static str> {
    let get = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    match (get("g"), get("v")) {
        (Some("meta.k8s.io"), Some("v1")) => Some("v1"),
        (Some("meta.k8s.io"), Some("v1beta1")) => Some("v1beta1"),
        _ => None,
    }
}

impl Form {
    /// The first form in the header that we have; without a header, the objects.
    ///
    /// # Errors
    /// The client takes none of them, for example nothing but protobuf.
    pub(crate) fn wanted(accept: &str) -> Result<Self, KubeError> {
        if accept.trim().is_empty() {
            return Ok(Self::Objects);
        }
        let forms = accept.split(',').filter_map(Self::of_range);
        forms.into_iter().next().ok_or_else(|| KubeError::NotAcceptable(vec!["application/json"]))
    }

    fn of_range(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next()?;
        if !matches!(media_type, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        match parameters.iter().find(|(name, _)| *name == "as").map(|(_, value)| *value) {
            None => Some(Self::Objects),
            Some("Table") => meta_version(&parameters).map(Self::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                meta_version(&parameters).map(|_| Self::Metadata)
            }
            // Aggregated discovery and the like: whoever asks for them takes something simpler too.
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_we_have_is_given() {
        for (accept, form) in [
            ("", Form::Objects),
            ("application/json, */*", Form::Objects),
            ("application/vnd.kubernetes.protobuf,application/json", Form::Objects),
            ("application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch", Form::Objects),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Form::Table("v1")),
            ("application/json;as=Table;g=other;v=v1,application/json", Form::Objects),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Form::Metadata,
            ),
            ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", Form::Objects),
        ] {
            assert_eq!(Form::wanted(accept), Ok(form), "{accept}");
        }
    }

    #[test]
    fn who_takes_nothing_but_protobuf_is_told_so() {
        let refused = Err(KubeError::NotAcceptable(vec!["application/json"]));
        assert_eq!(Form::wanted("application/vnd.kubernetes.protobuf"), refused);
        assert_eq!(Form::wanted("application/vnd.kubernetes.protobuf;stream=watch, text/html"), refused);
    }
}
