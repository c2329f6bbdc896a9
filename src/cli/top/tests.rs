//! Screens, drawn from models without a terminal, at the sizes of a small and of a large one.

use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;

use super::keys::press;
use super::model::{Model, Update};
use super::samples::{
    alone_after, deployment_after, failing_figures, figures, in_trouble, model, now,
};
use super::view;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

fn terminal(model: &Model, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| view::draw(frame, model))
        .expect("a screen");
    terminal
}

fn screen(model: &Model, size: (u16, u16)) -> String {
    terminal(model, size).backend().to_string()
}

/// A model that has followed a deployment without trouble for some seconds.
fn healthy() -> Model {
    let mut model = model(deployment_after(7_290));
    for second in 7_291..=7_300 {
        model.apply(Update::Report(Box::new(deployment_after(second))));
    }
    model
}

/// The same model after everything that can go wrong with actors, processes and dependencies.
fn troubled() -> Model {
    let mut model = healthy();
    model.apply(Update::Report(Box::new(in_trouble())));
    model.apply(Update::Figures(Box::new(failing_figures())));
    model
}

#[test]
fn screen_of_one_process() {
    let mut model = model(alone_after(100));
    model.apply(Update::Report(Box::new(alone_after(101))));
    assert_snapshot!("one_process_80x24", screen(&model, SMALL));
}

#[test]
fn screen_of_a_deployment_without_trouble() {
    let model = healthy();
    assert_snapshot!("healthy_80x24", screen(&model, SMALL));
    assert_snapshot!("healthy_120x40", screen(&model, LARGE));
}

#[test]
fn screen_shows_failures_of_each_kind() {
    let model = troubled();
    assert_snapshot!("troubled_80x24", screen(&model, SMALL));
    assert_snapshot!("troubled_120x40", screen(&model, LARGE));
}

#[test]
fn screen_of_a_service_that_is_away_keeps_the_last_report() {
    let mut model = healthy();
    model.apply(Update::Away("io: Connection refused".to_owned()));
    model.now = now() + chrono::TimeDelta::seconds(12);
    model.apply(Update::Away("timeout: global".to_owned()));
    assert_snapshot!("away_80x24", screen(&model, SMALL));
    model.apply(Update::Report(Box::new(deployment_after(7_320))));
    assert!(!screen(&model, SMALL).contains("AWAY"));
}

#[test]
fn screen_of_one_actor() {
    let mut model = troubled();
    let _ = press(&mut model, KeyCode::Char('/').into());
    for letter in "sync".chars() {
        let _ = press(&mut model, KeyCode::Char(letter).into());
    }
    let _ = press(&mut model, KeyCode::Enter.into());
    let _ = press(&mut model, KeyCode::Enter.into());
    assert_snapshot!("detail_80x24", screen(&model, SMALL));
    assert_snapshot!("detail_120x40", screen(&model, LARGE));
    // The last line stays on the screen.
    for _ in 0..100 {
        let _ = press(&mut model, KeyCode::Down.into());
    }
    assert!(
        screen(&model, SMALL).contains("Committed"),
        "{}",
        screen(&model, SMALL)
    );
}

#[test]
fn screen_of_a_process_that_is_gone_has_its_last_report() {
    let mut model = healthy();
    while model.process.as_deref() != Some("p-3") {
        let _ = press(&mut model, KeyCode::Tab.into());
    }
    assert_snapshot!("gone_80x24", screen(&model, SMALL));
}

#[test]
fn screen_asks_before_an_operation() {
    let mut model = healthy();
    let _ = press(&mut model, KeyCode::Char('p').into());
    assert_snapshot!("question_80x24", screen(&model, SMALL));
}

#[test]
fn screen_lists_the_keys() {
    let mut model = healthy();
    let _ = press(&mut model, KeyCode::Char('?').into());
    assert_snapshot!("help_80x24", screen(&model, SMALL));
}

#[test]
fn narrow_screens_drop_words_before_numbers() {
    let model = troubled();
    assert_snapshot!("troubled_60x30", screen(&model, (60, 30)));
    for width in 60..=100 {
        let screen = screen(&model, (width, 30));
        for whole in [
            " 12  ",
            " 500  ",
            " 37  ",
            "dead 2  ",
            "3 min  ",
            "lag 42",
            "−1.2 s",
            "not ready",
            "9,812 queued",
            "12 queued",
        ] {
            assert!(screen.contains(whole), "{width}: {whole}\n{screen}");
        }
        let is_whole = |ends: &[&str]| {
            let mut lines = screen.lines().map(|line| line.trim_matches('"').trim_end());
            lines.any(|line| ends.iter().any(|end| line.ends_with(end)))
        };
        assert!(is_whole(&[" 8,800", " 8800"]), "{width}\n{screen}");
        assert!(
            is_whole(&["pause", "resume", "restart", "sort"]),
            "{width}\n{screen}"
        );
    }
}

#[test]
fn any_size_can_be_drawn() {
    let mut model = troubled();
    for question in [false, true] {
        if question {
            let _ = press(&mut model, KeyCode::Char('r').into());
        }
        for width in [1, 20, 39, 40, 59, 60, 99, 110, 300] {
            for height in [1, 9, 10, 11, 29, 30, 100] {
                let _ = terminal(&model, (width, height));
            }
        }
    }
    assert!(screen(&model, (30, 8)).contains("too small"));
    let narrow = screen(&troubled(), (40, 10));
    assert!(narrow.contains("actors"), "{narrow}");
}

#[test]
fn no_colour_is_used_without_colours() {
    for (has_colour, expected) in [(true, true), (false, false)] {
        let mut model = troubled();
        model.has_colour = has_colour;
        let terminal = terminal(&model, LARGE);
        let cells = &terminal.backend().buffer().content;
        let is_plain = |colour: Color| colour == Color::Reset;
        let coloured = cells
            .iter()
            .any(|cell| !is_plain(cell.fg) || !is_plain(cell.bg));
        assert_eq!(coloured, expected);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut model = model(deployment_after(1));
    for second in 2..1_000 {
        model.apply(Update::Report(Box::new(deployment_after(second))));
        model.apply(Update::Figures(Box::new(figures())));
    }
    assert_eq!(model.throughput.len(), 120);
    assert_eq!(model.throughput.back(), Some(&(100.0, 100.0)));
}
