//! Whether a handler runs on the machines of Azure Functions: x86-64 Linux, with a C library of unknown age.
//!
//! Nothing on the way there looks: a handler for another system is uploaded without complaint, and the app is dead. So
//! it is linked statically, or at least needs no C library newer than the oldest image's.
//! <https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>

use std::fmt;

use object::{
    Endianness,
    elf::{DT_NEEDED, EM_X86_64, ET_DYN, ET_EXEC, PT_INTERP},
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};

/// The C library that Debian 10 and RHEL 8 have, older than that of any image in use.
pub const NEWEST_GLIBC: Version = Version { major: 2, minor: 28 };
/// Libraries of the C library and of the compiler, which are on every image.
const SYSTEM_LIBRARIES: [&str; 7] =
    ["ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1"];

/// The linkage of an executable that runs there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Linkage {
    /// It has them.
    Static,
    /// It needs a C library of this version or newer.
    Glibc(Version),
}

/// A version of the C library.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    major: u16,
    minor: u16,
}

/// Why an executable does not run there.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// A program for macOS or Windows, or no program.
    #[error("it is no 64-bit ELF file, which is what Linux runs")]
    NotElf(#[source] object::Error),
    /// A program for an ARM machine, most likely.
    #[error("it is not for x86-64, and Azure Functions has no other machines (its ELF machine is {0})")]
    OtherMachine(u16),
    /// An object file or a core dump.
    #[error("it is an ELF file, but not a program")]
    NotProgram,
    /// A program whose headers were thrown away.
    #[error("it is linked dynamically but does not say to what: it has no section headers")]
    NoHeaders,
    /// A library that may not be there.
    #[error("it needs the library {0}, which may be missing there: link it statically")]
    Library(String),
    /// A C library that may not be there.
    #[error("it needs glibc {0}, and the images there have {NEWEST_GLIBC} at the least: link it statically")]
    NewerGlibc(Version),
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Linkage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => formatter.write_str("linked statically"),
            Self::Glibc(version) => write!(formatter, "needs glibc {version}"),
        }
    }
}

impl Linkage {
    /// Reads the headers of an executable.
    ///
    /// # Errors
    /// When it would not run.
    pub fn of(file: &[u8]) -> Result<Self, ExecutableError> {
        let elf = ElfFile64::<Endianness>::parse(file).map_err(ExecutableError::NotElf)?;
        let (endian, header) = (elf.endian(), elf.elf_header());
        if header.e_machine(endian) != EM_X86_64 {
            return Err(ExecutableError::OtherMachine(header.e_machine(endian).0));
        }
        if !matches!(header.e_type(endian), ET_EXEC | ET_DYN) || elf.elf_program_headers().is_empty() {
            return Err(ExecutableError::NotProgram);
        }
        let libraries = libraries(&elf).map_err(ExecutableError::NotElf)?;
        let has_interpreter = elf.elf_program_headers().iter().any(|segment| segment.p_type(endian) == PT_INTERP);
        match (has_interpreter, libraries.is_empty()) {
            (false, true) => return Ok(Self::Static),
            (true, true) => return Err(ExecutableError::NoHeaders),
            (_, false) => {}
        }
        if let Some(library) = libraries.iter().find(|library| !SYSTEM_LIBRARIES.contains(&library.as_str())) {
            return Err(ExecutableError::Library(library.clone()));
        }
        let version = newest_glibc(&elf).map_err(ExecutableError::NotElf)?;
        if version > NEWEST_GLIBC {
            return Err(ExecutableError::NewerGlibc(version));
        }
        Ok(Self::Glibc(version))
    }
}

type Elf<'data> = ElfFile64<'data, Endianness>;

fn libraries(elf: &Elf<'_>) -> Result<Vec<String>, object::Error> {
    let table = elf.elf_dynamic_table()?;
    let needed = table.iter().filter(|entry| entry.tag == DT_NEEDED);
    needed.map(|entry| table.string(entry).map(|name| String::from_utf8_lossy(name).into_owned())).collect()
}

/// Finds the newest of the versions that the file's symbols ask for.
fn newest_glibc(elf: &Elf<'_>) -> Result<Version, object::Error> {
    let (sections, endian, data) = (elf.elf_section_table(), elf.endian(), elf.data());
    let mut newest = Version { major: 2, minor: 0 };
    let Some((mut libraries, link)) = sections.gnu_verneed(endian, data)? else { return Ok(newest) };
    let names = sections.strings(endian, data, link)?;
    while let Some((_, mut versions)) = libraries.next()? {
        while let Some(version) = versions.next()? {
            newest = newest.max(glibc_version(version.name(endian, names)?).unwrap_or(newest));
        }
    }
    Ok(newest)
}

/// Reads a version; none for `GCC_3.0`, and for `GLIBC_PRIVATE`, which no ordinary program asks for.
fn glibc_version(name: &[u8]) -> Option<Version> {
    let mut numbers = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split('.');
    Some(Version { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_c_library_are_ordered_as_numbers() {
        let version = |name: &str| glibc_version(name.as_bytes());
        assert!(version("GLIBC_2.4") < version("GLIBC_2.28"));
        assert!(version("GLIBC_2.34") > Some(NEWEST_GLIBC));
        assert_eq!(version("GLIBC_2.2.5"), Some(Version { major: 2, minor: 2 }));
        assert_eq!(version("GLIBC_PRIVATE"), None);
        assert_eq!(version("GCC_4.2.0"), None);
    }
}
