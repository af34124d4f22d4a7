//! What takes records, whatever it is: the one place where destinations differ for the drain.

use std::{
    net::SocketAddr,
    panic::resume_unwind,
    pin::Pin,
    time::{Duration, Instant},
};

use super::{pack::Form, stride::base64_len};
use crate::{
    clock,
    file::{Folder, FolderError},
    kinesis::{Answer, Class, Client, Firehose, HeldCredentials, PutError, Record, ServiceClock, limits},
};

/// Asks an endpoint whether it is back; the outlet itself learns the answer.
pub(super) type Look = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What takes records; cheap to clone.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// Amazon Kinesis Data Streams.
    Kinesis(Client),
    /// Amazon Data Firehose.
    Firehose(Firehose),
    /// Files.
    Folder(Folder),
}

/// A request that failed as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    Service(#[from] PutError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Outlet {
    /// Where it is, for people: a URL or a path.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Kinesis(client) => client.endpoint().to_owned(),
            Self::Firehose(client) => client.endpoint().to_owned(),
            Self::Folder(folder) => folder.path().display().to_string(),
        }
    }

    /// The address that it was reached at, or tried at, last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Kinesis(client) => client.address(),
            Self::Firehose(client) => client.address(),
            Self::Folder(_) => None,
        }
    }

    /// Endpoints before that one, and why they are not used.
    pub(super) fn left(&self) -> Vec<(&str, String)> {
        match self {
            Self::Kinesis(client) => client.left(),
            Self::Firehose(client) => client.left(),
            Self::Folder(_) => Vec::new(),
        }
    }

    /// When an endpoint that was left should be asked whether it is back: the question, to be asked beside the readings.
    pub(super) fn look(&self, target: &str, now: Instant) -> Option<Look> {
        match self {
            Self::Kinesis(client) => client.look(target, now).map(|look| Box::pin(look) as Look),
            Self::Firehose(client) => client.look(target, now).map(|look| Box::pin(look) as Look),
            Self::Folder(_) => None,
        }
    }

    /// Set where it makes a difference whether readings travel together.
    pub(super) fn kinesis(&self) -> Option<&Client> {
        match self {
            Self::Kinesis(client) => Some(client),
            Self::Firehose(_) | Self::Folder(_) => None,
        }
    }

    /// Whether it takes nothing while this gateway's clock is wrong: TLS finds every certificate invalid then, and AWS every signature.
    pub(super) fn needs_the_time(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// Whether other gateways use it too, and it refuses what is too much.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// What a record is there.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Kinesis(_) => Form::Aggregate,
            Self::Firehose(_) => Form::Joined { most: limits::FIREHOSE_MAX_LINES, largest: limits::FIREHOSE_MAX_RECORD.as_len() },
            Self::Folder(_) => Form::Joined { most: usize::MAX, largest: usize::MAX },
        }
    }

    /// Most bytes in one request, unless one reading alone has more.
    pub(super) fn max_request(&self) -> usize {
        match self {
            Self::Kinesis(_) => limits::MAX_REQUEST.as_len() / 2, // half of what the service takes
            Self::Firehose(_) => limits::FIREHOSE_MAX_REQUEST.as_len(),
            Self::Folder(_) => usize::MAX,
        }
    }

    /// What its requests are signed with, and at what time; none where nothing is signed.
    pub(crate) fn signing(&self) -> Option<(HeldCredentials, ServiceClock)> {
        match self {
            Self::Kinesis(client) => Some(client.signing()),
            Self::Firehose(client) => Some(client.signing()),
            Self::Folder(_) => None,
        }
    }

    /// Bytes that leave the gateway for records of `bytes`.
    pub(super) fn on_the_wire(&self, bytes: usize) -> usize {
        match self {
            Self::Kinesis(_) | Self::Firehose(_) => base64_len(bytes),
            Self::Folder(_) => 0,
        }
    }

    /// One request, over within `timeout`, or when the disk has it. The answers are in the order of `records`, and as many.
    pub(super) async fn put(&self, target: &str, records: Vec<Record>, timeout: Duration) -> Result<Vec<Answer>, NotTaken> {
        let data = |records: Vec<Record>| records.into_iter().map(|record| record.data).collect::<Vec<_>>();
        match self {
            Self::Kinesis(client) => Ok(client.put(target, records, timeout).await?),
            Self::Firehose(client) => Ok(client.put(target, data(records), timeout).await?),
            Self::Folder(folder) => {
                let (target, data) = (target.to_owned(), data(records));
                let count = data.len();
                on_a_thread(folder, move |folder| folder.put(&target, &data, Instant::now(), clock::now())).await?;
                Ok(vec![Answer::Accepted { shard: String::new(), sequence: String::new() }; count])
            }
        }
    }
}

impl NotTaken {
    /// What follows from it.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Service(error) => error.class(),
            Self::Folder(_) => Class::Away,
        }
    }

    /// Whether the records may be there all the same.
    pub(super) fn may_be_stored(&self) -> bool {
        matches!(self, Self::Service(PutError::Unknown { .. }))
    }

    /// Whether any of it has left the gateway.
    pub(super) fn was_sent(&self) -> bool {
        matches!(self, Self::Service(error) if !error.was_not_sent())
    }

    /// Whether it says anything of the way there: without credentials nothing may have been sent.
    pub(super) fn tells_of_the_way(&self) -> bool {
        self.class().is_away() || (self.was_sent() && self.class() != Class::Credentials)
    }

    /// How long nothing is tried in any case, where that is known.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Service(error) => error.pause(),
            Self::Folder(_) => None,
        }
    }
}

/// Waits for the disk on a thread of its own. A disk that hangs keeps that one thread, and nothing else here.
pub(super) async fn on_a_thread(
    folder: &Folder,
    work: impl FnOnce(&Folder) -> Result<(), FolderError> + Send + 'static,
) -> Result<(), FolderError> {
    let (mine, path) = (folder.clone(), folder.path().to_owned());
    match tokio::task::spawn_blocking(move || work(&mine)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The process ends.
            Err(error) => Err(FolderError::Write { path, source: std::io::Error::other(error) }),
        },
    }
}
