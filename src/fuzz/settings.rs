//! Configuration files, and sizes and durations in them.

use crate::{
    cli::show::as_toml,
    config,
    units::{ByteCount, format_duration, parse_duration},
};

/// Any text is a configuration or a list of mistakes; what `show` prints of a configuration is the same one.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::parse(&text, "gw-7") {
        Ok(loaded) => {
            let shown = as_toml(&loaded, false).expect("settings can be written");
            let again = config::parse(&shown, "gw-8").unwrap_or_else(|errors| panic!("{errors}\n{shown}"));
            assert_eq!(again.config, loaded.config, "{shown}");
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
    if let Ok(size) = text.parse::<ByteCount>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    if let Ok(span) = parse_duration(&text) {
        assert_eq!(parse_duration(&format_duration(span)), Ok(span));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    #[test]
    fn a_file_of_ten_thousand_levels_is_a_list_of_mistakes() {
        const LEVELS: usize = 10_000;
        for text in [
            format!("a = {}{}", "[".repeat(LEVELS), "]".repeat(LEVELS)),
            format!("a = {}{}", "{a=".repeat(LEVELS), "}".repeat(LEVELS)),
            format!("a{} = 1", ".a".repeat(LEVELS)),
            format!("[a{}]\nb = 1", ".a".repeat(LEVELS)),
            format!("[[a{}]]\nb = 1", ".a".repeat(LEVELS)),
            "[".repeat(LEVELS),
        ] {
            assert!(config::parse(&text, "gw-7").is_err());
        }
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn a_size_and_a_duration_are_read_as_they_were_written(n in any::<u64>(), shift in 0..64_u32) {
            let n = n >> shift;
            prop_assert_eq!(ByteCount(n).to_string().parse(), Ok(ByteCount(n)));
            prop_assert_eq!(parse_duration(&format_duration(Duration::from_millis(n))), Ok(Duration::from_millis(n)));
        }

        #[test]
        fn any_text_is_a_size_or_is_refused(text in "\\PC*|[0-9]{0,22} ?(GiB|MiB|kB|B|d|min|ms|s)?") {
            target(text.as_bytes());
        }
    }
}
