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
//! | [`call`], [`answer`] | what a request asks for, and what it is answered |
//! | [`storage`] | what is stored and queued, and the journal of all changes |
//! | [`fate`], [`network`] | what can become of a request, and where it waits for that |
//! | [`task`], [`operation`] | one invocation of the production code |
//! | [`plan`] | what a history consists of, and how much may go wrong in it |
//! | [`world`], [`host`], [`passage`] | everything there is, the host, the time |
//! | [`possible`], [`choice`] | what can happen next, and what does |
//! | [`history`], [`ending`] | from the first message to the end |
//! | [`promises`], [`journal`], [`ticks`] | what must be true of it: of answers, of changes, of ticks |
//! | [`outcome`] | what became of it |
//! | [`explore`], [`fingerprint`] | all histories of a small plan, and which states are the same |

#![allow(dead_code, reason = "the mutants need less than the simulation")]

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod choice;
pub(crate) mod ending;
pub(crate) mod explore;
pub(crate) mod fate;
pub(crate) mod fingerprint;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod journal;
pub(crate) mod network;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod passage;
pub(crate) mod plan;
pub(crate) mod possible;
pub(crate) mod promises;
pub(crate) mod storage;
pub(crate) mod task;
pub(crate) mod ticks;
pub(crate) mod world;
