//! Configurations that are small enough to be explored completely.

use crate::simulator::plan::{Budget, Message, NEIGHBOURS, Plan};

const FIRST: Message = Message { order: 0, amount: 42, spelling: 0, events: 1 };
const SPELLED_OTHERWISE: Message = Message { spelling: 1, ..FIRST };
const CONFLICTING: Message = Message { amount: 43, ..FIRST };
const NEIGHBOUR: Message = Message { order: NEIGHBOURS[1], ..FIRST };
const OF_THREE_EVENTS: Message = Message { events: 3, ..NEIGHBOUR };

const NONE: Budget = Budget { faults: 0, kills: 0, lapses: 0, ticks: 0, waits: 0, rests: 0, leaps: 0 };

type Named = (&'static str, fn() -> Plan);

/// Seconds each.
pub(crate) const SMALL_PLANS: &[Named] = &[
    ("two deliveries, two faults", || Plan::small(&[FIRST, SPELLED_OTHERWISE], Budget { faults: 2, ..NONE })),
    ("two deliveries, a fault and a crash", || {
        Plan::small(&[FIRST, SPELLED_OTHERWISE], Budget { faults: 1, kills: 1, ..NONE })
    }),
    ("two deliveries, a fault, and time passes", || {
        Plan::small(&[FIRST, SPELLED_OTHERWISE], Budget { faults: 1, rests: 1, ..NONE })
    }),
    ("one delivery taken twice, a fault, and time passes", || {
        Plan::small(&[FIRST], Budget { faults: 1, lapses: 1, rests: 1, ..NONE })
    }),
    ("one delivery taken twice, a fault and a crash", || {
        Plan::small(&[FIRST], Budget { faults: 1, kills: 1, lapses: 1, ..NONE })
    }),
    ("two orders under one id, a fault and a crash", || {
        Plan::small(&[FIRST, CONFLICTING], Budget { faults: 1, kills: 1, ..NONE })
    }),
    ("two orders, a fault", || Plan::small(&[FIRST, NEIGHBOUR], Budget { faults: 1, ..NONE })),
    ("one delivery, a tick, a fault and a crash", || {
        Plan::small(&[FIRST], Budget { faults: 1, kills: 1, ticks: 1, waits: 1, ..NONE })
    }),
    ("one order of three events, a tick and a crash, one row in a page", || Plan {
        page: 1,
        ..Plan::small(&[OF_THREE_EVENTS], Budget { kills: 1, ticks: 1, waits: 1, ..NONE })
    }),
    ("one order of three events, a fault, one row in a page", || Plan {
        page: 1,
        ..Plan::small(&[OF_THREE_EVENTS], Budget { faults: 1, ..NONE })
    }),
    ("an expired record, two ticks at once, and the order once more", || Plan {
        expired: 1,
        ..Plan::small(&[FIRST, FIRST], Budget { ticks: 2, ..NONE })
    }),
    ("two expired records, two ticks at once, and an order once more", || Plan {
        expired: 2,
        ..Plan::small(&[FIRST, NEIGHBOUR, FIRST], Budget { ticks: 2, ..NONE })
    }),
    ("three deliveries", || Plan::small(&[FIRST, SPELLED_OTHERWISE, FIRST], NONE)),
];
