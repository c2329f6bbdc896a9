//! Everything that the documentation names exists: links, headings, files, commands, settings, metrics, tests and
//! problem codes. Code fences close.

mod architecture;
mod log_keys;
mod monitoring;
mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use likewise::config::PartialConfig;
use likewise::web::problem::Code;

use crate::support::service::Setup;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A line of a document.
struct Line {
    number: usize,
    text: String,
    /// The info string of the enclosing fence; `None` in prose.
    fence: Option<String>,
}

struct Document {
    path: PathBuf,
    lines: Vec<Line>,
    /// Errors in its fences.
    unbalanced: Vec<String>,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a document");
        let mut lines = Vec::new();
        let mut unbalanced = Vec::new();
        let mut fence: Option<(usize, String)> = None;
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            match (text.trim_start().strip_prefix("```"), &fence) {
                (Some(info), None) => fence = Some((number, info.trim().to_owned())),
                (Some(""), Some(_)) => fence = None,
                (Some(info), Some((opened, _))) => {
                    unbalanced.push(format!(
                        "line {number}: a fence of {info} begins inside that of line {opened}"
                    ));
                }
                (None, _) => lines.push(Line {
                    number,
                    text: text.to_owned(),
                    fence: fence.as_ref().map(|(_, info)| info.clone()),
                }),
            }
        }
        if let Some((opened, _)) = fence {
            unbalanced.push(format!("line {opened}: a fence never closes"));
        }
        Self {
            path: path.to_owned(),
            lines,
            unbalanced,
        }
    }

    fn name(&self) -> String {
        let path = self.path.strip_prefix(ROOT).unwrap_or(&self.path);
        path.display().to_string()
    }

    fn prose(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.fence.is_none())
    }

    /// Inline code and command lines, each with its line number.
    fn code(&self) -> Vec<(usize, String)> {
        let mut code = Vec::new();
        for line in &self.lines {
            match line.fence.as_deref() {
                None => {
                    let spans = line.text.split('`').skip(1).step_by(2);
                    code.extend(spans.map(|span| (line.number, span.to_owned())));
                }
                Some("sh") => code.push((line.number, line.text.clone())),
                Some("console") => {
                    let command = line.text.strip_prefix("$ ");
                    code.extend(command.map(|command| (line.number, command.to_owned())));
                }
                Some(_) => {}
            }
        }
        code
    }

    /// The anchors that GitHub generates for its headings.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().filter(|line| line.text.starts_with('#'));
        headings
            .map(|line| anchor(line.text.trim_start_matches('#')))
            .collect()
    }

    /// The links within the repository.
    fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for line in self.prose() {
            for part in line.text.split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                if !target.contains("://") {
                    links.push((line.number, target.to_owned()));
                }
            }
        }
        links
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

/// The files of the repository, without build output and git's files.
static FILES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default();
            let is_skipped = ["target", ".git", "node_modules"]
                .iter()
                .any(|one| name == *one);
            if path.is_dir() && !is_skipped {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files
});

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let is_document = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let documents: Vec<_> = FILES
        .iter()
        .filter(is_document)
        .map(|path| Document::read(path))
        .collect();
    assert!(documents.len() > 10, "{} documents", documents.len());
    documents
});

/// Fails if `look` finds an error in any document.
#[track_caller]
fn none(what: &str, look: impl Fn(&Document) -> Vec<String>) {
    let mut found = Vec::new();
    for document in DOCUMENTS.iter() {
        let errors = look(document).into_iter();
        found.extend(errors.map(|error| format!("{}: {error}", document.name())));
    }
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn code_fences_close() {
    none("fences that do not close", |document| {
        document.unbalanced.clone()
    });
}

#[test]
fn links_have_targets() {
    let anchors: BTreeMap<_, _> = DOCUMENTS
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect();
    let links = DOCUMENTS.iter().flat_map(Document::links);
    assert!(links.count() > 20, "few links");
    none("links that lead nowhere", |document| {
        let folder = document.path.parent().expect("a folder");
        let broken = |target: &str| {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.path.clone(),
                file => match folder.join(file).canonicalize() {
                    Ok(path) => path,
                    Err(_) => return true,
                },
            };
            !heading.is_empty()
                && !anchors
                    .get(&path)
                    .is_some_and(|anchors| anchors.contains(heading))
        };
        let links = document.links().into_iter();
        links
            .filter(|(_, target)| broken(target))
            .map(|(number, target)| format!("line {number}: {target}"))
            .collect()
    });
}

/// The folders that paths in the documentation are relative to, besides the document's own.
const BASES: [&str; 3] = ["", "src", "tests"];

/// The extensions that make a word without a folder a file name.
const ENDINGS: [&str; 7] = [".rs", ".lua", ".cnf", ".conf", ".yaml", ".sh", ".md"];

/// The path in the repository that a word names, without punctuation around it.
fn path_in(word: &str) -> Option<&str> {
    let word = word.trim_matches(|c: char| "\"'(),;:".contains(c));
    let word = word.trim_end_matches('.');
    let word = word.strip_prefix("./").unwrap_or(word);
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if !plain
        || word.starts_with(['/', '-', '.'])
        || word.starts_with("target/")
        || word.contains("...")
    {
        return None;
    }
    let first = word.split('/').next().unwrap_or_default();
    let known = BASES
        .iter()
        .any(|base| Path::new(ROOT).join(base).join(first).is_dir());
    let is_file = ENDINGS.iter().any(|ending| word.ends_with(ending));
    ((word.contains('/') && known) || is_file).then_some(word)
}

fn exists(word: &str, folder: &Path) -> bool {
    let bases = BASES.iter().map(|base| Path::new(ROOT).join(base));
    let mut places = bases.chain([folder.to_owned()]);
    if places.any(|place| place.join(word).exists()) {
        return true;
    }
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|name| name == word);
    !word.contains('/') && FILES.iter().any(is_named)
}

/// The documents that a source or settings file names in its comments.
fn documents_in_comments(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "\"'`(),;:".contains(c));
    let named = words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with("docs/") && word.ends_with(".md"));
    named.map(str::to_owned).collect()
}

#[test]
fn documents_named_in_comments_exist() {
    let mut missing = Vec::new();
    for path in FILES.iter() {
        let text = fs::read_to_string(path).unwrap_or_default();
        for word in documents_in_comments(&text) {
            if !Path::new(ROOT).join(&word).exists() {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "documents that do not exist: {missing:#?}"
    );
}

#[test]
fn named_files_exist() {
    let count = std::cell::Cell::new(0);
    none("files that do not exist", |document| {
        let folder = document.path.parent().expect("a folder");
        let mut missing = Vec::new();
        let code = document.code().into_iter();
        let code = code.map(|(number, code)| (number, code, true));
        let prose = document.prose();
        let prose = prose.map(|line| (line.number, line.text.replace('`', " "), false));
        for (number, text, is_code) in code.chain(prose) {
            let paths = text.split_whitespace().filter_map(path_in);
            // In prose a name alone may be anything: the client library is called nats.rs.
            for word in paths.filter(|word| is_code || word.contains('/')) {
                count.set(count.get() + 1);
                if !exists(word, folder) {
                    missing.push(format!("line {number}: {word}"));
                }
            }
        }
        missing
    });
    assert!(count.get() > 50, "{} files", count.get());
}

/// The subcommands of a command line (its leading plain words) and its flags.
fn command_line(rest: &str) -> (Vec<&str>, Vec<&str>) {
    let end = rest
        .find(['|', ';', '&', '>', '#', '('])
        .unwrap_or(rest.len());
    let words: Vec<_> = rest[..end].split_whitespace().collect();
    let plain = |word: &&&str| {
        word.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            && !word.starts_with('-')
    };
    let subcommands = words.iter().take_while(plain).copied().collect();
    let flags = words.iter().filter(|word| word.starts_with("--"));
    (
        subcommands,
        flags
            .map(|flag| flag.split('=').next().unwrap_or_default())
            .collect(),
    )
}

/// The arguments of each invocation of `likewise`.
fn runs(code: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("likewise") {
        let before = rest[..at].chars().next_back();
        let after = &rest[at + "likewise".len()..];
        if before.is_none_or(|c| c == ' ' || c == '/') && after.starts_with(' ') {
            runs.push(after);
        }
        rest = after;
    }
    runs
}

#[test]
fn named_commands_exist() {
    let setup = Setup::new();
    let mut known: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for document in DOCUMENTS.iter() {
        for (number, code) in document.code() {
            for rest in runs(&code) {
                let (subcommands, flags) = command_line(rest);
                // The image and the database are called likewise too.
                if subcommands.first().is_none_or(|word| *word == "likewise") && flags.is_empty() {
                    continue;
                }
                let key: Vec<_> = subcommands.iter().map(|word| (*word).to_owned()).collect();
                let help = known.entry(key).or_insert_with(|| {
                    let ran = setup.run(&[&subcommands[..], &["--help"]].concat());
                    (ran.code == Some(0)).then_some(ran.stdout)
                });
                let place = format!("{} line {number}", document.name());
                match help {
                    None => wrong.push(format!("{place}: likewise {}", subcommands.join(" "))),
                    Some(help) => {
                        let absent = flags.iter().filter(|flag| !help.contains(**flag));
                        wrong.extend(
                            absent.map(|flag| format!("{place}: {flag} in likewise{rest}")),
                        );
                    }
                }
            }
        }
    }
    assert!(known.len() > 5, "{known:?}");
    assert!(wrong.is_empty(), "commands that do not exist: {wrong:#?}");
}

#[test]
fn named_subcommands_of_scripts_exist() {
    let usage = fs::read_to_string(Path::new(ROOT).join("scripts/services")).expect("a script");
    let known = |word: &str| {
        let mut lines = usage.lines().map(str::trim_start);
        lines.any(|line| line.starts_with(&format!("{word} ")))
    };
    none("subcommands that scripts do not have", |document| {
        let mut wrong = Vec::new();
        for (number, code) in document.code() {
            for part in code.split("scripts/services ").skip(1) {
                let (words, flags) = command_line(part);
                let first = words.first().copied().filter(|word| !known(word));
                let flags = flags.into_iter().filter(|flag| !usage.contains(flag));
                let unknown = first.into_iter().chain(flags);
                wrong.extend(unknown.map(|word| format!("line {number}: scripts/services {word}")));
            }
        }
        wrong
    });
}

/// The settings named in a text.
fn settings_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("LIKEWISE_").skip(1) {
        let end = part
            .find(|c: char| !c.is_ascii_uppercase() && c != '_')
            .unwrap_or(part.len());
        if end > 0 && !part[..end].ends_with('_') {
            found.insert(format!("LIKEWISE_{}", &part[..end]));
        }
    }
    found
}

#[test]
fn documented_settings_exist() {
    // The code does not spell the variables of settings: it derives them from the names of the settings.
    let settings = PartialConfig::settings().into_iter();
    let mut used: BTreeSet<_> = settings
        .map(|setting| setting.variable.to_owned())
        .collect();
    for path in FILES.iter() {
        let is_code = ["src", "crates", "tests", "scripts", "benches"]
            .iter()
            .any(|folder| path.starts_with(Path::new(ROOT).join(folder)));
        if is_code && !path.ends_with("tests/docs/mod.rs") {
            used.extend(settings_in(&fs::read_to_string(path).unwrap_or_default()));
        }
    }
    none("settings that do not exist", |document| {
        let named = document.lines.iter().flat_map(|line| {
            let settings = settings_in(&line.text);
            settings.into_iter().map(|setting| (line.number, setting))
        });
        named
            .filter(|(_, setting)| !used.contains(setting))
            .map(|(number, setting)| format!("line {number}: {setting}"))
            .collect()
    });
}

/// The default of each setting in the table of `docs/configuration.md`.
fn documented_defaults() -> BTreeMap<String, String> {
    let table = Path::new(ROOT).join("docs/configuration.md");
    let text = fs::read_to_string(table).expect("docs/configuration.md");
    let mut defaults = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `LIKEWISE_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for variable in settings_in(cells[1]) {
            defaults.insert(variable, cells[2].replace('`', ""));
        }
    }
    defaults
}

#[test]
fn documented_defaults_match_the_settings() {
    let settings = PartialConfig::settings().into_iter();
    let defaults: BTreeMap<_, _> = settings
        .map(|setting| {
            let default = setting.default.unwrap_or_else(|| "none".to_owned());
            (setting.variable.to_owned(), default)
        })
        .collect();
    assert!(defaults.len() > 30, "{defaults:?}");
    assert_eq!(documented_defaults(), defaults);
}

/// The suffixes that the exposition adds to a name in the table of metrics, which has its unit.
const TABLE_SUFFIXES: [&str; 2] = ["_total", ""];

/// The suffixes that it adds to the name of a metric of a scrape, whose unit is an argument.
const SCRAPE_SUFFIXES: [&str; 4] = ["_seconds_total", "_total", "_seconds", ""];

/// The names to which the exposition may have added one of these suffixes.
fn without<'a>(suffixes: &[&str], name: &'a str) -> Vec<&'a str> {
    let names = suffixes
        .iter()
        .filter_map(|suffix| name.strip_suffix(*suffix));
    names.collect()
}

#[test]
fn named_metrics_exist() {
    let [metrics, scrape] = ["metrics", "scrape"].map(|file| {
        let path = Path::new(ROOT).join(format!("src/telemetry/{file}.rs"));
        fs::read_to_string(path).expect("a file of src/telemetry")
    });
    let (_, table) = metrics.split_once("\nmetrics! {\n").expect("the table");
    let (table, _) = table.split_once("\n}\n").expect("the end of the table");
    let entries: BTreeSet<_> = table
        .lines()
        .map(|line| line.trim().trim_start_matches("pub(super) "))
        .filter_map(|line| Some(line.split_once(": ")?.0))
        .collect();
    let registered = |name: &str| {
        let in_table = |name: &&str| entries.contains(*name);
        let in_scrape = |name: &&str| scrape.contains(&format!("\"{name}\""));
        without(&TABLE_SUFFIXES, name).iter().any(in_table)
            || without(&SCRAPE_SUFFIXES, name).iter().any(in_scrape)
    };
    let tables = tables();
    let count = std::cell::Cell::new(0);
    none("metrics that do not exist", |document| {
        let mut missing = Vec::new();
        for (number, code) in document.code() {
            let Some(name) = code.strip_prefix("likewise_") else {
                continue;
            };
            if tables.contains(&format!("likewise_{name} (")) {
                continue;
            }
            count.set(count.get() + 1);
            if !registered(name) {
                missing.push(format!("line {number}: likewise_{name}"));
            }
        }
        missing
    });
    assert!(count.get() > 5, "{} metrics", count.get());
}

/// The statements that create the tables.
fn tables() -> String {
    let migrations = fs::read_dir(Path::new(ROOT).join("migrations/sqlite")).expect("migrations");
    let up = migrations.map(|one| one.expect("an entry").path().join("up.sql"));
    up.map(|path| fs::read_to_string(path).expect("up.sql"))
        .collect()
}

/// The names of the tests in this binary.
fn tests() -> String {
    let binary = std::env::current_exe().expect("the path of this binary");
    let listed = Command::new(binary).arg("--list").output();
    String::from_utf8(listed.expect("a list of tests").stdout).expect("names in UTF-8")
}

/// The rows of a table of problems: a status, and codes.
fn problem_rows(document: &Document) -> Vec<(usize, u16, Vec<String>)> {
    let rows = document.prose().filter_map(|line| {
        let mut cells = line.text.strip_prefix("| ")?.split(" | ");
        let status = cells.next()?.parse().ok()?;
        let codes = cells.next()?.split('`').skip(1).step_by(2);
        Some((line.number, status, codes.map(str::to_owned).collect()))
    });
    rows.collect()
}

#[test]
fn problem_tables_match_the_catalogue() {
    none("problems that are not in the catalogue", |document| {
        let rows = problem_rows(document).into_iter();
        let unknown = rows.flat_map(|(number, status, codes)| {
            let is_known = move |code: &String| {
                let mut all = Code::ALL.iter();
                all.any(|known| known.as_str() == code && known.status() == status)
            };
            let unknown = codes.into_iter().filter(move |code| !is_known(code));
            unknown.map(move |code| format!("line {number}: {status} {code}"))
        });
        unknown.collect()
    });
    let rows = Code::ALL.iter().map(|code| {
        let (status, text, when) = (code.status().as_u16(), code.as_str(), code.when());
        format!("| {status} | `{text}` | {when} |\n")
    });
    let rows: String = rows.collect();
    let table = format!("| status | code | when |\n|---|---|---|\n{rows}");
    let api = fs::read_to_string(Path::new(ROOT).join("docs/API.md")).expect("docs/API.md");
    assert!(
        api.contains(&table),
        "docs/API.md must have this table:\n{table}"
    );
}

#[test]
fn named_tests_exist() {
    let tests = tests();
    let count = std::cell::Cell::new(0);
    none("tests that do not exist", |document| {
        let mut missing = Vec::new();
        for (number, code) in document.code() {
            for rest in code.split("cargo test ").skip(1) {
                let word = rest.split_whitespace().next().unwrap_or_default();
                if word.is_empty() || word.starts_with('-') {
                    continue;
                }
                count.set(count.get() + 1);
                if !tests.contains(word) {
                    missing.push(format!("line {number}: cargo test {word}"));
                }
            }
        }
        missing
    });
    assert!(count.get() > 3, "{} tests", count.get());
}

#[test]
fn every_decision_is_in_the_index() {
    let folder = Path::new(ROOT).join("docs/adr");
    let index = fs::read_to_string(folder.join("README.md")).expect("the index of decisions");
    let listed = |name: &str, title: &str| {
        let row = format!("| [{}]({name}) | {title} |", &name[..4]);
        index.lines().any(|line| line == row)
    };
    let mut missing = Vec::new();
    for document in DOCUMENTS.iter() {
        let name = document.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        if document.path.parent() != Some(&folder) || name == "README.md" {
            continue;
        }
        let heading = &document.lines.first().expect("a heading").text;
        let title = heading.split_once(": ").map_or("", |(_, title)| title);
        if !listed(&name, title) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "docs/adr/README.md lacks {missing:?}");
}

#[test]
fn declared_licence_exists() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).expect("a file");
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    assert!(read("LICENSE").contains("Apache License"));
}
