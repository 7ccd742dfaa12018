//! A message that ends the process whenever it is decided, among 23 others: the host takes everything back that was in
//! flight, and starts the process again.

use crate::outage::{DOMAIN, PLACES, Queued, Rule, Trouble, World, app, attempt, minutes};
use fastrand::Rng;
use futures::future::{join_all, poll_fn};
use handler::{
    crash_note::CrashNote,
    decision::Domain,
    functions::{App, queue_with_idempotency},
    quarantine::QueueMessage,
};
use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};
use test_storage::emulated::Call;
use tokio::time::{Instant, sleep};

const KILLER: &str = r#"{"id":"killer"}"#;
const NEIGHBOURS: u32 = 23;
const RUNS: u64 = 100;
/// Time in which the host starts a process.
const START: Duration = Duration::from_secs(1);

/// Files, and what is in them.
type Files = Vec<(PathBuf, Vec<u8>)>;

thread_local! {
    static FOLDER: RefCell<PathBuf> = RefCell::default();
    /// The files of the notes at the instant at which a process died.
    static DEATH: RefCell<Option<Files>> = RefCell::default();
}

/// Ends the process that decides the killer: what its note says then is kept.
const DEADLY: Domain = Domain {
    decide: |message| {
        if message.id() == "killer" {
            let folder = FOLDER.with_borrow(|folder| folder.join("idempotency"));
            let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            DEATH.set(Some(files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()));
        }
        (DOMAIN.decide)(message)
    },
    ..DOMAIN
};

/// An instance, whose process is started again when it has died.
struct Instance<'a> {
    world: &'a World,
    folder: &'a Path,
    number: usize,
    rule: Rule,
    process: RefCell<Option<Rc<App>>>,
    deaths: Cell<u32>,
    starts_at: Cell<Instant>,
}

impl Instance<'_> {
    /// Returns the process, started if there is none.
    async fn process(&self) -> Rc<App> {
        tokio::time::sleep_until(self.starts_at.get()).await;
        let start = || {
            let crash_note = CrashNote::open(self.folder, &format!("shop {}", self.number));
            Rc::new(App { crash_note, ..app(DEADLY, &self.world.shared, self.number, self.rule) })
        };
        self.process.borrow_mut().get_or_insert_with(start).clone()
    }

    /// Serves messages in one place until this time.
    async fn work(&self, place: u128, end: Duration) {
        let mut number = place << 64;
        while self.world.shared.lock().unwrap().now() < end {
            let process = self.process().await;
            let Some(queued) = self.world.shared.lock().unwrap().receive() else {
                drop(process);
                sleep(Duration::from_secs(5)).await;
                continue;
            };
            number += 1;
            if !self.serve(&process, &queued, number).await {
                self.world.shared.lock().unwrap().release(queued);
            }
        }
    }

    /// Says whether the message was answered.
    async fn serve(&self, process: &App, queued: &Queued, number: u128) -> bool {
        let attempt = attempt(self.world.shared.lock().unwrap().now(), number);
        let message = QueueMessage { text: queued.text.clone(), ..QueueMessage::default() };
        let mut run = pin!(queue_with_idempotency::run(process, &message, &attempt));
        let deaths = self.deaths.get();
        let answered = poll_fn(|context| {
            if self.deaths.get() > deaths {
                return Poll::Ready(None);
            }
            let poll = run.as_mut().poll(context);
            if let Some(files) = DEATH.take() {
                self.die(files);
                return Poll::Ready(None);
            }
            poll.map(Some)
        });
        // Who sleeps notices within a second that the process is gone.
        let mut answered = pin!(answered);
        loop {
            tokio::select! {
                biased;
                result = &mut answered => return matches!(result, Some(Ok(_))),
                () = sleep(START / 2) => {}
            }
        }
    }

    fn die(&self, files: Files) {
        for (file, text) in files.into_iter().filter(|(_, text)| !text.starts_with(b" ")) {
            fs::write(file, text).unwrap();
        }
        self.process.take();
        self.deaths.set(self.deaths.get() + 1);
        self.starts_at.set(Instant::now() + START);
    }
}

/// Runs the instances, and says how many neighbours were committed, how many messages were poisoned, and where the killer is.
async fn run(instances: usize, seed: u64, rule: Rule) -> (usize, usize, bool) {
    let folder = tempfile::tempdir().unwrap();
    FOLDER.set(folder.path().to_owned());
    let world = World::new(0, NEIGHBOURS, rule);
    {
        let mut shared = world.shared.lock().unwrap();
        let killer = Queued { text: KILLER.to_owned(), visible_at: Duration::ZERO, dequeue_count: 0 };
        shared.orders.push(killer);
        Rng::with_seed(seed).shuffle(&mut shared.orders);
    }
    let instance = |number| Instance {
        world: &world,
        folder: folder.path(),
        number,
        rule,
        process: RefCell::default(),
        deaths: Cell::new(0),
        starts_at: Cell::new(Instant::now()),
    };
    let instances: Vec<_> = (0..instances).map(instance).collect();
    let places = instances.iter().cycle().take(instances.len() * PLACES).enumerate();
    join_all(places.map(|(place, one)| one.work(u128::from(seed) << 32 | place as u128, minutes(10)))).await;
    assert!(instances.iter().all(|instance| instance.deaths.get() <= 2), "it ends a process twice");
    let shared = world.shared.lock().unwrap();
    let is_kept = shared.kept.iter().any(|text| text.contains("exhausted") && text.contains("killer"));
    (shared.commits.len(), shared.poisoned, is_kept)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_the_process_is_quarantined_and_poisons_no_neighbour() {
    const RULES: [Rule; 2] = [
        |_, _, _| None,
        // An outage from the first second on, for two minutes.
        |_, call, at| (!matches!(call, Call::Put(..)) && at < minutes(2)).then_some(Trouble::Status(503, "ServerBusy")),
    ];
    for (instances, rule) in [1, 4].into_iter().flat_map(|count| RULES.map(|rule| (count, rule))) {
        let mut clean = 0;
        for seed in 0..RUNS {
            let (commits, poisoned, is_kept) = run(instances, seed, rule).await;
            assert_eq!((commits + poisoned, is_kept), (NEIGHBOURS as usize, true), "seed {seed}: lost");
            clean += u64::from(poisoned == 0);
        }
        assert!(clean >= RUNS - 1, "{clean} of {RUNS} runs, {instances} instances");
    }
}
