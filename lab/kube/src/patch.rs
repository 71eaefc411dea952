//! The three patches: JSON merge (RFC 7386), JSON patch (RFC 6902), and Kubernetes' own strategic merge.

use serde_json::Value;

use crate::error::{Cause, CauseReason, KubeError};
use crate::object;
use crate::resource::Definition;
use crate::strategic;

/// Media types of the patches that are taken for kinds that are built in.
pub(crate) const MEDIA_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// A change to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// Objects are merged, `null` removes, everything else replaces.
    Merge(Value),
    /// A list of operations.
    Json(json_patch::Patch),
    /// As [`Patch::Merge`], but lists whose elements have a key are merged by it. Not for custom resources.
    Strategic(Value),
}

impl Patch {
    /// A patch from the body of a request.
    ///
    /// # Errors
    /// The media type is none of a patch, or the body is not of that type.
    pub fn parse(media_type: &str, body: &[u8]) -> Result<Self, KubeError> {
        let bad = |error: serde_json::Error| KubeError::BadRequest(format!("the patch cannot be read: {error}"));
        match media_type {
            "application/merge-patch+json" => serde_json::from_slice(body).map(Self::Merge).map_err(bad),
            "application/json-patch+json" => serde_json::from_slice(body).map(Self::Json).map_err(bad),
            "application/strategic-merge-patch+json" => serde_json::from_slice(body).map(Self::Strategic).map_err(bad),
            _ => Err(KubeError::UnsupportedMediaType(MEDIA_TYPES.to_vec())),
        }
    }

    /// The object after the patch.
    pub(crate) fn apply(&self, definition: &Definition, object: &Value) -> Result<Value, KubeError> {
        let mut patched = object.clone();
        match self {
            Self::Merge(patch) | Self::Strategic(patch) if !patch.is_object() => {
                return Err(KubeError::BadRequest("the patch is not an object".into()));
            }
            Self::Merge(patch) => json_patch::merge(&mut patched, patch),
            Self::Json(patch) => json_patch::patch(&mut patched, patch).map_err(|error| KubeError::Invalid {
                resource: Box::new(definition.resource.clone()),
                kind: definition.kind.clone(),
                name: object::name(object).to_owned(),
                causes: vec![Cause::new("patch", CauseReason::Invalid, error.to_string())],
            })?,
            Self::Strategic(_) if definition.custom => {
                return Err(KubeError::UnsupportedMediaType(MEDIA_TYPES[..2].to_vec()));
            }
            Self::Strategic(patch) => strategic::merge(&mut patched, patch)?,
        }
        Ok(patched)
    }
}
