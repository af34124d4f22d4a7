//! Which streams take a reading.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::Config,
    reading::SourceId,
    status::{Reason, Status, UNROUTED},
};

/// The routes of all sources; the same for as long as the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Streams in the order of their names.
    by_source: BTreeMap<SourceId, Vec<Route>>,
}

/// A stream, and the topic filters that lead to it.
type Route = (Arc<str>, Vec<Filter>);

/// An MQTT topic filter; none takes everything, the broker's own topics included.
type Filter = Option<String>;

impl Routes {
    /// The routes that `config` describes; `source` tells a source's place from its name.
    pub fn new(config: &Config, source: impl Fn(&str) -> Option<SourceId>) -> Self {
        let mut by_source: BTreeMap<SourceId, Vec<Route>> = BTreeMap::new();
        for (name, stream) in config.streams.iter().filter(|(_, stream)| stream.enabled) {
            let name: Arc<str> = name.as_str().into();
            for from in &stream.from {
                let (from, filter) = from.split_once(':').map_or((from.as_str(), None), |(from, filter)| (from, Some(filter)));
                let Some(source) = source(from) else { continue };
                let streams = by_source.entry(source).or_default();
                match streams.last_mut().filter(|(last, _)| *last == name) {
                    Some((_, filters)) => filters.push(filter.map(Into::into)),
                    None => streams.push((name.clone(), vec![filter.map(Into::into)])),
                }
            }
        }
        Self { by_source }
    }

    /// The streams that take what `source` calls `topic`, each once.
    pub fn streams_of<'a>(&'a self, source: SourceId, topic: &'a str) -> impl Iterator<Item = &'a str> {
        let takes = move |filters: &[Filter]| {
            filters.iter().any(|filter| filter.as_ref().is_none_or(|filter| topic_matches(filter, topic)))
        };
        self.all_of(source).filter(move |(_, filters)| takes(filters)).map(|(stream, _)| &**stream)
    }

    /// All streams that `source` may lead to.
    pub fn reachable_from(&self, source: SourceId) -> impl Iterator<Item = &str> {
        self.all_of(source).map(|(stream, _)| &**stream)
    }

    fn all_of(&self, source: SourceId) -> impl Iterator<Item = &Route> {
        self.by_source.get(&source).into_iter().flatten()
    }
}

/// The routes of one source, for what it has to give up.
#[derive(Clone, Debug)]
pub struct Router {
    routes: Arc<Routes>,
    source: SourceId,
    status: Status,
}

impl Router {
    /// The routes of `source`.
    pub fn new(routes: Arc<Routes>, source: SourceId, status: Status) -> Self {
        Self { routes, source, status }
    }

    /// Counts a reading that never got in, in every stream that would have taken it.
    pub(super) fn give_up(&self, topic: &str, why: Reason) {
        let mut taken = false;
        for stream in self.routes.streams_of(self.source, topic) {
            match why {
                Reason::TooLarge => self.status.rejected(stream, why, 1),
                _ => self.status.dropped_at_the_door(stream, why, 1),
            }
            taken = true;
        }
        if !taken {
            self.status.rejected(UNROUTED, Reason::Unrouted, 1);
        }
    }
}

/// Whether MQTT topic filter `filter` matches `topic`. Source: MQTT 3.1.1, section 4.7.
pub fn topic_matches(filter: &str, topic: &str) -> bool {
    // Topics that begin with $ are the broker's own, and wildcards at the first level leave them out (4.7.2).
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_the_mqtt_specification_says() {
        let taken = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("#", "sport"),
            ("+", "finance"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/monitor"),
        ];
        let left = [
            ("+", "/finance"),
            ("sport/+", "sport"),
            ("#", "$SYS/monitor"),
            ("+/monitor", "$SYS/monitor"),
            ("a/b", "a"),
            ("a", "a/b"),
        ];
        assert!(taken.iter().all(|(filter, topic)| topic_matches(filter, topic)));
        assert!(!left.iter().any(|(filter, topic)| topic_matches(filter, topic)));
    }
}
