<?php
// Takes its time by the clock (a signal does not cut it short). Query: token, ms, steps (lines flushed on the way).
$token = $_GET['token'] ?? 'none';
$ms = (int) ($_GET['ms'] ?? 1000);
$steps = (int) ($_GET['steps'] ?? 0);
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
$start = microtime(true);
for ($i = 1; $i <= max(1, $steps); $i++) {
    $until = $start + $ms / 1000 * $i / max(1, $steps);
    while (($left = $until - microtime(true)) > 0) {
        usleep((int) max(1, $left * 1e6));
    }
    if ($steps > 0) {
        echo "step $i\n";
        flush();
    }
}
echo "$token\n";
