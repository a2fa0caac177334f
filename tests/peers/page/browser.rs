//! Chromium without a window, driven through its DevTools protocol: two pipes, a message of JSON behind each other with a
//! zero byte between them.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};

use crate::support::{Folder, Process};

/// For one answer; a machine that builds beside it starts a browser slowly.
const PATIENCE: Duration = Duration::from_secs(30);

/// Without a window, a profile of its own, and nothing that calls home.
const FLAGS: &str = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars \
                     --disable-background-networking --disable-component-update --disable-sync --disable-extensions \
                     --disable-default-apps --no-default-browser-check --password-store=basic --mute-audio \
                     --remote-debugging-pipe";

pub(crate) struct Browser {
    process: Process,
    folder: Folder,
    commands: File,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// What came beside the answers.
    events: Vec<Value>,
}

impl Browser {
    /// With an empty page.
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let pipes = ["in", "out"].map(|name| {
            let path = folder.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("mkfifo");
            // Both ways, so that neither side waits for the other to open it.
            OpenOptions::new().read(true).write(true).open(&path).expect("open a pipe")
        });
        let path = folder.path().display();
        let line = format!("exec chromium {FLAGS} --user-data-dir={path}/profile about:blank 3<{path}/in 4>{path}/out");
        let process = Process::start(&folder, "chromium.log", "env", [&format!("HOME={path}"), "sh", "-c", &line]);
        let [commands, answers] = pipes;
        let messages = messages(answers);
        let mut browser = Self { process, folder, commands, messages, session: None, last_id: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// The result of a method of the protocol.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("write to the browser");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("{method}: {error}; the browser said:\n{}", self.process.log(&self.folder))
                }
            };
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    /// A screen of this width, dark or light.
    pub(crate) fn look(&mut self, width: u32, scheme: &str) {
        let mobile = width < 600;
        let metrics = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    pub(crate) fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
    }

    /// What an expression gives, promises included.
    #[track_caller]
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(expression) != json!(true) {
            assert!(Instant::now() < deadline, "in vain: {expression}\n{}", self.eval("document.body.innerText"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps a picture of the whole page.
    pub(crate) fn keep_picture(&mut self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("make a folder");
        std::fs::write(file, bytes).expect("keep a picture");
    }

    /// Everything that the page has asked for so far.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.eval("0");
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// What the console shows: errors, warnings, exceptions, and what a policy forbade.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.eval("0");
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            _ => false,
        };
        self.events.iter().filter(is_complaint).map(ToString::to_string).collect()
    }
}

/// Reads on a thread of its own, which ends with the browser's folder: it has the pipe open both ways, and so is told by an
/// empty message.
fn messages(mut pipe: File) -> Receiver<Value> {
    let (sender, receiver) = sync_channel(1024);
    thread::spawn(move || {
        let (mut message, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            for byte in &chunk[..count] {
                if *byte != 0 {
                    message.push(*byte);
                    continue;
                }
                let Ok(value) = serde_json::from_slice(&message) else { return };
                message.clear();
                if sender.send(value).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

impl Drop for Browser {
    fn drop(&mut self) {
        // By itself it ends all of its processes. What is not answered is ended with the process.
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        self.process.wait_exit(Duration::from_secs(5));
        // Ends the thread that reads.
        if let Ok(mut pipe) = OpenOptions::new().write(true).open(self.folder.join("out")) {
            let _ = pipe.write_all(b"\0");
        }
    }
}
