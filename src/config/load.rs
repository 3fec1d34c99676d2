//! From file, environment and flags to a [`Config`], or to everything that is wrong with them.

use std::{collections::HashMap, fmt};

use toml::{Value, de::DeTable};

use super::{Config, SETTINGS, Setting, check};

/// What settings are made of, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file's name, for messages, and its text.
    pub file: Option<(String, String)>,
    /// Environment variables; those that are not `SLUICE_SECTION__NAME` are ignored.
    pub environment: Vec<(String, String)>,
    /// Key and text of each flag that was given.
    pub flags: Vec<(&'static str, String)>,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Lines count from 1.
    File {
        name: String,
        line: usize,
    },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(variable) => f.write_str(variable),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    pub origin: Origin,
    /// Empty when the text is no TOML.
    pub key: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Settings from all sources; a later one wins.
    ///
    /// # Errors
    /// Everything that is wrong: text that is no TOML, unknown keys, values of the wrong kind, and, once all values can be
    /// read, values that make no sense together.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut loading = Loading::default();
        if let Some((name, text)) = &sources.file {
            loading.file(name, text);
        }
        loading.environment(&sources.environment);
        for (key, text) in &sources.flags {
            if let Some(setting) = Setting::find(key) {
                loading.set(setting, setting.value_of(text), Origin::Flag(setting.flag()));
            }
        }
        loading.finish()
    }
}

#[derive(Default)]
struct Loading {
    config: Config,
    origins: HashMap<&'static str, Origin>,
    problems: Vec<ConfigProblem>,
}

impl Loading {
    fn file(&mut self, name: &str, text: &str) {
        let at = |line| Origin::File { name: name.to_owned(), line };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                self.problem(at(line), "", format!("no TOML: {}", error.message()));
                return;
            }
        };
        let lines = Lines::of(text);
        for (section, value) in table {
            let line = at(lines.of_key(&section));
            match value {
                _ if !SETTINGS.iter().any(|setting| section_of(setting.key) == section) => {
                    self.unknown(line, &section, &nearest_section(&section, &value));
                }
                Value::Table(entries) => {
                    for (name, value) in entries {
                        let key = format!("{section}.{name}");
                        let line = at(lines.of_key(&key));
                        match Setting::find(&key) {
                            Some(setting) => self.set(setting, value, line),
                            None => self.unknown(line, &key, nearest_key(&key)),
                        }
                    }
                }
                other => {
                    let message = format!("expected a section ([{section}]), found {}", described(&other));
                    self.problem(line, &section, message);
                }
            }
        }
        // The parser has sections by name; people have them by line.
        self.problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        });
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        for (variable, text) in variables {
            let Some(path) = variable.strip_prefix("SLUICE_").filter(|path| path.contains("__")) else { continue };
            let key = path.replacen("__", ".", 1).to_ascii_lowercase();
            let origin = Origin::Variable(variable.clone());
            match Setting::find(&key) {
                Some(setting) => self.set(setting, setting.value_of(text), origin),
                None => {
                    let nearest = Setting::find(nearest_key(&key)).map(Setting::variable).unwrap_or_default();
                    self.unknown(origin, &key, &nearest);
                }
            }
        }
    }

    fn set(&mut self, setting: &'static Setting, value: Value, origin: Origin) {
        match setting.set(&mut self.config, value) {
            Ok(()) => {
                self.origins.insert(setting.key, origin);
            }
            Err(why) if why.is_empty() => self.problem(origin, setting.key, format!("expected {}", setting.expected)),
            Err(why) => {
                // What serde says may span lines; the report has one line per problem.
                let why = why.replace('\n', " ");
                self.problem(origin, setting.key, format!("expected {} ({why})", setting.expected));
            }
        }
    }

    fn unknown(&mut self, origin: Origin, key: &str, nearest: &str) {
        self.problem(origin, key, format!("unknown key; the nearest known one is {nearest}"));
    }

    fn problem(&mut self, origin: Origin, key: &str, message: String) {
        self.problems.push(ConfigProblem { origin, key: key.to_owned(), message });
    }

    fn finish(mut self) -> Result<Config, ConfigErrors> {
        // Values that could not be read have their defaults here: judging those would only mislead.
        if self.problems.is_empty() {
            for fault in check::faults(&self.config) {
                let origin = self.origins.get(fault.key).cloned().unwrap_or(Origin::Default);
                self.problem(origin, fault.key, fault.message);
            }
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(ConfigErrors(self.problems)) }
    }
}

/// Line of every key of a TOML text, down to the second level.
struct Lines(HashMap<String, usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = HashMap::new();
        let Ok(document) = DeTable::parse(text) else { return Self(lines) };
        for (section, value) in document.get_ref() {
            lines.insert(section.get_ref().to_string(), line_of(text, section.span().start));
            for (name, _) in value.get_ref().as_table().into_iter().flatten() {
                lines.insert(format!("{}.{}", section.get_ref(), name.get_ref()), line_of(text, name.span().start));
            }
        }
        Self(lines)
    }

    fn of_key(&self, key: &str) -> usize {
        self.0.get(key).copied().unwrap_or(1)
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|b| *b == b'\n').count()
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

fn name_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, name)| name)
}

/// The key that an unknown one was probably meant to be: alike as a whole, or of the same name in another section.
fn nearest_key(unknown: &str) -> &'static str {
    let likeness = |key: &str| {
        let whole = strsim::normalized_damerau_levenshtein(key, unknown);
        let last = strsim::normalized_damerau_levenshtein(name_of(key), name_of(unknown));
        // The right name in the wrong section beats a wrong name in the right one.
        whole.max(last * 0.95)
    };
    let best = SETTINGS.iter().max_by(|a, b| likeness(a.key).total_cmp(&likeness(b.key)));
    best.map_or("", |setting| setting.key)
}

/// What an unknown top-level entry was probably meant to be: a section, or a setting written without its section.
fn nearest_section(unknown: &str, value: &Value) -> String {
    if !value.is_table() {
        return nearest_key(unknown).to_owned();
    }
    let likeness = |section: &str| strsim::jaro_winkler(section, unknown);
    let sections = SETTINGS.iter().map(|setting| section_of(setting.key));
    let best = sections.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.map_or_else(String::new, |section| format!("[{section}]"))
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}
