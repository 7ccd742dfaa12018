//! `cargo send`: puts one message on a queue.

use std::{
    fs,
    io::{Read, stdin},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};

use local_host::bindings::decode_text;
use test_storage::{Account, Service};

/// The largest message, in bytes. <https://learn.microsoft.com/rest/api/storageservices/put-message>
const LARGEST: usize = 64 * 1024;
/// The length of what is printed of a message, in characters.
const PRINTED: usize = 500;

/// The arguments of `cargo send`.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true)))]
pub(crate) struct Arguments {
    /// The message: JSON or any other text; - reads it from standard input
    #[arg(allow_hyphen_values = true, group = "source")]
    message: Option<String>,
    /// Reads the message from a file, up to the line break at its end; UTF-8, or UTF-16 with a byte order mark
    #[arg(long, value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// Put it on the queue as base64
    #[arg(long)]
    base64: bool,
    /// The queue; created when it is missing
    #[arg(long, default_value = "orders")]
    queue: String,
    /// Connection string of the emulator
    #[arg(long, default_value = "UseDevelopmentStorage=true")]
    connection: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let message = read(&arguments)?;
    let Arguments { base64, queue, connection, .. } = arguments;
    check_queue(&queue)?;
    check_message(&message, base64)?;
    let account = Account::from_connection_string(&connection)
        .context("--connection: it has to be the emulator's, like UseDevelopmentStorage=true")?;
    let sent = if base64 { account.put_base64(&queue, &message).await } else { account.put(&queue, &message).await };
    match sent {
        Err(error) if error.status().is_none() => {
            Err(error).context("no storage there: start it with `cargo start`, or name it with --connection")
        }
        Err(error) if error.status() == Some(403) => Err(error).context("the storage refuses the key in --connection"),
        Err(error) => {
            Err(error).context(format!("{} does not take it: is it Azurite?", account.endpoint(Service::Queue)))
        }
        Ok(()) => {
            println!("Put on queue '{queue}' of account '{}': {}", account.name(), printable(&message));
            Ok(())
        }
    }
}

fn read(arguments: &Arguments) -> Result<String> {
    let (name, bytes) = match (&arguments.file, arguments.message.as_deref()) {
        (Some(file), _) => {
            (file.display().to_string(), fs::read(file).with_context(|| format!("--file {}", file.display()))?)
        }
        (None, Some("-") | None) => {
            let mut bytes = Vec::new();
            stdin().read_to_end(&mut bytes).context("standard input")?;
            ("standard input".to_owned(), bytes)
        }
        (None, Some(message)) => return Ok(message.to_owned()),
    };
    // UTF-16 without its mark begins with a letter and a NUL.
    let is_wide = matches!(bytes.as_slice(), [first, second, ..] if (*first == 0) != (*second == 0));
    let text = decode_text(&bytes).filter(|_| !is_wide);
    let text = text.with_context(|| format!("{name} is neither UTF-8 nor UTF-16 with its mark: save it as UTF-8"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Checks a [name of a queue](https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata).
fn check_queue(name: &str) -> Result<()> {
    let characters = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let hyphens = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    ensure!(
        (3..=63).contains(&name.len()) && characters && !hyphens,
        "--queue '{name}': a queue has 3 to 63 lower-case letters, digits and single hyphens between them"
    );
    Ok(())
}

/// Refuses what a queue cannot hold. Azurite would take it, and then fail every receive.
fn check_message(message: &str, base64: bool) -> Result<()> {
    let size = if base64 { message.len().div_ceil(3) * 4 } else { message.len() };
    let encoded = if base64 { " as base64" } else { "" };
    ensure!(size <= LARGEST, "the message has {size} bytes{encoded}; a queue takes {LARGEST}");
    let is_xml =
        |c: char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    let bad = message.chars().enumerate().find(|(_, character)| !base64 && !is_xml(*character));
    if let Some((place, character)) = bad {
        let code = u32::from(character);
        anyhow::bail!(
            "character {} of the message is U+{code:04X}, which a queue cannot hold: write it as \\u{code:04x} in JSON, \
             or use --base64",
            place + 1
        );
    }
    Ok(())
}

/// Shortens a message, and shows what a terminal would obey.
fn printable(message: &str) -> String {
    let visible = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    let start: String = message.chars().take(PRINTED).map(visible).collect();
    if message.chars().nth(PRINTED).is_none() { start } else { format!("{start}… ({} bytes)", message.len()) }
}
