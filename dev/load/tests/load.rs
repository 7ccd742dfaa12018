//! `cargo load` itself: it measures what it says, and takes no number from a handler that loses orders.
//!
//! With the handler as the tests build it, so no time is asserted: only what is counted.

#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs the command over some orders.
fn load(handler: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load")).arg("--handler").arg(handler).args(arguments).output().unwrap()
}

/// Returns the handler of this workspace, which `cargo test --workspace` builds beside the command.
fn handler() -> PathBuf {
    let handler = Path::new(env!("CARGO_BIN_EXE_load")).with_file_name("handler");
    assert!(handler.exists(), "there is no {}: run `cargo build --locked --bin handler`", handler.display());
    handler
}

#[test]
fn every_order_is_counted_and_every_storage_request_it_costs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("load.json");
    let size = ["--concurrency", "1,8", "--orders", "200", "--duplicates", "10", "--medium", "20", "--large", "1"];
    let (handler, picture) = (handler(), directory.path().join("load.svg"));
    let files = ["--json", file.to_str().unwrap(), "--picture", picture.to_str().unwrap()];
    let output = load(&handler, &[&size[..], &files, &["--baseline", handler.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!((steps.len(), report["baseline"].as_array().unwrap().len()), (2, 2));
    let picture = std::fs::read_to_string(picture).unwrap();
    // A throughput and a latency of each, in its colour.
    for colour in ["#005A9E", "#9E5400"] {
        assert!(picture.matches(&format!("stroke=\"{colour}\" stroke-width=\"2\"")).count() >= 2, "{picture}");
    }
    for step in steps {
        let duplicates = step["duplicates"].as_f64().unwrap();
        assert!(step["orders"] == 200 && duplicates > 0.0, "{step}");
        let (new, known) = ((200.0 - duplicates) / 200.0, duplicates / 200.0);
        // A new order: its transaction, its event, and the row of the event, alone or with others. A duplicate: the
        // transaction, and a look.
        let requests = &step["requests_per_order"];
        let number = |kind: &str| requests[kind].as_f64().unwrap_or_default();
        assert_eq!((number("put"), number("get")), (new, known), "{requests}");
        assert!(number("batch") >= 1.0 && number("batch") + number("delete") <= 1.0 + new, "{requests}");
        assert!(step["cpu_per_1000"].as_f64().is_none_or(|seconds| seconds > 0.0), "{step}");
    }
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 5);
    assert!(checks.iter().all(|check| check["expected"] == check["found"]), "{checks:?}");
}

#[test]
fn a_program_that_is_no_handler_is_an_error_that_says_what_it_said() {
    let output = load(Path::new("/bin/ls"), &["--orders", "1"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the handler ended before it was ready; the handler said nothing"), "{error}");
}
