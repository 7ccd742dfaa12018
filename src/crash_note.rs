//! Which message this process is deciding, noted in a file, so that the next process knows what ended this one.
//!
//! The host takes everything in flight back when the handler dies, with one visibility timeout: a message that kills the
//! process returns together with its neighbours, and each of them has used up a delivery. Decoding and deciding are
//! synchronous, so there is at most one message of which it can be the fault. A message that was being decided when
//! two processes ended, by a crash or because the host gave up waiting, is not decided again.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracing::warn;

/// Number of processes that a message may end.
const LIMIT: u32 = 2;

/// Number of processes of one app on one machine, each with a file of its own.
const MAX_FILES: u32 = 64;

/// Length of the hash of a message in the file.
const HASH: usize = 64;

/// Note of the message that is being decided. By default there is none.
#[derive(Debug, Default)]
pub struct CrashNote {
    /// Locked for as long as the process lives. It begins with the hash of the message that is being decided, or with
    /// blanks; each line below is a suspect.
    file: Option<File>,
    /// Number of processes that a message has ended, by its hash.
    suspects: Mutex<BTreeMap<String, u32>>,
}

impl CrashNote {
    /// Opens a file for `app` in `folder`, and takes the message that stands there for the one that ended the process
    /// before. Without a file nothing is noted.
    #[must_use]
    pub fn open(folder: &Path, app: &str) -> Self {
        let opened = Self::free_file(folder, app).and_then(|mut file| Ok((suspects(&mut file)?, file)));
        match opened {
            Ok((suspects, file)) => {
                let note = Self { file: Some(file), suspects: Mutex::new(suspects) };
                note.save();
                note
            }
            Err(error) => {
                warn!("What ends the process cannot be noted in {}: {error}", folder.display());
                Self::default()
            }
        }
    }

    /// Opens the first file that no living process has.
    fn free_file(folder: &Path, app: &str) -> io::Result<File> {
        let name = &hash(app)[..16];
        let folder = folder.join("idempotency");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let owner = fs::symlink_metadata(&folder)?.uid();
        for number in 0..MAX_FILES {
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(folder.join(format!("{name}-{number}")))?;
            // Somebody else's folder could hold links to files of ours.
            if file.metadata()?.uid() != owner {
                return Err(io::Error::other("the folder `idempotency` there belongs to somebody else"));
            }
            if file.try_lock().is_ok() {
                return Ok(file);
            }
        }
        Err(io::Error::other(format!("{MAX_FILES} processes have a file each")))
    }

    /// Runs `decide` on a message, which is noted meanwhile; `None` when the message has ended too many processes.
    pub fn guard<T>(&self, text: &str, decide: impl FnOnce() -> T) -> Option<T> {
        let Some(file) = &self.file else { return Some(decide()) };
        let hash = hash(text);
        if self.suspects().get(&hash).is_some_and(|ended| *ended >= LIMIT) {
            return None;
        }
        // What cannot be noted can be decided all the same.
        let _ = file.write_all_at(hash.as_bytes(), 0);
        let noted = Noted(file);
        let decided = decide();
        drop(noted);
        if self.suspects().remove(&hash).is_some() {
            self.save();
        }
        Some(decided)
    }

    fn save(&self) {
        let Some(file) = &self.file else { return };
        let lines = self.suspects().iter().map(|(hash, ended)| format!("{hash} {ended}\n")).collect::<String>();
        let text = format!("{:HASH$}\n{lines}", "");
        let _ = file.write_all_at(text.as_bytes(), 0).and_then(|()| file.set_len(text.len() as u64));
    }

    fn suspects(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A note that is cleared when the message is decided, or when deciding it panics, which ends no process.
struct Noted<'a>(&'a File);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let _ = self.0.write_all_at(&[b' '; HASH], 0);
    }
}

/// Reads the suspects in a file, among them the message that was being decided last.
fn suspects(file: &mut File) -> io::Result<BTreeMap<String, u32>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let last = lines.next().unwrap_or_default().trim().to_owned();
    let line = |line: &str| line.split_once(' ').and_then(|(hash, ended)| Some((hash.to_owned(), ended.parse().ok()?)));
    let mut suspects: BTreeMap<_, _> = lines.filter_map(line).collect();
    if last.len() == HASH {
        *suspects.entry(last).or_default() += 1;
    }
    Ok(suspects)
}

fn hash(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens the note of a new process, which dies while it decides these messages.
    fn dies_at(folder: &Path, text: &str) {
        let note = CrashNote::open(folder, "shop");
        note.file.as_ref().unwrap().write_all_at(hash(text).as_bytes(), 0).unwrap();
    }

    #[test]
    fn a_message_that_ended_two_processes_is_not_decided_again() {
        let folder = tempfile::tempdir().unwrap();
        dies_at(folder.path(), "killer");
        let decides = |note: &CrashNote, text: &str| note.guard(text, || ()).is_some();
        assert!(decides(&CrashNote::open(folder.path(), "shop"), "neighbour"));
        dies_at(folder.path(), "killer");
        for _ in 0..2 {
            let note = CrashNote::open(folder.path(), "shop");
            assert!(!decides(&note, "killer") && decides(&note, "neighbour"));
        }
        assert!(decides(&CrashNote::open(folder.path(), "another app"), "killer"));
    }

    #[test]
    fn a_message_that_is_decided_after_all_is_no_suspect_any_more() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..4 {
            dies_at(folder.path(), "order");
            assert!(CrashNote::open(folder.path(), "shop").guard("order", || ()).is_some());
        }
    }

    #[test]
    fn each_living_process_has_a_note_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let notes = [(); 3].map(|()| CrashNote::open(folder.path(), "shop"));
        dies_at(folder.path(), "killer");
        dies_at(folder.path(), "killer");
        assert!(notes.iter().all(|note| note.guard("killer", || ()).is_some()));
        assert!(CrashNote::open(folder.path(), "shop").guard("killer", || ()).is_none());
    }

    #[test]
    fn a_message_that_panics_has_ended_no_process() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let note = CrashNote::open(folder.path(), "shop");
            let decide = || note.guard("order", || panic!("a bug"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(decide)).is_err());
        }
        assert!(CrashNote::open(folder.path(), "shop").guard("order", || ()).is_some());
    }

    #[test]
    fn without_a_file_messages_are_decided() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(CrashNote::open(&file, "shop").guard("order", || ()).is_some());
    }
}
