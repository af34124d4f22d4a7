//! Folders of configuration files, written by a test.
use std::{fs, path::Path};

use headwater::config::{self, Config, ConfigErrors, Files, Loaded, MqttConfig, SourceConfig};
use tempfile::TempDir;

pub struct Folder(TempDir);

impl Folder {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn load(&self, device: Option<&str>, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config::load_on("some-host", Some(self.path()), device, Files::Skipped, env)
    }

    pub fn config(&self, device: &str) -> Config {
        self.load(Some(device), &[]).unwrap().config
    }

    /// Without the folder's own path, which is another one each time.
    pub fn short(&self, text: &impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.path().display()), "")
    }
}

pub const CLOUD: &str = "[destinations.cloud]\nkind = \"kinesis\"\nregion = \"eu-west-1\"\nendpoint = \"https://vpce.example\"\n";

pub fn mistakes(text: &str) -> Vec<String> {
    let errors = config::parse(text, "gw").expect_err("there is a mistake in it");
    errors.to_string().lines().map(|line| line.replace("configuration:", "")).collect()
}

pub fn mqtt(config: &Config, name: &str) -> MqttConfig {
    match &config.sources[name] {
        SourceConfig::Mqtt(mqtt) => mqtt.clone(),
        SourceConfig::Serial(_) => panic!("{name} is a serial source"),
    }
}
