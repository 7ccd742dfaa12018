//! The handler of the end-to-end tests and of `cargo load`: the library with the domain of the tests.

mod order;

fn main() -> std::process::ExitCode {
    handler::start::run(order::DOMAIN)
}
