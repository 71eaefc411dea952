//! Questions to the server that are asked by creating an object: may I, who am I, whose token is this.

use serde_json::{Value, json};

use crate::access::{Attributes, User};
use crate::handle::KubeHandle;
use crate::object;
use crate::resource::Resource;

const ACCESS: Resource = Resource::fixed("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
const RULES: Resource = Resource::fixed("authorization.k8s.io", "v1", "selfsubjectrulesreviews");
const MYSELF: Resource = Resource::fixed("authentication.k8s.io", "v1", "selfsubjectreviews");
const TOKEN: Resource = Resource::fixed("authentication.k8s.io", "v1", "tokenreviews");

/// Resources that can be created and nothing else, with their kinds.
pub(crate) static RESOURCES: [(Resource, &str); 4] = [
    (ACCESS, "SelfSubjectAccessReview"),
    (RULES, "SelfSubjectRulesReview"),
    (MYSELF, "SelfSubjectReview"),
    (TOKEN, "TokenReview"),
];

/// Answers a question; `None`: it is none of ours.
pub(crate) fn answer(handle: &KubeHandle, user: &User, resource: &Resource, mut question: Value) -> Option<Value> {
    let (_, kind) = RESOURCES.iter().find(|(known, _)| known == resource)?;
    let status = if *resource == ACCESS {
        json!({"allowed": allowed(handle, user, &question)})
    } else if *resource == RULES {
        rules(handle, user)
    } else if *resource == MYSELF {
        json!({"userInfo": info(user)})
    } else {
        match handle.identify(object::text(&question, "/spec/token")) {
            Some(holder) => json!({"authenticated": true, "user": info(&holder)}),
            None => json!({"authenticated": false, "error": "the token is not one of this server, or has expired"}),
        }
    };
    let fields = question.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), json!(resource.api_version()));
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("status".to_owned(), status);
    Some(question)
}

fn allowed(handle: &KubeHandle, user: &User, review: &Value) -> bool {
    let Some(asked) = review.pointer("/spec/resourceAttributes") else {
        // Paths that are no resources are open to everybody.
        return true;
    };
    let resource = Resource::new(object::text(asked, "/group"), "", object::text(asked, "/resource"));
    handle.may(&Attributes {
        user,
        verb: object::text(asked, "/verb"),
        resource: &resource,
        subresource: object::text(asked, "/subresource"),
        namespace: object::text(asked, "/namespace"),
        name: object::text(asked, "/name"),
    })
}

/// What the user may do. Denials cannot be said in rules: with one in force the answer is marked incomplete.
fn rules(handle: &KubeHandle, user: &User) -> Value {
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let rules = handle.rules_of(&user.name).map_or(all, |rules| json!(rules));
    json!({
        "resourceRules": rules,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}],
        "incomplete": !handle.denials().is_empty(),
    })
}

fn info(user: &User) -> Value {
    json!({"username": user.name, "groups": user.groups})
}
