//! Colours, or what stands for them in a terminal without: every state also has a sign of its own.

use ratatui::style::{Color, Modifier, Style};

use crate::cli::reports::{ActorState, ProcessState};
use crate::cli::top::answers::PartState;

/// The styles of a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Styles {
    has_colour: bool,
}

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
}

impl Styles {
    pub(super) const fn new(has_colour: bool) -> Self {
        Self { has_colour }
    }

    /// Returns the style of text in this tone.
    pub(super) fn of(self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.has_colour) {
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Warning, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Good, false) => style,
            (Tone::Warning | Tone::Bad, false) => style.add_modifier(Modifier::BOLD),
            (Tone::Quiet, _) => style.add_modifier(Modifier::DIM),
        }
    }

    /// Returns the style of a name.
    pub(super) fn label(self) -> Style {
        match self.has_colour {
            true => Style::new().fg(Color::Cyan),
            false => Style::new(),
        }
    }

    /// Returns the style of what has to be seen at once: the header, the selected row.
    pub(super) fn reversed() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Returns the style of what matters.
    pub(super) fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

impl Tone {
    /// Returns the sign before something in this tone.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Good => "●",
            Self::Warning => "!",
            Self::Bad => "✗",
            Self::Quiet => "○",
        }
    }
}

impl From<ActorState> for Tone {
    fn from(state: ActorState) -> Self {
        match state {
            ActorState::Running => Self::Good,
            ActorState::Failed | ActorState::Stuck | ActorState::Restarting => Self::Bad,
            ActorState::Paused | ActorState::Starting => Self::Warning,
            ActorState::Stopped | ActorState::Disabled | ActorState::Unknown => Self::Quiet,
        }
    }
}

impl From<ProcessState> for Tone {
    fn from(state: ProcessState) -> Self {
        match state {
            ProcessState::Running => Self::Good,
            ProcessState::Silent => Self::Warning,
            ProcessState::Gone => Self::Bad,
            ProcessState::Stopped => Self::Quiet,
        }
    }
}

impl From<PartState> for Tone {
    fn from(state: PartState) -> Self {
        match state {
            PartState::Up => Self::Good,
            PartState::Down => Self::Bad,
        }
    }
}
