//! The local host by itself: it drives a scripted handler over a real storage emulator, and every promise it makes
//! about the Functions host is looked at from both ends.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

mod admin;
mod handler;
mod outputs;
mod poison;
mod process;
mod queue;
mod recording;
mod replay;
mod request;
mod response;
mod rig;
mod storage;
mod timer;
