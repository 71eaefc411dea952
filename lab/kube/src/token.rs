//! Bearer tokens: JSON web tokens, signed with a key that ends with the server.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use crate::access::User;
use crate::object;

/// Who issues tokens, and whom they are for unless somebody else is named.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Issues and reads tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    key: hmac::Key,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A service account: namespace, name and uid.
    ServiceAccount { namespace: String, name: String, uid: String },
    /// Somebody else.
    User(User),
}

impl Tokens {
    /// `None`: the system has no randomness to make a key of.
    pub(crate) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(|key| Self { key })
    }

    /// A token that is valid from `now` until `expires`, in seconds since 1970.
    pub(crate) fn issue(&self, holder: &Holder, audiences: &[String], now: i64, expires: i64) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": audiences, "iat": now, "nbf": now, "exp": expires});
        match holder {
            Holder::ServiceAccount { namespace, name, uid } => {
                claims["sub"] = json!(User::service_account(namespace, name).name);
                claims["kubernetes.io"] = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}});
            }
            Holder::User(user) => {
                claims["sub"] = json!(user.name);
                claims["groups"] = json!(user.groups);
            }
        }
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// Whose token it is; `None`: not one of ours, or its time is over.
    pub(crate) fn read(&self, token: &str, now: i64) -> Option<Holder> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
        if claims["exp"].as_i64()? <= now {
            return None;
        }
        let at = |pointer: &str| object::text(&claims, pointer).to_owned();
        if claims.get("kubernetes.io").is_some() {
            return Some(Holder::ServiceAccount {
                namespace: at("/kubernetes.io/namespace"),
                name: at("/kubernetes.io/serviceaccount/name"),
                uid: at("/kubernetes.io/serviceaccount/uid"),
            });
        }
        let groups = claims["groups"].as_array()?.iter().filter_map(|group| Some(group.as_str()?.to_owned())).collect();
        Some(Holder::User(User { name: at("/sub"), groups }))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_holder_until_its_time_is_over() {
        let tokens = Tokens::new().unwrap();
        for holder in [
            Holder::ServiceAccount { namespace: "kube-system".into(), name: "aws-node".into(), uid: "1".into() },
            Holder::User(User::admin()),
        ] {
            let token = tokens.issue(&holder, &[ISSUER.to_owned()], 100, 200);
            assert_eq!(tokens.read(&token, 199), Some(holder));
            assert_eq!(tokens.read(&token, 200), None);
            assert_eq!(Tokens::new().unwrap().read(&token, 100), None);
            let forged = token.replacen('.', ".e30", 1);
            assert_eq!(tokens.read(&forged, 100), None);
        }
    }
}
