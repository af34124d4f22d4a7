//! What our session at the broker listens to, known across restarts.
//!
//! MQTT 3.1.1 has no way to ask for that list, and a broker answers a subscription with its retained messages. So the topics lie in a
//! small file beside the buffer: what has left the configuration is unsubscribed, and what has not changed is not asked for again.
//!
//! Invariant: the file names every topic that the session may have. It is written before we ask for anything, and exact again when the
//! broker has answered; while nothing changes it is not written.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{config::MqttConfig, durable::replace};

/// The subscriptions of one source, as they are and as they should be.
#[derive(Debug)]
pub struct Subscriptions {
    path: PathBuf,
    wanted: Listening,
    known: Listening,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Listening {
    /// Whose session it is, and where.
    broker: String,
    client_id: String,
    qos: u8,
    topics: BTreeSet<String>,
    /// The session has all of them; otherwise it may have any.
    settled: bool,
}

impl Subscriptions {
    /// Reads what `path` knows. A file that is missing or unreadable knows nothing.
    pub fn load(path: PathBuf, config: &MqttConfig, client_id: &str) -> Self {
        let wanted = Listening {
            broker: config.url.clone(),
            client_id: client_id.to_owned(),
            qos: config.qos,
            topics: config.topics.iter().cloned().collect(),
            settled: true,
        };
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Listening>(&text).ok());
        let same_session = |known: &Listening| (&known.broker, &known.client_id) == (&wanted.broker, &wanted.client_id);
        Self { path, known: known.filter(same_session).unwrap_or_default(), wanted }
    }

    /// A connection stands; a session that the broker has not resumed listens to nothing.
    pub fn connected(&mut self, resumed: bool) {
        if !resumed {
            self.known = Listening::default();
        }
    }

    /// None when the session has what it should; otherwise all topics are to be asked for, and these are to go.
    pub fn removed(&self) -> Option<Vec<String>> {
        (self.known != self.wanted).then(|| self.known.topics.difference(&self.wanted.topics).cloned().collect())
    }

    /// The broker is going to be asked.
    pub async fn asking(&mut self) {
        let topics = self.known.topics.union(&self.wanted.topics).cloned().collect();
        self.keep(Listening { topics, settled: false, ..self.wanted.clone() }).await;
    }

    /// The broker has done all that it was asked for.
    pub async fn granted(&mut self) {
        self.keep(self.wanted.clone()).await;
    }

    async fn keep(&mut self, topics: Listening) {
        self.known = topics.clone();
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &topics)).await;
        if let Err(error) = written.unwrap_or_else(|lost| Err(io::Error::other(lost))) {
            let path = self.path.display();
            warn!(%path, "the topics that the broker has for us can't be written down: {error}; they are asked for again at the next start");
        }
    }
}

fn write(path: &Path, topics: &Listening) -> io::Result<()> {
    replace(path, &serde_json::to_vec(topics)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    fn config(topics: &[&str]) -> MqttConfig {
        MqttConfig { topics: topics.iter().map(ToString::to_string).collect(), ..MqttConfig::default() }
    }

    #[tokio::test]
    async fn what_the_session_has_is_not_asked_for_again_and_what_left_the_configuration_goes() {
        let folder = tempfile::tempdir().unwrap();
        let load = |topics: &[&str]| Subscriptions::load(folder.path().join("broker.json"), &config(topics), "gw-1");
        let mut first = load(&["a", "b"]);
        first.connected(false);
        assert_eq!(first.removed(), Some(vec![]));
        first.asking().await;
        first.granted().await;
        assert_eq!(first.removed(), None);

        assert_eq!(load(&["b", "a"]).removed(), None, "after a restart");
        assert_eq!(load(&["b", "c"]).removed(), Some(vec!["a".to_owned()]));
    }

    #[tokio::test]
    async fn what_was_asked_for_before_a_power_cut_is_still_known_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let load = |topics: &[&str]| Subscriptions::load(folder.path().join("broker.json"), &config(topics), "gw-1");
        load(&["a"]).asking().await;
        load(&["b"]).asking().await;

        assert_eq!(load(&["b"]).removed(), Some(vec!["a".to_owned()]), "nobody knows what the broker has done");
        assert_eq!(load(&["c"]).removed(), Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[tokio::test]
    async fn a_session_that_is_new_or_anothers_has_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.json");
        let mut gone = Subscriptions::load(path.clone(), &config(&["a"]), "gw-1");
        gone.asking().await;
        gone.granted().await;
        assert_eq!(Subscriptions::load(path.clone(), &config(&["b"]), "gw-2").removed(), Some(vec![]));

        gone.connected(false);
        assert_eq!(gone.removed(), Some(vec![]));
        fs::write(&path, "{").unwrap();
        assert_eq!(Subscriptions::load(path, &config(&["a"]), "gw-1").removed(), Some(vec![]));
    }

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn of_any_bytes_in_the_file_nothing_goes_and_everything_is_asked_for(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("broker.json");
            fs::write(&path, bytes).unwrap();

            prop_assert_eq!(Subscriptions::load(path, &config(&["a"]), "gw-1").removed(), Some(vec![]));
        }

        #[test]
        fn whatever_the_session_has_is_read_back_and_a_torn_file_knows_nothing(
            topics in prop::collection::btree_set(".{1,20}", 0..9),
            settled in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("broker.json");
            let load = || Subscriptions::load(path.clone(), &config(&[]), "gw-1");
            let session = Listening { topics, settled, ..load().wanted };

            write(&path, &session).unwrap();
            prop_assert_eq!(load().known, session);

            let text = fs::read(&path).unwrap();
            fs::write(&path, &text[..cut.index(text.len())]).unwrap();
            prop_assert_eq!(load().known, Listening::default());
        }
    }
}
