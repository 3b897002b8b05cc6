//! The page that is made of the catalogue.

use std::fs;
use std::path::Path;

use lockgate::telemetry::catalogue::reference;

#[test]
fn the_page_says_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
    if std::env::var_os("LOCKGATE_BLESS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page == reference(),
        "docs/telemetry.md is old: LOCKGATE_BLESS=1 writes it anew"
    );
}
