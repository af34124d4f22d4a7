//! What is wrong with a configuration, where, and what to write instead.
//!
//! A technician corrects a file far away from us, so everything that is wrong is said at once, and each line stands by itself.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A file as it was named to us, an environment variable, or words such as "the host name".
    pub source: String,
    /// The line in it, from 1; none where the source has no lines.
    pub line: Option<usize>,
}

impl Place {
    /// A line of a file.
    pub fn line(file: &str, line: usize) -> Self {
        Self { source: file.to_owned(), line: Some(line) }
    }

    /// Something without lines.
    pub fn whole(source: impl fmt::Display) -> Self {
        Self { source: source.to_string(), line: None }
    }

    /// Reads back what [`fmt::Display`] wrote: values carry their place as text.
    pub(super) fn parse(text: &str) -> Self {
        match text.rsplit_once(':').map(|(file, line)| (file, line.parse())) {
            Some((file, Ok(line))) => Self::line(file, line),
            _ => Self::whole(text),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where to look.
    pub place: Place,
    /// What is wrong; what to write instead.
    pub text: String,
}

impl Mistake {
    /// `text` is wrong with what stands at `place`.
    pub fn new(place: Place, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Everything that is wrong with a configuration: at least one mistake, in the order of files and lines, none twice.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    /// `Err` with `mistakes` when there are any.
    pub(super) fn none_of(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self(in_order(mistakes))) }
    }

    /// In the order of files and lines.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Mistake> for ConfigErrors {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (n, mistake) in self.0.iter().enumerate() {
            let line_break = if n == 0 { "" } else { "\n" };
            write!(f, "{line_break}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// By file and line, none twice: a mistake in a file that a whole fleet shares is one mistake.
pub fn in_order(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

/// `"a", "b" or "c"`, each as `written`.
pub(super) fn one_of<T: AsRef<str>>(names: &[T], written: impl Fn(&str) -> String) -> String {
    let names: Vec<_> = names.iter().map(|name| written(name.as_ref())).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The one of `known` that was probably meant by `name`: at most one letter in three is different.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
    let (distance, candidate) = known.into_iter().map(|candidate| (near(candidate), candidate)).min()?;
    (distance * 3 <= candidate.len().max(3)).then_some(candidate)
}
