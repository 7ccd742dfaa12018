//! Configurations that are small enough to be explored completely.

use crate::simulator::{
    domain::Message,
    plan::{Budget, Plan, SAME_BUCKET},
};

const FIRST: Message = Message { order: 0, amount: 42, spelling: 0, events: 1 };
const SAME_CONTENT: Message = Message { spelling: 1, ..FIRST };
const OTHER_CONTENT: Message = Message { amount: 43, ..FIRST };
const OTHER_ORDER: Message = Message { order: SAME_BUCKET[1], ..FIRST };
const THREE_EVENTS: Message = Message { events: 3, ..OTHER_ORDER };

const NONE: Budget = Budget { faults: 0, kills: 0, visibility_timeouts: 0, ticks: 0, pauses: 0, wakes: 0, jumps: 0 };

/// Returns every plan with its name; exploring one takes seconds.
pub(crate) fn small_plans() -> Vec<(&'static str, Plan)> {
    let small = Plan::small;
    vec![
        ("two deliveries, two faults", small(&[FIRST, SAME_CONTENT], Budget { faults: 2, ..NONE })),
        ("two deliveries, a fault and a crash", small(&[FIRST, SAME_CONTENT], Budget { faults: 1, kills: 1, ..NONE })),
        (
            "two deliveries, a fault, and time passes",
            small(&[FIRST, SAME_CONTENT], Budget { faults: 1, wakes: 1, ..NONE }),
        ),
        (
            "one delivery taken twice, a fault, and time passes",
            small(&[FIRST], Budget { faults: 1, visibility_timeouts: 1, wakes: 1, ..NONE }),
        ),
        (
            "one delivery taken twice, a fault and a crash",
            small(&[FIRST], Budget { faults: 1, kills: 1, visibility_timeouts: 1, ..NONE }),
        ),
        (
            "two orders under one id, a fault and a crash",
            small(&[FIRST, OTHER_CONTENT], Budget { faults: 1, kills: 1, ..NONE }),
        ),
        ("two orders, a fault", small(&[FIRST, OTHER_ORDER], Budget { faults: 1, ..NONE })),
        (
            "one delivery, a tick, a fault and a crash",
            small(&[FIRST], Budget { faults: 1, kills: 1, ticks: 1, pauses: 1, ..NONE }),
        ),
        (
            "one order of three events, a tick and a crash, one row in a page",
            Plan { page: 1, ..small(&[THREE_EVENTS], Budget { kills: 1, ticks: 1, pauses: 1, ..NONE }) },
        ),
        (
            "one order of three events, a fault, one row in a page",
            Plan { page: 1, ..small(&[THREE_EVENTS], Budget { faults: 1, ..NONE }) },
        ),
        (
            "an expired record, two ticks at once, and the order once more",
            Plan { expired: 1, ..small(&[FIRST, FIRST], Budget { ticks: 2, ..NONE }) },
        ),
        (
            "two expired records, two ticks at once, and an order once more",
            Plan { expired: 2, ..small(&[FIRST, OTHER_ORDER, FIRST], Budget { ticks: 2, ..NONE }) },
        ),
        ("three deliveries", small(&[FIRST, SAME_CONTENT, FIRST], NONE)),
    ]
}
