//! The committed sample and reference are what the code would print.

use lockgate::config::{reference, sample};

use crate::files::text;

const BEGIN: &str = "<!-- lockgate config reference -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_committed_sample_is_the_one_of_the_code() {
    assert!(
        text("ops/lockgate.sample.toml") == sample(),
        "make it anew: lockgate config sample > ops/lockgate.sample.toml"
    );
}

#[test]
fn the_documented_keys_are_those_of_the_code() {
    let page = text("docs/configuration.md");
    let (_, rest) = page.split_once(BEGIN).unwrap();
    let (keys, _) = rest.split_once(END).unwrap();
    assert!(
        keys.trim() == reference().trim(),
        "put what `lockgate config reference` prints between the marks of docs/configuration.md"
    );
}
