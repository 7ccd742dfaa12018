//! Azure Storage, through a client that by itself cannot be trusted with it.
//!
//! `azure_data_tables` 0.21 makes the single requests on the table. Transactions, requests to queues and, with a key, the
//! signature of what an order sends are made here, on the crates below it. Everything between them and the network is ours:
//! by itself the client reports a failed entity group transaction as a success, waits for ever, opens a connection per request,
//! repeats writes that may have been applied, and prints credentials at debug level:
//!
//! - [`account`]: the endpoints and the credential, which [`connection`](crate::connection) makes of the settings;
//! - [`http_client`]: one pool of connections per process, with time limits, which tells *not sent* from *maybe applied*;
//! - [`transport`]: makes answers honest, over a connection or over a simulated service;
//! - `service`: one service of the account, for the requests that the client does not make;
//! - `signature`: the authorization of those requests when the credential is a key;
//! - [`batch`]: the multipart form of an entity group transaction and of its answer;
//! - [`table`]: the requests this project makes of a table. There is no upsert among them, and no unconditional write;
//! - [`queue`]: those it makes of a queue.

pub mod account;
pub mod batch;
pub mod error;
pub mod http_client;
pub mod queue;
mod service;
mod signature;
pub mod table;
pub mod transport;

pub use account::Account;
pub use error::Error;
pub use http_client::PooledClient;
pub use queue::{MessageEncoding, Queue};
pub use table::{RowTag, Table};
