//! A value of any format that describes itself, as JSON: written while it is read.
//!
//! Invariant: what is held is the output and one map key. A tree of the value would take up to fifty times its bytes.

use std::fmt;

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

/// Writes whatever it is given as JSON behind what is there.
///
/// CBOR has more kinds of values than JSON: bytes become base64, what is no finite number becomes null, tags are left out. Map keys that
/// are no text become the text of their JSON.
///
/// Errors: what the format says, and a list or a map as a map key. After one, part of the value has been written.
pub struct AsJson<'a>(pub &'a mut Vec<u8>);

impl AsJson<'_> {
    fn put<E: Error>(self, value: impl Serialize) -> Result<(), E> {
        serde_json::to_writer(self.0, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for AsJson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AsJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.put(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(value)
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        super::write::put_base64(self.0, value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.put(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let mut first = true;
        while items.next_element_seed(Separated(self.0, &mut first))?.is_some() {}
        self.0.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let mut first = true;
        while members.next_key_seed(Separated(self.0, &mut first).key())?.is_some() {
            self.0.push(b':');
            members.next_value_seed(AsJson(self.0))?;
        }
        self.0.push(b'}');
        Ok(())
    }
}

/// One of several, behind a comma unless it is the first.
struct Separated<'a>(&'a mut Vec<u8>, &'a mut bool);

impl<'a> Separated<'a> {
    fn separate(self) -> &'a mut Vec<u8> {
        if !std::mem::take(self.1) {
            self.0.push(b',');
        }
        self.0
    }

    fn key(self) -> Key<'a> {
        Key(self)
    }
}

impl<'de> DeserializeSeed<'de> for Separated<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        AsJson(self.separate()).deserialize(from)
    }
}

/// A member's name. Not a list or a map: each level of those would double the backslashes of the one inside, and a hundred bytes of
/// CBOR would become more than any memory holds.
struct Key<'a>(Separated<'a>);

impl Key<'_> {
    fn put<E: Error>(self, value: impl Serialize) -> Result<(), E> {
        let text = serde_json::to_string(&value).map_err(E::custom)?;
        AsJson(self.0.separate()).put(text)
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map key that is no list and no map")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        AsJson(self.0.separate()).put(value)
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        AsJson(self.0.separate()).visit_bytes(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.put(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.put(())
    }
}
