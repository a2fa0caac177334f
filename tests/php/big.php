<?php
// Streams bytes that differ from block to block: block i is 64 KiB of "%015d\n" of i.
// Query: token, mib, bytes (in place of mib), length (1: sends Content-Length).
$token = $_GET['token'] ?? 'none';
$left = isset($_GET['bytes']) ? (int) $_GET['bytes'] : (int) ($_GET['mib'] ?? 1) << 20;
header('Content-Type: application/octet-stream');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
if (isset($_GET['length'])) {
    header("Content-Length: $left");
}
for ($i = 0; $left > 0; $i++) {
    $block = str_repeat(sprintf("%015d\n", $i), 4096);
    echo $left < 65536 ? substr($block, 0, $left) : $block;
    $left -= 65536;
}
