//! A storage service, a network, a host and a clock in one thread, with the production code between them.
//!
//! Nothing here happens by itself. An invocation runs until it waits for the network or for the clock; then the
//! [schedule] chooses one of all possible actions: a request is delivered or meets a fault, a message is
//! received, a process is killed, the timer fires, time passes. Invocations share nothing but the storage, so every
//! interleaving of them is an order of such actions. A random schedule makes a [history]; a breadth-first search over
//! all schedules makes an [exploration](explore).

#![allow(dead_code, reason = "the mutants need less than the simulation")]

// In reading order; each imports only from those below it.
pub(crate) mod explore;
pub(crate) mod history;
pub(crate) mod step;
pub(crate) mod promises;
pub(crate) mod actions;
pub(crate) mod host;
pub(crate) mod clock;
pub(crate) mod world;
pub(crate) mod schedule;
pub(crate) mod queue;
pub(crate) mod invocation;
pub(crate) mod network;
pub(crate) mod fault;
pub(crate) mod journal;
pub(crate) mod plan;
pub(crate) mod domain;
