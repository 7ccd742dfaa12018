//! The files of an app as .NET reads them: JSON with comments, in UTF-8 or with the byte order mark of UTF-16.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::json::Json;

/// Newtonsoft's default limit on nesting.
const DEPTH: usize = 64;

/// Reads a file that holds one JSON object.
pub(super) fn read_object(file: &Path) -> Result<Json> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    // UTF-16 without its mark is UTF-8 with a NUL in every other place.
    let text = decode_text(&bytes).filter(|text| !text.contains('\0'));
    let text = text
        .with_context(|| format!("{} is neither UTF-8 nor UTF-16 with its mark: save it as UTF-8", file.display()))?;
    match Json::parse(&text, DEPTH).with_context(|| format!("{} is not JSON", file.display()))? {
        object @ Json::Object(_) => Ok(object),
        _ => bail!("{} is not a JSON object", file.display()),
    }
}

/// Decodes UTF-8, or UTF-16 by its byte order mark, without that mark; none when it is neither.
pub fn decode_text(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.into()).ok(),
        bytes => String::from_utf8(bytes.into()).ok(),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    String::from_utf16(&pairs.iter().copied().map(unit).collect::<Vec<_>>()).ok()
}
