//! What this layer knows of each action, as data: for checks against EC2's published model.

use super::Action;
use super::scalar::Scalar;
use super::xml::XmlValue;

/// An action with its parameters and the elements of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionShape {
    /// The action's name.
    pub name: &'static str,
    /// Its parameters; names with list entries as `N` (`Filter.N.Value.N`).
    pub parameters: Vec<Member>,
    /// The elements that hold text; paths below the root (`networkInterfaceSet/item/attachment/attachTime`).
    pub elements: Vec<Member>,
}

/// A parameter, or an element that holds text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub path: String,
    /// What it holds.
    pub kind: Kind,
}

/// What a parameter or an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, of whatever form.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A moment.
    Timestamp,
    /// One of these words, at least.
    Words(&'static [&'static str]),
}

impl Member {
    /// Where a value of type `T` is.
    pub(crate) fn of<T: Scalar>(path: &str) -> Self {
        Self { path: path.to_owned(), kind: T::KIND }
    }
}

pub(super) fn shape_of<A: Action>() -> ActionShape {
    let mut elements = Vec::new();
    A::Response::paths("", &mut elements);
    ActionShape { name: A::NAME, parameters: A::parameters(), elements }
}
