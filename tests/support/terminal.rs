//! A program in a terminal of its own: a pseudo terminal whose screen a test reads and whose keys it presses.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

use super::service::Setup;
use super::{PATIENCE, until};

/// A program in a terminal, killed when it is dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    /// The end that the program has, kept to see in which mode it leaves the terminal.
    line: OwnedFd,
    screen: Arc<Mutex<Parser>>,
}

impl Terminal {
    /// Starts the program in a terminal of this many columns and rows. Its log goes to a file, as of other programs.
    #[track_caller]
    pub fn start(setup: &Setup, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&keys).expect("its other end");
        unlockpt(&keys).expect("its other end");
        let name = ptsname(&keys, Vec::new()).expect("the name of its other end");
        let name = name.into_string().expect("a path");
        let open = || File::options().read(true).write(true).open(&name);
        let line = open().expect("the other end");
        resize(&line, columns, rows);
        let child = setup
            .command(arguments)
            .env("TERM", "xterm-256color")
            .stdin(open().expect("the other end"))
            .stdout(open().expect("the other end"))
            .spawn()
            .expect("the program starts");
        let size = |number| NonZeroU16::new(number).expect("a size");
        let screen = Arc::new(Mutex::new(Parser::new(size(rows), size(columns), 0)));
        let keys = File::from(keys);
        let drawn = Arc::clone(&screen);
        let mut output = keys.try_clone().expect("another handle");
        // Ends when no one has the other end any more.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                lock(&drawn).process(&bytes[..read]);
            }
        });
        Self {
            child,
            keys,
            line: line.into(),
            screen,
        }
    }

    /// Presses keys, as the terminal sends them.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        (&self.keys)
            .write_all(keys.as_bytes())
            .expect("an open terminal");
    }

    /// Changes the size, and tells the program.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = |number| NonZeroU16::new(number).expect("a size");
        lock(&self.screen).set_size(size(rows), size(columns));
        resize(&self.line, columns, rows);
        self.signal(Signal::WINCH);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a running program");
    }

    /// Returns the text on the screen.
    pub fn screen(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until the screen is as it should be. Returns it.
    #[track_caller]
    pub fn until_shown(&mut self, what: &str, mut is_right: impl FnMut(&str) -> bool) -> String {
        until(&format!("the screen to show {what}"), PATIENCE, || {
            let screen = self.screen();
            if is_right(&screen) {
                return Ok(screen);
            }
            match self.child.try_wait().expect("a child process") {
                Some(status) => panic!("the program ended with {status}, and left:\n{screen}"),
                None => Err(screen),
            }
        })
    }

    /// Waits until the screen has this text. Returns the screen.
    #[track_caller]
    pub fn until_has(&mut self, text: &str) -> String {
        self.until_shown(text, |screen| screen.contains(text))
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        until("the program to end", PATIENCE, || {
            let status = self.child.try_wait().expect("a child process");
            status.ok_or_else(|| self.screen())
        })
    }

    /// Waits until the terminal is as it was: the usual screen, a cursor, and keys that are echoed line by line.
    #[track_caller]
    pub fn is_restored(&self) {
        until("the terminal to be restored", PATIENCE, || {
            let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
            let is_cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO);
            let parser = lock(&self.screen);
            let (is_alternate, has_no_cursor) = (
                parser.screen().alternate_screen(),
                parser.screen().hide_cursor(),
            );
            match is_cooked && !is_alternate && !has_no_cursor {
                true => Ok(()),
                false => Err(format!(
                    "cooked {is_cooked}, alternate screen {is_alternate}, hidden cursor {has_no_cursor}"
                )),
            }
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::say(format_args!("--- the screen ---\n{}", self.screen()));
        }
        // Fails only if the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(line: &impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(line, size).expect("a terminal");
}

fn lock(parser: &Mutex<Parser>) -> MutexGuard<'_, Parser> {
    parser.lock().unwrap_or_else(PoisonError::into_inner)
}
