//! What a key does. The keys stand in [`KEYS`] for the help.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Action, Model, Operation, Place, Screen};
use crate::cli::reports::ActorState;

/// The keys, for the help.
pub(super) const KEYS: [(&str, &str); 13] = [
    ("↑ ↓, k j", "select an actor, or scroll"),
    (
        "PgUp PgDn, Home End",
        "move by a page, to the first, to the last",
    ),
    ("Enter", "show everything of the actor"),
    ("Esc", "go back; drop the search"),
    ("/", "search names, states, reasons and processes"),
    ("s", "sort by state, flow, mailbox, oldest, rate, name"),
    (
        "Tab, Shift-Tab",
        "show one process, also one that is gone, or all",
    ),
    ("d", "show or hide actors that do not run"),
    ("p", "pause the actor"),
    ("u", "resume the actor (unpause)"),
    ("r", "restart the actor"),
    ("?", "show these keys"),
    ("q, Ctrl-C", "quit"),
];

/// The rows of a page.
const PAGE: isize = 10;

/// What the program has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Operate(Operation),
}

/// Handles a key.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Option<Effect> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control && key.code == KeyCode::Char('c') {
        return Some(Effect::Quit);
    }
    if model.is_searching {
        search(model, key.code);
        return None;
    }
    if is_control || key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    model.message = None;
    if let Some(operation) = model.question.clone() {
        return answer(model, operation, key.code);
    }
    match model.screen.clone() {
        Screen::Help => model.screen = Screen::Table,
        Screen::Table => return in_table(model, key.code),
        Screen::Detail(place, line) => return in_detail(model, place, line, key.code),
    }
    None
}

fn search(model: &mut Model, code: KeyCode) {
    match code {
        KeyCode::Enter => model.is_searching = false,
        KeyCode::Esc => {
            model.is_searching = false;
            model.search.clear();
        }
        KeyCode::Backspace => {
            model.search.pop();
        }
        KeyCode::Char(letter) => model.search.extend(letter.to_lowercase()),
        _ => return,
    }
    if model.position().is_none() {
        model.select(0);
    }
}

fn answer(model: &mut Model, operation: Operation, code: KeyCode) -> Option<Effect> {
    match code {
        KeyCode::Char('y' | 'Y') | KeyCode::Enter => {
            model.question = None;
            model.is_operating = true;
            let text = format!("{} {} …", operation.action.as_str(), operation.place.actor);
            model.message = Some(Ok(text));
            Some(Effect::Operate(operation))
        }
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
            model.question = None;
            model.message = Some(Ok("nothing was changed".to_owned()));
            None
        }
        _ => None,
    }
}

fn in_table(model: &mut Model, code: KeyCode) -> Option<Effect> {
    match code {
        KeyCode::Char('q') => return Some(Effect::Quit),
        KeyCode::Char('?' | 'h') => model.screen = Screen::Help,
        KeyCode::Up | KeyCode::Char('k') => step(model, -1),
        KeyCode::Down | KeyCode::Char('j') => step(model, 1),
        KeyCode::PageUp => step(model, -PAGE),
        KeyCode::PageDown => step(model, PAGE),
        KeyCode::Home | KeyCode::Char('g') => model.select(0),
        KeyCode::End | KeyCode::Char('G') => model.select(usize::MAX),
        KeyCode::Enter | KeyCode::Right => {
            if let Some(place) = selected(model) {
                model.screen = Screen::Detail(place, 0);
            }
        }
        KeyCode::Esc => model.search.clear(),
        KeyCode::Char('/') => model.is_searching = true,
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('d') => model.shows_disabled = !model.shows_disabled,
        KeyCode::Tab => choose(model, 1),
        KeyCode::BackTab => choose(model, -1),
        KeyCode::Char(letter) => {
            if let Some(place) = selected(model) {
                ask(model, place, letter);
            }
        }
        _ => {}
    }
    if model.position().is_none() {
        model.select(0);
    }
    None
}

fn in_detail(model: &mut Model, place: Place, line: u16, code: KeyCode) -> Option<Effect> {
    let page = PAGE.unsigned_abs() as u16;
    let line = match code {
        KeyCode::Char('q') => return Some(Effect::Quit),
        KeyCode::Up | KeyCode::Char('k') => line.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => line.saturating_add(1),
        KeyCode::PageUp => line.saturating_sub(page),
        KeyCode::PageDown => line.saturating_add(page),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::Esc | KeyCode::Enter | KeyCode::Left | KeyCode::Backspace => {
            model.screen = Screen::Table;
            return None;
        }
        KeyCode::Char('?' | 'h') => {
            model.screen = Screen::Help;
            return None;
        }
        KeyCode::Char(letter) => {
            ask(model, place, letter);
            return None;
        }
        _ => line,
    };
    // A screenful of lines is the most that an actor has several times over.
    model.screen = Screen::Detail(place, line.min(200));
    None
}

/// Returns the place of the selected row.
fn selected(model: &Model) -> Option<Place> {
    let position = model.position()?;
    model.rows().get(position).map(super::model::Row::place)
}

fn step(model: &mut Model, rows: isize) {
    let from = model.position().unwrap_or(0);
    model.select(from.saturating_add_signed(rows));
}

/// Shows the next process alone, or all after the last one.
fn choose(model: &mut Model, step: isize) {
    let ids: Vec<_> = model
        .processes
        .all()
        .iter()
        .map(|process| process.last.id.clone())
        .collect();
    let chosen = model.process.as_ref();
    let now = chosen.and_then(|id| ids.iter().position(|one| one == id));
    // Zero stands for all processes.
    let places = ids.len() as isize + 1;
    let now = now.map_or(0, |index| index as isize + 1);
    let next = (now + step).rem_euclid(places);
    model.process = match next {
        0 => None,
        next => ids.into_iter().nth(next as usize - 1),
    };
}

/// Asks before an operation, unless it cannot be done.
fn ask(model: &mut Model, place: Place, letter: char) {
    let action = match letter {
        'p' => Action::Pause,
        'u' => Action::Resume,
        'r' => Action::Restart,
        _ => return,
    };
    let Some(row) = model.find(&place) else {
        return;
    };
    let (state, process) = (row.actor.state, &row.process.last);
    let name = &place.actor;
    let refusal = if !model.session.may_operate() {
        Some("this token may only read: it lacks the scope admin:operate".to_owned())
    } else if model.is_operating {
        Some("the last operation has not been answered yet".to_owned())
    } else if !process.state.is_present() {
        Some(format!("{} is {}", process.host, process.state.as_str()))
    } else {
        match (action, state) {
            (_, ActorState::Disabled) => Some(format!("{name} does not run in this process")),
            (Action::Pause, ActorState::Paused) => {
                Some(format!("{name} is paused already; u resumes it"))
            }
            (Action::Resume, state) if state != ActorState::Paused => {
                Some(format!("{name} is not paused"))
            }
            _ => None,
        }
    };
    match refusal {
        Some(refusal) => model.message = Some(Err(refusal)),
        None => {
            let host = process.title();
            model.question = Some(Operation {
                action,
                place,
                host,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::samples::{deployment, model};

    fn type_text(model: &mut Model, text: &str) {
        for letter in text.chars() {
            let _ = press(model, KeyCode::Char(letter).into());
        }
    }

    fn names(model: &Model) -> Vec<&str> {
        model
            .rows()
            .iter()
            .map(|row| row.actor.name.as_str())
            .collect()
    }

    #[test]
    fn search_keeps_matching_rows_until_escape() {
        let mut model = model(deployment());
        let all = names(&model).len();
        type_text(&mut model, "/SYNCQ");
        assert!(names(&model).is_empty());
        let _ = press(&mut model, KeyCode::Backspace.into());
        let _ = press(&mut model, KeyCode::Enter.into());
        assert!(
            names(&model).iter().all(|name| *name == "sync_publisher"),
            "{:?}",
            names(&model)
        );
        assert_eq!(
            model.selected.as_ref().map(|place| place.actor.as_str()),
            Some("sync_publisher")
        );
        let _ = press(&mut model, KeyCode::Esc.into());
        assert_eq!(names(&model).len(), all);
    }

    #[test]
    fn selection_follows_its_actor_in_another_order() {
        let mut model = model(deployment());
        let _ = press(&mut model, KeyCode::Down.into());
        let before = model.selected.clone();
        type_text(&mut model, "sssss");
        assert_eq!(model.sort.as_str(), "name");
        assert!(names(&model).is_sorted());
        assert_eq!(model.selected, before);
        assert!(model.position().is_some());
    }

    #[test]
    fn operations_need_a_confirmation_and_the_scope() {
        let mut model = model(deployment());
        model.session.scopes = vec!["admin:read".to_owned()];
        type_text(&mut model, "r");
        assert_eq!(model.question, None);
        assert!(matches!(&model.message, Some(Err(reason)) if reason.contains("admin:operate")));

        model.session.scopes.push("admin:operate".to_owned());
        type_text(&mut model, "rn");
        assert_eq!(model.question, None);
        type_text(&mut model, "r");
        assert!(model.question.is_some());
        let place = model.selected.clone().expect("a selected row");
        let effect = press(&mut model, KeyCode::Char('y').into());
        let Some(Effect::Operate(operation)) = effect else {
            panic!("{effect:?}");
        };
        assert_eq!(
            (operation.action, operation.place),
            (Action::Restart, place)
        );
        // One at a time.
        type_text(&mut model, "r");
        assert!(
            matches!(&model.message, Some(Err(reason)) if reason.contains("not been answered"))
        );
    }

    #[test]
    fn processes_are_shown_one_by_one() {
        let mut model = model(deployment());
        let mut shown = Vec::new();
        for _ in 0..4 {
            let _ = press(&mut model, KeyCode::Tab.into());
            shown.push(model.process.clone());
        }
        assert_eq!(shown[3], None);
        let gone = shown.iter().flatten().find(|id| id.as_str() == "p-3");
        assert!(gone.is_some(), "{shown:?}");
        let _ = press(&mut model, KeyCode::BackTab.into());
        assert_eq!(model.process, shown[2]);
    }
}
