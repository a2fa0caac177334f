//! Scripts that every case finds in its document root, and what PHP does in front of each.

/// Writes an execution to the ledger of the case, which lies in its document root.
pub(crate) const PREPEND: &str = r#"<?php
for ($GLOBALS['ledger'] = dirname($_SERVER['SCRIPT_FILENAME']);
     strlen($GLOBALS['ledger']) > 1 && !is_file("{$GLOBALS['ledger']}/ledger");
     $GLOBALS['ledger'] = dirname($GLOBALS['ledger']));
function note($words) { file_put_contents("{$GLOBALS['ledger']}/ledger", "$words\n", FILE_APPEND | LOCK_EX); }
function unbuffered() { while (ob_get_level() > 0) { ob_end_flush(); } }
/** Dies as of a crash, once what was flushed has come through. */
function crash() { usleep(250000); posix_kill(getmypid(), 9); sleep(5); }
note('run ' . ($_SERVER['REQUEST_METHOD'] ?? '-') . ' ' . basename($_SERVER['SCRIPT_FILENAME']));
"#;

pub(crate) const COMMON: [(&str, &str); 3] = [
    (
        "env.php",
        r#"<?php
        $own = ['REMOTE_PORT', 'REQUEST_TIME', 'REQUEST_TIME_FLOAT', 'HTTP_CONNECTION', 'USER', 'HOME'];
        $server = array_diff_key($_SERVER, array_flip($own));
        ksort($server);
        foreach ($server as $name => $value) { echo $name, '=', is_array($value) ? count($value) : $value, "\n"; }
        foreach (['GET' => $_GET, 'POST' => $_POST, 'COOKIE' => $_COOKIE] as $name => $values) {
            echo $name, ' ', json_encode($values, JSON_INVALID_UTF8_SUBSTITUTE), "\n";
        }
        $body = file_get_contents('php://input');
        echo 'BODY ', strlen($body), ' ', hash('sha256', $body), "\n";
        "#,
    ),
    ("ok.php", "<?php echo \"ok\\n\";"),
    ("die.php", "<?php posix_kill(getmypid(), 9); sleep(5);"),
];
