<?php
// Opens php://input, reads a part of it, and answers n bytes.
// Query: token, read (bytes; 0: only opens it), n, open (0: does not even open it).
$token = $_GET['token'] ?? 'none';
$taken = 0;
if (($_GET['open'] ?? '1') !== '0') {
    $input = fopen('php://input', 'rb');
    $read = (int) ($_GET['read'] ?? 0);
    while ($taken < $read && ($chunk = fread($input, min(8192, $read - $taken))) !== false && $chunk !== '') {
        $taken += strlen($chunk);
    }
}
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
header("X-Read: $taken");
echo isset($_GET['n']) ? str_repeat('p', (int) $_GET['n']) : "$token\n";
