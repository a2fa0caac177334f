//! Settings that are one word out of a few.

use super::{Application, Fence, LogFormat, LogLevel, Multiplex, OnAbandoned, OnDenied, OnFailure, Verbs, node::Node};

pub(super) trait Word: Copy + PartialEq + 'static {
    /// Every word that may be written, with what it means.
    const WORDS: &'static [(&'static str, Self)];

    fn read(node: &Node) -> Result<Self, String> {
        read_word(node)
    }

    fn word(self) -> &'static str {
        // Every variant stands in WORDS (a test holds it); the empty word could not be read back.
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| *word)
    }
}

fn read_word<T: Word>(node: &Node) -> Result<T, String> {
    if let Node::Text(text) = node
        && let Some((_, value)) = T::WORDS.iter().find(|(word, _)| word == text)
    {
        return Ok(*value);
    }
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    Err(format!("{node} is not one of: {}", words.join(", ")))
}

impl Word for Application {
    const WORDS: &'static [(&'static str, Self)] = &[("php-fpm", Self::PhpFpm), ("generic", Self::Generic)];
}

impl Word for Multiplex {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

impl Word for OnDenied {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("strip", Self::Strip)];
}

impl Word for OnFailure {
    const WORDS: &'static [(&'static str, Self)] = &[("hang_up", Self::HangUp), ("respond", Self::Respond)];
}

impl Word for OnAbandoned {
    const WORDS: &'static [(&'static str, Self)] = &[("drop", Self::Drop), ("run", Self::Run)];
}

impl Word for Fence {
    const WORDS: &'static [(&'static str, Self)] = &[("always", Self::Always), ("adaptive", Self::Adaptive)];
}

impl Word for Verbs {
    const WORDS: &'static [(&'static str, Self)] =
        &[("loopback", Self::Loopback), ("on", Self::On), ("off", Self::Off)];

    /// Programs that speak YAML 1.1 make booleans of the plain words `on` and `off`; see [`super::value::or_off`].
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Bool(true) => Ok(Self::On),
            Node::Bool(false) => Ok(Self::Off),
            other => read_word(other),
        }
    }
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug)];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json), ("text", Self::Text)];
}

impl Application {
    /// As it is written in a file.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

impl LogLevel {
    /// As it is written in a file.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_word_is_read_back<T: Word + std::fmt::Debug>(variants: &[T]) {
        assert_eq!(variants.len(), T::WORDS.len());
        for variant in variants {
            assert_eq!(T::read(&Node::text(variant.word())), Ok(*variant));
        }
    }

    #[test]
    fn every_variant_has_a_word_that_is_read_back() {
        every_word_is_read_back(&[Application::PhpFpm, Application::Generic]);
        every_word_is_read_back(&[Multiplex::Auto, Multiplex::Always, Multiplex::Never]);
        every_word_is_read_back(&[Fence::Always, Fence::Adaptive]);
        every_word_is_read_back(&[OnDenied::Refuse, OnDenied::Strip]);
        every_word_is_read_back(&[OnFailure::HangUp, OnFailure::Respond]);
        every_word_is_read_back(&[OnAbandoned::Drop, OnAbandoned::Run]);
        every_word_is_read_back(&[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug]);
        every_word_is_read_back(&[Verbs::Off, Verbs::Loopback, Verbs::On]);
        every_word_is_read_back(&[LogFormat::Json, LogFormat::Text]);
    }

    #[test]
    fn verbs_may_have_become_booleans_on_their_way() {
        assert_eq!(Verbs::read(&Node::Bool(true)), Ok(Verbs::On));
        assert_eq!(Verbs::read(&Node::Bool(false)), Ok(Verbs::Off));
        assert!(Fence::read(&Node::Bool(true)).is_err());
    }

    #[test]
    fn another_word_is_refused_with_those_that_exist() {
        assert_eq!(LogFormat::read(&Node::text("xml")), Err("`xml` is not one of: json, text".into()));
    }
}
