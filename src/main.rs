//! The program: the library, with the domain of this app handed in.

mod order;

fn main() -> std::process::ExitCode {
    handler::start::run(order::DOMAIN)
}
