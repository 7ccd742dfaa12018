//! The meaning of a stored record for the attempt that met it.
//!
//! The table below is the whole decision. It is needed after a refused insert ("the entity exists") and after one whose
//! answer was lost, and both times for the same reason: whether the operation is committed is a fact of the table,
//! never of an answer.
//!
//! | stored record | verdict |
//! |---|---|
//! | none | not applied: insert again |
//! | other fingerprint | conflict: the id stands for something else |
//! | same fingerprint, this attempt's commit id | committed: the answer was lost, not the write |
//! | same fingerprint, another commit id | duplicate: answer the stored receipt |

use super::{Fingerprint, record::StoredRecord};

/// Meaning of what is stored.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is stored: the insert was not applied, or the record was purged meanwhile.
    NotApplied,
    /// This attempt's own write.
    Committed,
    /// The operation was committed before.
    Duplicate(StoredRecord),
    /// Another operation was committed under the same id.
    Conflict,
}

/// Judges what is `stored` for the attempt that has this `commit_id` and this `fingerprint`.
#[must_use]
pub fn verdict(stored: Option<StoredRecord>, commit_id: &str, fingerprint: &Fingerprint) -> Verdict {
    match stored {
        None => Verdict::NotApplied,
        Some(record) if record.fingerprint != fingerprint.as_str() => Verdict::Conflict,
        Some(record) if record.commit_id == commit_id => Verdict::Committed,
        Some(record) => Verdict::Duplicate(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;

    fn fingerprint(text: &str) -> Fingerprint {
        Fingerprint::new(&Object::parse(text).unwrap(), &["id"])
    }

    fn stored(fingerprint: &Fingerprint) -> StoredRecord {
        StoredRecord {
            fingerprint: fingerprint.as_str().to_owned(),
            receipt: "the first receipt".to_owned(),
            commit_id: "first".to_owned(),
            invocation: String::new(),
            events: 1,
            committed_at: time::macros::datetime!(2026-11-21 10:20 UTC),
        }
    }

    #[test]
    fn nothing_stored_means_not_applied() {
        assert_eq!(verdict(None, "mine", &fingerprint("{}")), Verdict::NotApplied);
    }

    #[test]
    fn my_commit_id_means_my_own_write() {
        let content = fingerprint(r#"{"amount":42}"#);
        assert_eq!(verdict(Some(stored(&content)), "first", &content), Verdict::Committed);
    }

    #[test]
    fn the_same_content_is_a_duplicate_and_gets_the_stored_receipt() {
        let content = fingerprint(r#"{"amount":42}"#);
        assert_eq!(verdict(Some(stored(&content)), "mine", &content), Verdict::Duplicate(stored(&content)));
    }

    #[test]
    fn other_content_is_a_conflict() {
        let (first, second) = (fingerprint(r#"{"amount":42}"#), fingerprint(r#"{"amount":43}"#));
        assert_eq!(verdict(Some(stored(&first)), "mine", &second), Verdict::Conflict);
    }
}
