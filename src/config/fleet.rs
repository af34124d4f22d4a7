//! Which files make up the configuration of a device.
//!
//! A fleet is a folder: `fleet.toml` for all, `groups/NAME.toml` for the groups that a device names, `devices/ID.toml` for itself,
//! each over the one before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use config::ValueKind;

use super::{
    check::is_name,
    layers::Layer,
    mistake::{Mistake, Place, nearest, one_of},
};

/// What a path leads to.
pub(super) enum Found {
    /// One file, for one gateway.
    File(PathBuf),
    /// A folder, for many.
    Fleet(Fleet),
}

/// The files of one device, read but not merged.
pub(super) struct Stack {
    /// Later ones win.
    pub layers: Vec<Layer>,
    /// The file that is the device's own.
    pub own: String,
    /// Its name if no layer says otherwise, and where that comes from.
    pub default_id: (String, String),
}

/// A folder with the configuration of many gateways.
pub(super) struct Fleet {
    folder: PathBuf,
    devices: BTreeMap<String, PathBuf>,
    groups: BTreeMap<String, PathBuf>,
}

/// Looks at what is at `path`. `named` says how to name another one.
pub(super) fn find(path: &Path, named: &str) -> Result<Found, Mistake> {
    let refused = |path: &Path, error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run this as the user that the agent runs as, or as root",
            _ => named,
        };
        Mistake::new(Place::whole(path.display()), format!("cannot be read ({error}); {remedy}"))
    };
    // What may not be looked at is not taken for what is not there.
    let found = |path: &Path| match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused(path, error)),
    };
    if !fs::metadata(path).map_err(|error| refused(path, error))?.is_dir() {
        return Ok(Found::File(path.to_owned()));
    }
    let (devices, groups) = (path.join("devices"), path.join("groups"));
    if found(&path.join("fleet.toml"))?.is_some() || found(&devices)?.is_some_and(|found| found.is_dir()) {
        let files = |folder: &Path| toml_files(folder).map_err(|error| refused(folder, error));
        let (devices, groups) = (files(&devices)?, files(&groups)?);
        return Ok(Found::Fleet(Fleet { folder: path.to_owned(), devices, groups }));
    }
    let file = path.join("gateway.toml");
    if found(&file)?.is_some() {
        return Ok(Found::File(file));
    }
    let text = "this folder has no configuration; put a gateway.toml there, or a fleet.toml with devices/ID.toml";
    Err(Mistake::new(Place::whole(path.display()), text))
}

/// The TOML files of `folder` by their names; none when there is no such folder.
fn toml_files(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().map(|name| name.to_string_lossy().into_owned())
        {
            files.insert(name, path);
        }
    }
    Ok(files)
}

/// The layer that `file` is.
fn read_layer(file: &Path) -> Layer {
    let name = file.display().to_string();
    match fs::read(file).map(String::from_utf8) {
        Ok(Ok(text)) => Layer::from_toml(&name, &text),
        Ok(Err(error)) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.split(|byte| *byte == b'\n').count();
            Layer::unreadable(Mistake::new(Place::line(&name, line), "this is not UTF-8; save the file as UTF-8"))
        }
        Err(error) => {
            let text = format!("cannot be read ({error}); check that it is there and who may read it");
            Layer::unreadable(Mistake::new(Place::whole(&name), text))
        }
    }
}

impl Stack {
    /// Of one gateway's file; `id` is its name where the file does not say it, and who says so.
    pub(super) fn of_file(file: &Path, (id, whence): (&str, &str)) -> Self {
        let default_id = (id.to_owned(), whence.to_owned());
        Self { layers: vec![read_layer(file)], own: file.display().to_string(), default_id }
    }
}

impl Fleet {
    /// Names of all devices.
    pub(super) fn devices(&self) -> impl ExactSizeIterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The one that is asked for, or else the one that is called like this host.
    pub(super) fn pick<'a>(&'a self, asked: Option<&'a str>, host: &'a str) -> Result<&'a str, Mistake> {
        let device = asked.unwrap_or(host);
        if self.devices.contains_key(device) {
            return Ok(device);
        }
        let whose = if asked.is_some() { "" } else { ", which is this host's name" };
        let what = format!("no device {device:?} here{whose}; ");
        let remedy = match (nearest(device, self.devices()), self.devices().len()) {
            (_, 0) => format!("write a file devices/{device}.toml"),
            (Some(meant), _) if asked.is_some() => format!("write --device {meant}"),
            _ => format!("write --device and one of {}", self.devices.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        Err(Mistake::new(Place::whole(self.folder.display()), what + &remedy))
    }

    /// The files of `device`, which is one of [`Self::devices`], and the groups that it names.
    pub(super) fn stack(&self, device: &str) -> (Stack, BTreeSet<String>) {
        let own = self.devices.get(device).cloned().unwrap_or_else(|| self.folder.join("devices").join(format!("{device}.toml")));
        let mut layer = read_layer(&own);
        let named = take_groups(&mut layer);
        let mut layers = Vec::new();
        let shared = self.folder.join("fleet.toml");
        if shared.exists() {
            layers.push(read_layer(&shared));
        }
        let mut groups = BTreeSet::new();
        for (group, place) in named {
            if let Some(file) = self.groups.get(&group) {
                layers.push(read_layer(file));
                groups.insert(group);
            } else {
                layer.incomplete = true;
                layer.mistakes.push(Mistake::new(place, self.no_such_group(&group)));
            }
        }
        layers.push(layer);
        let own = own.display().to_string();
        let default_id = (device.to_owned(), format!("the name of {own}"));
        (Stack { layers, own, default_id }, groups)
    }

    /// What nobody would notice otherwise: mistakes in the files of groups that no device names.
    pub(super) fn unused_groups(&self, used: &BTreeSet<String>) -> (Vec<Mistake>, Vec<Mistake>) {
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        for (_, file) in self.groups.iter().filter(|(name, _)| !used.contains(*name)) {
            mistakes.extend(read_layer(file).mistakes);
            warnings.push(Mistake::new(
                Place::whole(file.display()),
                "no device is in this group; name it in a device's groups or remove it",
            ));
        }
        (mistakes, warnings)
    }

    fn no_such_group(&self, group: &str) -> String {
        let known: Vec<_> = self.groups.keys().collect();
        let remedy = match nearest(group, self.groups.keys().map(String::as_str)) {
            Some(meant) => format!("write {meant:?}"),
            None if known.is_empty() || !is_name(group) => "write the name of a file in groups/, without .toml".to_owned(),
            None => format!("write {} or a file groups/{group}.toml", one_of(&known, |name| format!("{name:?}"))),
        };
        format!("groups has {group:?}, and there is no such group; {remedy}")
    }
}

/// Takes `groups = ["NAME", …]` out of a device's file: it says which files there are, and is no setting.
fn take_groups(layer: &mut Layer) -> Vec<(String, Place)> {
    let Some(groups) = layer.values.remove("groups") else { return Vec::new() };
    let place = groups.origin().map_or_else(|| Place::whole("groups"), Place::parse);
    let mut named = Vec::new();
    let mut refuse = |place| {
        layer.incomplete = true;
        layer.mistakes.push(Mistake::new(place, r#"groups is not a list of names; write for example groups = ["plant-7", "lte"]"#));
    };
    match groups.kind {
        ValueKind::Array(items) => {
            for item in items {
                let place = item.origin().map_or_else(|| place.clone(), Place::parse);
                match item.kind {
                    ValueKind::String(name) => named.push((name, place)),
                    _ => refuse(place),
                }
            }
        }
        _ => refuse(place),
    }
    named
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_may_not_be_looked_at_is_not_taken_for_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["gateway.toml", "devices", "fleet.toml"] {
            // A link to itself can't be followed by anyone; a folder without rights can be by root.
            symlink(name, folder.path().join(name)).unwrap();

            let Err(mistake) = find(folder.path(), "name another") else { panic!("{name} is found") };
            let mistake = mistake.to_string();
            assert!(mistake.contains(name) && mistake.contains("cannot be read (Too many levels"), "{mistake}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_told_with_the_way_to_name_another() {
        let folder = tempfile::tempdir().unwrap();

        let Err(mistake) = find(&folder.path().join("nope.toml"), "name another") else { panic!("it is found") };

        assert!(
            mistake.to_string().ends_with("nope.toml: cannot be read (No such file or directory (os error 2)); name another"),
            "{mistake}"
        );
    }
}
