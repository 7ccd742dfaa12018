//! The storage of `cargo start`: an Azurite on the ports that every tool expects, or one that is there already.

use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context, Result, ensure};

use test_storage::{
    Account, Azurite,
    azurite::{Persistence, Ports, STANDARD_PORTS},
};
use workspace::target_folder;

use crate::queues::QUEUES;

/// Starts Azurite, unless another emulator is there already.
pub(crate) async fn start(free_ports: bool) -> Result<Option<Azurite>> {
    if free_ports {
        let azurite = Azurite::start(Ports::Free, Persistence::Memory).await?;
        let [blob, queue, table] = azurite.ports();
        println!("Storage:   Azurite on ports {blob} (blobs), {queue} (queues) and {table} (tables); data in memory");
        println!("           {}", azurite.development_account()?.connection_string());
        return Ok(Some(azurite));
    }
    let taken: Vec<u16> = STANDARD_PORTS.into_iter().filter(|port| is_taken(*port)).collect();
    if taken.is_empty() {
        let folder = target_folder().join("azurite-data");
        println!("Storage:   starting Azurite on ports 10000, 10001 and 10002; data in {}", folder.display());
        let azurite = Azurite::start(Ports::Standard, Persistence::Folder(folder.clone())).await;
        let cure = || format!("Azurite does not start: if its data is damaged, delete {}", folder.display());
        return azurite.map(Some).with_context(cure);
    }
    let cure = "stop what listens there, or use --free-ports";
    ensure!(
        taken.len() == STANDARD_PORTS.len(),
        "of the ports {STANDARD_PORTS:?} of Azurite {taken:?} are taken: {cure}"
    );
    match Account::from_connection_string("UseDevelopmentStorage=true")?.queue_length(QUEUES[0]).await {
        Err(error) if error.status() != Some(404) => {
            Err(error).with_context(|| format!("ports {STANDARD_PORTS:?} are taken, but not by Azurite: {cure}"))
        }
        _ => {
            println!("Storage:   an Azurite is running already on ports 10000, 10001 and 10002.");
            Ok(None)
        }
    }
}

/// Says whether somebody listens on a port.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}
