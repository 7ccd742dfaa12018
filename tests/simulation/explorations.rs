//! Everything that can happen in the small plans, and in some larger ones when asked for.

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

#[test]
fn every_promise_is_kept_whatever_happens_in_a_small_plan() {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, plan)) = SMALL_PLANS.get(next.fetch_add(1, Relaxed)) {
            check(name, &plan());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// One fault more in every small plan: hours.
#[test]
#[ignore = "takes long: see docs/guarantees.md"]
fn every_promise_is_kept_whatever_happens_in_a_larger_plan() {
    for (name, plan) in SMALL_PLANS {
        let plan = plan();
        let budget = Budget { faults: plan.budget.faults + 1, ..plan.budget };
        check(&format!("{name}, and a fault more"), &Plan { budget, ..plan });
    }
}
