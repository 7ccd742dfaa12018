//! Everything that can happen in the small plans, and with a fault more in each when asked for.

use crate::{
    simulator::{
        explore::{explore, of_choices},
        plan::{Budget, Plan},
    },
    small_plans::SMALL_PLANS,
};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Far more than any of the plans has.
const MAX_RUNS: usize = 2_000_000;

fn check(name: &str, plan: &Plan) {
    let name = format!("{name} (at most {} faults)", plan.budget.faults);
    let start = std::time::Instant::now();
    let explored = explore(plan, MAX_RUNS, &|broken| !broken.is_empty());
    println!("{name}: {explored:?} in {:.1?}", start.elapsed());
    if let Some(choices) = explored.broken {
        let history = of_choices(plan, &choices, true);
        let (trace, broken) = (history.trace.join("\n"), history.broken.join("\n"));
        panic!("{name}, after the choices {choices:?}\n\n{trace}\n\n{broken}");
    }
    assert!(explored.is_complete, "{name}: more than {MAX_RUNS} histories");
}

/// Explores every small plan with so many faults more, on all processors.
fn check_all(more_faults: u32) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, plan)) = SMALL_PLANS.get(next.fetch_add(1, Relaxed)) {
            let plan = plan();
            let budget = Budget { faults: plan.budget.faults + more_faults, ..plan.budget };
            check(name, &Plan { budget, ..plan });
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
#[ignore = "takes minutes: see docs/guarantees.md"]
fn every_promise_is_kept_whatever_happens_in_a_small_plan_with_a_fault_more() {
    check_all(1);
}
