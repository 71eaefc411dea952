//! XML as EC2 answers it: elements without attributes that matter, lists as `<item>`s.
//!
//! An answer is read into a small tree ([`Element`]) and every shape picks its fields out of it by name; unknown elements
//! are passed over, because EC2 adds some every month. Writing goes straight to text.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::catalogue::Member;
use super::scalar::Scalar;

/// The namespace EC2 puts on the root of every answer.
pub const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Deeper documents are refused: EC2's answers nest about ten levels.
const MAX_DEPTH: usize = 32;

/// A text that is not the XML it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed.
    #[error("the answer is not well-formed XML: {0}")]
    Syntax(String),
    /// Another document than the one asked for.
    #[error("the answer is a <{found}>, expected <{expected}>")]
    WrongRoot {
        /// Name of the root element.
        found: String,
        /// Name of the root element of the right answer.
        expected: String,
    },
    /// A required element is absent.
    #[error("the answer lacks the element {path}")]
    Missing {
        /// Element names from the root, separated by `/`; list entries are numbered from 1.
        path: String,
    },
    /// The text of an element does not fit its type.
    #[error("the answer has `{text}` in {path}, expected {expected}")]
    Value {
        /// Element names from the root, separated by `/`; list entries are numbered from 1.
        path: String,
        /// The text found.
        text: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl XmlError {
    /// Puts the name of the enclosing element before the path.
    fn within(mut self, name: &str) -> Self {
        if let Self::Missing { path } | Self::Value { path, .. } = &mut self {
            *path = if path.is_empty() { name.to_owned() } else { format!("{name}/{path}") };
        }
        self
    }
}

/// One element: its text and its children. Attributes are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Name, without a namespace prefix.
    pub name: String,
    /// All text directly in it, entities resolved.
    pub text: String,
    /// Child elements in order.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document.
    ///
    /// # Errors
    /// [`XmlError::Syntax`] if it is not well-formed, has no root or nests too deep.
    pub fn parse(document: &str) -> Result<Self, XmlError> {
        let mut reader = Reader::from_str(document);
        let mut open: Vec<Self> = vec![Self::default()];
        loop {
            match reader.read_event().map_err(syntax)? {
                Event::Start(tag) => open.push(Self::named(tag.local_name().as_ref())),
                Event::Empty(tag) => close(&mut open, Self::named(tag.local_name().as_ref())),
                Event::End(_) => {
                    if let Some(done) = open.pop() {
                        close(&mut open, done);
                    }
                }
                Event::Text(text) => push_text(&mut open, &text.xml10_content()),
                Event::CData(text) => push_text(&mut open, &text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let text = match reference.resolve_char_ref().map_err(syntax)? {
                        Some(character) => character.to_string(),
                        None => predefined(&reference)?.to_owned(),
                    };
                    push_text(&mut open, &text);
                }
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
            if open.len() > MAX_DEPTH {
                return Err(XmlError::Syntax(format!("nested deeper than {MAX_DEPTH} levels")));
            }
        }
        match (open.pop(), open.is_empty()) {
            (Some(mut document), true) if document.children.len() == 1 && document.text.trim().is_empty() => {
                Ok(document.children.swap_remove(0))
            }
            (_, true) => Err(XmlError::Syntax("there is not exactly one root element".into())),
            _ => Err(XmlError::Syntax("it ends in the middle of an element".into())),
        }
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The first child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn syntax(error: impl std::fmt::Display) -> XmlError {
    XmlError::Syntax(error.to_string())
}

fn predefined(name: &str) -> Result<&'static str, XmlError> {
    quick_xml::escape::resolve_predefined_entity(name)
        .ok_or_else(|| XmlError::Syntax(format!("unknown entity `&{name};`")))
}

fn close(open: &mut [Element], done: Element) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(done);
    }
}

fn push_text(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Writes elements one after another.
#[derive(Debug, Default)]
pub struct XmlWriter {
    text: String,
}

impl XmlWriter {
    /// `<name>` … `</name>` around what `inside` writes.
    pub fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.text.extend(["<", name, ">"]);
        let start = self.text.len();
        inside(self);
        if self.text.len() == start {
            self.text.pop();
            self.text.push_str("/>");
        } else {
            self.text.extend(["</", name, ">"]);
        }
    }

    /// Text, escaped. Characters that XML 1.0 cannot carry become U+FFFD.
    pub fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                // A bare carriage return would be read back as a line feed.
                '\r' => self.text.push_str("&#13;"),
                '\t' | '\n' => self.text.push(character),
                '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => self.text.push('\u{fffd}'),
                _ => self.text.push(character),
            }
        }
    }

    /// What was written, after an XML declaration.
    #[must_use]
    pub fn finish(self) -> String {
        format!("{DECLARATION}{}", self.text)
    }

    /// A whole document: declaration, and the root with EC2's namespace around what `inside` writes.
    #[must_use]
    pub fn document(root: &str, inside: impl FnOnce(&mut Self)) -> String {
        let mut out = Self { text: DECLARATION.to_owned() };
        out.text.extend(["<", root, " xmlns=\"", NAMESPACE, "\">"]);
        inside(&mut out);
        out.text.extend(["</", root, ">"]);
        out.text
    }
}

/// A value that fills one element: a scalar (its text) or a structure (its children).
pub trait XmlValue: Sized {
    /// Whether an element with neither text nor children is a value; if not, an optional field reads it as absent.
    const EMPTY_IS_A_VALUE: bool = false;
    /// Writes what goes inside the element.
    fn write(&self, out: &mut XmlWriter);
    /// Reads the element.
    ///
    /// # Errors
    /// What is missing or wrong in it, with the path below the element.
    fn read(element: &Element) -> Result<Self, XmlError>;
    /// The paths of every element below this one, for checks against the published model.
    fn paths(at: &str, out: &mut Vec<Member>);
}

impl<T: Scalar> XmlValue for T {
    const EMPTY_IS_A_VALUE: bool = T::EMPTY_IS_A_VALUE;
    fn write(&self, out: &mut XmlWriter) {
        out.text(&self.text());
    }
    fn read(element: &Element) -> Result<Self, XmlError> {
        T::parse(&element.text).ok_or_else(|| XmlError::Value {
            path: String::new(),
            text: element.text.clone(),
            expected: T::EXPECTED,
        })
    }
    fn paths(at: &str, out: &mut Vec<Member>) {
        out.push(Member::of::<T>(at));
    }
}

/// A field of a structure: required (`T`), optional (`Option<T>`) or a list (`Vec<T>`, absent = empty).
pub trait XmlField: Sized {
    /// Writes the field under `name`.
    fn write_field(&self, name: &str, out: &mut XmlWriter);
    /// Picks the field `name` out of its parent.
    ///
    /// # Errors
    /// What is missing or wrong in it, with the path below the parent.
    fn read_field(parent: &Element, name: &str) -> Result<Self, XmlError>;
    /// The paths of the field and of what lies below it.
    fn field_paths(at: &str, name: &str, out: &mut Vec<Member>);
}

impl<T: XmlValue> XmlField for T {
    fn write_field(&self, name: &str, out: &mut XmlWriter) {
        out.element(name, |out| self.write(out));
    }
    fn read_field(parent: &Element, name: &str) -> Result<Self, XmlError> {
        let element = parent.child(name).ok_or_else(|| XmlError::Missing { path: name.to_owned() })?;
        T::read(element).map_err(|e| e.within(name))
    }
    fn field_paths(at: &str, name: &str, out: &mut Vec<Member>) {
        T::paths(&join(at, name), out);
    }
}

impl<T: XmlValue> XmlField for Option<T> {
    fn write_field(&self, name: &str, out: &mut XmlWriter) {
        let Some(value) = self else { return };
        let start = out.text.len();
        value.write_field(name, out);
        // A structure without any member says nothing; the reader would take it as absent.
        if !T::EMPTY_IS_A_VALUE && out.text[start..].ends_with("/>") && !out.text[start + 1..].contains('<') {
            out.text.truncate(start);
        }
    }
    fn read_field(parent: &Element, name: &str) -> Result<Self, XmlError> {
        match parent.child(name) {
            None => Ok(None),
            Some(e) if !T::EMPTY_IS_A_VALUE && e.children.is_empty() && e.text.trim().is_empty() => Ok(None),
            Some(e) => T::read(e).map(Some).map_err(|error| error.within(name)),
        }
    }
    fn field_paths(at: &str, name: &str, out: &mut Vec<Member>) {
        T::paths(&join(at, name), out);
    }
}

impl<T: XmlValue> XmlField for Vec<T> {
    fn write_field(&self, name: &str, out: &mut XmlWriter) {
        out.element(name, |out| self.iter().for_each(|value| value.write_field("item", out)));
    }
    fn read_field(parent: &Element, name: &str) -> Result<Self, XmlError> {
        let Some(list) = parent.child(name) else { return Ok(Self::new()) };
        let items = list.children.iter().filter(|child| child.name == "item");
        items
            .enumerate()
            .map(|(i, item)| T::read(item).map_err(|e| e.within(&format!("item[{}]", i + 1)).within(name)))
            .collect()
    }
    fn field_paths(at: &str, name: &str, out: &mut Vec<Member>) {
        T::paths(&join(&join(at, name), "item"), out);
    }
}

/// A list that may be absent altogether, which is not the same as an empty one.
impl<T: XmlValue> XmlField for Option<Vec<T>> {
    fn write_field(&self, name: &str, out: &mut XmlWriter) {
        if let Some(list) = self {
            list.write_field(name, out);
        }
    }
    fn read_field(parent: &Element, name: &str) -> Result<Self, XmlError> {
        parent.child(name).map(|_| Vec::read_field(parent, name)).transpose()
    }
    fn field_paths(at: &str, name: &str, out: &mut Vec<Member>) {
        Vec::<T>::field_paths(at, name, out);
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") }
}

/// Defines a structure of an answer: each field with the element it is read from and written to, so that both directions
/// cannot disagree.
macro_rules! xml_shape {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::ec2::shapes::xml::XmlValue for $name {
            #[allow(unused_variables)]
            fn write(&self, out: &mut $crate::ec2::shapes::xml::XmlWriter) {
                $($crate::ec2::shapes::xml::XmlField::write_field(&self.$field, $wire, out);)*
            }
            #[allow(unused_variables)]
            fn read(
                element: &$crate::ec2::shapes::xml::Element,
            ) -> Result<Self, $crate::ec2::shapes::xml::XmlError> {
                Ok(Self { $($field: $crate::ec2::shapes::xml::XmlField::read_field(element, $wire)?,)* })
            }
            #[allow(unused_variables)]
            fn paths(at: &str, out: &mut Vec<$crate::ec2::shapes::Member>) {
                $(<$type as $crate::ec2::shapes::xml::XmlField>::field_paths(at, $wire, out);)*
            }
        }

        #[cfg(any(test, feature = "samples"))]
        impl $crate::ec2::shapes::sample::Sample for $name {
            #[allow(unused_variables)]
            fn sample(dice: &mut $crate::ec2::shapes::sample::Dice) -> Self {
                Self { $($field: $crate::ec2::shapes::sample::Sample::sample(dice),)* }
            }
        }
    };
}
pub(crate) use xml_shape;
