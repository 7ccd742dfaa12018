//! The messages in `samples/` and the domain in `src/order.rs` belong together.

use crate::app::{App, Machine};
use std::path::Path;
use test_storage::azurite;
use workspace::{app_root, samples};

#[tokio::test]
async fn every_sample_has_the_outcome_in_its_name() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let handler = Path::new(env!("CARGO_BIN_EXE_handler"));
    let app = App::start_over(account, &[], (&Machine::default(), handler)).await;
    let mut rejected = Vec::new();
    for sample in samples(&app_root().unwrap()).unwrap() {
        let records = app.receipts().await.len();
        assert!(app.send(&sample.message).await.succeeded, "{sample:?}");
        app.drain().await;
        let committed = app.receipts().await.len() - records;
        assert_eq!(committed, usize::from(sample.outcome == "committed"), "{sample:?}");
        if !sample.is_accepted() {
            rejected.push((sample.outcome, sample.message));
        }
    }
    let text = |member: &serde_json::Value| member.as_str().unwrap().to_owned();
    let quarantined = app.quarantined().await.into_iter();
    let quarantined: Vec<_> = quarantined.map(|kept| (text(&kept["reason"]), text(&kept["message"]))).collect();
    assert_eq!(quarantined, rejected);
}
