//! The timer trigger: ticks, what is remembered of them, retries, and the one host of many that ticks.

use std::time::{Duration, Instant};

use local_host::{Invocation, LocalHost, Options, Timings};
use serde_json::{Value, json};
use test_storage::{FaultProxy, Service};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    handler::Step,
    rig::{HOSTS, LIMIT, LISTENER_LOCK, Rig, until},
};

const NEVER: &str = "0001-01-01T00:00:00+00:00";
const LONG_AGO: [&str; 2] = ["2020-06-01T00:00:00+00:00", "2021-01-01T00:00:00+00:00"];

fn after(gate: &str) -> Step {
    Step::After(gate.to_owned())
}

/// Says whether each call so far was told to be past due.
fn past_due(rig: &Rig) -> Vec<Value> {
    rig.requests("clock").iter().map(|request| request.json()["Data"]["timer"]["IsPastDue"].clone()).collect()
}

async fn has_status(rig: &Rig) -> bool {
    rig.account.read_blob(HOSTS, &local_host::status_blob("localhost", "clock")).await.unwrap().is_some()
}

/// Waits until the listener of the timer has the lock.
async fn is_listening(rig: &Rig) {
    until("a listener", async || rig.account.is_leased(HOSTS, LISTENER_LOCK).await.unwrap()).await;
}

#[tokio::test]
async fn the_first_start_remembers_the_next_tick_and_runs_nothing() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    until("a status", async || has_status(&rig).await).await;
    let status = rig.status().await;
    assert_eq!(status["Last"], NEVER);
    assert!(status["Next"].as_str().unwrap().ends_with("-01-01T00:00:00+00:00"), "{status}");
    assert!(host.invocations().is_empty());
}

#[tokio::test]
async fn the_console_tells_what_has_started_a_timer() {
    let rig = Rig::new().await;
    rig.script("clock", &[Step::Fail, Step::Succeed]);
    let host = rig.start().await;
    host.fire_timer("clock").await.unwrap();
    host.invoke("clock", None).await.unwrap();
    let [first, second, by_hand] = host.invocations().try_into().unwrap();
    let lines: Vec<String> = host.lines().into_iter().map(|line| line.text).collect();
    let executing = lines.iter().filter_map(|line| line.strip_prefix("Executing 'Functions.clock' "));
    let [one, two, three] = executing.collect::<Vec<_>>().try_into().unwrap();
    for (line, id) in [(one, first.id), (two, second.id)] {
        let time = line.strip_prefix("(Reason='Timer fired at ").unwrap();
        let (time, rest) = time.split_once('\'').unwrap();
        assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok() && time.len() == 33, "{time}");
        assert_eq!(rest, format!(", Id={id})"));
    }
    let reason = "This function was programmatically called via the host APIs.";
    assert_eq!(three, format!("(Reason='{reason}', Id={})", by_hand.id));
    for (outcome, id) in [("Failed", first.id), ("Succeeded", second.id), ("Succeeded", by_hand.id)] {
        let start = format!("Executed 'Functions.clock' ({outcome}, Id={id}, Duration=");
        let read = lines.iter().filter(|line| line.starts_with(&start)).find_map(|line| Invocation::from_line(line));
        let read = read.map(|one| (one.function, one.id, one.succeeded));
        assert_eq!(read, Some(("clock".to_owned(), id, outcome == "Succeeded")), "{start}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_tick_is_remembered_across_hosts() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    until("a status", async || has_status(&rig).await).await;
    host.fire_timer("clock").await.unwrap();
    let stored = rig.status().await;
    assert_ne!(stored["Last"], NEVER);
    host.stop().await;
    let host = rig.start().await;
    host.fire_timer("clock").await.unwrap();
    assert_eq!(rig.requests("clock")[1].json()["Data"]["timer"]["ScheduleStatus"], stored);
}

#[tokio::test]
async fn ticks_missed_while_no_host_ran_are_made_up_for_once() {
    let rig = Rig::new().await;
    rig.set_status(LONG_AGO[0], LONG_AGO[1]).await;
    rig.script("clock", &[Step::Fail, Step::Succeed]);
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    host.wait_for_line("Function 'clock' is past due on startup.", LIMIT).await.unwrap();
    until("the new status", async || rig.status().await["Last"] != LONG_AGO[0]).await;
    host.stop().await;
    // Both attempts of one run; the next start finds nothing missed.
    assert_eq!(past_due(&rig), [true, true]);
    let served = rig.requests("clock")[0].json()["Data"]["timer"]["ScheduleStatus"]["Next"].clone();
    assert_eq!(served, LONG_AGO[1]);
    let host = rig.start().await;
    is_listening(&rig).await;
    host.fire_timer("clock").await.unwrap();
    assert_eq!(past_due(&rig), [true, true, false]);
}

#[tokio::test]
async fn another_schedule_than_the_remembered_one_is_not_past_due() {
    let rig = Rig::new().await;
    rig.set_status(LONG_AGO[0], "2020-06-01T01:00:00+00:00").await;
    let host = rig.start().await;
    until("the new status", async || rig.status().await["Next"] != "2020-06-01T01:00:00+00:00").await;
    let status = rig.status().await;
    // It begins anew, so that the next start knows what it missed of this schedule.
    assert_eq!(status["Last"], NEVER);
    assert!(status["LastUpdated"].as_str().unwrap() > LONG_AGO[1], "{status}");
    host.fire_timer("clock").await.unwrap();
    assert_eq!(past_due(&rig), [false]);
}

#[tokio::test]
async fn a_changed_schedule_that_never_ticked_can_be_past_due() {
    let rig = Rig::new().await;
    let status = json!({ "Last": NEVER, "Next": LONG_AGO[1], "LastUpdated": LONG_AGO[0] });
    rig.write_status(&status).await;
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    assert_eq!(past_due(&rig), [true]);
}

#[tokio::test]
async fn a_timer_can_run_on_every_start() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/runOnStartup", json!(true));
    for starts in 1..=2 {
        let host = rig.start().await;
        host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
        host.stop().await;
        assert_eq!(past_due(&rig), vec![json!(false); starts]);
    }
}

#[tokio::test]
async fn a_run_on_a_start_leaves_the_next_tick_to_its_time() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/runOnStartup", json!(true));
    rig.script("clock", &[after("open")]);
    let host = rig.start().await;
    rig.called("clock", 1).await;
    let planned = rig.status().await["Next"].clone();
    let released = OffsetDateTime::now_utc();
    rig.release("open");
    until("the new status", async || rig.status().await["Last"] != NEVER).await;
    let status = rig.status().await;
    // The run began before it was let go, and the tick of New Year is not done by it.
    assert!(OffsetDateTime::parse(status["Last"].as_str().unwrap(), &Rfc3339).unwrap() < released, "{status}");
    assert_eq!((&status["LastUpdated"], &status["Next"]), (&status["Last"], &planned));
    host.stop().await;
}

#[tokio::test]
async fn a_run_that_takes_longer_than_a_tick_is_followed_by_one_run_for_all_that_passed() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/schedule", json!("* * * * * *"));
    rig.script("clock", &[after("open"), Step::Succeed]);
    let host = rig.start().await;
    rig.called("clock", 1).await;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.requests("clock").len(), 1, "runs overlap");
    let released = Instant::now();
    rig.release("open");
    // One at once, the next at the next second, and the last a second later; the others would all be there at once.
    rig.called("clock", 4).await;
    assert!(released.elapsed() >= Duration::from_secs(1), "{:?}", released.elapsed());
    // More often than once a minute is not worth remembering.
    assert_eq!(rig.requests("clock")[0].json()["Data"]["timer"]["ScheduleStatus"], Value::Null);
    assert!(!has_status(&rig).await);
    host.stop().await;
}

#[tokio::test]
async fn a_tick_retries_under_one_id_and_is_remembered_after_the_last_attempt() {
    let rig = Rig::new().await;
    rig.set_status(LONG_AGO[0], "2020-06-01T01:00:00+00:00").await;
    rig.script("clock", &[Step::Fail, Step::Fail, Step::FailAfter("open".to_owned())]);
    let host = rig.start().await;
    until("the new status", async || rig.status().await["Next"] != "2020-06-01T01:00:00+00:00").await;
    let (_, before) = tokio::join!(host.fire_timer("clock"), async {
        rig.called("clock", 3).await;
        let before = rig.status().await;
        rig.release("open");
        before
    });
    let invocations = host.invocations();
    assert_eq!(invocations.iter().map(|one| one.attempt).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(invocations.iter().all(|one| one.id == invocations[0].id));
    let timers: Vec<_> = rig.requests("clock").iter().map(|request| request.json()["Data"]["timer"].clone()).collect();
    assert!(timers.iter().all(|timer| *timer == timers[0]), "{timers:?}");
    host.wait_for_line("Function execution failed after '2' retries.", LIMIT).await.unwrap();
    // It counts as done, although it failed.
    assert_eq!(before["Last"], NEVER);
    assert_ne!(rig.status().await["Last"], NEVER);
}

#[tokio::test]
async fn a_stop_between_two_attempts_counts_the_tick_as_done() {
    let rig = Rig::new().await;
    rig.set_status(LONG_AGO[0], LONG_AGO[1]).await;
    rig.set("clock/function.json", "/retry/delayInterval", json!("01:00:00"));
    rig.script("clock", &[Step::Fail, Step::Succeed]);
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    host.stop().await;
    assert_ne!(rig.status().await["Last"], LONG_AGO[0]);
    let host = rig.start().await;
    is_listening(&rig).await;
    host.fire_timer("clock").await.unwrap();
    assert_eq!(past_due(&rig), [true, false]);
}

#[tokio::test]
async fn a_tick_that_a_host_died_of_is_run_again() {
    let rig = Rig::new().await;
    rig.set_status(LONG_AGO[0], LONG_AGO[1]).await;
    rig.script("clock", &[Step::Hang, Step::Succeed]);
    let host = rig.start().await;
    rig.called("clock", 1).await;
    drop(host);
    // Nobody gave it back.
    rig.account.break_lease(HOSTS, LISTENER_LOCK).await.unwrap();
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 1 && all[0].succeeded, LIMIT).await.unwrap();
    assert_eq!(past_due(&rig), [true, true]);
}

#[tokio::test]
async fn of_two_hosts_one_ticks_and_the_other_takes_over_when_it_stops() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/runOnStartup", json!(true));
    let first = rig.start().await;
    first.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    let blobs = FaultProxy::start(&rig.account, Service::Blob).await.unwrap();
    let timings = Timings { lock_retry: Duration::from_millis(50), ..Timings::default() };
    let options = Options { timings, ..rig.options_with(&blobs.account(&rig.account)) };
    let second = LocalHost::start(options).await.unwrap();
    let attempts = || blobs.requests().iter().filter(|request| request.target.contains(LISTENER_LOCK)).count();
    until("five attempts", async || attempts() >= 5).await;
    assert!(second.invocations().is_empty());
    first.stop().await;
    second.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_killed_host_keeps_its_lock_until_that_expires() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/runOnStartup", json!(true));
    let first = rig.start().await;
    first.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    drop(first);
    assert!(rig.account.is_leased(HOSTS, LISTENER_LOCK).await.unwrap());
    let timings = Timings { lock_retry: Duration::from_millis(50), ..Timings::default() };
    let second = LocalHost::start(Options { timings, ..rig.options() }).await.unwrap();
    second.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_host_that_loses_its_lock_says_so_and_wants_it_back() {
    let rig = Rig::new().await;
    rig.set("clock/function.json", "/bindings/0/runOnStartup", json!(true));
    let timings = Timings { lock_retry: Duration::from_millis(50), ..Timings::default() };
    let host = LocalHost::start(Options { timings, ..rig.options() }).await.unwrap();
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    rig.account.break_lease(HOSTS, LISTENER_LOCK).await.unwrap();
    let other = rig.account.acquire_lease(HOSTS, LISTENER_LOCK, Duration::from_secs(60)).await.unwrap().unwrap();
    host.wait_for_line(&format!("Lock '{LISTENER_LOCK}' is lost"), LIMIT).await.unwrap();
    assert_eq!(host.invocations().len(), 1);
    rig.account.release_lease(HOSTS, LISTENER_LOCK, &other).await.unwrap();
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
}
