//! One URL or several, written as a text or as a list.

use std::{fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// URLs in the order in which they are tried; none: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// For `skip_serializing_if`, which takes no method of what this is made of.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Endpoints {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Endpoints {
    fn from(url: &str) -> Self {
        Self(vec![url.to_owned()])
    }
}

impl<T: Into<String>> FromIterator<T> for Endpoints {
    fn from_iter<I: IntoIterator<Item = T>>(urls: I) -> Self {
        Self(urls.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Endpoints {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(to),
            all => all.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Endpoints;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a URL in quotes, or a list of them")
            }

            fn visit_str<E>(self, url: &str) -> Result<Endpoints, E> {
                Ok(url.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints, A::Error> {
                let mut urls = Vec::new();
                while let Some(url) = list.next_element()? {
                    urls.push(url);
                }
                Ok(Endpoints(urls))
            }
        }

        from.deserialize_any(OneOrMany)
    }
}
