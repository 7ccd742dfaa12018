//! What a host is started with. A host of a test differs from that of a person in this alone.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{console::Sink, handler_client::Framing, timings::Timings};

/// The options of a host.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder with `host.json`.
    pub app_root: PathBuf,
    /// All app settings: what `local.settings.json` would hold. See [`crate::bindings::local_settings`].
    pub settings: BTreeMap<String, String>,
    /// The handler, instead of the one that `host.json` or the settings name.
    pub executable: Option<PathBuf>,
    /// The port of `/admin/functions`, 0 for any free port; none for no endpoint.
    pub admin_port: Option<u16>,
    /// A second destination of each console line, such as [`crate::console::print`].
    pub sink: Option<Sink>,
    /// The framing of invocations.
    pub framing: Framing,
    /// The pauses of the host.
    pub timings: Timings,
}
