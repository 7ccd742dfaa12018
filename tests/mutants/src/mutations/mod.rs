//! Mistakes that a maintainer could make in the protocol, and what notices each.

mod commit;
mod publish;
mod purge;

/// One mistake.
#[derive(Debug)]
pub struct Mutation {
    /// What is done wrong.
    pub name: &'static str,
    /// Where, below `src/`.
    pub file: &'static str,
    /// An expression that stands there once.
    pub original: &'static str,
    /// What is evaluated in its place.
    pub mutant: &'static str,
    /// The promise that it breaks, in the words in which the simulation says so. Dying for any other reason is none.
    pub breaks: &'static str,
    /// The first evidence against it that was found.
    pub killed_by: Killer,
}

/// What shows that a mutation breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killer {
    /// The history of this seed.
    Seed(u64),
    /// These choices in the exploration of this name.
    Choices(&'static str, &'static [u8]),
    /// The keys that are fixed for ever.
    Keys,
    /// Nothing yet: `cargo test --package mutants -- --ignored --nocapture` searches.
    Unknown,
}

/// All of them, always in the same order. Where the place of one is inside the place of another, the outer one comes
/// first.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    [commit::MUTATIONS, publish::MUTATIONS, purge::MUTATIONS].into_iter().flatten()
}
