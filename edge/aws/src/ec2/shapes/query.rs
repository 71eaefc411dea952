//! The Query protocol: a request is a form of flat names (`Filter.1.Value.2=available`).
//!
//! Clients write shapes into a [`Query`]; servers read them back through a [`Reader`], which remembers what was asked for,
//! so that whatever is left over is known to be no parameter of the action.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Member;
use super::scalar::Scalar;

/// The only version of the API spoken here.
pub const VERSION: &str = "2016-11-15";

/// The parameters of one request, `Action` and `Version` included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a form (`a=b&c=d`).
    #[must_use]
    pub fn parse(form: &[u8]) -> Self {
        Self { pairs: form_urlencoded::parse(form).map(|(n, v)| (n.into_owned(), v.into_owned())).collect() }
    }

    /// Writes it as a form.
    #[must_use]
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.pairs).finish()
    }

    /// Adds a parameter.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.pairs.push((name.into(), value.into()));
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All parameters in order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// A request that no action can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A required parameter is absent.
    #[error("The request must contain the parameter {name}")]
    Missing {
        /// Its full name.
        name: String,
    },
    /// A value that does not fit.
    #[error("Value ({value}) for parameter {name} is invalid. Expected {expected}.")]
    Invalid {
        /// The parameter's full name.
        name: String,
        /// The value given.
        value: String,
        /// What is accepted.
        expected: &'static str,
        /// EC2's error code: `InvalidParameterValue` or one of the `Invalid….Malformed` family.
        code: &'static str,
    },
    /// A parameter the action does not have.
    #[error("The parameter {name} is not recognized")]
    Unknown {
        /// Its full name.
        name: String,
    },
    /// A parameter given twice.
    #[error("The parameter {name} is given more than once")]
    Repeated {
        /// Its full name.
        name: String,
    },
    /// An action this API does not have, or not here.
    #[error("The action {name} is not valid for this web service.")]
    UnknownAction {
        /// The name given.
        name: String,
    },
    /// Another version of the API.
    #[error("The requested version ({version}) of service AmazonEC2 does not exist: expected 2016-11-15")]
    Version {
        /// The version given.
        version: String,
    },
}

impl ParamError {
    /// EC2's error code for it. The HTTP status is 400 for all of them.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "MissingParameter",
            Self::Invalid { code, .. } => code,
            Self::Unknown { .. } => "UnknownParameter",
            Self::Repeated { .. } => "InvalidParameterCombination",
            Self::UnknownAction { .. } => "InvalidAction",
            Self::Version { .. } => "NoSuchVersion",
        }
    }
}

/// Reads parameters and remembers which.
#[derive(Debug)]
pub struct Reader<'a> {
    values: BTreeMap<&'a str, &'a str>,
    used: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// A reader over a request's parameters. `Action` and `Version` count as used.
    ///
    /// # Errors
    /// [`ParamError::Repeated`] if a name occurs twice.
    pub fn new(query: &'a Query) -> Result<Self, ParamError> {
        let mut values = BTreeMap::new();
        for (name, value) in query.pairs() {
            if values.insert(name.as_str(), value.as_str()).is_some() {
                return Err(ParamError::Repeated { name: name.clone() });
            }
        }
        Ok(Self { values, used: BTreeSet::from(["Action".to_owned(), "Version".to_owned()]) })
    }

    /// The value of a parameter.
    pub fn take(&mut self, name: &str) -> Option<&'a str> {
        let value = self.values.get(name).copied()?;
        self.used.insert(name.to_owned());
        Some(value)
    }

    /// Whether any parameter lies below `name` (`Attachment` when `Attachment.AttachmentId` is there).
    fn has_below(&self, name: &str) -> bool {
        self.below(name).next().is_some()
    }

    /// The indexes in use below a list's name, ascending. Gaps are allowed, as on EC2.
    fn indexes(&self, name: &str) -> BTreeSet<u32> {
        self.below(name)
            .filter_map(|rest| {
                let index = rest.split('.').next()?;
                let canonical = !index.starts_with('0') && index.bytes().all(|b| b.is_ascii_digit());
                index.parse().ok().filter(|_| canonical)
            })
            .collect()
    }

    fn below(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("{name}.");
        self.values
            .range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded))
            .map_while(|(key, _)| key.strip_prefix(prefix.as_str()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`ParamError::Unknown`] with the first parameter nobody took.
    pub fn finish(self) -> Result<(), ParamError> {
        match self.values.keys().find(|name| !self.used.contains(**name)) {
            None => Ok(()),
            Some(name) => Err(ParamError::Unknown { name: (*name).to_owned() }),
        }
    }
}

/// A value of a request: a scalar under its name, or a structure whose members lie below its name.
pub trait Param: Sized {
    /// Writes it.
    fn write(&self, name: &str, out: &mut Query);
    /// Reads it; `None` if nothing of it is there.
    ///
    /// # Errors
    /// What is wrong in it.
    fn read(name: &str, from: &mut Reader<'_>) -> Result<Option<Self>, ParamError>;
    /// Its parameters (list entries as `N`), for checks against the published model.
    fn parameters(name: &str, out: &mut Vec<Member>);
}

impl<T: Scalar> Param for T {
    fn write(&self, name: &str, out: &mut Query) {
        out.push(name, self.text());
    }
    fn read(name: &str, from: &mut Reader<'_>) -> Result<Option<Self>, ParamError> {
        let Some(text) = from.take(name) else { return Ok(None) };
        let invalid = || ParamError::Invalid {
            name: name.to_owned(),
            value: text.to_owned(),
            expected: T::EXPECTED,
            code: T::MALFORMED,
        };
        T::parse(text).map(Some).ok_or_else(invalid)
    }
    fn parameters(name: &str, out: &mut Vec<Member>) {
        out.push(Member::of::<T>(name));
    }
}

/// A member of a request: required (`T`), optional (`Option<T>`) or a list (`Vec<T>` as `Name.1`, `Name.2` …).
pub trait ParamField: Sized {
    /// Writes the member.
    fn write_field(&self, name: &str, out: &mut Query);
    /// Reads the member.
    ///
    /// # Errors
    /// What is missing or wrong.
    fn read_field(name: &str, from: &mut Reader<'_>) -> Result<Self, ParamError>;
    /// Its parameters.
    fn field_parameters(name: &str, out: &mut Vec<Member>);
}

impl<T: Param> ParamField for T {
    fn write_field(&self, name: &str, out: &mut Query) {
        self.write(name, out);
    }
    fn read_field(name: &str, from: &mut Reader<'_>) -> Result<Self, ParamError> {
        T::read(name, from)?.ok_or_else(|| ParamError::Missing { name: name.to_owned() })
    }
    fn field_parameters(name: &str, out: &mut Vec<Member>) {
        T::parameters(name, out);
    }
}

impl<T: Param> ParamField for Option<T> {
    fn write_field(&self, name: &str, out: &mut Query) {
        if let Some(value) = self {
            value.write(name, out);
        }
    }
    fn read_field(name: &str, from: &mut Reader<'_>) -> Result<Self, ParamError> {
        T::read(name, from)
    }
    fn field_parameters(name: &str, out: &mut Vec<Member>) {
        T::parameters(name, out);
    }
}

impl<T: Param> ParamField for Vec<T> {
    fn write_field(&self, name: &str, out: &mut Query) {
        let mut next = 1;
        for value in self {
            let before = out.pairs.len();
            value.write(&format!("{name}.{next}"), out);
            // A structure without any member leaves no trace, and no gap either.
            next += usize::from(out.pairs.len() > before);
        }
    }
    fn read_field(name: &str, from: &mut Reader<'_>) -> Result<Self, ParamError> {
        let mut values = Self::new();
        for index in from.indexes(name) {
            values.extend(T::read(&format!("{name}.{index}"), from)?);
        }
        Ok(values)
    }
    fn field_parameters(name: &str, out: &mut Vec<Member>) {
        T::parameters(&format!("{name}.N"), out);
    }
}

/// Whether a structure is present at all. One without a name of its own always is.
pub(crate) fn present(name: &str, from: &Reader<'_>) -> bool {
    name.is_empty() || from.has_below(name)
}

/// The parameter of a structure's member. A structure without a name (`""`) has its members directly in the request.
/// Parameters begin with a capital letter, also where the element of an answer, from which `wire` may be taken, does not.
pub(crate) fn member(name: &str, wire: &str) -> String {
    let mut letters = wire.chars();
    let capital = letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>();
    if name.is_empty() { capital } else { format!("{name}.{capital}") }
}

/// Reads and writes a structure as parameters.
macro_rules! impl_param {
    ($name:ident { $($field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        impl $crate::ec2::shapes::query::Param for $name {
            fn write(&self, name: &str, out: &mut $crate::ec2::shapes::query::Query) {
                use $crate::ec2::shapes::query::{ParamField, member};
                $(self.$field.write_field(&member(name, $wire), out);)*
            }
            fn read(
                name: &str,
                from: &mut $crate::ec2::shapes::query::Reader<'_>,
            ) -> Result<Option<Self>, $crate::ec2::shapes::query::ParamError> {
                use $crate::ec2::shapes::query::{ParamField, member};
                if !$crate::ec2::shapes::query::present(name, from) {
                    return Ok(None);
                }
                Ok(Some(Self { $($field: ParamField::read_field(&member(name, $wire), from)?,)* }))
            }
            fn parameters(name: &str, out: &mut Vec<$crate::ec2::shapes::Member>) {
                use $crate::ec2::shapes::query::{ParamField, member};
                $(<$type as ParamField>::field_parameters(&member(name, $wire), out);)*
            }
        }
    };
}
pub(crate) use impl_param;

/// Defines a structure inside a request: each member with its name below the structure's.
macro_rules! param_shape {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        $crate::ec2::shapes::query::impl_param!($name { $($field: $type = $wire),* });

        #[cfg(any(test, feature = "samples"))]
        impl $crate::ec2::shapes::sample::Sample for $name {
            fn sample(dice: &mut $crate::ec2::shapes::sample::Dice) -> Self {
                Self { $($field: $crate::ec2::shapes::sample::Sample::sample(dice),)* }
            }
        }
    };
}
pub(crate) use param_shape;

/// Defines a structure that requests and answers share: the parameters are named as the elements, with a capital letter.
macro_rules! shared_shape {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        $crate::ec2::shapes::xml::xml_shape! {
            $(#[$meta])*
            $name { $($(#[$field_meta])* $field: $type = $wire),* }
        }

        $crate::ec2::shapes::query::impl_param!($name { $($field: $type = $wire),* });
    };
}
pub(crate) use shared_shape;

/// Defines a request: each member with its parameter, the action's name and its answer.
macro_rules! request {
    ($(#[$meta:meta])* $name:ident -> $response:ty { $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::ec2::shapes::Action for $name {
            const NAME: &'static str = stringify!($name);
            type Response = $response;
            fn to_query(&self, out: &mut $crate::ec2::shapes::query::Query) {
                $($crate::ec2::shapes::query::ParamField::write_field(&self.$field, $wire, out);)*
            }
            fn read(
                from: &mut $crate::ec2::shapes::query::Reader<'_>,
            ) -> Result<Self, $crate::ec2::shapes::query::ParamError> {
                Ok(Self { $($field: $crate::ec2::shapes::query::ParamField::read_field($wire, from)?,)* })
            }
            fn parameters() -> Vec<$crate::ec2::shapes::Member> {
                let mut out = Vec::new();
                $(<$type as $crate::ec2::shapes::query::ParamField>::field_parameters($wire, &mut out);)*
                out
            }
        }

        #[cfg(any(test, feature = "samples"))]
        impl $crate::ec2::shapes::sample::Sample for $name {
            fn sample(dice: &mut $crate::ec2::shapes::sample::Dice) -> Self {
                Self { $($field: $crate::ec2::shapes::sample::Sample::sample(dice),)* }
            }
        }
    };
}
pub(crate) use request;
