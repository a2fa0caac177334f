//! A web server before fcgimux before php-fpm, and the same web server before php-fpm alone to compare with.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::front::{Front, Running};
use crate::support::{Fcgimux, PhpFpm};

pub(crate) const WORKERS: usize = 4;
/// Exchanges that may wait; see the case of refused requests.
pub(crate) const QUEUE: usize = 16;

pub(crate) struct Stage {
    pub(crate) front: Front,
    pub(crate) server: Running,
    pub(crate) direct: Running,
    pub(crate) mux: Fcgimux,
    pub(crate) php: PhpFpm,
    /// Behind `direct`: as many workers as a web server that keeps connections may pin.
    _php_direct: PhpFpm,
}

impl Stage {
    pub(crate) fn of(front: Front) -> Self {
        // Without a file, PHP's messages go over FastCGI's STDERR.
        let pool = |workers| PhpFpm::pool(workers).ini("post_max_size", "64M").ini("upload_max_filesize", "64M");
        let php = pool(WORKERS).start();
        let php_direct = pool(32).unix().start();
        add_scripts(&php);
        let mux = Fcgimux::to(php.address())
            .pool(&format!("connections: {{per_endpoint: {WORKERS}}}"))
            .pool(&format!("queue: {{depth: {QUEUE}}}"))
            .start();
        let server = front.start(&php.scripts(), &mux.socket());
        let direct = front.start(&php.scripts(), php_direct.address().as_ref());
        Self { front, server, direct, mux, php, _php_direct: php_direct }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Leased connections to php-fpm.
    pub(crate) fn leased(&self) -> f64 {
        self.mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")])
    }
}

fn add_scripts(php: &PhpFpm) {
    php.add_script(
        "server.php",
        "header('X-Token: ' . ($_GET['token'] ?? 'none'));
        $body = file_get_contents('php://input');
        ksort($_SERVER);
        foreach ($_SERVER as $name => $value) {
            echo $name, '=', is_array($value) ? count($value) : $value, \"\\n\";
        }
        echo 'BODY=', strlen($body), ' ', hash('sha256', $body), \"\\n\";",
    );
    php.add_script(
        "form.php",
        "$file = $_FILES['file'];
        echo $_POST['field'], ' ', $file['name'], ' ', $file['size'], ' ', hash_file('sha256', $file['tmp_name']);",
    );
    php.add_script(
        "drip.php",
        "while (ob_get_level() > 0) { ob_end_flush(); }
        for ($i = 1; $i <= 3; $i++) { echo \"step $i\\n\"; flush(); usleep(200000); }",
    );
    php.add_script("complain.php", "error_log('complaint ' . $_GET['token'], 4); echo 'complained';");
    php.add_script(
        "die.php",
        "if (isset($_GET['length'])) { header('Content-Length: 1000000'); }
        echo str_repeat('d', 100000);
        while (ob_get_level() > 0) { ob_end_flush(); }
        flush();
        usleep(200000);
        posix_kill(getmypid(), 9);
        sleep(5);",
    );
}

/// What server.php said, by name.
pub(crate) fn values(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) const SOON: Duration = Duration::from_secs(5);
