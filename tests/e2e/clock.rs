//! A handler with a wrong clock: no seam in the product for that, but a library of ten lines that is preloaded into its
//! process. It is compiled by the C compiler that Rust links with.

use std::{path::PathBuf, process::Command, sync::LazyLock};

/// Compiles the library that shifts the time of day by `CLOCK_OFFSET_SECONDS`, for `LD_PRELOAD`.
pub(crate) fn library() -> PathBuf {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clock.c");
        let output =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    });
    LIBRARY.clone()
}
