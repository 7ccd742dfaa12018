//! Measures a piece of work: its time, and what one call of it allocates.

use std::hint::black_box;

use criterion::Criterion;

/// Measures `work` under `name`, and counts what one call of it allocates.
pub fn case<T>(criterion: &mut Criterion, name: &str, mut work: impl FnMut() -> T) {
    // The first call may fill a cache.
    drop(black_box(work()));
    let allocated = allocation_counter::measure(|| drop(black_box(work())));
    println!("{name:<40} {} allocations, {} bytes", allocated.count_total, allocated.bytes_total);
    criterion.bench_function(name, |bencher| bencher.iter(&mut work));
}
