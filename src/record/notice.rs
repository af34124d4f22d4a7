//! What stands in a lane where readings were dropped: it names them, so that a consumer need not guess what became of them.
//!
//! A notice has the names of an envelope, but no `seq`: it is no reading.

use std::borrow::Cow;

use super::{
    RunId,
    write::{put_cbor_head, put_cbor_text, put_decimal, put_json_text},
};
use crate::{config::Encoding, status::Reason};

/// What a notice is, and no reading.
const KIND: &str = "dropped";

/// Readings of one run of a lane that were dropped for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The run that named them.
    pub run: RunId,
    /// The number of the first.
    pub from: u64,
    /// The number of the last.
    pub to: u64,
    /// How many; where it is fewer than the numbers from the first to the last, the others follow.
    pub n: u64,
    /// The rule that they fell to.
    pub why: Reason,
}

impl Notice {
    /// What a user record says, if it is a notice.
    pub fn decode(data: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Members<'a> {
            #[serde(borrow)]
            run: Cow<'a, str>,
            #[serde(borrow)]
            kind: Cow<'a, str>,
            from: u64,
            to: u64,
            n: u64,
            #[serde(borrow)]
            why: Cow<'a, str>,
        }
        let members: Option<Members> =
            if data.first() == Some(&b'{') { serde_json::from_slice(data).ok() } else { serde_cbor::from_slice(data).ok() };
        let Members { run, from, to, n, why, .. } = members.filter(|members| members.kind == KIND)?;
        let run = RunId(u64::from_str_radix(&run, 16).ok()?);
        Some(Self { run, from, to, n, why: Reason::named(&why)? })
    }

    /// The notice as a user record: a CBOR map or a line of JSON. None with `raw`, which has no names.
    ///
    /// Shape: `{v, dev, run, lane, kind: "dropped", from, to, n, why}`.
    pub fn encode(&self, encoding: Encoding, device: &str, lane: &str) -> Option<Vec<u8>> {
        let run = self.run.to_string();
        let texts = [("dev", device), ("run", &run), ("lane", lane), ("kind", KIND)];
        let numbers = [("from", self.from), ("to", self.to), ("n", self.n)];
        let mut out = Vec::new();
        match encoding {
            Encoding::Cbor => {
                put_cbor_head(&mut out, 5, 9);
                put_cbor_text(&mut out, "v");
                put_cbor_head(&mut out, 0, super::envelope::VERSION.into());
                for (key, text) in texts {
                    put_cbor_text(&mut out, key);
                    put_cbor_text(&mut out, text);
                }
                for (key, number) in numbers {
                    put_cbor_text(&mut out, key);
                    put_cbor_head(&mut out, 0, number);
                }
                put_cbor_text(&mut out, "why");
                put_cbor_text(&mut out, self.why.name());
            }
            Encoding::Json => {
                out.extend_from_slice(b"{\"v\":");
                put_decimal(&mut out, super::envelope::VERSION);
                for (key, text) in texts {
                    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
                    put_json_text(&mut out, text);
                }
                for (key, number) in numbers {
                    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
                    put_decimal(&mut out, number);
                }
                out.extend_from_slice(b",\"why\":");
                put_json_text(&mut out, self.why.name());
                out.extend_from_slice(b"}\n");
            }
            Encoding::Raw => return None,
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: Notice = Notice { run: RunId(10), from: 3, to: 900, n: 898, why: Reason::DropOldest };

    #[test]
    fn a_notice_says_which_readings_are_gone_and_why_in_either_encoding() {
        let json = NOTICE.encode(Encoding::Json, "gw", "s/0").unwrap();
        let cbor = NOTICE.encode(Encoding::Cbor, "gw", "s/0").unwrap();

        let expected = r#"{"v":1,"dev":"gw","run":"000000000000000a","lane":"s/0","kind":"dropped","from":3,"to":900,"n":898,"why":"drop_oldest"}"#;
        assert_eq!([&json, &cbor].map(|data| Notice::decode(data)), [Some(NOTICE); 2]);
        assert_eq!(String::from_utf8(json).unwrap(), format!("{expected}\n"));
        assert_eq!(
            serde_cbor::from_slice::<serde_json::Value>(&cbor).unwrap(),
            serde_json::from_str::<serde_json::Value>(expected).unwrap()
        );
    }

    #[test]
    fn raw_readings_have_no_names_and_so_no_notice() {
        assert_eq!(NOTICE.encode(Encoding::Raw, "gw", "s/0"), None);
    }
}
