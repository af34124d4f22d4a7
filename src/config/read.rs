//! Merged layers → settings, with every wrong key and every wrong value found in one go.
//!
//! serde stops at the first mistake, so what it stopped at is noted, taken out, and the rest is read again until nothing is left
//! to complain about. Invariant: each round takes something out, so it ends.

use std::fmt;

use config::{Map, Value, ValueKind};
use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{
    check::allowed_range,
    kinds::{KIND, NO_KIND},
    layers::{Layer, Path, VARIABLES, read_variable},
    mistake::{Mistake, Place, nearest, one_of},
};

/// What was found in merged layers.
pub(super) struct Found<T> {
    /// The settings, defaults in place of what was wrong.
    pub settings: T,
    /// What was wrong.
    pub mistakes: Vec<Mistake>,
}

/// Reads `merged`; what is wrong with it is taken out of its values and noted in `left_out`.
///
/// A table whose `kind` is wrong or missing is read as the kind that was probably meant, so that its other mistakes are found too.
pub(super) fn read<T: DeserializeOwned + Default>(merged: &mut Layer) -> Found<T> {
    read_guessing(merged, |root, wrong| match &wrong.what {
        What::UnknownValue(value, kinds) => nearest(value, kinds.iter().copied()),
        What::NoKind(kinds) => most_fitting::<T>(root, &wrong.path, kinds),
        _ => None,
    })
}

/// [`read`], with what the `kind` at the path of a [`Wrong`] was probably meant to be.
fn read_guessing<T: DeserializeOwned + Default>(
    merged: &mut Layer,
    kind_meant: impl Fn(&Value, &Wrong) -> Option<&'static str>,
) -> Found<T> {
    let mut root = Value::new(None, ValueKind::Table(std::mem::take(&mut merged.values)));
    let mut mistakes = Vec::new();
    let settings = loop {
        let mut wrong = match T::deserialize(Node(&root)) {
            Ok(settings) => break settings,
            Err(wrong) => wrong,
        };
        // Where a key was wrong and is gone, that it is missing now is our own doing.
        let gone = || merged.incomplete || merged.left_out.iter().any(|gone| gone.starts_with(&wrong.path));
        if !(wrong.says_what_is_missing() && gone()) {
            mistakes.push(Mistake::new(wrong.place.clone().unwrap_or_else(|| merged.place(&wrong.path, None)), wrong.to_string()));
        }
        let is_kind = wrong.path.last().is_some_and(|key| key == KIND);
        let meant = if is_kind { kind_meant(&root, &wrong) } else { None };
        let goes_on = match meant {
            Some(kind) => put(&mut root, &wrong.path, kind),
            None => {
                if is_kind {
                    wrong.path.pop(); // nobody knows what the rest of its table means
                }
                remove(&mut root, &wrong.path, wrong.element)
            }
        };
        merged.left_out.push(wrong.path);
        if !goes_on {
            break T::default();
        }
    };
    merged.values = root.into_table().unwrap_or_default();
    Found { settings, mistakes }
}

/// The one of `kinds` at `path` with which there are fewer mistakes than with any other.
fn most_fitting<T: DeserializeOwned + Default>(root: &Value, path: &[String], kinds: &[&'static str]) -> Option<&'static str> {
    let mistakes_with = |kind: &&'static str| {
        let mut trial = root.clone();
        put(&mut trial, path, kind);
        let mut trial = Layer { values: trial.into_table().unwrap_or_default(), ..Layer::default() };
        (read_guessing::<T>(&mut trial, |_, _| None).mistakes.len(), *kind)
    };
    let mut fits: Vec<_> = kinds.iter().map(mistakes_with).collect();
    fits.sort_unstable();
    match fits[..] {
        [(fewest, kind), (more, _), ..] if fewest < more => Some(kind),
        _ => None,
    }
}

fn put(node: &mut Value, path: &[String], text: &str) -> bool {
    match (&mut node.kind, path) {
        (ValueKind::Table(table), [key]) => {
            table.insert(key.clone(), Value::from(text));
            true
        }
        (ValueKind::Table(table), [key, rest @ ..]) => table.get_mut(key).is_some_and(|inner| put(inner, rest, text)),
        _ => false,
    }
}

fn remove(node: &mut Value, path: &[String], element: Option<usize>) -> bool {
    match (&mut node.kind, path, element) {
        (ValueKind::Table(table), [key], None) => table.remove(key).is_some(),
        (ValueKind::Table(table), [key, rest @ ..], _) => table.get_mut(key).is_some_and(|inner| remove(inner, rest, element)),
        (ValueKind::Array(items), [], Some(n)) if n < items.len() => {
            items.remove(n);
            true
        }
        _ => false,
    }
}

/// What serde stopped at.
#[derive(Debug)]
struct Wrong {
    path: Path,
    element: Option<usize>,
    place: Option<Place>,
    what: What,
}

#[derive(Debug)]
enum What {
    UnknownKey(&'static [&'static str]),
    UnknownValue(String, &'static [&'static str]),
    Missing(&'static str),
    NoKind(&'static [&'static str]),
    Unfit { found: String, wanted: String },
    Said(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let path = self.path.join(".");
        let key = self.path.last().map(String::as_str).unwrap_or_default();
        match &self.what {
            What::UnknownKey(_) if path == "groups" => {
                write!(f, "unknown key groups; it belongs into devices/ID.toml of a fleet folder, so name that folder")
            }
            What::UnknownKey([]) => write!(f, "unknown key {path}; remove it"),
            What::UnknownKey(known) => match nearest(key, known.iter().copied()) {
                Some(meant) => write!(f, "unknown key {path}; write {meant}"),
                None => write!(f, "unknown key {path}; known here are {}", known.join(", ")),
            },
            What::UnknownValue(value, known) => {
                write!(f, "{path} is {value:?}; write {}", one_of(known, |name| format!("{name:?}")))
            }
            What::Missing(key) => write!(f, "{path} has no {key}; write {key} = …"),
            What::NoKind(kinds) => {
                let table = path.strip_suffix(".kind").unwrap_or(&path);
                write!(f, "{table} has no kind; write {}", one_of(kinds, |kind| format!("kind = {kind:?}")))
            }
            What::Unfit { found, wanted } if self.element.is_some() => write!(f, "{path} has {found}; write {wanted}"),
            What::Unfit { found, wanted } => match (wanted.as_str(), allowed_range(key)) {
                ("a whole number", Some((least, most))) => write!(f, "{path} is {found}; write {wanted} from {least} to {most}"),
                _ => write!(f, "{path} is {found}; write {wanted}"),
            },
            What::Said(text) => write!(f, "{path}: {text}"),
        }
    }
}

impl std::error::Error for Wrong {}

impl Wrong {
    fn because(what: What) -> Self {
        Self { path: Vec::new(), element: None, place: None, what }
    }

    fn says_what_is_missing(&self) -> bool {
        matches!(self.what, What::Missing(_) | What::NoKind(_))
    }

    fn unfit(found: Unexpected, wanted: &dyn Expected) -> Self {
        let in_quotes = match found {
            Unexpected::Signed(number) => format!("\"{number}\""),
            _ => "text in quotes".to_owned(),
        };
        let found = match found {
            Unexpected::Bool(truth) => truth.to_string(),
            Unexpected::Signed(number) => format!("the number {number}"),
            Unexpected::Float(number) => format!("the number {number}"),
            Unexpected::Str(text) => format!("the text {text:?}"),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a table".to_owned(),
            other => other.to_string(),
        };
        let wanted = match wanted.to_string().as_str() {
            "u8" | "u16" | "u32" | "u64" => "a whole number".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a string" | "path string" => in_quotes,
            "a sequence" => r#"a list such as ["a", "b"]"#.to_owned(),
            "a map" => "a table".to_owned(),
            text if text.starts_with("struct ") => "a table".to_owned(),
            text => text.to_owned(),
        };
        Self::because(What::Unfit { found, wanted })
    }

    /// On the way out of a table, each one adds its key; the innermost value that has a place gives it.
    fn under(mut self, key: &str, value: &Value) -> Self {
        self.path.insert(0, key.to_owned());
        self.at(value)
    }

    fn at(mut self, value: &Value) -> Self {
        self.place = self.place.or_else(|| value.origin().map(Place::parse));
        self
    }
}

impl Error for Wrong {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::because(What::Said(text.to_string()))
    }

    fn invalid_type(found: Unexpected, wanted: &dyn Expected) -> Self {
        Self::unfit(found, wanted)
    }

    fn invalid_value(found: Unexpected, wanted: &dyn Expected) -> Self {
        Self::unfit(found, wanted)
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        match value {
            NO_KIND => Self { path: vec![KIND.to_owned()], ..Self::because(What::NoKind(known)) },
            _ => Self::because(What::UnknownValue(value.to_owned(), known)),
        }
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::because(What::UnknownKey(known))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::because(What::Missing(key))
    }
}

/// A value as serde reads it: strict about types, except that a variable's text is read as whatever is wanted.
struct Node<'a>(&'a Value);

impl Node<'_> {
    fn in_variable(&self) -> Option<Value> {
        match (&self.0.kind, self.0.origin()) {
            (ValueKind::String(text), Some(origin)) if origin.starts_with(VARIABLES) => read_variable(origin, text.trim()),
            _ => None,
        }
    }
}

macro_rules! not_text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.in_variable() {
                Some(value) => Node(&value).deserialize_any(visitor),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.kind {
            ValueKind::Boolean(truth) => visitor.visit_bool(*truth),
            ValueKind::I64(number) => visitor.visit_i64(*number),
            ValueKind::Float(number) => visitor.visit_f64(*number),
            ValueKind::String(text) => visitor.visit_str(text),
            ValueKind::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            ValueKind::Table(table) => visitor.visit_map(Entries::new(table)),
            other => Err(Wrong::custom(format!("{other} is not a value that TOML has"))),
        }
    }

    not_text! {
        deserialize_bool deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_f32 deserialize_f64
        deserialize_seq deserialize_map
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &str, _: &[&str], visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &str, known: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.kind {
            ValueKind::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            other => {
                let found = match other {
                    ValueKind::I64(_) | ValueKind::Float(_) => format!("the number {other}"),
                    ValueKind::Boolean(_) => other.to_string(),
                    ValueKind::Array(_) => "a list".to_owned(),
                    _ => "a table".to_owned(),
                };
                Err(Wrong::because(What::Unfit { found, wanted: one_of(known, |name| format!("{name:?}")) }))
            }
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let element = Some(self.next);
        self.next += 1;
        seed.deserialize(Node(item)).map(Some).map_err(|wrong| Wrong { element, ..wrong.at(item) })
    }
}

/// `kind` first, the rest by name, so that the same file always gives the same answer.
struct Entries<'a> {
    rest: std::vec::IntoIter<(&'a String, &'a Value)>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'a> Entries<'a> {
    fn new(table: &'a Map<String, Value>) -> Self {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| (*key != KIND, *key));
        Self { rest: entries.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.current = self.rest.next();
        let Some((key, value)) = self.current else { return Ok(None) };
        seed.deserialize(key.as_str().into_deserializer()).map(Some).map_err(|wrong: Wrong| wrong.under(key, value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        // Anything else is a mistake of the type that is read, by the contract of `MapAccess`.
        let (key, value) = self.current.expect("serde asks for a value only after its key");
        seed.deserialize(Node(value)).map_err(|wrong| wrong.under(key, value))
    }
}
