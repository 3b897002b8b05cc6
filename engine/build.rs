//! Collects the migrations, so that a new file is embedded without being named anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../schema/migrations");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut ups: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(".up.sql"))
        .collect();
    ups.sort();
    let mut code = String::from("static MIGRATIONS: &[Migration] = &[\n");
    for up in ups {
        let up = up.canonicalize()?;
        println!("cargo:rerun-if-changed={}", up.display());
        let name = up
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or("migration name is not text")?;
        let stem = name.trim_end_matches(".up.sql");
        let (number, title) = stem.split_once('_').ok_or("migrations are named NUMBER_title.up.sql")?;
        let down = up.with_file_name(format!("{stem}.down.sql"));
        writeln!(
            code,
            "    Migration {{ version: {}, title: {title:?}, up: include_str!({up:?}), down: include_str!({down:?}) }},",
            number.parse::<i32>()?
        )?;
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), code)?;
    Ok(())
}
