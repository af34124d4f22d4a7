//! The buffer's files as a failing disk, a careless hand or a cloned card leaves them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use headwater::demo::random::Random;

/// Bytes of a page.
pub const PAGE: usize = 2048;

/// The files of one buffer, which nobody has open.
pub struct Files {
    database: PathBuf,
}

impl Files {
    /// Those in the state folder of a gateway.
    pub fn of(state: &Path) -> Self {
        Self { database: state.join("buffer.db") }
    }

    /// The database's own file.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.database.with_file_name("buffer.db-wal")
    }

    /// What was set aside, logs included.
    pub fn aside(&self) -> Vec<PathBuf> {
        let mut aside = self.aside_and_marks();
        aside.retain(|path| path.extension().is_none_or(|extension| extension != "sent"));
        aside
    }

    /// The same, and the marks of those that nothing is left to be sent of.
    pub fn aside_and_marks(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.database.parent().unwrap()).unwrap();
        let mut aside: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        aside.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("buffer.db.corrupt-"));
        aside.sort();
        aside
    }

    /// Changes the database's bytes.
    pub fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change_file(&self.database, change);
    }

    /// Changes the log's bytes.
    pub fn change_log(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change_file(&self.log(), change);
    }
}

fn change_file(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Fills so many pages, the first two left out, with zeros or with noise.
pub fn spoil_pages(file: &mut [u8], pages: usize, seed: u64, noise: bool) {
    let mut random = Random::new(seed);
    let count = file.len() / PAGE - 2;
    for _ in 0..pages {
        let page = 2 + usize::try_from(random.bits() % count as u64).unwrap();
        for byte in &mut file[page * PAGE..(page + 1) * PAGE] {
            *byte = if noise { random.bits().to_le_bytes()[3] } else { 0 };
        }
    }
}
