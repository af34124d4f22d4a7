//! What a person should know of: what is wrong, and what to do about it.

use serde::Serialize;

use crate::reading::Timestamp;

/// Something that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong, with what.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// An error and what caused it.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Of an error whose text reads `WHAT; WHAT TO DO`: what is wrong, with its causes, on one line; and what to do about it.
pub fn what_and_remedy(error: &(dyn std::error::Error + 'static)) -> (String, String) {
    let text = error.to_string();
    let (what, remedy) = text.split_once("; ").unwrap_or((&text, "see the log"));
    let causes = error.source().map(|cause| format!(": {}", with_causes(cause))).unwrap_or_default();
    // The AWS SDK lists on several lines where it has looked for credentials.
    let causes: Vec<_> = causes.lines().map(str::trim).collect();
    (format!("{what}{}", causes.join(", ").replace(":, ", ": ")), remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_apart_what_is_wrong_on_one_line_and_what_to_do() {
        #[derive(Debug, thiserror::Error)]
        #[error("no way out; open the door")]
        struct Shut(#[source] std::io::Error);

        let (what, remedy) = what_and_remedy(&Shut(std::io::Error::other("tried:\n  the window")));

        assert_eq!((what.as_str(), remedy.as_str()), ("no way out: tried: the window", "open the door"));
    }
}
