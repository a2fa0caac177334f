//! What differs between two configurations: for the log, and for what cannot change in a running process.

use super::{
    Config, Listener,
    node::Node,
    show::{self, Secrets},
};

/// What one configuration changes against another, in the words of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// By address.
    pub listeners: Difference,
    /// By name.
    pub pools: Difference,
    /// Keys besides, such as `log.level`.
    pub settings: Vec<String>,
}

/// Those of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// With their keys that differ: `php (queue.depth, endpoints)`.
    pub changed: Vec<String>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// What is different here from `old`. Values of `params.set` are compared, and no value is shown.
    pub fn changes_from(&self, old: &Self) -> Changes {
        let mut settings = vec![];
        differing(&show::rest_tree(old), &show::rest_tree(self), "", &mut settings);
        Changes {
            listeners: difference(listeners(old), listeners(self)),
            pools: difference(pools(old), pools(self)),
            settings,
        }
    }
}

/// One listener or pool: its name, what can be shown of it, and what cannot.
type Item<'a> = (String, Node, &'a [(String, String)]);

fn listeners(config: &Config) -> Vec<Item<'_>> {
    let item = |listener: &Listener| (listener.address.to_string(), show::listener_tree(listener), &[][..]);
    config.listeners.iter().map(item).collect()
}

fn pools(config: &Config) -> Vec<Item<'_>> {
    let mut items = Vec::with_capacity(config.pools.len());
    for pool in &config.pools {
        items.push((pool.name.clone(), show::pool_tree(pool, Secrets::Hidden), pool.params.set.as_slice()));
    }
    items
}

fn difference(mut old: Vec<Item<'_>>, new: Vec<Item<'_>>) -> Difference {
    let mut difference = Difference::default();
    for (name, tree, secrets) in new {
        let Some(place) = old.iter().position(|(other, ..)| *other == name) else {
            difference.added.push(name);
            continue;
        };
        let (_, tree_before, secrets_before) = old.remove(place);
        let mut keys = vec![];
        differing(&tree_before, &tree, "", &mut keys);
        if keys.is_empty() && secrets != secrets_before {
            keys.push("params.set".to_owned());
        }
        if !keys.is_empty() {
            difference.changed.push(format!("{name} ({})", keys.join(", ")));
        }
    }
    difference.removed = old.into_iter().map(|(name, ..)| name).collect();
    difference
}

/// Adds the paths of what differs; what is a list is looked at as a whole.
fn differing(old: &Node, new: &Node, path: &str, found: &mut Vec<String>) {
    let (Node::Map(old), Node::Map(new)) = (old, new) else {
        if old != new {
            found.push(path.to_owned());
        }
        return;
    };
    let of = |entries: &[(String, Node)], name: &str| {
        entries.iter().find(|(key, _)| key == name).map_or(Node::Null, |(_, node)| node.clone())
    };
    let gone = old.iter().filter(|(name, _)| new.iter().all(|(other, _)| other != name));
    for (name, _) in new.iter().chain(gone) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        differing(&of(old, name), &of(new, name), &path, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "
listeners:
  - {socket: /run/a.sock, pool: php}
  - {socket: /run/b.sock, pool: php}
pools:
  php:
    endpoints: [{dns: \"php:9000\"}]
    params: {set: {TOKEN: one}}
  old: {endpoints: [{dns: \"old:9000\"}]}
";

    fn from(text: &str) -> Config {
        Config::from_yaml(text).unwrap_or_else(|violations| panic!("{violations}\n{text}"))
    }

    fn after(replace: &[(&str, &str)]) -> Changes {
        let new = replace.iter().fold(OLD.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        });
        from(&new).changes_from(&from(OLD))
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert!(after(&[]).is_empty());
    }

    #[test]
    fn listeners_are_told_apart_by_their_address() {
        let changes = after(&[
            ("/run/b.sock, pool: php", "/run/c.sock, pool: old"),
            ("/run/a.sock,", "/run/a.sock, mode: \"0600\","),
        ]);
        assert_eq!(changes.listeners.added, ["/run/c.sock"]);
        assert_eq!(changes.listeners.removed, ["/run/b.sock"]);
        assert_eq!(changes.listeners.changed, ["/run/a.sock (mode)"]);
        assert_eq!((changes.pools, changes.settings.len()), (Difference::default(), 0));
    }

    #[test]
    fn a_changed_pool_is_named_with_its_keys() {
        let changes = after(&[
            ("php:9000", "php:9001"),
            ("    params:", "    queue: {depth: 5}\n    params:"),
            ("  old:", "  new:"),
        ]);
        assert_eq!(changes.pools.changed, ["php (endpoints, queue.depth)"]);
        assert_eq!((changes.pools.added, changes.pools.removed), (vec!["new".to_owned()], vec!["old".to_owned()]));
    }

    #[test]
    fn a_secret_that_changes_is_noticed_and_not_shown() {
        assert_eq!(after(&[("one", "two")]).pools.changed, ["php (params.set)"]);
        assert_eq!(after(&[("TOKEN: one", "TOKEN: one, KEY: two")]).pools.changed, ["php (params.set.KEY)"]);
        assert_eq!(after(&[("{TOKEN: one}", "{}")]).pools.changed, ["php (params.set.TOKEN)"]);
    }

    #[test]
    fn settings_besides_are_named_by_their_path() {
        let more =
            "\nthreads: 2\nzone: eu\nlog: {level: debug}\nadmin: {listen: off}\nlisteners:\n  - {socket: /run/a.sock";
        let changes = after(&[("\nlisteners:\n  - {socket: /run/a.sock", more)]);
        assert_eq!(changes.settings, ["admin.listen", "log.level", "zone", "threads"]);
    }
}
