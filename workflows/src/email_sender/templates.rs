//! Texts of e-mails from files: `DIRECTORY/TEMPLATE/LOCALE.txt`, whose first line is `Subject: …`, then an empty line,
//! then the body, both in Jinja's language.

use std::path::Path;

use anyhow::{Context as _, ensure};
use lockgate::delivery::Rejection;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

/// What e-mails are made from, read once.
pub struct Templates {
    /// Two templates a file: `TEMPLATE/LOCALE/subject` and `TEMPLATE/LOCALE/body`, the locale in lower case.
    texts: Environment<'static>,
    default_locale: String,
}

/// A text in a language.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// Of the template that was found.
    pub locale: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

/// The files of `workflows/templates`, for those who name no directory of their own.
const SHIPPED: [(&str, &str); 8] = [
    ("welcome/en", include_str!("../../templates/welcome/en.txt")),
    ("welcome/de", include_str!("../../templates/welcome/de.txt")),
    (
        "daily-task-report/en",
        include_str!("../../templates/daily-task-report/en.txt"),
    ),
    (
        "daily-task-report/de",
        include_str!("../../templates/daily-task-report/de.txt"),
    ),
    ("open-tasks/en", include_str!("../../templates/open-tasks/en.txt")),
    ("open-tasks/de", include_str!("../../templates/open-tasks/de.txt")),
    (
        "daily-report-summary/en",
        include_str!("../../templates/daily-report-summary/en.txt"),
    ),
    (
        "daily-report-summary/de",
        include_str!("../../templates/daily-report-summary/de.txt"),
    ),
];

impl Templates {
    /// The templates of the shipped workflows.
    ///
    /// # Errors
    /// One is no template, which a test rules out.
    pub fn shipped(default_locale: &str) -> anyhow::Result<Self> {
        let mut texts = environment();
        for (key, text) in SHIPPED {
            add(&mut texts, text, key).with_context(|| format!("template {key} cannot be used"))?;
        }
        Ok(Self::new(texts, default_locale))
    }

    /// Reads all templates below a directory.
    ///
    /// # Errors
    /// The directory or a file cannot be read, or is no template; the error names it.
    pub fn read(directory: &Path, default_locale: &str) -> anyhow::Result<Self> {
        let mut texts = environment();
        let mut count = 0;
        for template in entries(directory)? {
            for file in entries(&template)? {
                let name = |path: &Path| {
                    path.file_stem()
                        .and_then(|name| name.to_str())
                        .unwrap_or_default()
                        .to_owned()
                };
                let key = format!("{}/{}", name(&template), name(&file).to_ascii_lowercase());
                let unusable = || format!("template {} cannot be used", file.display());
                let text = std::fs::read_to_string(&file).with_context(unusable)?;
                add(&mut texts, &text, &key).with_context(unusable)?;
                count += 1;
            }
        }
        ensure!(count > 0, "there is no TEMPLATE/LOCALE.txt in {}", directory.display());
        Ok(Self::new(texts, default_locale))
    }

    fn new(texts: Environment<'static>, default_locale: &str) -> Self {
        Self {
            texts,
            default_locale: default_locale.to_ascii_lowercase(),
        }
    }

    /// Makes a text: in the locale, else in what is left of it without its last part and so on, else in the default.
    ///
    /// # Errors
    /// There is no such template, or the context does not fill it in.
    pub fn render(&self, template: &str, locale: &str, context: &Value) -> Result<Text, Rejection> {
        let found = fallbacks(locale, &self.default_locale)
            .into_iter()
            .find(|locale| self.texts.get_template(&format!("{template}/{locale}/body")).is_ok());
        let found = found.ok_or_else(|| {
            let why = format!(
                "there is no template {template} for locale {locale} nor for {}",
                self.default_locale
            );
            Rejection::new("no_template", why)
        })?;
        let render = |part: &str| {
            let made = self.texts.get_template(&format!("{template}/{found}/{part}"));
            made.and_then(|made| made.render(context.clone())).map_err(|error| {
                // The error's own text may hold what the context does.
                let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
                let why = format!("template {template} for locale {found}, {part}{line}: {}", error.kind());
                Rejection::new("template_failed", why)
            })
        };
        Ok(Text {
            subject: render("subject")?.split_whitespace().collect::<Vec<_>>().join(" "),
            body: render("body")?,
            locale: found,
        })
    }
}

fn entries(directory: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let unreadable = || format!("templates cannot be read from {}", directory.display());
    let entries = std::fs::read_dir(directory).with_context(unreadable)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn environment() -> Environment<'static> {
    let mut texts = Environment::new();
    // They are plain text.
    texts.set_auto_escape_callback(|_| AutoEscape::None);
    // A name that the command does not fill in would go out as a gap.
    texts.set_undefined_behavior(UndefinedBehavior::Strict);
    texts
}

fn add(texts: &mut Environment<'static>, text: &str, key: &str) -> anyhow::Result<()> {
    let (head, body) = text
        .split_once("\n\n")
        .context("no empty line between its subject and its body")?;
    let subject = head
        .strip_prefix("Subject:")
        .context("its first line does not begin with Subject:")?;
    texts.add_template_owned(format!("{key}/subject"), subject.trim().to_owned())?;
    texts.add_template_owned(format!("{key}/body"), body.to_owned())?;
    Ok(())
}

/// `pt-BR` → `pt-br`, `pt`, the default.
fn fallbacks(locale: &str, default: &str) -> Vec<String> {
    let mut locale = locale.to_ascii_lowercase();
    let mut wanted = vec![locale.clone()];
    while let Some(at) = locale.rfind('-') {
        locale.truncate(at);
        wanted.push(locale.clone());
    }
    wanted.push(default.to_owned());
    wanted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn shipped() -> Templates {
        Templates::shipped("en").unwrap()
    }

    #[test]
    fn what_is_shipped_is_what_the_directory_holds() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let read = Templates::read(&directory, "en").unwrap();
        let names = |templates: &Templates| {
            let mut names: Vec<String> = templates.texts.templates().map(|(name, _)| name.to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&read), names(&shipped()));
    }

    #[test]
    fn a_locale_falls_back_part_by_part_and_then_to_the_default() {
        assert_eq!(fallbacks("zh-Hant-TW", "en"), ["zh-hant-tw", "zh-hant", "zh", "en"]);
        let locale = |locale| {
            shipped()
                .render("welcome", locale, &json(r#"{"name": "Ada"}"#))
                .unwrap()
                .locale
        };
        assert_eq!(
            (locale("de"), locale("DE-at"), locale("pt-BR")),
            ("de".into(), "de".into(), "en".into())
        );
    }

    #[test]
    fn every_shipped_template_is_filled_in_by_what_the_workflows_send() {
        let report = json(r#"{"name": "Ada", "day": "2026-07-01", "done": 1, "open": 2}"#);
        let text = shipped().render("daily-task-report", "en", &report).unwrap();
        assert_eq!(text.subject, "Your tasks on 2026-07-01: 1 done");
        assert!(
            text.body.contains("you finished 1 task. 2 are still open."),
            "{}",
            text.body
        );
        let text = shipped().render("daily-task-report", "de-CH", &report).unwrap();
        assert!(
            text.body.contains("hast du 1 Aufgabe erledigt. Offen sind noch 2."),
            "{}",
            text.body
        );
        for locale in ["en", "de"] {
            let text = shipped()
                .render("welcome", locale, &json(r#"{"name": "Ada\r\nBcc: eve@example.org"}"#))
                .unwrap();
            assert!(
                !text.subject.contains(['\r', '\n']),
                "a subject is one line: {}",
                text.subject
            );
        }
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is_quoted() {
        let missing = shipped().render("farewell", "pt-BR", &json("{}")).unwrap_err();
        assert_eq!(missing.code, "no_template");
        assert_eq!(
            missing.reason,
            "there is no template farewell for locale pt-BR nor for en"
        );
        let unfilled = shipped()
            .render("daily-task-report", "de", &json(r#"{"name": "Ada"}"#))
            .unwrap_err();
        assert_eq!(unfilled.code, "template_failed");
        assert!(
            unfilled
                .reason
                .starts_with("template daily-task-report for locale de, subject"),
            "{}",
            unfilled.reason
        );
        assert!(!unfilled.reason.contains("Ada"), "{}", unfilled.reason);
    }

    #[test]
    fn a_directory_without_templates_is_an_error_that_names_it() {
        let error = Templates::read(Path::new("/nowhere"), "en").err().unwrap();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
