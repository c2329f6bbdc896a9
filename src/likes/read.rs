//! Reading a like: from the cache, and from the database what the cache cannot tell.

use super::Likes;
use crate::actors::kit::Refused;
use crate::domain::{Pair, Reading, Resource, UserId};
use crate::messages::{Known, Lookup};

/// Whether a user likes a resource, and how many do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Like {
    /// Whether the user likes it.
    pub liked: bool,
    /// How many users like it; `None` if that cannot be told now.
    pub like_count: Option<i64>,
}

/// Why a like cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// More is waiting than may wait.
    #[error("{0}")]
    Overloaded(Refused),
    /// The cache does not know, and the database cannot be asked.
    #[error("the cache does not know this like, and the database cannot be asked now")]
    Unknown,
}

impl Likes {
    /// Reads a like.
    ///
    /// # Errors
    /// If nothing that can be reached knows it: an answer is never a guess.
    pub async fn read(&self, user_id: UserId, resource: Resource) -> Result<Like, NotRead> {
        let pair = Pair { resource, user_id };
        // A cache that cannot be read knows nothing; the cache writer reports it when it fails there.
        let readings = self.cache.read(&[pair]).await.unwrap_or_default();
        if let Some(Reading {
            liked: Some(liked),
            like_count: Some(like_count),
        }) = readings.first()
        {
            return Ok(Like {
                liked: *liked,
                like_count: Some(*like_count),
            });
        }
        let known = self
            .cache_writer
            .ask(Lookup { pair })
            .map_err(NotRead::Overloaded)?;
        match known.await {
            Ok(Some(Known { liked, like_count })) => Ok(Like { liked, like_count }),
            Ok(None) | Err(_) => Err(NotRead::Unknown),
        }
    }
}
