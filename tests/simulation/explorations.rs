//! Everything that can happen in the small plans; with one fault more in each when asked for.

use crate::{
    simulator::{
        explore::{explore, of_choices},
        plan::Plan,
    },
    small_plans::small_plans,
};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Far more runs than any of the plans needs.
const MAX_RUNS: usize = 2_000_000;

fn check(name: &str, plan: &Plan) {
    let name = format!("{name} (at most {} faults)", plan.budget.faults);
    let start = std::time::Instant::now();
    let explored = explore(plan, MAX_RUNS, &|violations| !violations.is_empty());
    println!("{name}: {explored:?} in {:.1?}", start.elapsed());
    if let Some(choices) = explored.broken_by {
        let history = of_choices(plan, &choices, true);
        let (trace, violations) = (history.trace.join("\n"), history.violations.join("\n"));
        panic!("{name}, after the choices {choices:?}\n\n{trace}\n\n{violations}");
    }
    assert!(explored.is_complete, "{name}: more than {MAX_RUNS} histories");
}

/// Explores every small plan with so many more faults, on all processors.
fn check_all(more_faults: u32) {
    let (plans, next) = (small_plans(), AtomicUsize::new(0));
    let work = || {
        while let Some((name, plan)) = plans.get(next.fetch_add(1, Relaxed)) {
            let mut plan = plan.clone();
            plan.budget.faults += more_faults;
            check(name, &plan);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
}

#[test]
fn every_promise_is_kept_whatever_happens_in_a_small_plan() {
    check_all(0);
}

#[test]
#[ignore = "takes minutes: see docs/verification.md"]
fn every_promise_is_kept_whatever_happens_in_a_small_plan_with_a_fault_more() {
    check_all(1);
}
