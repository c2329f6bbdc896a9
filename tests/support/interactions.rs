//! Files of `user_id,video_id` lines, for `load`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::crowd::Pair;

const VARIABLE: &str = "LIKEWISE_TEST_INTERACTIONS";

/// Likes with repeated pairs, of which a few videos get the most: generated from a fixed seed, or read from the file
/// that `LIKEWISE_TEST_INTERACTIONS` names.
pub fn recorded(rng: &mut SmallRng) -> Vec<Pair> {
    let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return drawn(20_000, rng);
    };
    let file = File::open(&path).expect("the file can be read");
    let text: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    BufReader::new(text)
        .lines()
        .map(|line| line.expect("text"))
        .filter_map(|line| {
            let (user, video) = line.split_once(',')?;
            Some((user.trim().parse().ok()?, video.trim().parse().ok()?))
        })
        .collect()
}

/// Generates random likes, of which a few videos get the most.
pub fn drawn(count: usize, rng: &mut SmallRng) -> Vec<Pair> {
    let draw = |_| {
        let user = rng.random_range(1..=5_000);
        let video = 1 + (rng.random::<f64>().powi(4) * 2_000.0) as i64;
        (user, video)
    };
    (0..count).map(draw).collect()
}

/// Writes them to a file, as gzip if its name ends in `.gz`.
pub fn write(path: &Path, pairs: &[Pair]) {
    let mut text = String::from("user_id,video_id\n");
    for (user, video) in pairs {
        text.push_str(&format!("{user},{video}\n"));
    }
    write_text(path, &text);
}

/// Writes text to a file, as gzip if its name ends in `.gz`.
pub fn write_text(path: &Path, text: &str) {
    let file = File::create(path).expect("a new file");
    let written = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut encoder = GzEncoder::new(file, Compression::fast());
        encoder
            .write_all(text.as_bytes())
            .and_then(|()| encoder.finish().map(drop))
    } else {
        let mut file = file;
        file.write_all(text.as_bytes())
    };
    written.expect("the file is written");
}
