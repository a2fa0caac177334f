//! A file that lists endpoints.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use super::{LIMIT, SECOND, SOON, Site, small, wait_until_used};
use crate::support::{Folder, Pods, bounded, eventually, since_epoch, warnings};

/// A folder as Kubernetes mounts a ConfigMap: what is in it changes all at once, by one link.
struct ConfigMap {
    folder: Folder,
    versions: u32,
}

impl ConfigMap {
    fn new(text: &str) -> Self {
        let mut map = Self { folder: Folder::new(), versions: 0 };
        map.swap(text);
        symlink("..data/endpoints.yaml", map.path()).expect("a link");
        map
    }

    fn path(&self) -> PathBuf {
        self.folder.join("endpoints.yaml")
    }

    fn swap(&mut self, text: &str) {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        self.folder.subfolder(&version);
        self.folder.write(&format!("{version}/endpoints.yaml"), text);
        symlink(&version, self.folder.join("..data_tmp")).expect("a link");
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).expect("swap a link");
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| format!("- address: {address}\n")).collect()
}

fn start(pods: &Pods, path: &Path) -> Site {
    Site::start(pods, &format!("file: {}", path.display()), "", "")
}

#[test]
fn a_file_that_is_swapped_under_load_changes_the_endpoints_without_an_error() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let (old, stays, new) = (pods.start(small()), pods.start(small()), pods.start(small()));
        let mut map = ConfigMap::new(&list(&[old.address(), stays.address()]));
        let site = start(&pods, &map.path());
        let load = site.load();
        wait_until_used(&pods, &old);

        map.swap(&list(&[new.address(), stays.address()]));
        let swapped = since_epoch();
        site.wait_until_it_has(&[new.address(), stays.address()]);
        wait_until_used(&pods, &new);
        thread::sleep(SECOND);
        let late = swapped + 2 * SECOND;
        assert!(pods.journal().of(&old).all(|run| run.started < late), "used behind its removal");

        map.swap(&format!("{}- address: php:9000\n", list(&[stays.address()])));
        let failed = |words: &str| warnings(&site.mux).iter().any(|line| line.contains(words));
        let path = map.path().display().to_string();
        let complained =
            eventually(SOON, || failed(&format!("{path}:2: [1].address: `php:9000` is not an IP address")));
        assert!(complained, "{}", site.mux.log());
        site.wait_until_it_has(&[new.address(), stays.address()]);

        map.swap(&list(&[old.address()]));
        site.wait_until_it_has(&[old.address()]);
        wait_until_used(&pods, &old);
        assert!(site.mux.log().contains("discovery works again"), "{}", site.mux.log());
        site.assert_clean(&load.stop(), &pods, &["discovery has failed"]);
    });
}

#[test]
fn a_file_may_come_later_and_may_list_none() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let pod = pods.start(small());
        let folder = Folder::new();
        let site = start(&pods, &folder.join("endpoints.yaml"));
        let complained = eventually(SOON, || site.mux.log().contains("discovery has failed for 0 s: cannot read"));
        assert!(complained, "{}", site.mux.log());
        folder.write("endpoints.yaml", &list(&[pod.address()]));
        // It waits in the queue until the file has been seen.
        site.request().assert_clean();
        folder.write("endpoints.yaml", "[]\n");
        site.wait_until_it_has(&[]);
        folder.write("endpoints.yaml", &format!("endpoints:\n{}", list(&[pod.address()])));
        site.wait_until_it_has(&[pod.address()]);
        site.request().assert_clean();
    });
}
