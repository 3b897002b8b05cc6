//! The shipped `email-sender`, built beside the tests with their fail points.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockgate_workflows::email_sender::main()
}
