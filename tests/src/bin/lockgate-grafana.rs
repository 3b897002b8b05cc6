//! Writes the dashboards, the alert rules and the runbook's table into `ops`.

use anyhow::Context;
use clap::Parser;
use lockgate_tests::grafana::{alert::RUNBOOK, files, root};

/// Writes the dashboards, the alert rules and the runbook's table into `ops`
#[derive(Parser)]
struct Args {
    /// Where people read the runbook; alerts lead there
    #[arg(long, value_name = "URL", default_value = RUNBOOK)]
    runbook: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    for (name, text) in files(root(), &args.runbook) {
        let path = root().join(&name);
        let folder = path.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        std::fs::write(&path, text).with_context(|| name.clone())?;
        println!("wrote {name}");
    }
    Ok(())
}
