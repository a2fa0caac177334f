<?php
// Answers, ends the request, and works on.
// Query: token, us (microseconds of work afterwards), echo (bytes written afterwards), flush (times a line is flushed
// afterwards), log (1: "start TOKEN" at once and "end TOKEN" when the work is done).
require __DIR__ . '/side_effects.inc';
$token = $_GET['token'] ?? 'none';
$log = isset($_GET['log']);
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
echo "$token\n";
$log && side_effect("start $token");
fastcgi_finish_request();
usleep((int) ($_GET['us'] ?? 0));
if (isset($_GET['echo'])) {
    echo str_repeat('STRAY ', intdiv((int) $_GET['echo'], 6) + 1);
}
for ($i = 0; $i < (int) ($_GET['flush'] ?? 0); $i++) {
    echo "STRAY LINE $i\n";
    flush();
}
$log && side_effect("end $token");
