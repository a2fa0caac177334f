<?php
// Gives the token back, says what arrived, and answers n bytes made of the token.
// Query: token, n (bytes), us (microseconds to sleep first).
$token = $_GET['token'] ?? 'none';
$n = (int) ($_GET['n'] ?? 0);
$body = file_get_contents('php://input');
if (isset($_GET['us'])) {
    usleep((int) $_GET['us']);
}
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
header('X-Length: ' . strlen($body));
header('X-Sha256: ' . hash('sha256', $body));
header('X-Pid: ' . getmypid());
echo $n > 0 ? substr(str_repeat("$token ", intdiv($n, strlen($token) + 1) + 1), 0, $n) : "$token\n";
