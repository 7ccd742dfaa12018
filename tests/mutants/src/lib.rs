//! A copy of the handler in which every mutation of [`mutations::all`] can be switched on.

pub mod mutations;

/// The mutation that is switched on in this thread, so that several can be tried at the same time.
pub mod mutation {
    use std::cell::Cell;

    thread_local! {
        static SELECTED: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Switches a mutation on in this thread, or all of them off.
    pub fn select(index: Option<usize>) {
        SELECTED.set(index);
    }

    /// Tells whether the mutation with this index is switched on.
    #[must_use]
    pub fn is(index: usize) -> bool {
        SELECTED.get() == Some(index)
    }
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
