//! The storage client of the tests, and the proxy that breaks its requests.

use std::time::Duration;

use dev::{Fault, FaultProxy, azurite, proxy::Kind, storage::Service};
use serde_json::{Value, json};

#[tokio::test]
async fn the_proxy_counts_and_breaks_requests() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let proxy = FaultProxy::start(&account, Service::Queue).await.unwrap();
    let through = proxy.account(&account);
    through.create_queue("orders").await.unwrap();
    through.put("orders", "one").await.unwrap();
    assert_eq!(proxy.kinds(), [Kind::CreateQueue, Kind::PutMessage]);

    let busy = || Fault::Status(503, vec![("x-ms-error-code", "ServerBusy".to_owned())], String::new());
    proxy.fail_next(1, Kind::PutMessage, busy());
    assert_eq!(through.put("orders", "two").await.unwrap_err().status(), Some(503));
    through.put("orders", "two").await.unwrap();

    for (fault, applied) in
        [(Fault::Reset, false), (Fault::DropRequest, false), (Fault::Garbage, false), (Fault::DropReply, true)]
    {
        let before = account.queue_length("orders").await.unwrap();
        proxy.fail_all(fault.clone());
        assert_eq!(through.put("orders", "three").await.unwrap_err().status(), None, "{fault:?}");
        let after = account.queue_length("orders").await.unwrap();
        assert_eq!(after > before, applied, "{fault:?}");
    }

    proxy.lift();
    proxy.close();
    assert!(through.put("orders", "four").await.is_err());
    proxy.open().await.unwrap();
    through.put("orders", "four").await.unwrap();
}

#[tokio::test]
async fn the_storage_client_speaks_to_the_real_thing() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());
    account.create_table("orders").await.unwrap();
    let Value::Object(mut row) = json!({ "PartitionKey": "a~1", "RowKey": "it's", "size": 1 }) else { panic!() };
    account.insert_row("orders", &row).await.unwrap();
    row.insert("size".to_owned(), json!(2));
    account.merge_row("orders", &row).await.unwrap();
    assert_eq!(account.rows("orders").await.unwrap()[0]["size"], 2);
    account.delete_row("orders", &row).await.unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());

    for text in [" \t{\"a\":\"<&>'\"}\n ", "line\r\nline\r", "Zoë 🦀", ""] {
        account.put("exact", text).await.unwrap();
        let mut message = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!(message.text, text);
        assert_eq!((account.peek("exact").await.unwrap().len(), account.queue_length("exact").await.unwrap()), (0, 1));
        account.update_visibility("exact", &mut message, Duration::ZERO).await.unwrap();
        let again = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!((again.id.as_str(), again.dequeue_count), (message.id.as_str(), 2));
        account.delete("exact", &again).await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_belongs_to_one_until_it_is_given_back_or_broken() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let acquire = || account.acquire_lease("locks", "a/b", Duration::from_secs(15));
    let lease = acquire().await.unwrap().unwrap();
    assert!(account.is_leased("locks", "a/b").await.unwrap());
    assert_eq!(acquire().await.unwrap(), None);
    account.renew_lease("locks", "a/b", &lease).await.unwrap();
    account.release_lease("locks", "a/b", &lease).await.unwrap();
    assert!(!account.is_leased("locks", "a/b").await.unwrap());
    let lease = acquire().await.unwrap().unwrap();
    account.break_lease("locks", "a/b").await.unwrap();
    assert_eq!(account.renew_lease("locks", "a/b", &lease).await.unwrap_err().status(), Some(409));
    assert!(acquire().await.unwrap().is_some());
    assert!(!account.is_leased("locks", "nothing").await.unwrap());
}
