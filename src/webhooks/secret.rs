//! The keys that sign webhooks. A file with them is read again when it changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::config::Secret;
use crate::telemetry::{WebhookSecretKept, WebhookSecretRead};

/// The lengths of a key in bytes, as the specification says.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The most secrets at a time: the old one and the new one of a rotation.
const MOST_SECRETS: usize = 2;

/// The interval between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a secret cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// The file cannot be read.
    #[error("cannot read LIKEWISE_WEBHOOK_SECRET_FILE {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is none, or another number than one or two.
    #[error(
        "the secret of webhooks must be one or two secrets with a space between them, got {0}; `likewise webhooks secret` \
         makes one"
    )]
    Number(usize),
    /// One has another form.
    #[error(
        "secret {0} of webhooks is not whsec_ and base64 of 24 to 64 bytes, as Standard Webhooks says; `likewise webhooks \
         secret` makes one"
    )]
    Form(usize),
}

/// The keys in force.
pub struct SigningKeys {
    keys: Vec<hmac::Key>,
    file: Option<File>,
}

/// The file that the keys come from.
struct File {
    path: PathBuf,
    stamp: Option<(SystemTime, u64)>,
    looked_at: Instant,
    /// The error that was logged last.
    said: Option<BadSecret>,
}

impl SigningKeys {
    /// Reads the secret, from the file if there is one.
    ///
    /// # Errors
    /// If it cannot be read or used.
    pub fn load(secret: Option<&Secret>, file: Option<&Path>) -> Result<Self, BadSecret> {
        let Some(path) = file else {
            let text = secret.map(Secret::expose).unwrap_or_default();
            return Ok(Self {
                keys: parse(text)?,
                file: None,
            });
        };
        Ok(Self {
            file: Some(File {
                path: path.to_owned(),
                stamp: stamp(path),
                looked_at: Instant::now(),
                said: None,
            }),
            keys: parse(&read(path)?)?,
        })
    }

    /// Reads the file again if it has changed. What cannot be used leaves the keys in force.
    pub(super) fn refresh(&mut self) {
        let Some(file) = &mut self.file else {
            return;
        };
        if file.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        file.looked_at = Instant::now();
        let now = stamp(&file.path);
        if now == file.stamp {
            return;
        }
        match read(&file.path).and_then(|text| parse(&text)) {
            Ok(keys) => {
                self.keys = keys;
                file.stamp = now;
                file.said = None;
                WebhookSecretRead.emit();
            }
            Err(error) => {
                if file.said.as_ref() != Some(&error) {
                    WebhookSecretKept { error: &error }.emit();
                }
                file.said = Some(error);
            }
        }
    }

    /// Returns the header of a message: one signature for each key.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let content = format!("{id}.{timestamp}.{body}");
        let signature = |key: &hmac::Key| {
            let tag = hmac::sign(key, content.as_bytes());
            format!("v1,{}", STANDARD.encode(tag.as_ref()))
        };
        let signatures: Vec<_> = self.keys.iter().map(signature).collect();
        signatures.join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(hidden)")
    }
}

fn read(path: &Path) -> Result<String, BadSecret> {
    std::fs::read_to_string(path).map_err(|error| BadSecret::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// When the file was last written, and its size.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn parse(text: &str) -> Result<Vec<hmac::Key>, BadSecret> {
    let secrets: Vec<_> = text.split_whitespace().collect();
    if !(1..=MOST_SECRETS).contains(&secrets.len()) {
        return Err(BadSecret::Number(secrets.len()));
    }
    let key = |(index, secret): (usize, &&str)| {
        let encoded = secret.strip_prefix(PREFIX);
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.filter(|bytes| KEY_BYTES.contains(&bytes.len()));
        let bytes = bytes.ok_or(BadSecret::Form(index + 1))?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    };
    secrets.iter().enumerate().map(key).collect()
}

/// Returns a new random secret; `None` if the system has no randomness.
#[must_use]
pub fn new_secret() -> Option<String> {
    let random = ring::rand::SystemRandom::new();
    let mut bytes = [0; 32];
    ring::rand::SecureRandom::fill(&random, &mut bytes).ok()?;
    Some(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn keys(text: &str) -> Result<SigningKeys, BadSecret> {
        SigningKeys::load(Some(&Secret::new(text.to_owned())), None)
    }

    #[test]
    fn signature_is_that_of_the_specification() {
        let signed = |keys: &SigningKeys| {
            let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
            keys.sign(id, 1_614_265_330, r#"{"test": 2432232314}"#)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed(&keys(SECRET).expect("a secret")), expected);
        let new = new_secret().expect("randomness");
        let rotation = signed(&keys(&format!("{new} {SECRET}\n")).expect("two secrets"));
        let (first, second) = rotation.split_once(' ').expect("two signatures");
        assert_ne!(first, expected);
        assert_eq!(second, expected);
    }

    #[test]
    fn secret_of_another_form_is_refused() {
        assert_eq!(keys(" ").err(), Some(BadSecret::Number(0)));
        let three = format!("{SECRET} {SECRET} {SECRET}");
        assert_eq!(keys(&three).err(), Some(BadSecret::Number(3)));
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ", "whsec_$"] {
            let text = format!("{SECRET} {wrong}");
            assert_eq!(keys(&text).err(), Some(BadSecret::Form(2)), "{wrong}");
        }
    }
}
