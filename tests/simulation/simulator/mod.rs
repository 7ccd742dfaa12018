//! A storage service, a network, a host and a clock in one thread, with the production code of the handler between them.
//!
//! Nothing here happens by itself. A worker runs until it waits for the network or for the time; then something is
//! [chosen](choice) of all that can happen next: a request is applied, answered, lost or delayed, a message is
//! delivered, a worker is killed, the timer fires, time passes. Workers share nothing but the storage, so every
//! interleaving of them is an order of such choices. Drawn by a seed they make a random [history]; listed one after the
//! other they make an [exploration](explore) of everything.
//!
//! | | |
//! |---|---|
//! | [`call`] | what a request asks for |
//! | [`storage`] | what is stored and queued, and the journal of all changes |
//! | [`network`] | where requests wait for their fate |
//! | [`task`] | one invocation of the production code |
//! | [`plan`] | what a history consists of, and how much may go wrong in it |
//! | [`world`] | the host, the timer and the clock |
//! | [`choice`] | what happens next |
//! | [`history`] | from the first message to the end |
//! | [`promises`] | what must be true of it |
//! | [`explore`] | all histories of a small plan |

#![allow(dead_code, reason = "the mutants need less than the simulation")]

pub(crate) mod call;
pub(crate) mod choice;
pub(crate) mod explore;
pub(crate) mod history;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod promises;
pub(crate) mod storage;
pub(crate) mod task;
pub(crate) mod world;
