//! The dependencies between files are as docs/ARCHITECTURE.md says: they point down its table of rooms, and form no circles.
//!
//! A dependency is a name from another file, in a `use` or a path that begins with `crate::`, `super::` or `self::`. A name
//! that a folder's `mod.rs` exports again counts as the file's that defines it. The file of a folder and the files below it
//! may name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ROOT;

/// A module, by the names that lead to it.
type Module = Vec<String>;

/// The files of a crate.
struct Sources {
    files: BTreeMap<Module, Source>,
}

struct Source {
    path: PathBuf,
    /// The paths that it names, each from the root of the crate, without those that it exports again.
    named: BTreeSet<Module>,
    /// What it exports again: the name, and the path behind it. The name of a glob is `*`.
    exported: Vec<(String, Module)>,
    /// The names that it defines.
    defined: BTreeSet<String>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let place = path
                        .strip_prefix(root)
                        .expect("a source")
                        .with_extension("");
                    let names = place.iter().map(|name| name.to_string_lossy().into_owned());
                    let module: Module = names
                        .filter(|name| !matches!(name.as_str(), "mod" | "lib" | "main"))
                        .collect();
                    let source = Source::read(&path, &module);
                    files.insert(module, source);
                }
            }
        }
        Self { files }
    }

    /// Returns the file that defines what a path names; `None` if it is in no file of the crate.
    fn home(&self, path: &[String]) -> Option<&Module> {
        let depth = (0..=path.len())
            .rev()
            .find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, source) = self.files.get_key_value(&path[..depth])?;
        let Some(name) = path.get(depth) else {
            return Some(module);
        };
        if source.defined.contains(name) {
            return Some(module);
        }
        let mut behind = source.exported.iter().filter_map(|(exported, behind)| {
            if exported == "*" {
                let of_glob = [behind.as_slice(), std::slice::from_ref(name)].concat();
                let home = self.home(&of_glob)?;
                return self.files[home].defined.contains(name).then_some(home);
            }
            (exported == name).then(|| self.home(behind)).flatten()
        });
        Some(behind.next().unwrap_or(module))
    }

    /// Returns the other files that each file depends on.
    fn dependencies(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let of = |module: &Module, source: &Source| -> BTreeSet<&Module> {
            let homes = source.named.iter().filter_map(|path| self.home(path));
            homes.filter(|home| !is_family(module, home)).collect()
        };
        let files = self.files.iter();
        files
            .map(|(module, source)| (module, of(module, source)))
            .collect()
    }
}

/// Returns whether these are one file, or a folder's file and a file below it.
fn is_family(one: &[String], other: &[String]) -> bool {
    let (shorter, longer) = if one.len() < other.len() {
        (one, other)
    } else {
        (other, one)
    };
    longer.starts_with(shorter)
}

impl Source {
    fn read(path: &Path, module: &[String]) -> Self {
        let text = fs::read_to_string(path).expect("a source");
        let code: Vec<&str> = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect();
        let mut source = Self {
            path: path.to_owned(),
            named: BTreeSet::new(),
            exported: Vec::new(),
            defined: code.iter().filter_map(|line| defined(line)).collect(),
        };
        let code = code.join("\n");
        let mut rest = code.as_str();
        while let Some((before, after)) = rest.split_once("use ") {
            let starts_line = before.trim_end_matches(' ').rsplit('\n').next();
            let start = starts_line.unwrap_or_default().trim();
            let is_use = start.is_empty() || start.starts_with("pub");
            let Some((tree, after_use)) = after.split_once(';').filter(|_| is_use) else {
                source.name_paths(&before[..before.len()], module);
                rest = after;
                continue;
            };
            source.name_paths(before, module);
            for (path, name) in leaves(tree) {
                let Some(path) = from_root(&path, module, &text) else {
                    continue;
                };
                if start.starts_with("pub") {
                    source.exported.push((name, path));
                } else {
                    source.named.insert(path);
                }
            }
            rest = after_use;
        }
        source.name_paths(rest, module);
        source
    }

    /// Adds the paths in code outside of `use`.
    fn name_paths(&mut self, code: &str, module: &[String]) {
        let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in code.split(|c: char| !is_of_path(c)) {
            if word.starts_with("crate::") || word.starts_with("super::") {
                let path: Vec<_> = word.split("::").map(str::to_owned).collect();
                self.named.extend(from_root(&path, module, ""));
            }
        }
    }
}

/// Returns the name that a line defines at the top of a file.
fn defined(line: &str) -> Option<String> {
    let mut words = line.split(|c: char| !(c.is_alphanumeric() || "_!".contains(c)));
    let kinds = [
        "struct",
        "enum",
        "trait",
        "fn",
        "const",
        "static",
        "type",
        "macro_rules!",
    ];
    if line.starts_with([' ', '}', '#', '/']) {
        return None;
    }
    words.find(|word| kinds.contains(word))?;
    words
        .find(|word| !word.is_empty() && !["fn", "mut"].contains(word))
        .map(str::to_owned)
}

/// Returns the paths of a `use`, each with the name that it brings.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some((prefix, group)) = tree.split_once('{') else {
        let (path, renamed) = tree
            .split_once(" as ")
            .map_or((tree, None), |(path, name)| (path, Some(name)));
        let path: Vec<String> = path
            .split("::")
            .map(|name| name.trim().to_owned())
            .collect();
        let name = renamed.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
        return vec![(path, name)];
    };
    let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    let whole = |part: &str| match part.trim() {
        "self" => prefix.trim().trim_end_matches("::").to_owned(),
        part => format!("{}{part}", prefix.trim()),
    };
    parts.flat_map(|part| leaves(&whole(part))).collect()
}

/// Returns a path from the root of the crate; `None` if it leads to another crate.
fn from_root(path: &[String], module: &[String], text: &str) -> Option<Module> {
    let first = path.first()?.as_str();
    let ups = path.iter().take_while(|name| *name == "super").count();
    let base = match first {
        "crate" => return Some(path[1..].to_vec()),
        "self" => return Some([module, &path[1..]].concat()),
        "super" => &module[..module.len().checked_sub(ups)?],
        child if text.contains(&format!("mod {child};")) => module,
        _ => return None,
    };
    Some([base, &path[ups..]].concat())
}

/// The rooms of the table, from the top: each the beginning of a path.
fn rooms() -> Vec<Vec<String>> {
    let text = fs::read_to_string(format!("{ROOT}/docs/ARCHITECTURE.md")).expect("the page");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `src/"));
    let cells = rows.filter_map(|row| row.split(" | ").next().map(|cell| format!("`src/{cell}")));
    let of_cell = |cell: String| -> Vec<String> {
        let parts = cell.split('`').filter_map(|part| part.strip_prefix("src/"));
        parts
            .map(|part| {
                part.trim_end_matches(".rs")
                    .trim_end_matches('/')
                    .replace('/', "::")
            })
            .collect()
    };
    cells.map(of_cell).collect()
}

fn shown(sources: &Sources, module: &Module) -> String {
    let path = &sources.files[module].path;
    path.strip_prefix(ROOT)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Returns the files that reach themselves, with those that they reach on the way.
fn circles(sources: &Sources) -> Vec<String> {
    let dependencies = sources.dependencies();
    let mut circles = Vec::new();
    for start in dependencies.keys() {
        let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut next = vec![*start];
        while let Some(module) = next.pop() {
            for target in &dependencies[module] {
                if !came_from.contains_key(target) {
                    came_from.insert(target, module);
                    next.push(target);
                }
            }
        }
        if came_from.contains_key(start) {
            let mut circle = vec![shown(sources, start)];
            let mut at = came_from[start];
            while at != *start {
                circle.push(shown(sources, at));
                at = came_from[at];
            }
            circle.reverse();
            circles.push(circle.join(" -> "));
        }
    }
    circles
}

#[test]
fn files_form_no_circles() {
    for root in ["src", "crates/actor-kit/src", "crates/harness/src"] {
        let sources = Sources::read(&Path::new(ROOT).join(root));
        let arrows: usize = sources.dependencies().values().map(BTreeSet::len).sum();
        assert!(arrows > 20, "{root}: only {arrows} dependencies were read");
        let circles = circles(&sources);
        assert!(
            circles.is_empty(),
            "files depend on each other:\n{}",
            circles.join("\n")
        );
    }
}

#[test]
fn dependencies_point_down_the_table_of_rooms() {
    let rooms = rooms();
    let sources = Sources::read(&Path::new(ROOT).join("src"));
    let place = |module: &Module| {
        let path = module.join("::");
        let is_in = |room: &String| {
            path == *room
                || path.starts_with(&format!("{room}::"))
                || (room == "main" && module.is_empty())
        };
        // The longest beginning counts: a file may have a row of its own below its folder's.
        let rows = rooms
            .iter()
            .enumerate()
            .flat_map(|(row, names)| names.iter().map(move |name| (row, name)));
        rows.filter(|(_, name)| is_in(name))
            .max_by_key(|(_, name)| name.len())
            .map(|(row, _)| row)
    };
    let mut wrong = Vec::new();
    for (module, targets) in sources.dependencies() {
        for target in targets {
            let (from, to) = (place(module), place(target));
            if target[0] == "telemetry" && module[0] != "domain" || module[0] == target[0] {
                continue;
            }
            if from.is_none() || to.is_none() || from > to {
                wrong.push(format!(
                    "{} -> {}",
                    shown(&sources, module),
                    shown(&sources, target)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "dependencies that point up:\n{}",
        wrong.join("\n")
    );
}
