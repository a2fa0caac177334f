<?php
// Reads the whole body in chunks and answers "LENGTH SHA256". Query: token, chunk (bytes).
$token = $_GET['token'] ?? 'none';
$input = fopen('php://input', 'rb');
$hash = hash_init('sha256');
$length = 0;
while (($chunk = fread($input, (int) ($_GET['chunk'] ?? 65536))) !== false && $chunk !== '') {
    hash_update($hash, $chunk);
    $length += strlen($chunk);
}
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
echo $length . ' ' . hash_final($hash) . "\n";
