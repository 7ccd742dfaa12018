//! Apps in which something is wrong from the start.

use crate::{
    app::{App, HANDLER, Machine},
    clock,
};
use std::{os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;
use test_storage::{
    Azurite, Fault, Request,
    azurite::{self, Persistence, Ports},
};

/// The host does not receive while it is busy with a message, also with one that it has lost.
pub(super) const ONE_AT_A_TIME: [(&str, &str); 2] = [
    ("AzureFunctionsJobHost__extensions__queues__batchSize", "1"),
    ("AzureFunctionsJobHost__extensions__queues__newBatchThreshold", "0"),
];

/// A message is held for 3.6 s, and fails after 6.2 s if it cannot be put back.
pub(super) const SHORT_HOLD: [(&str, &str); 1] = [("AzureFunctionsJobHost__functionTimeout", "00:00:08")];

/// Starts an app whose handler has a wrong clock.
pub(super) async fn with_clock(hours: i64) -> App {
    let offset = (hours * 3_600).to_string();
    let library = clock::library();
    let mut settings = SHORT_HOLD.to_vec();
    settings.extend([("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_OFFSET_SECONDS", offset.as_str())]);
    App::start_with(&settings).await
}

/// Starts an app whose host has the right key and whose handler has another.
pub(super) async fn with_wrong_key() -> App {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("handler-with-wrong-key");
    let key = account.key();
    let wrong = format!(
        "#!/bin/sh\nexport AzureWebJobsStorage=\"$(printf %s \"$AzureWebJobsStorage\" | sed 's|{key}|d3Jvbmc=|')\"\nexec '{HANDLER}'\n"
    );
    std::fs::write(&script, wrong).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The handler runs by now: the script is read.
    App::start_over(account, &SHORT_HOLD, (&Machine::default(), &script)).await
}

/// A storage of one's own, and where it keeps its data.
pub(super) type Storage = (Azurite, TempDir);

pub(super) async fn with_own_storage(storage: &mut Option<Storage>, machine: &Machine) -> App {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::start(Ports::Free, Persistence::Folder(folder.path().to_owned())).await.unwrap();
    let account = azurite.account().unwrap();
    *storage = Some((azurite, folder));
    App::start_over(account, &ONE_AT_A_TIME, (machine, Path::new(HANDLER))).await
}

/// Refuses requests that are signed more than 15 minutes from now, as Azure does.
pub(super) fn refuse_wrong_times(request: &Request) -> Fault {
    if error_of_clock(request) < time::Duration::minutes(15) {
        return Fault::Pass;
    }
    let body = r#"{"odata.error":{"code":"AuthenticationFailed","message":{"lang":"en-US","value":"no"}}}"#;
    Fault::Status(403, Vec::new(), body.to_owned())
}

/// Returns how far the clock of the signer is off.
pub(super) fn error_of_clock(request: &Request) -> time::Duration {
    let signed = request.headers.iter().find(|(name, _)| name == "x-ms-date").map(|(_, time)| time).unwrap();
    let signed = time::OffsetDateTime::parse(signed, &time::format_description::well_known::Rfc2822).unwrap();
    (signed - time::OffsetDateTime::now_utc()).abs()
}
