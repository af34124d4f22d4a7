//! The reading's own time: the number that a JSON pointer leads to, found while the payload is read.
//!
//! Invariant: nothing is kept of what lies beside the pointer's way, and a payload that is no JSON to its end has no time.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json_is_flat_enough;

/// The number that `pointer` leads to in `payload`, as ms. Source: RFC 6901.
pub(in crate::record) fn own_time(payload: &[u8], pointer: &str) -> Option<i64> {
    json_is_flat_enough(payload).ok()?;
    let mut json = serde_json::Deserializer::from_slice(payload);
    let time = Follow(Some(pointer)).deserialize(&mut json).ok()?;
    json.end().ok().and(time)
}

/// What is left of the pointer at a value; none beside its way.
#[derive(Clone, Copy)]
struct Follow<'p>(Option<&'p str>);

impl<'p> Follow<'p> {
    /// The next token, and what is left behind it.
    fn step(self) -> Option<(Cow<'p, str>, Self)> {
        let rest = self.0?.strip_prefix('/')?;
        let (token, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let token = if token.contains('~') { token.replace("~1", "/").replace("~0", "~").into() } else { token.into() };
        Some((token, Self(Some(rest))))
    }

    fn arrived(self, time: i64) -> Option<i64> {
        (self.0 == Some("")).then_some(time)
    }
}

const BESIDE: Follow = Follow(None);

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<i64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<i64>, E> {
        Ok(self.arrived(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<i64>, E> {
        Ok(self.arrived(i64::try_from(number).unwrap_or(i64::MAX))) // beyond all times, and as wrong as it was
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<i64>, E> {
        #[expect(clippy::cast_possible_truncation, reason = "a float that is no time saturates, and is as wrong as it was")]
        Ok(self.arrived(number as i64))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<i64>, A::Error> {
        let step = self.step().filter(|(token, _)| *token == "0" || !token.starts_with(['0', '+']));
        let wanted = step.and_then(|(token, rest)| Some((token.parse::<usize>().ok()?, rest)));
        let mut found = None;
        for index in 0.. {
            let on_the_way = wanted.filter(|(wanted, _)| *wanted == index);
            let Some(time) = items.next_element_seed(on_the_way.map_or(BESIDE, |(_, rest)| rest))? else { break };
            found = found.or(time);
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<i64>, A::Error> {
        let step = self.step();
        let mut found = None;
        while let Some(on_the_way) = members.next_key_seed(Is(step.as_ref().map(|(token, _)| &**token)))? {
            let rest = step.as_ref().filter(|_| on_the_way).map(|(_, rest)| *rest);
            let time = members.next_value_seed(rest.unwrap_or(BESIDE))?;
            if on_the_way {
                found = time; // of two members with one name, the last, as most readers have it
            }
        }
        Ok(found)
    }
}

/// Whether a member's name is this one.
struct Is<'t>(Option<&'t str>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}
