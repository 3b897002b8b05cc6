//! `completions SHELL`.

use clap_complete::Shell;

use super::{Exit, Outcome};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(super) fn execute(self, mut command: clap::Command) -> Outcome {
        let name = std::env::args_os()
            .next()
            .and_then(|path| Some(std::path::Path::new(&path).file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "lockgate".to_owned());
        clap_complete::generate(self.shell, &mut command, name, &mut std::io::stdout());
        Ok(Exit::Ok)
    }
}
