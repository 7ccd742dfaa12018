//! The time a new process takes until it can be called, and until it has committed an order.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use crate::{
    client::Client,
    orders::Orders,
    process::{Handler, Program},
    report::{Startup, median, millis},
};

/// The number of processes that are started; the median of them counts.
const SPAWNS: u64 = 10;
/// The host asks every 25 ms; this is how exactly the time is measured.
const PAUSE: Duration = Duration::from_micros(100);
const LIMIT: Duration = Duration::from_secs(30);

/// Starts the program some times, and lets each process commit one of the `orders`.
pub(super) async fn measure(program: Program<'_>, orders: &Orders) -> Result<Startup> {
    let mut times = Vec::new();
    // The first is not counted: it reads the program from the disk and creates the table.
    for number in 0..=SPAWNS {
        times.push(start(program, orders, number).await?);
    }
    Ok(Startup {
        ready_ms: median(times.iter().skip(1).map(|(ready, _)| millis(*ready))),
        first_order_ms: median(times.iter().skip(1).map(|(_, first_order)| millis(*first_order))),
        idle_kib: None,
        spawns: SPAWNS,
        orders: SPAWNS + 1,
    })
}

/// Measures one process until it is ready, and until it has committed its first order.
async fn start(program: Program<'_>, orders: &Orders, number: u64) -> Result<(Duration, Duration)> {
    let mut handler = Handler::spawn(program)?;
    let mut client = wait_until_ready(&mut handler).await?;
    let ready = handler.spawned.elapsed();
    client.order(Uuid::from_u128(number.into()), orders.body(number)).await?;
    let first_order = handler.spawned.elapsed();
    handler.stop().await?;
    Ok((ready, first_order))
}

/// Probes the handler until it answers, and leaves the connection open.
pub(super) async fn wait_until_ready(handler: &mut Handler) -> Result<Client> {
    loop {
        if let Ok(mut client) = Client::connect(handler.port).await {
            client.probe().await.context("the first probe")?;
            return Ok(client);
        }
        ensure!(handler.is_running(), "the handler ended before it was ready; {}", handler.complaint());
        let elapsed = handler.spawned.elapsed();
        ensure!(elapsed < LIMIT, "the handler is not ready after {elapsed:?}; {}", handler.complaint());
        // Not the timer of the runtime, which is ten times as coarse; nothing else runs now.
        thread::sleep(PAUSE);
    }
}
