//! From a path to settings that can be trusted, or to everything that is wrong with them.
//!
//! Invariant: what [`load`] hands out has passed every check; there is no second way in.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use config::Value;

use super::{
    Config,
    check::{self, check_files},
    fleet::{Found, Stack, find},
    layers::{self, Layer, VARIABLES, merge},
    mistake::{ConfigErrors, Mistake, Place, in_order},
    named::{CREDENTIALS_VARIABLE, fill_in},
    read::read,
};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/headwater";
/// The variable that says otherwise.
const PATH_VARIABLE: &str = "HEADWATER_CONFIG";

/// Whether the certificates, keys and passwords that are named have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// They must be there and readable: we are on the gateway.
    Checked,
    /// Those of destinations must be, and others need not: a gateway's readings are sent from elsewhere.
    OfDestinations,
    /// They need not be: we look at a gateway's configuration from elsewhere. One that is there must still keep its secret.
    Skipped,
}

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each of them came from.
    pub origins: Origins,
    /// What the agent can run with, and somebody should look at.
    pub warnings: Vec<Mistake>,
}

/// Where each setting came from.
#[derive(Debug)]
pub struct Origins {
    merged: Layer,
    default_id: String,
}

impl Origins {
    /// Where the setting at `path`, keys from the root, came from: a place, `default`, or for a device's name where that was taken
    /// from.
    pub fn of(&self, path: &[&str]) -> String {
        let keys: Vec<_> = path.iter().map(|key| (*key).to_owned()).collect();
        match layers::find(&self.merged.values, &keys).and_then(Value::origin) {
            Some(place) => place.to_owned(),
            None if path == ["device", "id"] => self.default_id.clone(),
            None => "default".to_owned(),
        }
    }
}

/// What [`examine`] found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of files and lines, none twice, whatever the number of devices that share them.
    pub mistakes: Vec<Mistake>,
    /// Like mistakes, but the agent can run with them.
    pub warnings: Vec<Mistake>,
    /// How much there is: `2 sources, 1 stream, 1 destination`, or `3 devices`.
    pub extent: String,
}

/// Loads the configuration of this gateway.
///
/// `path` is a file or a folder; without it `HEADWATER_CONFIG` in `env` says where, then it is [`DEFAULT_PATH`]. In a fleet's folder
/// `device` picks the device, or the host name does. The settings in `env` (`HEADWATER__DEVICE__ID=…`) win over all files.
///
/// Errors: everything that is wrong, at once.
pub fn load(
    path: Option<&Path>,
    device: Option<&str>,
    files: Files,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    load_on(&host_name(), path, device, files, env)
}

/// [`load`] on a host that is called `host`.
pub fn load_on(
    host: &str,
    path: Option<&Path>,
    device: Option<&str>,
    files: Files,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let variables = ours(env);
    let named = "name the file or folder with --config";
    let (stack, asked) = match find(&path.map_or_else(|| default_path(&variables), Path::to_owned), named)? {
        Found::File(file) => (Stack::of_file(&file, device.map_or((host, "the host name"), |device| (device, "--device"))), device),
        // Of a fleet it picks the files, and these may call the device otherwise.
        Found::Fleet(fleet) => (fleet.stack(fleet.pick(device, host)?).0, None),
    };
    let own = stack.own.clone();
    let outcome = assemble(stack, &variables, files);
    ConfigErrors::none_of(outcome.mistakes)?;
    let Loaded { config, .. } = &outcome.loaded;
    match asked.filter(|device| config.device.id != *device) {
        Some(device) => {
            let text =
                format!("this is the configuration of {:?}, and --device says {device:?}; leave --device out", config.device.id);
            Err(Mistake::new(Place::whole(own), text).into())
        }
        None => Ok(outcome.loaded),
    }
}

/// Reads one file's text, for a gateway called `host`. Files that it names need not be there.
pub fn parse(text: &str, host: &str) -> Result<Loaded, ConfigErrors> {
    let own = "configuration".to_owned();
    let default_id = (host.to_owned(), "the host name".to_owned());
    let outcome = assemble(Stack { layers: vec![Layer::from_toml(&own, text)], own, default_id }, &[], Files::Skipped);
    ConfigErrors::none_of(outcome.mistakes)?;
    Ok(outcome.loaded)
}

/// Finds everything that is wrong at `path`: with one file as it would be loaded here, or with every device of a fleet, for which
/// the settings in `env` are left out, because they are one gateway's.
pub fn examine(path: Option<&Path>, files: Files, env: impl Iterator<Item = (String, String)>) -> Report {
    let variables = ours(env);
    let mut report = Report::default();
    let named = "name another file or folder, as in headwater check PATH";
    match find(&path.map_or_else(|| default_path(&variables), Path::to_owned), named) {
        Err(mistake) => report.mistakes.push(mistake),
        Ok(Found::File(file)) => {
            let outcome = assemble(Stack::of_file(&file, (&host_name(), "the host name")), &variables, files);
            let Config { sources, streams, destinations, .. } = &outcome.loaded.config;
            let counted = [(sources.len(), "source"), (streams.len(), "stream"), (destinations.len(), "destination")];
            report.extent = counted.map(|(n, what)| count(n, what)).join(", ");
            report.mistakes = outcome.mistakes;
            report.warnings = outcome.loaded.warnings;
        }
        Ok(Found::Fleet(fleet)) => {
            let mut used = BTreeSet::new();
            let mut ids = BTreeMap::new();
            for device in fleet.devices() {
                let (stack, groups) = fleet.stack(device);
                used.extend(groups);
                let own = stack.own.clone();
                let outcome = assemble(stack, &[], files);
                let id = &outcome.loaded.config.device.id;
                if let Some(other) = ids.insert(id.clone(), own) {
                    let text = format!("device.id is {id:?}, as in {other}; write a name that only this gateway has");
                    report.mistakes.push(Mistake::new(outcome.loaded.origins.place_of_id(), text));
                }
                report.mistakes.extend(outcome.mistakes);
                report.warnings.extend(outcome.loaded.warnings);
            }
            let (mistakes, warnings) = fleet.unused_groups(&used);
            report.mistakes.extend(mistakes);
            report.warnings.extend(warnings);
            report.extent = count(fleet.devices().len(), "device");
        }
    }
    Report { mistakes: in_order(report.mistakes), warnings: in_order(report.warnings), ..report }
}

impl Origins {
    fn place_of_id(&self) -> Place {
        self.merged.place(&device_id(), None)
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

fn ours(env: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let is_ours = |name: &str| name.starts_with(VARIABLES) || name == PATH_VARIABLE || name == CREDENTIALS_VARIABLE;
    let mut variables: Vec<_> = env.filter(|(name, _)| is_ours(name)).collect();
    variables.sort();
    variables
}

fn default_path(variables: &[(String, String)]) -> PathBuf {
    let named = variables.iter().find(|(name, path)| name == PATH_VARIABLE && !path.is_empty());
    named.map_or(DEFAULT_PATH, |(_, path)| path).into()
}

struct Outcome {
    /// To be handed out only when there are no mistakes.
    loaded: Loaded,
    mistakes: Vec<Mistake>,
}

fn assemble(stack: Stack, variables: &[(String, String)], files: Files) -> Outcome {
    let Stack { layers, own, default_id: (id, default_id) } = stack;
    let mut merged = merge(&layers);
    merged.tables.insert(Vec::new(), Place::line(&own, 1));
    merged.put_environment(variables);

    let found = read::<Config>(&mut merged);
    let mut config = found.settings;
    let unnamed = layers::find(&merged.values, &device_id()).is_none();
    if unnamed {
        config.device.id = id;
    }
    let credentials = variables.iter().find(|(name, _)| name == CREDENTIALS_VARIABLE);
    fill_in(&mut config, credentials.map(|(_, folder)| folder.as_str()));

    let mut mistakes = std::mem::take(&mut merged.mistakes);
    let mut warnings = Vec::new();
    for problem in check::check(&config).into_iter().chain(check_files(&config, files)) {
        // Where a file could not be read to its end, nobody knows what is missing.
        let absent = problem.missing || !problem.rests_on.is_empty() || (unnamed && problem.at == device_id());
        let place = merged.place(&problem.at, problem.element);
        if (merged.incomplete && absent) || merged.guessed.contains(&place) || problem.follows_from(&merged.left_out) {
            continue;
        }
        let kind = if problem.warning { &mut warnings } else { &mut mistakes };
        kind.push(Mistake::new(place, problem.text));
    }
    mistakes.extend(found.mistakes.into_iter().filter(|mistake| !merged.guessed.contains(&mistake.place)));
    Outcome { loaded: Loaded { config, origins: Origins { merged, default_id }, warnings: in_order(warnings) }, mistakes }
}

fn device_id() -> [String; 2] {
    ["device".to_owned(), "id".to_owned()]
}
