//! Reads files of recorded interactions: lines of `user_id,video_id`, plain or gzip. `load` reads a file twice,
//! first to check and count it, then to send it, so that memory use does not depend on the file's length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::interaction::{Interaction, is_header, parse};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BUFFER_BYTES: usize = 64 * 1024;
/// Two numbers and a comma need 39. The bound keeps a file without line ends out of memory.
const LONGEST_LINE_BYTES: u64 = 256;

/// Why a file of interactions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InteractionsError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {reason}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// A pipe or a directory.
    #[error("{path} is not a regular file; it is read twice, so save it to one first", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A read error, or damaged gzip data.
    #[error("cannot read {path} beyond line {line}: {reason}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The last line that was read, from 1.
        line: u64,
        /// The error of the system or of the decompressor.
        reason: io::Error,
    },
    /// A line is not an interaction.
    #[error("{path}, line {line}: expected `user_id,video_id`, two whole numbers above 0, found `{found}`", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The line, truncated.
        found: String,
    },
    /// No interaction at all.
    #[error("{path} holds no interactions; expected lines of `user_id,video_id`", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The interactions of a file, one at a time. Blank lines and a header are skipped.
pub struct Interactions {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    // The line that was read last, reused for every line, and its number from 1.
    line: Vec<u8>,
    number: u64,
    // Until the first line that is not blank.
    may_be_header: bool,
}

impl Interactions {
    /// Opens a file. Gzip is detected by the extension `.gz` or by the first bytes.
    ///
    /// # Errors
    /// When the file cannot be opened, read, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, InteractionsError> {
        let cannot_open = |reason| InteractionsError::Open {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(cannot_open)?;
        if !file.metadata().map_err(cannot_open)?.is_file() {
            return Err(InteractionsError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mut bytes = BufReader::with_capacity(BUFFER_BYTES, file);
        let has_magic = bytes
            .fill_buf()
            .map_err(cannot_open)?
            .starts_with(&GZIP_MAGIC);
        let is_gzip = has_magic || path.extension().is_some_and(|extension| extension == "gz");
        let lines: Box<dyn BufRead> = if is_gzip {
            let decoder = MultiGzDecoder::new(bytes);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        } else {
            Box::new(bytes)
        };
        Ok(Self::new(path.to_owned(), lines))
    }

    /// Reads the whole file and counts its interactions.
    ///
    /// # Errors
    /// The first error in the file; [`InteractionsError::Empty`] if it holds none.
    pub fn count(path: &Path) -> Result<u64, InteractionsError> {
        let count = Self::open(path)?.try_fold(0, |count, line| line.map(|_| count + 1))?;
        if count == 0 {
            return Err(InteractionsError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(count)
    }

    fn new(path: PathBuf, lines: Box<dyn BufRead>) -> Self {
        Self {
            path,
            lines,
            line: Vec::new(),
            number: 0,
            may_be_header: true,
        }
    }

    /// Reads the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, InteractionsError> {
        loop {
            self.line.clear();
            let mut line = self.lines.by_ref().take(LONGEST_LINE_BYTES);
            match line.read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(false),
                Ok(_) => self.number += 1,
                Err(reason) => {
                    return Err(InteractionsError::Read {
                        path: self.path.clone(),
                        line: self.number,
                        reason,
                    });
                }
            }
            if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn bad_line(&self) -> InteractionsError {
        const LONGEST_SHOWN: usize = 60;
        let mut found = String::from_utf8_lossy(self.line.trim_ascii()).into_owned();
        if let Some((end, _)) = found.char_indices().nth(LONGEST_SHOWN) {
            found.truncate(end);
            found.push('…');
        }
        InteractionsError::Line {
            path: self.path.clone(),
            line: self.number,
            found: found.escape_debug().to_string(),
        }
    }
}

impl Iterator for Interactions {
    type Item = Result<Interaction, InteractionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let may_be_header = std::mem::replace(&mut self.may_be_header, false);
            if let Some(interaction) = parse(&self.line) {
                return Some(Ok(interaction));
            }
            if !(may_be_header && is_header(&self.line)) {
                return Some(Err(self.bad_line()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(i64, i64)>, String> {
        Interactions::new(
            "likes.csv".into(),
            Box::new(io::Cursor::new(bytes.to_vec())),
        )
        .map(|line| match line {
            Ok(interaction) => Ok((interaction.user_id, interaction.video_id)),
            Err(error) => Err(error.to_string()),
        })
        .collect()
    }

    fn saved(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file in it");
        (folder, path)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn header_line_is_optional() {
        let both = Ok(vec![(1, 2), (3, 4)]);
        assert_eq!(read(b"user_id,video_id\n1,2\n3,4\n"), both);
        assert_eq!(read(b"1,2\n3,4"), both);
        assert_eq!(
            read(b"\xef\xbb\xbfuser,item\r\n1, 2\r\n\r\n\"3\",4\r\n"),
            both
        );
    }

    #[test]
    fn error_names_file_line_and_expected_format() {
        for text in [
            "user_id,video_id\n1,2\n\n3,x\n",
            "user_id,video_id\r\n1,2\r\n\r\n3,x",
        ] {
            let message = read(text.as_bytes()).expect_err("line 4 is bad");
            assert_eq!(
                message,
                "likes.csv, line 4: expected `user_id,video_id`, two whole numbers above 0, found `3,x`"
            );
        }
    }

    #[test]
    fn header_is_accepted_on_the_first_line_only() {
        assert!(read(b"1,2\nuser_id,video_id\n").is_err());
        assert!(read(b"user_id,video_id\nuser_id,video_id\n1,2\n").is_err());
    }

    #[test]
    fn long_invalid_line_is_truncated_in_the_error() {
        let message = read("é".repeat(5_000).as_bytes()).expect_err("no interaction");
        assert!(message.chars().count() < 200, "{message}");
    }

    #[test]
    fn gzip_is_detected_by_magic_bytes() {
        for name in ["likes.csv.gz", "likes.csv"] {
            let (_folder, path) = saved(name, &gzip("user_id,video_id\n1,2\n3,4\n"));
            assert_eq!(Interactions::count(&path).expect(name), 2);
        }
    }

    #[test]
    fn truncated_gzip_is_an_error() {
        let whole = gzip(
            &(1..5_000)
                .map(|id| format!("{id},{id}\n"))
                .collect::<String>(),
        );
        let (_folder, path) = saved("likes.csv.gz", &whole[..whole.len() / 2]);
        assert!(matches!(
            Interactions::count(&path),
            Err(InteractionsError::Read { .. })
        ));
    }

    #[test]
    fn plain_text_named_gz_is_an_error() {
        let (_folder, path) = saved("likes.csv.gz", b"1,2\n");
        assert!(matches!(
            Interactions::count(&path),
            Err(InteractionsError::Read { .. })
        ));
    }

    #[test]
    fn file_without_interactions_is_an_error() {
        let (_folder, path) = saved("likes.csv", b"user_id,video_id\n");
        assert!(matches!(
            Interactions::count(&path),
            Err(InteractionsError::Empty { .. })
        ));
        assert!(matches!(
            Interactions::count(path.parent().expect("its folder")),
            Err(InteractionsError::NotAFile { .. })
        ));
    }
}
