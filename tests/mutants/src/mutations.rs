//! The list of mutations.

/// A mistake that a maintainer could make in the protocol.
#[derive(Debug)]
pub struct Mutation {
    /// A description.
    pub name: &'static str,
    /// The file below `src/` that has it.
    pub file: &'static str,
    /// An expression that is there once.
    pub original: &'static str,
    /// The expression in its place.
    pub mutant: String,
    /// The promise that it breaks, in the words of the simulation.
    pub breaks: &'static str,
    /// A seed to try first, if not one of the first breaks the promise.
    pub seed: Option<u64>,
}

/// Reads `mutations.txt`: five lines for each, or six, and an empty one between two.
///
/// # Panics
///
/// An entry has another form.
#[must_use]
#[allow(clippy::unwrap_used, reason = "the list is part of the program")]
pub fn all() -> Vec<Mutation> {
    let entries = include_str!("../mutations.txt").split("\n\n").skip(1);
    let mutation = |entry: &'static str| match entry.trim().lines().collect::<Vec<_>>()[..] {
        [name, file, original, mutant, breaks, ref seed @ ..] => {
            let original = &original[2..];
            let mutant = mutant[2..].replace("ORIGINAL", original);
            let seed = seed.first().map(|seed| seed["seed: ".len()..].parse().unwrap());
            Mutation { name, file, original, mutant, breaks: &breaks["breaks: ".len()..], seed }
        }
        _ => panic!("less than five lines: {entry}"),
    };
    entries.map(mutation).collect()
}
