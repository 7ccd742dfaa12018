//! The wire contract between the Functions host and this process:
//! [custom handlers](https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers).
//!
//! The host posts each [`invocation`] to `/<function name>` and takes any 2xx with a JSON object as success, everything
//! else as failure; see [`response`]. Its published samples are wrong in places: queue messages arrive encoded *twice*,
//! and an empty 2xx does not succeed but hangs until `functionTimeout` ends the process. What is done here follows [the
//! host's source](https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers/Http).

pub mod invocation;
pub mod response;
