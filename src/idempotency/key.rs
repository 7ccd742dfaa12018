//! The key of an operation, and the fingerprint of its content: both are hashes, so that no message can choose its row.
//!
//! Raw ids are never keys: Table Storage [forbids some
//! characters](https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#characters-disallowed-in-key-fields)
//! in them, the client does not escape others, and they may be personal data. The parts of a key are length-prefixed,
//! so that ("ab", "c") and ("a", "bc") differ. **The vectors in the tests are fixed for ever**: another key for the
//! same id would let every order in flight take effect twice.

use crate::json::Object;
use sha2::{Digest, Sha256, digest::Output};
use time::OffsetDateTime;

/// Number of partitions. It is large enough for commits to stay far below the 2,000 entities per second of [one
/// partition](https://learn.microsoft.com/azure/storage/tables/scalability-targets), and small enough for a tick of
/// the timer to look at each.
pub const BUCKETS: u8 = 64;

/// Version of the way from (scope, id) to keys.
const KEY_SCHEMA: &[u8] = b"1";

/// Version of the way from content to fingerprint.
const FINGERPRINT_SCHEMA: &[u8] = b"1";

/// Identity of one operation for ever: every copy of a message has the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    hash: String,
    bucket: u8,
}

impl Key {
    /// Computes the key of the operation `id` in `scope`.
    #[must_use]
    pub fn new(scope: &str, id: &str) -> Self {
        let digest = digest(&[KEY_SCHEMA, scope.as_bytes(), id.as_bytes()]);
        Self { hash: format!("{digest:x}"), bucket: digest[0] >> 2 }
    }

    /// Number of the partition, below [`BUCKETS`].
    #[must_use]
    pub const fn bucket(&self) -> u8 {
        self.bucket
    }

    /// `PartitionKey` of everything stored for this operation.
    #[must_use]
    pub fn partition_key(&self) -> String {
        partition_key(self.bucket)
    }

    /// `RowKey` of the record.
    #[must_use]
    pub fn record_row_key(&self) -> String {
        format!("record~{}", self.hash)
    }

    /// `RowKey` of the index row by which the record of `commit_id` is found when it has expired.
    #[must_use]
    pub fn expiry_row_key(&self, expires_at: OffsetDateTime, commit_id: &str) -> String {
        format!("{}{}~{commit_id}", expiry_row_key_before(expires_at), self.hash)
    }

    /// `RowKey` of the event `index` of `commit_id` while it is not published.
    #[must_use]
    pub fn outbox_row_key(&self, commit_id: &str, index: usize) -> String {
        format!("outbox~{}~{commit_id}~{index}", self.hash)
    }

    /// Range of the `RowKey`s of all events of this operation, the end excluded.
    #[must_use]
    pub fn outbox_range(&self) -> (String, String) {
        (format!("outbox~{}~", self.hash), format!("outbox~{}~~", self.hash))
    }

    /// Id of the event `index` of `commit_id`, however often it is published. An operation that takes effect anew, after
    /// its record was purged or deleted, has new ones.
    #[must_use]
    pub fn event_id(&self, commit_id: &str, index: usize) -> String {
        format!("{}-{commit_id}-{index}", self.hash)
    }
}

/// Beginning of the `RowKey`s of index rows whose records expire at this second: all that expire earlier are less.
#[must_use]
pub fn expiry_row_key_before(expires_at: OffsetDateTime) -> String {
    format!("expiry~{:012}~", expires_at.unix_timestamp())
}

/// Takes the `RowKey` of the record and the commit id out of the `RowKey` of an index row.
#[must_use]
pub fn expired_record(expiry_row_key: &str) -> Option<(String, &str)> {
    let (_, record) = expiry_row_key.strip_prefix("expiry~")?.split_once('~')?;
    let (hash, commit_id) = record.split_once('~')?;
    Some((format!("record~{hash}"), commit_id))
}

/// `PartitionKey` of a bucket.
#[must_use]
pub fn partition_key(bucket: u8) -> String {
    format!("bucket~{bucket:02x}")
}

/// Lists all buckets. The first one follows from the time by a hash, so that no bucket is always the last, for which there
/// may be no time.
pub fn buckets(now: OffsetDateTime) -> impl Iterator<Item = u8> {
    let turn = now.unix_timestamp().div_euclid(5 * 60);
    let first = digest(&[&turn.to_be_bytes()])[0] >> 2;
    (0..BUCKETS).map(move |step| (first + step) % BUCKETS)
}

/// Content of a message, apart from its id: tells a duplicate from another order with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Computes the fingerprint of everything in `object` but the members `left_out`: the id, which is in the [`Key`],
    /// and those that are not content.
    #[must_use]
    pub fn new(object: &Object<'_>, left_out: &[&str]) -> Self {
        let digest = digest(&[FINGERPRINT_SCHEMA, object.canonical_without(left_out).as_bytes()]);
        Self(format!("{digest:x}"))
    }

    /// Returns the stored form: 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn digest(parts: &[&[u8]]) -> Output<Sha256> {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use time::{Duration, macros::datetime};

    /// Computed independently with `python3 -c 'import hashlib,struct; p=[b"1",b"orders",b"order-123"];
    /// print(hashlib.sha256(b"".join(struct.pack(">Q",len(x))+x for x in p)).hexdigest())'`
    #[test]
    fn the_same_id_has_the_same_key_for_ever() {
        for (scope, id, bucket, hash) in [
            ("orders", "order-123", "00", "0337765e99b2f8ad9dcd754b8126f0a2b280bb2dcaaed01311bde90ba55cc75a"),
            ("orders", "42", "2c", "b1f614e6958f2687a2ab7cfa975fe246e65cdc1b4c428ac3bb4d657af2f42063"),
            ("orders", "Zoë's order/#?", "34", "d2ae180cdefbef49dec22efce004926ea006b8fea602cd1d52a09f52a4fead34"),
            ("orders", "0", "27", "9cfbdcbe92b8dbc347323a6e321fa4032c09add83ba22c16fe073a5f6879885c"),
            ("orders", "日本語", "1c", "71c789b5e572038e9a1de1f263fcb6c6e600687b55a0d93e33daa6db13b1bf0b"),
            ("orders", &"x".repeat(256), "05", "163fae9bbc161e8973f81e28a4f8aceee0f425ef1eda76fb0fd2cf0e8345a731"),
            ("payments", "order-123", "1a", "68206257eb4ee9929bfdf4bf77f2d3fba3c5eec07f31a223f64d61734536864c"),
        ] {
            let key = Key::new(scope, id);
            assert_eq!(key.record_row_key(), format!("record~{hash}"), "{id}");
            assert_eq!(key.partition_key(), format!("bucket~{bucket}"), "{id}");
        }
    }

    /// Computed as above, from "1" and the canonical form of what is not the id.
    #[test]
    fn the_same_content_has_the_same_fingerprint_for_ever() {
        for (text, fingerprint) in [
            (r#"{"id":"order-123"}"#, "6d3fd91ad1a92d715f46a1843dcb089c43869b954711a7bb4e3c5a4af5fab6fd"),
            (r#"{"id":"order-123","amount":42.0}"#, "fac0c3b2617c3b17e0622fb44ef474b6033506efc18e2ce1820b72505fc6bec2"),
            (
                r#"{"note":"Zo\u00eb \u0022x\"","id":7,"amount":0.10}"#,
                "73ad80a5c4464fc48d8d63a79b68913430c5e4d4d593ed27db9b34f8727803e1",
            ),
            (
                r#"{"id":"order-123","voucher":null,"paid":true,"lines":[{"sku":"X1","price":1.10}]}"#,
                "6ef5d3995040ae8944ef991f783df0e013980eca553d005487bb17ee7d711dc6",
            ),
            (
                r#"{"id":"order-123","amount":42,"lines":[{"sku":"X1","price":1.10}]}"#,
                "66b2693d8ed79a0d8a973de20fa8b9355f81ed5659da25e79ac575d3a6c9d205",
            ),
        ] {
            assert_eq!(Fingerprint::new(&Object::parse(text).unwrap(), &["id"]).as_str(), fingerprint, "{text}");
        }
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        assert_ne!(Key::new("ab", "c"), Key::new("a", "bc"));
        assert_ne!(Key::new("", "abc"), Key::new("abc", ""));
    }

    #[test]
    fn the_id_is_not_part_of_the_fingerprint_and_all_else_is() {
        let fingerprint = |text| Fingerprint::new(&Object::parse(text).unwrap(), &["id"]);
        assert_eq!(fingerprint(r#"{"id":"42","amount":1}"#), fingerprint(r#"{"amount":1.0,"id":42}"#));
        assert_ne!(fingerprint(r#"{"id":"42","amount":1}"#), fingerprint(r#"{"id":"42","amount":2}"#));
        assert_ne!(fingerprint(r#"{"id":"42","amount":1}"#), fingerprint(r#"{"id":"42","amount":1,"note":null}"#));
    }

    #[test]
    fn a_member_that_is_not_content_does_not_change_the_fingerprint() {
        let fingerprint = |text| Fingerprint::new(&Object::parse(text).unwrap(), &["id", "updated_at"]);
        assert_eq!(fingerprint(r#"{"id":"42","updated_at":1}"#), fingerprint(r#"{"id":"42","updated_at":[2]}"#));
        assert_eq!(fingerprint(r#"{"id":"42","updated_at":1}"#), fingerprint(r#"{"id":"42"}"#));
        assert_ne!(fingerprint(r#"{"v":{"updated_at":1}}"#), fingerprint(r#"{"v":{"updated_at":2}}"#));
    }

    #[test]
    fn every_bucket_is_listed_once_and_each_is_the_first_at_some_time() {
        let start = datetime!(2026-11-21 00:00 UTC);
        assert_eq!(buckets(start).collect::<BTreeSet<_>>(), (0..BUCKETS).collect());
        for minutes in [5, 10, 60, 64, 24 * 60] {
            let ticks = (0..1_000).map(|tick| buckets(start + Duration::minutes(minutes * tick)).next().unwrap());
            assert_eq!(ticks.collect::<BTreeSet<_>>(), (0..BUCKETS).collect(), "every {minutes} minutes");
        }
    }

    #[test]
    fn the_keys_of_index_rows_are_in_the_order_of_expiry_and_lead_to_the_record() {
        let (key, first) = (Key::new("orders", "order-123"), datetime!(2026-12-21 10:20:00.9 UTC));
        let hash = "0337765e99b2f8ad9dcd754b8126f0a2b280bb2dcaaed01311bde90ba55cc75a";
        let row_key = key.expiry_row_key(first, "c0ffee");
        assert_eq!(row_key, format!("expiry~001797848400~{hash}~c0ffee"));
        assert!(row_key < expiry_row_key_before(first + Duration::SECOND));
        assert!(row_key > expiry_row_key_before(first));
        assert!(key.expiry_row_key(datetime!(2001-01-01 00:00 UTC), "c0ffee") < row_key, "fewer digits");
        assert_eq!(expired_record(&row_key), Some((key.record_row_key(), "c0ffee")));
        assert_eq!(expired_record("record~1"), None);
    }

    proptest! {
        #[test]
        fn keys_hold_no_character_that_a_url_or_the_table_would_change(scope: String, id: String) {
            let key = Key::new(&scope, &id);
            for text in [key.partition_key(), key.record_row_key()] {
                prop_assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '~'), "{}", text);
                prop_assert!(text.len() <= 128);
            }
        }

        #[test]
        fn wherever_one_text_is_parted_the_keys_differ(text in ".{1,40}", seed: u64) {
            let mut places: Vec<_> = (0..=text.len()).filter(|place| text.is_char_boundary(*place)).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut places);
            let key = |place| Key::new(&text[..place], &text[place..]);
            prop_assert_ne!(key(places[0]), key(places[1]));
            prop_assert_eq!(key(places[0]), key(places[0]));
        }
    }

    #[test]
    fn all_buckets_are_used() {
        let buckets: BTreeSet<_> = (0..2000).map(|n| Key::new("orders", &format!("order-{n}")).bucket).collect();
        assert_eq!(buckets.len(), usize::from(BUCKETS));
    }
}
