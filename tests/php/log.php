<?php
// Logs "start TOKEN METHOD LENGTH" and "end TOKEN". LENGTH is what arrived of the body.
// Query: token, us (microseconds between the two).
require __DIR__ . '/side_effects.inc';
$token = $_GET['token'] ?? 'none';
$body = file_get_contents('php://input');
side_effect("start $token {$_SERVER['REQUEST_METHOD']} " . strlen($body));
if (isset($_GET['us'])) {
    usleep((int) $_GET['us']);
}
side_effect("end $token");
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
header('X-Length: ' . strlen($body));
header('X-Sha256: ' . hash('sha256', $body));
echo "$token\n";
