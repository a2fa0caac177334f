//! How a file is watched, and what becomes of a bad one.

use std::{fs, io::Write, os::unix::fs::symlink, thread};

use super::*;

const DEEPER: &str = ", queue: {depth: 77}";

fn depth(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_queue_limit", &[])
}

fn success(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_config_reload_success", &[])
}

#[test]
fn a_changed_file_is_read_without_being_told() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut reloads = Reloads::of(&mux);
        mux.rewrite(&one(php.address(), DEEPER));
        assert_reloaded(&reloads.next(&mux));
        assert_eq!(depth(&mux), 77.0);
        // The same text again is no change.
        mux.rewrite(&one(php.address(), DEEPER));
        thread::sleep(1_500 * MILLISECOND);
        assert_eq!(Reloads::of(&mux).seen, reloads.seen, "{}", mux.log());
    });
}

/// As kubelet does it: the file is a symlink into a folder that is a symlink, and the latter is replaced.
#[test]
fn a_config_map_that_is_swapped_is_read() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let folder = mux.folder().to_owned();
        let (path, data) = (folder.join("fcgimux.yaml"), folder.join("..data"));
        let first = fs::read_to_string(&path).expect("its file");
        let version = |name: &str, text: &str| {
            fs::create_dir(folder.join(name)).expect("a folder");
            fs::write(folder.join(name).join("fcgimux.yaml"), text).expect("a file");
            symlink(name, folder.join("..data_tmp")).expect("a symlink");
            fs::rename(folder.join("..data_tmp"), &data).expect("a symlink in place of another");
        };
        version("..2026_1", &first);
        symlink("..data/fcgimux.yaml", folder.join("link")).expect("a symlink");
        fs::rename(folder.join("link"), &path).expect("the mounted file");
        let mut reloads = Reloads::of(&mux);
        let second = first.replace("pools:", "drain: {deadline: 3s}\npools:");
        version("..2026_2", &second);
        fs::remove_dir_all(folder.join("..2026_1")).expect("the old folder");
        let outcome = reloads.next(&mux);
        assert_reloaded(&outcome);
        assert_eq!(outcome["settings_changed"], "drain.deadline", "{outcome}");
    });
}

#[test]
fn a_file_that_is_being_written_is_not_taken_before_it_is_whole() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let path = mux.folder().join("fcgimux.yaml");
        let text = fs::read_to_string(&path).expect("its file").replace("pools:", "drain: {deadline: 3s}\npools:");
        let mut reloads = Reloads::of(&mux);
        let mut file = fs::File::create(&path).expect("its file");
        // Many of its beginnings would be wrong, and one, with a listener less, would be right.
        for piece in text.as_bytes().chunks(text.len() / 12) {
            file.write_all(piece).expect("a piece");
            thread::sleep(150 * MILLISECOND);
        }
        assert_reloaded(&reloads.next(&mux));
        let wrong = lines(&mux).into_iter().find(|line| line["level"] == "ERROR");
        assert_eq!(wrong, None);
    });
}

#[test]
fn a_bad_file_changes_nothing_and_every_fault_is_logged_with_its_place() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        assert_served_at(&mux.socket(), "before");
        assert_eq!(success(&mux), 1.0);
        let mut reloads = Reloads::of(&mux);
        let bad = one(php.address(), ", queue: {depth: 0, timeout: 5}, queues: {}");
        let outcome = reloads.now(&mux, &bad);
        assert_eq!((outcome["level"].as_str(), outcome["violations"].as_u64()), (Some("ERROR"), Some(3)), "{outcome}");
        let faults: Vec<_> =
            lines(&mux).into_iter().filter(|line| message(line).starts_with("configuration refused: ")).collect();
        let paths: Vec<_> = faults.iter().filter_map(|fault| fault["path"].as_str()).collect();
        assert_eq!(paths, ["pools.php.queue.depth", "pools.php.queue.timeout", "pools.php.queues"], "{faults:#?}");
        let file = mux.folder().join("fcgimux.yaml").display().to_string();
        assert!(faults.iter().all(|fault| fault["line"] == 4 && fault["file"] == file.as_str()), "{faults:#?}");
        assert_eq!((success(&mux), depth(&mux)), (0.0, 1024.0));
        assert_served_at(&mux.socket(), "after");
        assert_eq!((opened(&mux), closed(&mux)), (1.0, 0.0));
        // It is said once, not each time that the file is looked at.
        thread::sleep(1_500 * MILLISECOND);
        assert_eq!(Reloads::of(&mux).seen, reloads.seen, "{}", mux.log());

        // Back to what is in force, which changes nothing and is good.
        mux.rewrite(&one(php.address(), ""));
        assert_eq!(message(&reloads.next(&mux)), "configuration read again; nothing has changed");
        assert_eq!(success(&mux), 1.0);
        assert_reloaded(&reloads.now(&mux, &one(php.address(), DEEPER)));
        assert_eq!((success(&mux), depth(&mux)), (1.0, 77.0));
    });
}

#[test]
fn a_file_that_is_gone_changes_nothing_until_it_is_back() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut reloads = Reloads::of(&mux);
        fs::remove_file(mux.folder().join("fcgimux.yaml")).expect("its file");
        let outcome = reloads.next(&mux);
        assert!(message(&outcome).starts_with("configuration cannot be read: No such file"), "{outcome}");
        assert_eq!(success(&mux), 0.0);
        assert_served_at(&mux.socket(), "meanwhile");
        mux.rewrite(&one(php.address(), DEEPER));
        assert_reloaded(&reloads.next(&mux));
        assert_eq!((success(&mux), depth(&mux)), (1.0, 77.0));
    });
}
