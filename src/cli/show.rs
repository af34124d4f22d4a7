//! `headwater show`: what a gateway would run with, after all layers and defaults.
//!
//! Invariant: what is printed is itself a configuration, and reads back as the same settings; no secret is in it.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use toml::{Table, Value};

use crate::config::{self, Files, Loaded, Origins, check::without_userinfo};

/// Prints the configuration that a gateway runs with, defaults included
///
/// All layers of a fleet are merged: fleet.toml, the device's groups, its own file, and the environment. What is printed is a
/// configuration itself.
///
/// Exit code: 2 when there are mistakes in it; they are printed then, as `headwater check` does.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  headwater show --origin\n  headwater show --config config/fleet --device gw-0042")]
pub struct ShowArgs {
    /// A file, or a fleet's folder; without it HEADWATER_CONFIG, then /etc/headwater
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// The device of a fleet; without it the one that is called like this host
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,

    /// Add to each value where it came from: file and line, environment variable, or default
    #[arg(long)]
    pub origin: bool,
}

/// Writes the effective configuration to `out`, or to `wrong` what is the matter with it.
pub fn show(args: &ShowArgs, env: &[(String, String)], out: &mut dyn Write, wrong: &mut dyn Write) -> io::Result<ExitCode> {
    let env = env.iter().cloned();
    match config::load(args.config.as_deref(), args.device.as_deref(), Files::Skipped, env) {
        Ok(loaded) => {
            write!(out, "{}", as_toml(&loaded, args.origin).map_err(io::Error::other)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            writeln!(wrong, "{errors}")?;
            Ok(ExitCode::from(super::check::WRONG_CONFIGURATION))
        }
    }
}

/// The settings as TOML, with their origins as comments when `with_origin`.
pub fn as_toml(loaded: &Loaded, with_origin: bool) -> Result<String, toml::ser::Error> {
    let mut page = Page { text: String::new(), origins: with_origin.then_some(&loaded.origins) };
    page.table(&mut Vec::new(), &Table::try_from(&loaded.config)?);
    Ok(page.text)
}

struct Page<'a> {
    text: String,
    origins: Option<&'a Origins>,
}

impl Page<'_> {
    fn table<'t>(&mut self, path: &mut Vec<&'t str>, table: &'t Table) {
        let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        if !values.is_empty() || (tables.is_empty() && path.len() > 1) {
            let gap = if self.text.is_empty() { "" } else { "\n" };
            let name: Vec<_> = path.iter().map(|key| bare_or_quoted(key)).collect();
            self.text.extend([gap, "[", &name.join("."), "]\n"]);
        }
        for (key, value) in values {
            path.push(key);
            self.value(path, value);
            path.pop();
        }
        for (key, value) in tables {
            path.push(key);
            if let Value::Table(inner) = value {
                self.table(path, inner);
            }
            path.pop();
        }
    }

    fn value(&mut self, path: &[&str], value: &Value) {
        let key = path.last().map(|key| bare_or_quoted(key)).unwrap_or_default();
        let setting = format!("{key} = {}", masked(value));
        let line = match self.origins {
            Some(origins) => format!("{setting:<48}  # {}", origins.of(path)),
            None => setting,
        };
        self.text += &line;
        self.text.push('\n');
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_userinfo(text).into_owned()),
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        other => other.clone(),
    }
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
    // Names and tags that passed the checks have nothing worse in them than a dot.
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}
