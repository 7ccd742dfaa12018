//! A package as zip, and back.
//!
//! Everything that would differ from one run or machine to the next is fixed: the order, the time stamps (the oldest
//! that the format knows), the permissions and the compressor.

use std::io::{Cursor, Read, Write};

use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{Entry, Package, PackageError, is_plain_path};

/// Packing takes a second or two at the most, and every cold start pays for the size.
const COMPRESSION_LEVEL: i64 = 9;

impl Package {
    /// Composes the zip. The same files give the same bytes.
    ///
    /// # Errors
    /// When it becomes too large for the format.
    pub fn to_zip(&self) -> Result<Vec<u8>, PackageError> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for entry in &self.entries {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(COMPRESSION_LEVEL))
                .last_modified_time(DateTime::DEFAULT)
                .system(System::Unix)
                .unix_permissions(entry.mode);
            zip.start_file(&entry.name, options)?;
            zip.write_all(&entry.content).map_err(zip::result::ZipError::from)?;
        }
        Ok(zip.finish()?.into_inner())
    }

    /// Reads a zip, this program's or another's, as one who unpacks it on Linux sees it.
    ///
    /// # Errors
    /// When it is none, is damaged, or would be unpacked outside its folder.
    pub fn from_zip(bytes: &[u8]) -> Result<Self, PackageError> {
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        let mut entries = Vec::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index)?;
            let name = file.name()?.into_owned();
            if !is_plain_path(&name) {
                return Err(PackageError::Outside(name));
            }
            // Another system's archiver says nothing about permissions; unpackers then take a file that nobody may run.
            let mode = file.unix_mode().map_or(crate::FILE_MODE, |mode| mode & 0o7777);
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(zip::result::ZipError::from)?;
            entries.push(Entry { name, mode, content });
        }
        Ok(Self { entries })
    }
}
