//! The real handler, driven by a host ([`host`]) over real storage (Azurite), looked at from outside: what is stored, what is
//! queued, what the operator reads, and how many requests it cost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its tests")]

// Each imports only from those below it.
mod every_message;
mod exactly_once;
mod outage;
mod outbox;
mod consumer;
mod scheduled_with_retry;
mod storage_faults;
mod crash_matrix;
mod volume;
mod process;
mod http;
mod hostile;
mod samples;
mod promises;
mod app;
mod host;
mod clock;
