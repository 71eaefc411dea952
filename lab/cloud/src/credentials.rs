//! Keys: the account's own documented pair, and what IMDS hands to instances for their role.
//!
//! A role's credentials depend on the seed, the instance and the period of six hours alone, so that nothing need be
//! remembered when they are handed out and a restarted server knows them still.

use vpc_model::{InstanceId, Millis, Time};

use crate::cloud::{Caller, Cloud};
use crate::dice::Dice;
use crate::ids::hash64;
use crate::spec::id_text;

/// Access key of the account itself: documented, worth nothing outside the lab.
pub const ACCESS_KEY: &str = "AKIALABEXAMPLE00000A";
/// Its secret.
pub const SECRET_KEY: &str = "lab-secret";

/// How long the same credentials are handed out.
const PERIOD: Millis = Millis::seconds(6 * 3600);
/// How long they are valid beyond that, so that nobody holds a key that has just died.
const GRACE: Millis = Millis::seconds(30 * 60);

/// For so many periods a key is still known to have been one.
const REMEMBERED: u64 = 8;

/// Letters and digits of access keys.
const KEY_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters and digits of secrets and session tokens.
const SECRET_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Temporary credentials of an instance's role.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleCredentials {
    /// `ASIA…`.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// Goes with every call.
    pub session_token: String,
    /// Since when they are handed out.
    pub issued: Time,
    /// Until when they are taken.
    pub expires: Time,
}

/// Who an access key belongs to, and what a signature with it must match.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub caller: Caller,
    /// The secret.
    pub secret_key: String,
    /// The session token that must go with it; `None` for the account's own key.
    pub session_token: Option<String>,
    /// Whether the credentials are no longer taken.
    pub expired: bool,
}

/// The ARN of the instance profile that carries a role; both have the same name.
pub(crate) fn profile_arn(account: &str, role: &str) -> String {
    format!("arn:aws:iam::{account}:instance-profile/{role}")
}

/// The id of that profile.
pub(crate) fn profile_id(role: &str) -> String {
    id_text("AIPA", role).to_uppercase()
}

impl Cloud {
    /// The credentials that IMDS hands to an instance now; `None` for an instance without a role.
    #[must_use]
    pub fn credentials(&self, now: Time, instance: &InstanceId) -> Option<RoleCredentials> {
        self.world.instances.get(instance)?.spec.role.as_ref()?;
        Some(self.credentials_of_period(now.0 / PERIOD.0, instance))
    }

    /// Whose access key it is; `None` if nobody's, or one of more than two days ago.
    #[must_use]
    pub fn identify(&self, now: Time, access_key: &str) -> Option<Identity> {
        if access_key == ACCESS_KEY {
            let secret_key = SECRET_KEY.to_owned();
            return Some(Identity { caller: Caller::Account, secret_key, session_token: None, expired: false });
        }
        let period = now.0 / PERIOD.0;
        let with_role = self.world.instances.values().filter(|instance| instance.spec.role.is_some());
        for instance in with_role.map(|instance| &instance.spec.id) {
            for period in period.saturating_sub(REMEMBERED)..=period {
                let credentials = self.credentials_of_period(period, instance);
                if credentials.access_key == access_key {
                    return Some(Identity {
                        caller: Caller::Instance(instance.clone()),
                        secret_key: credentials.secret_key,
                        session_token: Some(credentials.session_token),
                        expired: now >= credentials.expires,
                    });
                }
            }
        }
        None
    }

    fn credentials_of_period(&self, period: u64, instance: &InstanceId) -> RoleCredentials {
        let mut dice = Dice::new(self.setup.seed ^ hash64("role credentials", &format!("{instance} {period}")));
        let issued = Time(0) + Millis(period * PERIOD.0);
        RoleCredentials {
            access_key: format!("ASIA{}", dice.text(16, KEY_ALPHABET)),
            secret_key: dice.text(40, SECRET_ALPHABET),
            session_token: dice.text(120, SECRET_ALPHABET),
            issued,
            expires: issued + PERIOD + GRACE,
        }
    }
}
