//! What the documentation names is there: fences that close, links, headings, files, commands and settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::support::service::Setup;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A line of a document, and what of it is code.
struct Line {
    number: usize,
    text: String,
    /// The info string of the fence that it is in, if it is in one.
    fence: Option<String>,
}

struct Document {
    path: PathBuf,
    lines: Vec<Line>,
    /// What is wrong with its fences.
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

    /// Code in a line's text, and the lines of commands, each with the line's number.
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

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().filter(|line| line.text.starts_with('#'));
        headings
            .map(|line| anchor(line.text.trim_start_matches('#')))
            .collect()
    }

    /// Each link to a place that is no other site's.
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

/// The files of the repository, without what is built and git's own.
static FILES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "target" && name != ".git" {
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

/// Collects what a look at each document has found, and fails if that is anything.
#[track_caller]
fn none(what: &str, look: impl Fn(&Document) -> Vec<String>) {
    let found: Vec<_> = DOCUMENTS
        .iter()
        .flat_map(|document| {
            look(document)
                .into_iter()
                .map(|found| format!("{}: {found}", document.name()))
        })
        .collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn code_fences_close() {
    none("fences that do not close", |document| {
        document.unbalanced.clone()
    });
}

#[test]
fn links_point_to_existing_files_and_headings() {
    let anchors: BTreeMap<_, _> = DOCUMENTS
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect();
    let count: usize = DOCUMENTS
        .iter()
        .map(|document| document.links().len())
        .sum();
    assert!(count > 20, "{count} links");
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

/// Folders that a path in the documentation may begin in, beside that of the document.
const BASES: [&str; 3] = ["", "src", "tests"];

/// The endings of files that a name without a folder must be one of in the repository.
const ENDINGS: [&str; 7] = [".rs", ".lua", ".cnf", ".conf", ".yaml", ".sh", ".md"];

/// A word of code, if it is a path in the repository: without what comes before and after it.
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
    let mut places = BASES
        .iter()
        .map(|base| Path::new(ROOT).join(base))
        .chain([folder.to_owned()]);
    if places.any(|place| place.join(word).exists()) {
        return true;
    }
    !word.contains('/')
        && FILES
            .iter()
            .any(|path| path.file_name().is_some_and(|name| name == word))
}

/// The documents that the comments of programs and settings name.
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
        "documents that do not exist:\n{}",
        missing.join("\n")
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

/// Words of a command line up to the first that is no plain word, and the flags among all.
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

/// What stands after each `likewise` that is run.
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
    assert!(
        wrong.is_empty(),
        "commands that do not exist:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn named_subcommands_of_scripts_exist() {
    none("subcommands that scripts do not have", |document| {
        let mut wrong = Vec::new();
        for (number, code) in document.code() {
            for part in code.split("scripts/services ").skip(1) {
                let (words, flags) = command_line(part);
                let usage =
                    fs::read_to_string(Path::new(ROOT).join("scripts/services")).expect("a script");
                let known = |word: &str| {
                    usage
                        .lines()
                        .any(|line| line.trim_start().starts_with(&format!("{word} ")))
                };
                let first = words.first().copied().filter(|word| !known(word));
                let flags = flags.into_iter().filter(|flag| !usage.contains(flag));
                wrong.extend(
                    first
                        .into_iter()
                        .chain(flags)
                        .map(|word| format!("line {number}: scripts/services {word}")),
                );
            }
        }
        wrong
    });
}

/// The settings that a text names.
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
fn documented_settings_are_exactly_the_existing_ones() {
    let mut used = BTreeSet::new();
    for path in FILES.iter() {
        let is_code = ["src", "tests", "scripts", "benches"]
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
    let help = Setup::new().run(&["serve", "--help"]).stdout;
    let known = help
        .split("[env: ")
        .skip(1)
        .flat_map(settings_in)
        .collect::<BTreeSet<_>>();
    assert!(known.len() > 30, "{known:?}");
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md");
    let named = settings_in(&readme);
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
}

#[test]
fn declared_license_exists() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).expect("a file");
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    assert!(read("LICENSE").contains("Apache License"));
}
