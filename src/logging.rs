//! Log lines that reach the operator.
//!
//! The host keeps the `Logs` of an answer only when the invocation succeeded, and only as information; it takes stdout
//! as information and stderr as an error (as a warning when the line says so), neither tied to an invocation. So:
//!
//! - INFO of an invocation is collected for its answer, and goes to stdout when there will be none;
//! - WARN and ERROR go to stderr at once;
//! - each line of the console names the function, the invocation and the order, and is one line whatever the data in
//!   it.
//!
//! Dependencies are capped at INFO whatever `RUST_LOG` says: at debug level the Azure client prints credentials.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{
    Event, Level, Metadata, Span, Subscriber, error_span,
    field::{Empty, Field, Visit},
    span::{Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{Targets, filter_fn},
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// The crate whose debug lines may be printed.
const OWN_TARGET: &str = env!("CARGO_PKG_NAME");

/// Starts logging at `levels`, for the whole process.
pub fn start(levels: Targets) {
    std::panic::set_hook(Box::new(|panic| {
        // A message that was composed may repeat a part of an order.
        let message = panic.payload().downcast_ref::<&'static str>().unwrap_or(&"(message withheld)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("panic at {place}: {message}");
    }));
    let is_printed = move |metadata: &Metadata<'_>| is_safe(metadata) && is_wanted(&levels, metadata);
    tracing_subscriber::registry().with(LogLayer.with_filter(filter_fn(is_printed))).init();
}

/// Warnings and errors are printed whatever `RUST_LOG` says: one of them may be all there is to know about a message.
fn is_wanted(levels: &Targets, metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN || levels.would_enable(metadata.target(), metadata.level())
}

fn is_safe(metadata: &Metadata<'_>) -> bool {
    let is_own = metadata.target().split("::").next() == Some(OWN_TARGET);
    is_own || *metadata.level() <= Level::INFO
}

/// The INFO lines of one invocation, until it is known where they go.
#[derive(Debug, Clone, Default)]
pub struct InvocationLog(Arc<Mutex<CollectedLines>>);

#[derive(Debug, Default)]
struct CollectedLines {
    /// End of every line on the console: function, invocation, order.
    context: String,
    lines: Vec<String>,
}

impl InvocationLog {
    /// Opens the span of an invocation, whose lines are collected here.
    #[must_use]
    pub fn open(&self, function: &'static str, invocation: &str) -> Span {
        self.lock().context = format!(" function={function} invocation={}", Escaped(invocation));
        let span = error_span!("invocation", function, invocation, order = Empty);
        span.with_subscriber(|(id, dispatch)| {
            if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
                span.extensions_mut().insert(self.clone());
            }
        });
        span
    }

    /// Takes the lines for the answer of an invocation that succeeded.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lines)
    }

    /// Prints the lines of an invocation that failed: its answer is not read.
    pub fn print(&self) {
        let collected = std::mem::take(&mut *self.lock());
        for line in collected.lines {
            write_line(&mut std::io::stdout().lock(), &line, &collected.context);
        }
    }

    fn lock(&self) -> MutexGuard<'_, CollectedLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends each event where the operator will see it.
struct LogLayer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(log) = context.span(id).and_then(|span| span.extensions().get::<InvocationLog>().cloned()) {
            let mut fields = FieldTexts::default();
            values.record(&mut fields);
            log.lock().context.push_str(&fields.others);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = FieldTexts::default();
        event.record(&mut fields);
        let line = fields.message + &fields.others;
        let mut scope = context.event_scope(event).into_iter().flatten();
        let log = scope.find_map(|span| span.extensions().get::<InvocationLog>().cloned());
        let level = *event.metadata().level();
        match log {
            Some(log) if level == Level::INFO => log.lock().lines.push(line),
            Some(log) => write_at(level, &line, &log.lock().context),
            None => write_at(level, &line, ""),
        }
    }
}

fn write_at(level: Level, line: &str, context: &str) {
    match level {
        Level::ERROR | Level::WARN => write_line(&mut std::io::stderr().lock(), &format!("{level} {line}"), context),
        Level::INFO => write_line(&mut std::io::stdout().lock(), line, context),
        _ => write_line(&mut std::io::stdout().lock(), &format!("{level} {line}"), context),
    }
}

/// A console that is gone must not stop the handler.
fn write_line(console: &mut impl std::io::Write, line: &str, context: &str) {
    let _ = writeln!(console, "{line}{context}");
}

/// The fields of an event or a span, as text.
#[derive(Default)]
struct FieldTexts {
    message: String,
    others: String,
}

impl Visit for FieldTexts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.message = Escaped(&value).to_string(),
            // Members that `log` adds when its records pass through `tracing`.
            name if name.starts_with("log.") => {}
            name => {
                let _ = write!(self.others, " {name}={}", Escaped(&value));
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Whether a character ends a line, moves the cursor or turns the direction of the text.
#[must_use]
pub fn steers_terminals(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text in which nothing ends a line or moves the cursor.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\n' => formatter.write_str("\\n"),
            c if steers_terminals(c) => write!(formatter, "{}", c.escape_unicode()),
            c => formatter.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{debug, info, warn};

    fn collect(run: impl FnOnce(&InvocationLog)) -> InvocationLog {
        let log = InvocationLog::default();
        let subscriber = tracing_subscriber::registry().with(LogLayer.with_filter(filter_fn(is_safe)));
        tracing::subscriber::with_default(subscriber, || {
            log.open("queue_with_idempotency", "5b0c1f4e").in_scope(|| run(&log));
        });
        log
    }

    #[test]
    fn information_of_an_invocation_is_collected_for_its_answer() {
        let log = collect(|_| {
            info!("Processing idempotent message id={}", "order-123");
            warn!("goes to stderr");
            debug!("goes to stdout");
            info!(target: "actix_server", "of a dependency");
        });
        assert_eq!(log.take(), ["Processing idempotent message id=order-123", "of a dependency"]);
        assert_eq!(log.take(), [""; 0], "taken once");
    }

    #[test]
    fn the_order_joins_the_context_of_the_console_lines() {
        let log = collect(|_| {
            Span::current().record("order", tracing::field::display("order\n1"));
        });
        assert_eq!(log.lock().context, " function=queue_with_idempotency invocation=5b0c1f4e order=order\\n1");
    }

    #[test]
    fn a_nested_span_belongs_to_its_invocation() {
        let log = collect(|_| tracing::info_span!("inner").in_scope(|| info!("inside")));
        assert_eq!(log.take(), ["inside"]);
    }

    #[test]
    fn nothing_in_the_data_breaks_a_line() {
        let log = collect(|_| info!("payload={}", "a\nb\r\u{1b}[31m\u{7f}\u{85}\u{2028}\u{202e}é"));
        assert_eq!(log.take(), ["payload=a\\nb\\u{d}\\u{1b}[31m\\u{7f}\\u{85}\\u{2028}\\u{202e}é"]);
    }

    #[test]
    fn fields_follow_the_message_but_for_those_of_another_way_of_logging() {
        let log = collect(|_| info!(log.target = "actix_server", reason = "a\nb", count = 2, "Rejected"));
        assert_eq!(log.take(), ["Rejected reason=a\\nb count=2"]);
    }

    struct Seen(Arc<Mutex<Vec<&'static str>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(event.metadata().target());
        }
    }

    fn targets_seen(
        filter: impl Fn(&Metadata<'_>) -> bool + Send + Sync + 'static,
        run: impl FnOnce(),
    ) -> Vec<&'static str> {
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let subscriber = tracing_subscriber::registry().with(Seen(seen.clone()).with_filter(filter_fn(filter)));
        tracing::subscriber::with_default(subscriber, run);
        std::mem::take(&mut *seen.lock().unwrap())
    }

    #[test]
    fn debug_lines_of_dependencies_are_dropped_whatever_the_level() {
        let seen = targets_seen(is_safe, || {
            debug!(target: "azure_core::policies::transport", "Authorization: Bearer eyJ0");
            debug!(target: "handlerlike", "not ours");
            info!(target: "azure_core::policies::transport", "harmless");
            debug!(target: "handler::app", "ours");
        });
        assert_eq!(seen, ["azure_core::policies::transport", "handler::app"]);
    }

    #[test]
    fn warnings_are_printed_whatever_the_level() {
        for (levels, expected) in [
            ("off", &["handler::outbox", "handler::app"][..]),
            ("handler=info", &["handler::outbox", "handler::app", "handler::functions"]),
            ("info", &["handler::outbox", "handler::app", "handler::functions", "actix_server"]),
        ] {
            let levels: Targets = levels.parse().unwrap();
            let seen = targets_seen(
                move |metadata| is_wanted(&levels, metadata),
                || {
                    warn!(target: "handler::outbox", "not published");
                    tracing::error!(target: "handler::app", "Invocation failed");
                    info!(target: "handler::functions", "Processing");
                    info!(target: "actix_server", "starting");
                },
            );
            assert_eq!(seen, expected);
        }
    }
}
