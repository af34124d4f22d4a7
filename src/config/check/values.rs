//! What single values may look like, whatever setting they stand in.

use std::{borrow::Cow, net::IpAddr};

/// Whether `text` can name a source, a stream, a destination or a device: names go into lane names and partition keys, which `/`
/// and `:` take apart.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && has_only(text, "_-.")
}

/// Most characters in the name of a Kinesis stream. Source: Kinesis API reference, `CreateStream`, `StreamName`.
pub(super) const MAX_STREAM_NAME: usize = 128;
/// Most characters in the name of a Firehose stream. Source: Firehose API reference, `CreateDeliveryStream`, `DeliveryStreamName`.
pub(super) const MAX_FIREHOSE_NAME: usize = 64;

/// Whether `text` can name a stream, of at most so many characters. Source: as above.
pub(super) fn is_stream_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && has_only(text, "_-.")
}

/// Whether `text` is the name of a host, and not an address. Source: RFC 1123, section 2.1; with `_`, which zones have.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len()) && has_only(label, "-_");
    text.len() <= 253 && text.parse::<IpAddr>().is_err() && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Whether `text` can name a metric's label. Source: Prometheus documentation, data model.
pub(super) fn is_label(text: &str) -> bool {
    has_only(text, "_") && !text.is_empty() && !text.starts_with(|first: char| first.is_ascii_digit()) && !text.starts_with("__")
}

fn has_only(text: &str, marks: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter))
}

/// Whether `filter` is a topic filter. Source: MQTT 3.1.1, section 4.7.
pub fn is_topic_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last = levels.next().unwrap_or_default();
    let plain = |level: &str| !level.contains(['+', '#']);
    fits_a_packet(filter) && (last == "#" || last == "+" || plain(last)) && levels.all(|level| level == "+" || plain(level))
}

/// Whether `topic` is a topic that something can be published to. Source: MQTT 3.1.1, section 4.7.
pub(super) fn is_topic(topic: &str) -> bool {
    fits_a_packet(topic) && !topic.contains(['+', '#'])
}

fn fits_a_packet(topic: &str) -> bool {
    (1..=usize::from(u16::MAX)).contains(&topic.len()) && !topic.contains('\0')
}

/// What stands in braces in `template` and is not among `known`; an open or stray brace counts.
pub(super) fn unknown_placeholders(template: &str, known: &[&str]) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find(['{', '}']) {
        let end = rest[start..].find('}').map_or(rest.len(), |end| start + end + 1);
        let placeholder = &rest[start..end];
        if !known.contains(&placeholder) {
            unknown.push(placeholder.to_owned());
        }
        rest = &rest[end..];
    }
    unknown
}

/// `text` with the user and password of a URL hidden.
pub fn without_userinfo(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => Cow::Owned(format!("{scheme}://***{}", &rest[at..])),
        None => Cow::Borrowed(text),
    }
}

/// A URL that names a host, and nothing that we would have to guess the meaning of.
#[derive(Debug)]
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// Reads `text` as `SCHEME://HOST[:PORT]`, the scheme being one of `schemes`, or says what is wrong with it.
pub(super) fn read_url(text: &str, schemes: &[&str], example: &str) -> Result<Url, String> {
    let shown = without_userinfo(text);
    let refused = |why: &str| Err(format!("is {shown:?}, {why}; write for example {example:?}"));
    if shown != text {
        return refused("which carries a user or a password that backups and logs would keep");
    }
    let Ok(url) = text.parse::<http::Uri>() else { return refused("which is no URL") };
    let Some(scheme) = url.scheme_str().filter(|scheme| schemes.contains(scheme)) else {
        return refused(&format!("which does not begin with {}://", schemes.join(":// or ")));
    };
    let Some(host) = url.host().filter(|host| !host.is_empty()) else { return refused("which names no host") };
    // `http::Uri` takes ":0" and ":" for ports, and drops one that is too large without a word.
    let written = url.authority().map_or("", |authority| authority.as_str());
    if url.port_u16().is_none_or(|port| port == 0) && written.len() != host.len() {
        return refused("whose port is not a number from 1 to 65535");
    }
    if url.path_and_query().is_some_and(|path| path != "/") {
        return refused("which goes on after the host");
    }
    Ok(Url { scheme: scheme.to_owned(), host: host.to_ascii_lowercase(), port: url.port_u16() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_fills_its_level_and_a_hash_is_last() {
        for right in ["#", "+", "a", "/", "a//b", "a/+/b", "+/+", "a/#", "$SYS/#"] {
            assert!(is_topic_filter(right), "{right}");
        }
        for wrong in ["", "a#", "a/#/b", "a+/b", "#/a", "a/b+", "a\0"] {
            assert!(!is_topic_filter(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_brace_that_stands_alone_is_an_unknown_placeholder() {
        let unknown = |template| unknown_placeholders(template, &["{topic}", "{source}"]);
        assert!(unknown("{topic}-{source}").is_empty());
        assert_eq!(unknown("{topc}/{source}"), ["{topc}"]);
        assert_eq!(unknown("a}b{topic"), ["}", "{topic"]);
    }

    #[test]
    fn a_url_needs_a_known_scheme_and_a_host_and_no_password() {
        let read = |text| read_url(text, &["mqtt", "mqtts"], "mqtt://127.0.0.1:1883");
        for right in ["mqtt://broker", "mqtts://Broker.local:8883/", "mqtt://[::1]:1883"] {
            assert!(read(right).is_ok(), "{right}: {:?}", read(right));
        }
        for wrong in
            ["", "broker", "broker:1883", "http://broker", "mqtt://", "mqtt://:1883", "mqtt://a:99999", "mqtt://a:", "mqtt://a/b"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let hidden = read("mqtt://me:secret@broker").unwrap_err();
        assert!(hidden.contains("mqtt://***@broker") && !hidden.contains("secret"), "{hidden}");
    }
}
