//! The folder that a stream leads to: what lies there, and what an application sees that reads it in the order of names.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    cloud::{taken_apart, whole_records},
    consumer::{Consumer, Repeats},
    eventually,
    gateway::Gateway,
};

/// A folder, and another one where its finished files may have been taken.
pub struct Files {
    folder: PathBuf,
    taken: PathBuf,
}

impl Files {
    /// Those of `gateway`; the folder may not be there.
    pub fn of(gateway: &Gateway) -> Self {
        Self::at(&gateway.agent.dir().join("files"), gateway)
    }

    /// Those in a folder elsewhere.
    pub fn at(folder: &Path, gateway: &Gateway) -> Self {
        let taken = gateway.agent.dir().join("taken");
        fs::create_dir_all(&taken).expect("the temp dir can be written");
        Self { folder: folder.to_owned(), taken }
    }

    /// Makes the folder.
    pub fn appear(&self) {
        fs::create_dir(&self.folder).expect("the temp dir can be written");
    }

    /// Moves the folder with all that is in it away, as when its disk is pulled out.
    pub fn vanish(&self) {
        fs::rename(&self.folder, self.folder.with_extension("away")).expect("it is there");
    }

    /// The names of all files in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut names: Vec<_> = files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Takes the finished files away, as somebody with a memory stick does; says how many.
    pub fn take_finished(&self) -> usize {
        let finished: Vec<_> = self.names().into_iter().filter(|name| !is_open(name)).collect();
        for name in &finished {
            let (from, to) = (self.folder.join(name), self.taken.join(name));
            fs::copy(&from, to).and_then(|_| fs::remove_file(from)).expect("it is there and there is room");
        }
        finished.len()
    }

    /// Every user record, those that were taken away included, in the order of names.
    pub fn records(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(&self.taken).expect("it is there").map(|file| file.unwrap().path()).collect();
        paths.extend(self.names().iter().map(|name| self.folder.join(name)));
        paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        // One that was finished since its name was read is read under its new name the next time.
        paths.iter().filter_map(|path| Some((path, read(path)?))).flat_map(|(path, content)| records(path, &content)).collect()
    }

    /// What an application has seen that reads all files.
    pub fn consumer(&self) -> Consumer {
        let mut consumer = Consumer::default();
        self.records().iter().for_each(|record| consumer.takes(record));
        consumer
    }

    /// Waits until the last reading of each sensor is written, and the agent knows it. Checks that none is missing, and that the ledger
    /// balances. Says what is there more than once.
    pub async fn everything_is_in(&self, gateway: &Gateway) -> Repeats {
        let sent = gateway.field.sent();
        eventually("everything is written", async || {
            let consumer = self.consumer();
            if consumer.has_all_of(sent) {
                return Ok(());
            }
            Err(format!("{:?} of {sent:?}; {:?}", consumer.sensors(), gateway.agent.try_status().await))
        })
        .await;
        gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await.balances();
        let consumer = self.consumer();
        consumer.lacks_nothing();
        consumer.repeats
    }

    /// Waits until some files are there.
    pub async fn has(&self, claim: &str, wanted: impl Fn(&[String]) -> bool) {
        eventually(claim, async || {
            let names = self.names();
            if wanted(&names) { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    }
}

/// Whether a file with this name is not finished.
pub fn is_open(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "part")
}

/// The user records of a file. What is being written may end in the middle of one: that one is read the next time.
fn records(path: &Path, content: &[u8]) -> Vec<Vec<u8>> {
    if path.file_name().and_then(OsStr::to_str).is_some_and(is_open) { whole_records(content).0 } else { taken_apart(content) }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "zst") {
        let output = Command::new("zstd").arg("-dc").arg(path).output().expect("`make tools` installs zstd");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return Some(output.stdout);
    }
    // What is being compressed is there twice.
    let packing = path.to_string_lossy().ends_with(".zst.part");
    if packing { None } else { fs::read(path).ok() }
}
