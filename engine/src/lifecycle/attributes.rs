//! What runs are found by, beside what they are: names with a scalar each.

use serde_json::{Map, Value};

/// Attributes that a run may be started with, and that its code may set.
pub(crate) const MOST_ATTRIBUTES: usize = 16;
/// Longest name, in characters.
const LONGEST_NAME: usize = 100;
/// Longest text, in characters: what a run can have of them fits what the table takes.
const LONGEST_TEXT: usize = 250;

/// Says what is wrong with an attribute.
pub(crate) fn misfit_attribute(name: &str, value: &Value) -> Option<String> {
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Some(format!(
            "the name of an attribute has 1 to {LONGEST_NAME} characters and no control characters"
        ));
    }
    if !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
        return Some(format!("attribute {name} is not a string, a number or a boolean"));
    }
    if value.as_str().is_some_and(|text| text.contains('\0')) {
        return Some(format!("attribute {name} contains a zero character"));
    }
    let long = value.as_str().is_some_and(|text| text.chars().count() > LONGEST_TEXT);
    long.then(|| format!("attribute {name} is longer than {LONGEST_TEXT} characters"))
}

/// Says what is wrong with the attributes that a run is to be started with.
pub(crate) fn misfit_attributes(attributes: &Map<String, Value>) -> Option<String> {
    if attributes.len() > MOST_ATTRIBUTES {
        return Some(format!("a run has at most {MOST_ATTRIBUTES} attributes"));
    }
    attributes
        .iter()
        .find_map(|(name, value)| misfit_attribute(name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_small_scalars_are_attributes() {
        for fits in [
            json!("x"),
            json!(7),
            json!(true),
            json!("é".repeat(250)),
            json!(-1e-300),
        ] {
            assert_eq!(misfit_attribute("order", &fits), None, "{fits}");
        }
        for wrong in [json!(null), json!([1]), json!({}), json!("x".repeat(251)), json!("a\0")] {
            assert!(misfit_attribute("order", &wrong).is_some(), "{wrong}");
        }
        for name in ["", "a\nb", &"n".repeat(101)] {
            assert!(misfit_attribute(name, &json!(1)).is_some(), "{name:?}");
        }
    }

    #[test]
    fn there_are_not_too_many_of_them() {
        let so_many = |count: usize| (0..count).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(misfit_attributes(&so_many(MOST_ATTRIBUTES)), None);
        assert!(misfit_attributes(&so_many(MOST_ATTRIBUTES + 1)).is_some());
    }
}
